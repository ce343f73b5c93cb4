//! Whatever else lies below the lock's name: it is not ours, and it stays as it is.

use std::time::Duration;

use harness::{Cluster, End, Timing, World, eventually};

use crate::{shared_world, world_on};

/// Names that look like ours, and are none.
fn nonsense(world: &World) -> Vec<Vec<u8>> {
    let names: [&[u8]; 14] = [
        b"",
        b"0",
        b"00",
        b"0g",
        b"01123456789abcdef0",
        b"0abc/",
        b"abc/def",
        b"~force",
        b"~force/",
        b"~force/xyz",
        b"~ousted/",
        b"~ousted/00",
        b"\xff\xfe",
        b"0\xc3\x28",
    ];
    names.iter().map(|name| [world.lock().as_bytes(), b"/", name].concat()).collect()
}

/// One round of everything: start, wait, hand over, force.
fn a_round(world: &World) {
    let a = world.candidate("a").start();
    a.leads();
    let b = world.candidate("b").start();
    b.waits();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    let c = world.candidate("c").force().start();
    c.leads();
    b.wait_exit(Timing::SWIFT);
    c.terminate();
    assert_eq!(c.wait_exit(Timing::SWIFT), End::Code(0));
}

#[test]
fn keys_with_nonsense_names_disturb_nobody() {
    for with_lease in [false, true] {
        let world = shared_world();
        let etcdctl = world.cluster().etcdctl();
        let lease = with_lease.then(|| etcdctl.grant(Duration::from_secs(600)));
        let names = nonsense(&world);
        for name in &names {
            etcdctl.put(name, b"\xff not UTF-8 \x00\n\x1b[31m", lease);
        }
        a_round(&world);
        assert_eq!(world.keys().expect("etcd answers").len(), names.len());
        world.verdict();
    }
}

/// Without a lease nothing runs out: an entry or a request that nobody can give back must not count.
#[test]
fn entries_requests_and_markers_without_a_lease_count_for_nothing() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    for name in ["0abc", "abc", "~force/abc", "~ousted/abc"] {
        etcdctl.must(&["put", &format!("{}/{name}", world.lock()), "somebody"]);
    }
    a_round(&world);
    world.verdict();
}

/// An application that keeps its data below the name of its lock. All of it together is more than one answer of etcd's may
/// be.
#[test]
fn data_below_the_lock_may_be_huge() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let etcdctl = world.cluster().etcdctl();
    let huge = vec![b'x'; 1 << 20];
    for number in 0..6 {
        etcdctl.put(format!("{}/data/{number}", world.lock()).as_bytes(), &huge, None);
        etcdctl.put(format!("{}/zone-{number}", world.lock()).as_bytes(), &huge, None);
    }
    let a = world.candidate("a").start();
    a.leads();
    let b = world.candidate("b").start();
    eventually(Timing::START, "b waits", || match b.code("/readyz") {
        200 => Ok(()),
        _ => Err(b.stderr()),
    });
    a.terminate();
    b.leads_within(Timing::SWIFT);
    b.terminate();
    b.wait_exit(Timing::SWIFT);
    world.verdict();
}

/// The holder is somebody else's, and its value anything: it is waited for, and shown without harm.
#[test]
fn a_holder_of_any_value_is_waited_for_and_shown() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    for value in [b"\xff\xfe\n\x1b[2J\x00\"".to_vec(), vec![b'\xe9'; 1 << 20], b" ".to_vec()] {
        let lease = etcdctl.grant(Duration::from_secs(600));
        etcdctl.put(world.lock().as_bytes(), &value, Some(lease));
        let a = world.candidate("a").start();
        a.waits();
        eventually(Timing::START, "the status tells who leads, in few words", || {
            let answer = a.http("GET", "/").map_err(|error| error.to_string())?;
            let json: serde_json::Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            let told = json["phase"] == "awaiting" && answer.body.len() < 4096 && answer.status == 200;
            if told { Ok(()) } else { Err(answer.body.chars().take(500).collect()) }
        });
        assert!(a.lives().is_empty());
        let log = a.stderr();
        assert!(log.len() < 8192, "a log of {} bytes", log.len());
        assert!(log.bytes().all(|byte| byte == b'\n' || byte >= b' '), "raw control characters in {log:?}");
        etcdctl.revoke(lease);
        a.leads_within(Timing::SWIFT);
        a.terminate();
        a.wait_exit(Timing::SWIFT);
    }
    world.verdict();
}
