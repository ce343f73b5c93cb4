//! `CHECK` and `ELIGIBLE`: a sick leader hands over if a standby can take over, and a host that is not eligible is not in the queue.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{
    Behavior, Candidate, End, Proxy, Setup, Timing, process,
    wait::{eventually, scaled, throughout},
};

use crate::{shared_world, undisturbed};

const INTERVAL: Duration = Duration::from_millis(200);
const FAILURES: u32 = 2;
/// The time in which a sick leader must have been replaced, beside the time that its command takes to stop.
const DETECTED: Duration = INTERVAL.saturating_mul(FAILURES + 1);

fn checked(setup: Setup, check: &str) -> Setup {
    setup.set("CHECK", check).set("CHECK_INTERVAL", "200ms").set("CHECK_TIMEOUT", "200ms").set("CHECK_FAILURES", "2")
}

/// A file, and a check that succeeds while it exists and says `ok`.
struct Switch(PathBuf);

impl Switch {
    fn new(folder: &Path, name: &str) -> Self {
        let switch = Self(folder.join(name));
        switch.set("exit 0");
        switch
    }

    /// Sets what the check does from now on.
    fn set(&self, script: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, script).expect("written");
        fs::rename(new, &self.0).expect("renamed");
    }

    fn check(&self) -> String {
        format!("/bin/sh '{}'", self.0.display())
    }
}

/// Waits until the check has succeeded once, so that failures count.
fn is_healthy(instance: &Candidate) {
    instance.logs("the check of the command succeeds");
}

/// Every kind of failure hands over, within the interval times the failures and the time that the command takes to stop.
#[test]
fn a_sick_leader_hands_over_and_stays_out() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let left = folder.path().join("left");
    let hangs =
        format!("trap '' TERM; setsid sh -c 'echo $$ >>{0}; exec sleep 1000' & while :; do :; done", left.display());
    for (failure, cause) in [
        ("echo no disk; exit 3", "it exited with code 3: no disk"),
        (hangs.as_str(), "it did not finish within 200ms"),
        ("yes", "it did not finish within 200ms"),
        ("kill -9 $$", "signal 9 ended it"),
    ] {
        let switch = Switch::new(folder.path(), "check");
        let (a, b) = crate::leader_and_standby(checked(world.candidate("a"), &switch.check()), world.candidate("b"));
        is_healthy(&a);
        switch.set(failure);
        let sick = Instant::now();
        b.leads_within(DETECTED + Timing::SWIFT);
        eprintln!("{failure:.20}: led after {:?}, detected within {DETECTED:?}", sick.elapsed());
        a.logs(cause);
        a.logs("staying out of the queue for 60s, as the command was sick");
        assert_eq!((a.end(), a.code("/readyz"), a.code("/healthz")), (None, 503, 200));
        // It does not win again at once, although it would be the only one.
        b.terminate();
        b.wait_exit(Timing::SWIFT);
        throughout(scaled(INTERVAL), "it does not lead again", || {
            if a.lives().len() == 1 { Ok(()) } else { Err(a.stderr()) }
        });
        a.terminate();
        assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(128 + 15));
    }
    let pids: Vec<i32> =
        fs::read_to_string(left).expect("written").lines().filter_map(|pid| pid.parse().ok()).collect();
    assert!(!pids.is_empty());
    eventually(Timing::SWIFT, "nothing of a check is left", || {
        let alive: Vec<_> =
            pids.iter().filter(|pid| process::Stat::of(**pid).is_some_and(|it| it.state != 'Z')).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
    });
    world.verdict();
}

#[test]
fn a_sick_leader_without_a_standby_keeps_running_until_one_joins() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let switch = Switch::new(folder.path(), "check");
    let a = checked(world.candidate("a"), &switch.check()).start();
    a.leads();
    is_healthy(&a);
    switch.set("exit 1");
    a.logs("no standby can take over: the command keeps running, although its check fails");
    undisturbed(&a, DETECTED);
    let metrics = a.http("GET", "/metrics").expect("an answer").body;
    assert!(metrics.contains("etcd_await_election_command_healthy 0"), "{metrics}");
    let summary = a.http("GET", "/leader").expect("an answer").body;
    assert!(summary.contains("its check fails; no standby can take over"), "{summary}");
    let b = world.candidate("b").start();
    b.leads_within(Timing::START);
    world.verdict();
}

/// A check neither delays a stop nor lengthens it: the grace counts from the first stop signal.
#[test]
fn a_check_that_fails_while_the_command_stops_changes_nothing() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let switch = Switch::new(folder.path(), "check");
    let grace = Duration::from_secs(1);
    let timing = Timing { grace, ..Timing::LONG };
    let slow = world.candidate("a").timing(timing).behavior(Behavior::stubborn());
    let (a, b) = crate::leader_and_standby(checked(slow, &switch.check()), world.candidate("b"));
    is_healthy(&a);
    a.terminate();
    switch.set("trap '' TERM; sleep 1000");
    b.leads_within(grace + Timing::SWIFT);
    a.wait_exit(Timing::SWIFT);
    assert!(!a.stderr().contains("sick"), "{}", a.stderr());
    world.verdict();
}

