//! Helpers: the second run of a test, a guard, and the states of processes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{LazyLock, PoisonError, RwLock},
    thread,
};

use nix::{
    libc::SIGTERM,
    sys::{
        signal::{self, Signal},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::super::*;
use crate::core::{clock::Instant, names::LeaseId, timing::Deadlines};

pub(super) const DIRECTORY: &str = "GUARD_TEST_DIRECTORY";
/// Saved once, as the start of the first guard blocks the signals of this process for ever.
pub(super) static ORIGINAL: LazyLock<Original> = LazyLock::new(Original::save);
pub(super) const LEASE: LeaseId = LeaseId(0x2a);

/// Shared by tests that make assertions about time; exclusive for one that keeps the whole machine busy.
static MACHINE: RwLock<()> = RwLock::new(());

/// Returns the second run of the test `name`, started from a shell after `shell`, with a shared directory.
pub(super) fn second_run(name: &str, shell: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{shell}\nexec \"$@\""), "sh"])
        .arg(env::current_exe().expect("a test"))
        .args(["--exact", &format!("guard::tests::{name}"), "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env("ETCD_AWAIT_ELECTION_PASSWORD", "secret")
        .env("ETCD_LOCK_REV", "of an outer lock");
    command
}

/// Runs it beside no other test of [`in_own_process`].
pub(super) fn alone_in_own_process(name: &str, gatekeeper: impl FnOnce(&Path)) {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    in_own_process_from("", name, gatekeeper);
}

pub(super) fn in_own_process(name: &str, gatekeeper: impl FnOnce(&Path)) {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    in_own_process_from("", name, |directory| {
        // The tests may run with signals ignored, as by nohup, and a shell cannot undo that.
        for default in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            // SAFETY: no handler is installed, nor was there one.
            unsafe { signal::signal(default, signal::SigHandler::SigDfl) }.expect("a disposition");
        }
        gatekeeper(directory);
    });
}

pub(super) fn in_own_process_from(shell: &str, name: &str, gatekeeper: impl FnOnce(&Path)) {
    if let Some(directory) = env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        wait_for_main_thread();
        gatekeeper(&directory);
        fs::write(directory.join("done"), "").expect("write");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (status, output) = ending(second_run(name, shell, directory.path()), directory.path());
    // With a wrong name no test would run, and the run would succeed.
    assert!(status.success() && directory.path().join("done").exists(), "{status}\n{output}");
}

/// Waits until the main thread of the test program waits for this test. Before that it prints, and a process that is forked then has a
/// copy of its locks that nobody opens.
fn wait_for_main_thread() {
    let stat = format!("/proc/self/task/{}/stat", std::process::id());
    eventually("the main thread waits", || fs::read_to_string(&stat).ok()?.contains(") S ").then_some(()));
}

/// Runs it and returns its exit status and output. The output goes to a file, as processes that a broken guard left behind would
/// hold a pipe open.
pub(super) fn ending(mut run: Command, directory: &Path) -> (ExitStatus, String) {
    let output = directory.join("output");
    let file = fs::File::create(&output).expect("a file");
    run.stdout(file.try_clone().expect("a descriptor")).stderr(file);
    let mut run = run.spawn().expect("runs");
    let until = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match run.try_wait().expect("a child") {
            Some(status) => break status,
            None if Instant::now() < until => thread::sleep(ms(10)),
            None => run.kill().expect("killed"),
        }
    };
    (status, fs::read_to_string(output).expect("UTF-8"))
}

pub(super) fn executable(words: &[&str]) -> Executable {
    Executable {
        file: resolve(words[0].as_ref()).unwrap_or_else(|_| words[0].into()),
        words: words.iter().map(Into::into).collect(),
    }
}

pub(super) fn setup(command: &[&str]) -> GuardSetup {
    GuardSetup {
        command: executable(command),
        on_elected: None,
        on_stopped: None,
        lock: "a/lock".parse().expect("a name"),
        stop_signal: SIGTERM,
        stop_grace: ms(300),
        original: *ORIGINAL,
        log: Style::PLAIN,
        stderr: None,
        revoke: Box::new(|_, _| true),
    }
}

pub(super) fn shell(script: &str) -> GuardSetup {
    setup(&["sh", "-c", script])
}

pub(super) const DEAF: &str = "trap '' TERM; while :; do sleep 0.02; done";

/// The same script, which creates a file once it ignores SIGTERM.
pub(super) fn deaf_and_says_so(ready: &Path) -> String {
    DEAF.replace("; while", &format!("; > {}; while", ready.display()))
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Returns deadlines in milliseconds from now, times four for a busy machine.
pub(super) fn within(term: u64, kill: u64) -> Deadlines {
    let now = Instant::now();
    Deadlines { stop_at: now + 4 * ms(term), kill_at: now + 4 * ms(kill) }
}

pub(super) const fn start_order(deadlines: Deadlines, token: i64) -> Order {
    Order::Start { deadlines, token, lease: LEASE }
}

/// Starts a guard and runs `gatekeeper` with its handle.
pub(super) fn with_guard(setup: GuardSetup, gatekeeper: impl AsyncFnOnce(&mut Handle, Pid)) {
    let guarded = start(setup).expect("a guard");
    let pid = guarded.pid;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut handle = guarded.into_handle().expect("a handle");
        let to_the_end = async {
            gatekeeper(&mut handle, pid).await;
            handle.order(Order::Dismiss);
            assert_eq!(handle.report().await, Report::GuardLost);
        };
        tokio::time::timeout(Duration::from_secs(20), to_the_end).await.expect("in time");
    });
    assert!(waitpid(None, Some(WaitPidFlag::WNOHANG)).is_err(), "a process is left");
}

/// Returns all reports up to the end of the term.
pub(super) async fn rest_of_term(handle: &mut Handle) -> Vec<Report> {
    let mut reports = Vec::new();
    loop {
        let report = handle.report().await;
        reports.push(report);
        if matches!(report, Report::TreeExited(_) | Report::GuardLost) {
            return reports;
        }
    }
}

pub(super) async fn started(handle: &mut Handle, deadlines: Deadlines) -> Pid {
    handle.order(start_order(deadlines, 1));
    let Report::Started(pid) = handle.report().await else { panic!("not started") };
    assert_eq!(handle.report().await, Report::Fed(deadlines));
    Pid::from_raw(pid)
}

pub(super) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(ms(10));
    }
    panic!("never: {what}");
}

/// Writes a file that a reader finds complete.
pub(super) fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join("new"), text).expect("write");
    fs::rename(directory.join("new"), directory.join(name)).expect("rename");
}

pub(super) fn pid_in(file: &Path) -> Pid {
    eventually("a process id", || fs::read_to_string(file).ok()?.trim().parse().ok().map(Pid::from_raw))
}

/// Returns whether the process does not exist or is a zombie that its parent has not reaped yet.
pub(super) fn is_dead(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

pub(super) fn is_stopped(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

/// Returns the output of this run and its guards so far.
pub(super) fn logged(directory: &Path) -> String {
    fs::read_to_string(directory.join("output")).expect("UTF-8")
}
