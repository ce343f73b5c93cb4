//! Messages to systemd.

use std::{os::unix::net::UnixDatagram, time::Duration};

use harness::{Candidate, End, Timing, World, eventually, throughout};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::shared_world;

/// The socket of `NOTIFY_SOCKET`, as systemd has it.
struct Systemd {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Systemd {
    fn listen(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.directory().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket option");
        Self { socket, heard: Vec::new() }
    }

    /// Returns whether a message with this line has been received.
    fn heard(&mut self, line: &str) -> Result<(), String> {
        let mut buffer = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut buffer) {
            self.heard.extend(String::from_utf8_lossy(&buffer[..count]).lines().map(str::to_owned));
        }
        if self.heard.iter().any(|heard| heard.starts_with(line)) { Ok(()) } else { Err(format!("{:?}", self.heard)) }
    }
}

/// A boot, or an upgrade of the package, must not wait for etcd.
#[test]
fn ready_is_sent_at_once_although_etcd_does_not_answer() {
    sends_ready_at_once("ENDPOINTS", "127.0.0.1:1", |dark| {
        assert!(dark.stderr().contains("etcd does not answer") || dark.end().is_none(), "{}", dark.stderr());
    });
}

#[test]
fn ready_is_sent_at_once_although_the_host_is_not_eligible() {
    sends_ready_at_once("ELIGIBLE", "false", |instance| instance.logs("this host is not eligible"));
}

fn sends_ready_at_once(setting: &str, value: &str, check: impl Fn(&Candidate)) {
    let world = shared_world();
    let mut systemd = Systemd::listen(&world);
    let socket = world.directory().join("notify");
    let instance = world.candidate("a").set(setting, value).variable("NOTIFY_SOCKET", socket).start();
    eventually(Timing::SWIFT, "READY=1", || systemd.heard("READY=1"));
    check(&instance);
    instance.terminate();
    assert_eq!(instance.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGTERM as i32));
    world.verdict();
}

#[test]
fn notify_ready_campaigning_waits_for_the_campaign() {
    let world = shared_world();
    let mut systemd = Systemd::listen(&world);
    let a = world.candidate("a").start();
    a.leads();
    let dark = world
        .candidate("dark")
        .set("ENDPOINTS", "127.0.0.1:1")
        .set("NOTIFY_READY", "campaigning")
        .variable("NOTIFY_SOCKET", world.directory().join("notify"))
        .start();
    eventually(Timing::SWIFT, "STATUS=", || systemd.heard("STATUS="));
    assert!(systemd.heard("READY=1").is_err(), "{:?}", systemd.heard);
    dark.kill();
    let b = world
        .candidate("b")
        .set("NOTIFY_READY", "campaigning")
        .variable("NOTIFY_SOCKET", world.directory().join("notify"))
        .start();
    b.waits();
    eventually(Timing::SWIFT, "READY=1", || systemd.heard("READY=1"));
    eventually(Timing::SWIFT, "STATUS=", || systemd.heard("STATUS="));
    b.terminate();
    eventually(Timing::SWIFT, "STOPPING=1", || systemd.heard("STOPPING=1"));
    eventually(Timing::SWIFT, "the extension of the timeout", || systemd.heard("EXTEND_TIMEOUT_USEC="));
    world.verdict();
}

#[test]
fn notify_ready_elected_waits_for_leadership() {
    let world = shared_world();
    let mut systemd = Systemd::listen(&world);
    let (a, b) = crate::leader_and_standby(
        world.candidate("a"),
        world.candidate("b").variable("NOTIFY_SOCKET", world.directory().join("notify")).set("NOTIFY_READY", "elected"),
    );
    eventually(Timing::SWIFT, "STATUS=", || systemd.heard("STATUS="));
    assert!(systemd.heard("READY=1").is_err(), "{:?}", systemd.heard);
    let (etcdctl, pause) = (world.cluster().etcdctl(), format!("{}/~pause", world.lock()));
    let standby = format!("STATUS=standby for {}: number 1 in the queue behind a; a leads", world.lock());
    etcdctl.put(pause.as_bytes(), b"{}", None);
    eventually(Timing::SWIFT, "the pause", || systemd.heard(&format!("{standby}; paused until an unknown time")));
    systemd.heard.clear();
    etcdctl.must(&["del", &pause]);
    eventually(Timing::SWIFT, "the end of the pause", || systemd.heard(&standby));
    assert!(systemd.heard.iter().all(|line| !line.contains("paused")), "{:?}", systemd.heard);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    eventually(Timing::SWIFT, "READY=1", || systemd.heard("READY=1"));
    world.verdict();
}

/// systemd has one `RestartSec=` for all exit codes: were the instance restarted at once, two of one identity would take
/// leadership from each other each time.
#[test]
fn under_systemd_an_instance_whose_identity_is_taken_exits_late() {
    let world = shared_world();
    let mut systemd = Systemd::listen(&world);
    let old =
        world.candidate("old").identity("twin").variable("NOTIFY_SOCKET", world.directory().join("notify")).start();
    old.leads();
    let new = world.candidate("new").identity("twin").start();
    new.leads();
    eventually(Timing::SWIFT, "it revokes its lease", || systemd.heard("STATUS=released the lock"));
    throughout(Timing::LONG.retry, "it waits", || {
        let ends = old.end().is_some() || systemd.heard("STOPPING=1").is_ok();
        if ends { Err(old.stderr()) } else { Ok(()) }
    });
    old.terminate();
    assert_eq!(old.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGTERM as i32));
    world.verdict();
}

/// systemd may send it to a whole unit: it ends the gatekeeper, and the other processes ignore it.
#[test]
fn sigurg_stops_only_the_gatekeeper() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.signal_guard(Signal::SIGURG);
    kill(Pid::from_raw(a.command_pid()), Signal::SIGURG).expect("it is there");
    crate::undisturbed(&a, Timing::LONG.retry);
    a.signal(Signal::SIGURG);
    b.leads_within(Timing::SWIFT);
    let life = &a.lives()[0];
    assert!(life.ended && life.asked.is_some(), "{life:?}");
    // The same for a standby.
    let c = world.candidate("c").start();
    c.waits();
    c.signal(Signal::SIGURG);
    assert_eq!(c.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGTERM as i32));
    world.verdict();
}

/// Without renewals there are no notifications, so that systemd restarts a leader in a black hole.
#[test]
fn the_watchdog_is_notified_only_while_renewals_succeed() {
    let world = shared_world();
    let mut systemd = Systemd::listen(&world);
    let a = world
        .candidate("a")
        .timing(Timing::SHORT)
        .variable("NOTIFY_SOCKET", world.directory().join("notify"))
        .variable("WATCHDOG_USEC", Duration::from_secs(2).as_micros().to_string())
        .start();
    a.leads();
    for _ in 0..2 {
        systemd.heard.clear();
        eventually(Timing::SWIFT, "WATCHDOG=1", || systemd.heard("WATCHDOG=1"));
    }
    world.verdict();
}
