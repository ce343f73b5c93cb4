use std::collections::BTreeMap;

use super::{
    super::tests::{joining, leader, standby},
    *,
};
use crate::system::clock::BootClock;

fn variables(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
    let pairs: BTreeMap<String, OsString> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    move |name| pairs.get(name).cloned()
}

/// systemd's end of the socket.
struct Systemd {
    socket: UnixDatagram,
    path: String,
    _directory: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Self { socket, path: path.to_str().expect("UTF-8").to_owned(), _directory: directory }
    }

    fn notifier(&self, watchdog_usec: &str) -> Notifier {
        let variables = variables(&[("NOTIFY_SOCKET", &self.path), ("WATCHDOG_USEC", watchdog_usec)]);
        Notifier::new(variables, 1).expect("a socket").expect("opened")
    }

    fn received(&self) -> Option<String> {
        let mut message = [0; 1024];
        let n = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..n]).into_owned())
    }
}

fn notified(ready: NotifyReady) -> Notified {
    Notified::new(ready, Duration::from_secs(17))
}

#[test]
fn ready_is_sent_once_at_the_chosen_moment() {
    let key = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    for (ready, expected) in [
        (NotifyReady::Started, [vec!["READY", "STATUS"], vec!["STATUS"], vec!["STATUS"], vec![]]),
        (NotifyReady::Campaigning, [vec!["STATUS"], vec!["READY", "STATUS"], vec!["STATUS"], vec![]]),
        (NotifyReady::Elected, [vec!["STATUS"], vec!["STATUS"], vec!["READY", "STATUS"], vec![]]),
    ] {
        let mut notified = notified(ready);
        for (status, expected) in [joining(), standby(), leader(), leader()].iter().zip(expected) {
            let keys: Vec<_> = notified.update(status).lines().map(key).collect();
            assert_eq!(keys, expected, "{ready:?} {:?}", status.phase);
        }
    }
}

/// For example with a wrong password, or without etcd within ACQUIRE_TIMEOUT: the start of the service has failed.
#[test]
fn an_instance_that_gives_up_before_it_joins_was_never_ready() {
    let released = Status { phase: Phase::Released, ..joining() };
    for ready in [NotifyReady::Campaigning, NotifyReady::Elected] {
        let mut notified = notified(ready);
        for status in [joining(), released.clone(), Status { ending: true, ..released.clone() }] {
            assert!(!notified.update(&status).contains("READY"), "{ready:?} {:?}", status.phase);
        }
    }
}

#[test]
fn ready_is_sent_for_a_command_that_exited_at_once() {
    let exited = Status { phase: Phase::Released, ending: true, ..leader() };
    assert!(notified(NotifyReady::Elected).update(&exited).contains("READY=1"));
}

#[test]
fn stopping_is_sent_once_and_only_when_the_program_ends() {
    let mut notified = notified(NotifyReady::Campaigning);
    let stopping = Status { phase: Phase::Stopping, ..leader() };
    assert!(!notified.update(&stopping).contains("STOPPING"), "another term may follow");
    let ending = Status { ending: true, ..stopping };
    assert!(notified.update(&ending).contains("STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000\n"));
    assert_eq!(notified.update(&ending), "");
    assert_eq!(notified.stopping(), "");
}