/// Nobody can take over while etcd does not answer, so the command keeps running until it does.
#[test]
fn a_check_that_fails_while_etcd_is_dark_hands_over_when_it_answers() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let switch = Switch::new(folder.path(), "check");
    let proxies: Vec<_> = world.cluster().members().iter().map(Proxy::of).collect();
    let cut_off = checked(world.candidate("a"), &switch.check()).via(&proxies);
    let (a, b) = crate::leader_and_standby(cut_off, world.candidate("b"));
    is_healthy(&a);
    proxies.iter().for_each(Proxy::black_hole);
    switch.set("exit 1");
    a.logs("the command is sick");
    undisturbed(&a, DETECTED);
    proxies.iter().for_each(Proxy::heal);
    b.leads_within(Timing::LONG.renew);
    a.logs("stepping down: the check of the command fails, and a standby can take over");
    world.verdict();
}

/// The term ends for the request, so the instance does not stay out.
#[test]
fn a_check_that_fails_while_a_handover_is_under_way_changes_nothing() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let switch = Switch::new(folder.path(), "check");
    let grace = Duration::from_secs(1);
    let slow = world.candidate("a").timing(Timing { grace, ..Timing::LONG }).behavior(Behavior::stubborn());
    let a = checked(slow, &switch.check()).set("ON_LOSS", "campaign").start();
    a.leads();
    is_healthy(&a);
    let b = world.candidate("b").set("FORCE_ACQUIRE", "1").start();
    a.logs("made a handover request");
    switch.set("exit 1");
    b.leads_within(grace + Timing::SWIFT);
    a.waits();
    assert!(!a.stderr().contains("sick"), "{}", a.stderr());
    world.verdict();
}

/// The checker and all that it has started end with the gatekeeper.
#[test]
fn a_check_does_not_outlive_a_killed_gatekeeper() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let pids = folder.path().join("pids");
    let switch = Switch::new(folder.path(), "check");
    switch.set(&format!("trap '' TERM; (setsid sh -c 'echo $$ >>{0}; exec sleep 1000' &); sleep 1000", pids.display()));
    let a = world.candidate("a").set("CHECK", switch.check()).start();
    a.leads();
    let started = || {
        fs::read_to_string(&pids).unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    };
    eventually(Timing::START, "the check runs", || if started().is_empty() { Err(String::new()) } else { Ok(()) });
    a.kill();
    eventually(Timing::SWIFT, "the check has exited", || {
        let alive = started().into_iter().any(|pid| process::Stat::of(pid).is_some_and(|it| it.state != 'Z'));
        if alive { Err(format!("{:?}", started())) } else { Ok(()) }
    });
    a.command_exits_within(Timing::SWIFT);
    world.verdict();
}

/// Answers each request with what is set.
fn server(is_well: Arc<AtomicBool>, sick: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 1024]);
            let answer =
                if is_well.load(Ordering::Relaxed) { "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" } else { sick };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_url_that_redirects_or_answers_garbage_is_sick() {
    let world = shared_world();
    for (answer, cause) in [
        ("HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", "a redirect, which is not followed"),
        ("garbage\r\n\r\n", "could not read the answer"),
    ] {
        let is_well = Arc::new(AtomicBool::new(true));
        let url = format!("http://127.0.0.1:{}/", server(Arc::clone(&is_well), answer));
        let (a, b) = crate::leader_and_standby(checked(world.candidate("a"), &url), world.candidate("b"));
        is_healthy(&a);
        is_well.store(false, Ordering::Relaxed);
        b.leads_within(DETECTED + Timing::SWIFT);
        a.logs(cause);
        for instance in [a, b] {
            instance.terminate();
            instance.wait_exit(Timing::SWIFT);
        }
    }
    world.verdict();
}

#[test]
fn a_host_that_is_not_eligible_is_not_in_the_queue() {
    let world = shared_world();
    let folder = tempfile::tempdir().expect("a folder");
    let switch = Switch::new(folder.path(), "eligible");
    switch.set("exit 1");
    let eligible = |name| {
        let setup = world.candidate(name).set("ELIGIBLE", switch.check()).set("CHECK_INTERVAL", "200ms");
        setup.set("CHECK_TIMEOUT", "200ms").set("CHECK_FAILURES", "2")
    };
    let a = eligible("a").start();
    a.logs("this host is not eligible");
    assert_eq!((a.code("/readyz"), a.code("/healthz")), (503, 200));
    assert!(a.http("GET", "/").expect("an answer").body.contains("\"eligible\": false"));
    assert!(a.http("GET", "/metrics").expect("an answer").body.contains("etcd_await_election_eligible 0"));
    let asking = world.candidate("asking").set("STATUS_ENDPOINT", a.status_address().to_string()).unset("LOG");
    let (end, asking) = asking.command::<&str>([]).flag("ctl").flag("show").run();
    assert_eq!(end, End::Code(0), "{}", asking.stderr());
    let shown = asking.stdout();
    assert!(
        shown.contains("nobody waits") && shown.contains("this instance: ") && shown.contains("eligible"),
        "{shown}"
    );
    let b = world.candidate("b").start();
    b.leads();
    assert!(!a.stderr().contains("joined"), "{}", a.stderr());
    switch.set("exit 0");
    a.waits();
    eventually(Timing::SWIFT, "it is ready", || if a.code("/readyz") == 200 { Ok(()) } else { Err(a.stderr()) });
    switch.set("exit 1");
    a.logs("leaving the queue until this host is eligible");
    eventually(Timing::SWIFT, "it is not ready", || if a.code("/readyz") == 503 { Ok(()) } else { Err(a.stderr()) });
    // Nobody takes over but an eligible instance.
    b.terminate();
    b.wait_exit(Timing::SWIFT);
    switch.set("exit 0");
    a.leads_within(Timing::START);
    // A leader is not asked.
    switch.set("exit 1");
    undisturbed(&a, DETECTED);
    world.verdict();
}
