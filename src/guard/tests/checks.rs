//! The checker with real processes.

use std::{fs, path::Path, time::Duration};

use super::scene::*;
use crate::{
    core::clock::Instant,
    guard::checker::{self, Handle},
};

const TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a shell script as a check.
fn with_checker(script: &str, test: impl AsyncFnOnce(&mut Handle)) {
    let command = ["/bin/sh", "-c", script].map(Into::into).to_vec();
    with(vec![Some(command), None], test);
}

fn with(mut commands: Vec<Option<Vec<std::ffi::OsString>>>, test: impl AsyncFnOnce(&mut Handle)) {
    let commands = [commands.remove(0), commands.remove(0)];
    let checker = checker::start(commands, TIMEOUT, *ORIGINAL).expect("a checker");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut handle = checker.into_handle().expect("a handle");
        test(&mut handle).await;
    });
}

/// Returns the processes that a check wrote into this file.
fn written(file: &Path) -> Vec<i32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}

fn exists(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_exit_code_decides_and_the_output_explains() {
    in_own_process("checks::the_exit_code_decides_and_the_output_explains", |_| {
        let failed = |failure: &str| Err(failure.to_owned());
        for (script, outcome) in [
            ("exit 0", Ok(())),
            ("test \"$(cat)$ETCD_AWAIT_ELECTION_PASSWORD$ETCD_LOCK_REV\" = ''", Ok(())),
            ("echo; echo ' no disk '; echo more; exit 3", failed("it exited with code 3: no disk")),
            ("echo bad >&2; kill -9 $$", failed("signal 9 ended it: bad")),
            ("yes | head -c 1000000; exit 4", failed("it exited with code 4: y")),
        ] {
            with_checker(script, async |handle| assert_eq!(handle.run(0).await, outcome, "{script}"));
        }
        for (program, cause) in [("/nonexistent", "No such file"), ("/", "directory")] {
            with(vec![None, Some(vec![program.into()])], async |handle| {
                let failure = handle.run(1).await.expect_err("it does not start");
                assert!(failure.starts_with("could not execute it: ") && failure.contains(cause), "{failure}");
            });
        }
    });
}

#[test]
fn nothing_of_a_check_outlives_it() {
    in_own_process("checks::nothing_of_a_check_outlives_it", |directory| {
        let file = directory.join("pids");
        let pids = file.display();
        let left = format!("sh -c 'echo $$ >>{pids}; exec sleep 1000'");
        let forks =
            format!(": >{pids}; setsid {left} & ({left} &); until [ $(wc -l <{pids}) = 2 ]; do sleep 0.01; done; ");
        for (end, is_in_time) in
            [("exit 0", true), ("trap '' TERM; yes", false), ("kill -STOP $$", false), ("sleep 1000", false)]
        {
            with_checker(&(forks.clone() + end), async |handle| {
                let begun = Instant::now();
                let outcome = handle.run(0).await;
                assert_eq!(outcome.is_ok(), is_in_time, "{end}: {outcome:?}");
                if let Err(failure) = outcome {
                    assert_eq!(failure, "it did not finish within 500ms", "{end}");
                    assert!(Instant::now().saturating_since(begun) >= TIMEOUT);
                }
                let pids = written(&file);
                assert_eq!(pids.len(), 2, "{pids:?}");
                eventually("the processes of a check exit", || !pids.iter().any(|pid| exists(*pid)));
            });
        }
    });
}

#[test]
fn an_exit_of_the_checker_is_no_failure_of_the_command() {
    in_own_process("checks::an_exit_of_the_checker_is_no_failure_of_the_command", |_| {
        // Its parent is the checker.
        with_checker("kill -9 $PPID; sleep 1000", async |handle| {
            let failure = handle.run(0).await.expect_err("there is no answer");
            assert!(handle.is_lost() && failure.contains("has exited"), "{failure}");
        });
        with_checker("exit 1", async |handle| {
            assert!(handle.run(0).await.is_err() && !handle.is_lost());
        });
    });
}

#[test]
fn a_new_check_and_the_end_of_the_gatekeeper_end_a_check() {
    in_own_process("checks::a_new_check_and_the_end_of_the_gatekeeper_end_a_check", |directory| {
        let file = directory.join("pids");
        let waits = format!("echo $$ >>{}; trap '' TERM; sleep 1000", file.display());
        with_checker(&waits, async |handle| {
            for runs in 1..3 {
                let wait = async {
                    while written(&file).len() < runs {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! { outcome = handle.run(0) => panic!("{outcome:?}"), () = wait => {} }
            }
            let pids = written(&file);
            assert!(!exists(pids[0]) && exists(pids[1]), "{pids:?}");
        });
        let pids = written(&file);
        eventually("the check exits", || !pids.iter().any(|pid| exists(*pid)));
    });
}