#[test]
fn the_watchdog_counts_only_with_the_pid_of_this_process() {
    for (pairs, expected) in [
        (vec![("WATCHDOG_USEC", "3000000")], Some(Duration::from_secs(3))),
        (vec![("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")], Some(Duration::from_secs(3))),
        (vec![("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")], None),
        (vec![("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "x")], None),
        (vec![("WATCHDOG_USEC", "0")], None),
        (vec![("WATCHDOG_USEC", "soon")], None),
        (vec![], None),
    ] {
        assert_eq!(watchdog(variables(&pairs), 7), expected, "{pairs:?}");
    }
}

#[test]
fn there_is_no_notifier_without_a_socket() {
    assert!(Notifier::new(variables(&[]), 1).is_none());
    assert!(Notifier::new(variables(&[("NOTIFY_SOCKET", "")]), 1).is_none());
    let vsock = Notifier::new(variables(&[("NOTIFY_SOCKET", "vsock:2:1234")]), 1);
    assert!(vsock.expect("a socket").is_err());
}

#[tokio::test]
async fn changes_go_to_a_socket_with_a_path() {
    let systemd = Systemd::new();
    let (sender, status) = watch::channel(leader());
    drop(sender);
    systemd.notifier("0").run(status, notified(NotifyReady::Campaigning), BootClock).await;
    assert_eq!(systemd.received().expect("news"), "READY=1\nSTATUS=leader of db: the command runs\n");
    assert_eq!(systemd.received().expect("the end"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000\n");
}

/// While systemd is busy, for example with a reload, it reads no messages, and the socket fills up.
#[tokio::test]
async fn a_message_that_found_no_room_is_sent_again() {
    let systemd = Systemd::new();
    let (sender, status) = watch::channel(joining());
    // One sender may not fill it: systemd as process 1 of a container lets every socket of the machine hold more messages.
    loop {
        let crowd = UnixDatagram::unbound().expect("a socket");
        crowd.set_nonblocking(true).expect("non-blocking");
        if crowd.send_to(b"X=1\n", &systemd.path).is_err() {
            break;
        }
        while crowd.send_to(b"X=1\n", &systemd.path).is_ok() {}
    }
    let steps = async {
        for status in [standby(), leader()] {
            tokio::task::yield_now().await;
            sender.send_replace(status);
        }
        tokio::task::yield_now().await;
        systemd.socket.set_nonblocking(true).expect("non-blocking");
        while systemd.received().is_some() {}
        // The heartbeat.
        sender.send_modify(|_| {});
        tokio::task::yield_now().await;
        drop(sender);
    };
    let run = systemd.notifier("0").run(status, notified(NotifyReady::Campaigning), BootClock);
    tokio::join!(run, steps);
    assert_eq!(systemd.received().expect("news"), "READY=1\nSTATUS=leader of db: the command runs\n");
    assert_eq!(systemd.received().expect("the end"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000\n");
}

#[test]
fn changes_go_to_an_abstract_socket() {
    let name = format!("etcd-await-election-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("bound");
    let notifier = Notifier::new(variables(&[("NOTIFY_SOCKET", &format!("@{name}"))]), 1);
    notifier.expect("a socket").expect("opened").send("READY=1\n");
    let mut message = [0; 64];
    let n = socket.recv(&mut message).expect("a message");
    assert_eq!(&message[..n], b"READY=1\n");
}

#[tokio::test]
async fn the_watchdog_is_fed_only_while_alive() {
    let pings = |status: Status| async {
        let systemd = Systemd::new();
        systemd.socket.set_nonblocking(true).expect("non-blocking");
        let (sender, status) = watch::channel(status);
        // With a timeout of 20 ms there is a message every 10 ms.
        let run = systemd.notifier("20000").run(status, notified(NotifyReady::Campaigning), BootClock);
        let ran_out = tokio::time::timeout(Duration::from_millis(110), run).await.is_err();
        drop(sender);
        assert!(ran_out);
        std::iter::from_fn(|| systemd.received()).filter(|message| message == "WATCHDOG=1\n").count()
    };
    let now = BootClock.now();
    let deadlines = |seconds| {
        let at = now + Duration::from_secs(seconds);
        Some(crate::core::timing::Deadlines { stop_at: at, kill_at: at })
    };
    let alive = Status { beat: Some(now), deadlines: deadlines(60), ..leader() };
    // A busy machine may miss some.
    assert!((3..=12).contains(&pings(alive.clone()).await));
    let overdue = Status { deadlines: deadlines(0), ..alive.clone() };
    assert_eq!(pings(overdue).await, 0);
    let stalled = Status { beat: Some(now - Duration::from_secs(60)), ..alive };
    assert_eq!(pings(stalled).await, 0);
}
