//! Other keys below the lock's name neither disturb the election nor are they changed.

use std::time::Duration;

use harness::{Cluster, End, Timing, World, eventually};

use crate::{shared_world, world_on};

/// Names that resemble the program's keys.
fn nonsense(world: &World) -> Vec<Vec<u8>> {
    let names: [&[u8]; 19] = [
        b"",
        b"0",
        b"01",
        b"abc/def",
        b"~",
        b"~entry",
        b"~entry/",
        b"~entry/00",
        b"~entry/0abc",
        b"~entry/1123456789abcdef0",
        b"~entry/abc/",
        b"~force",
        b"~force/",
        b"~force/xyz",
        b"~resign/1/xyz",
        b"~ousted/",
        b"~ousted/00",
        b"\xff\xfe",
        b"~entry/\xc3\x28",
    ];
    names.iter().map(|name| [world.lock().as_bytes(), b"/", name].concat()).collect()
}

/// One round: start, wait, hand over, force.
fn a_round(world: &World) {
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
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
fn keys_with_malformed_names_do_not_disturb_the_election() {
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

/// A key without a lease never expires, so such an entry or request must not count.
#[test]
fn entries_requests_and_markers_without_a_lease_are_ignored() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    for name in ["~entry/abc", "abc", "~force/abc", "~resign/1/abc", "~ousted/abc"] {
        etcdctl.must(&["put", &format!("{}/{name}", world.lock()), "somebody"]);
    }
    a_round(&world);
    world.verdict();
}

/// An application keeps its data below the name of its lock, and more than fits into one response of etcd.
#[test]
fn large_values_below_the_lock_do_not_disturb_the_election() {
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

/// Another client holds the lock, with an arbitrary value: instances wait for it and show it escaped.
#[test]
fn a_holder_with_an_arbitrary_value_is_waited_for_and_shown() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    for value in [b"\xff\xfe\n\x1b[2J\x00\"".to_vec(), vec![b'\xe9'; 1 << 20], b" ".to_vec()] {
        let lease = etcdctl.grant(Duration::from_secs(600));
        etcdctl.put(world.lock().as_bytes(), &value, Some(lease));
        let a = world.candidate("a").start();
        a.waits();
        eventually(Timing::START, "the status shows the leader", || {
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

/// A lock named by a number, and a leased key of an application, are no queue entries of the parent lock, and a
/// handover never changes them.
#[test]
fn a_lock_named_by_a_number_does_not_disturb_its_parent_lock() {
    let outer = shared_world();
    let inner = shared_world();
    let below = |name: &str| inner.candidate(name).set("LOCK_NAME", format!("{}/01", outer.lock()));
    let (x, y) = (below("x").start(), below("y").start());
    let leader = eventually(Timing::START, "one of the inner lock leads", || {
        [&x, &y].into_iter().find(|each| !each.living().is_empty()).ok_or_else(|| x.stderr())
    });
    let etcdctl = outer.cluster().etcdctl();
    let application = format!("{}/07", outer.lock());
    let lease = etcdctl.grant(Duration::from_secs(600));
    etcdctl.put(application.as_bytes(), b"data", Some(lease));

    a_round(&outer);
    crate::undisturbed(leader, Timing::LONG.retry / 2);
    let keys = outer.keys().expect("etcd answers");
    assert!(keys.iter().any(|key| key.name == application && key.lease == lease), "{keys:?}");
    etcdctl.revoke(lease);
    inner.verdict();
    outer.verdict();
}

/// A user with permissions on the keys of a nested lock can neither take over nor block its parent lock.
#[test]
fn permissions_on_a_nested_lock_give_no_power_over_its_parent() {
    let world = world_on(Cluster::builder().size(1).plain().auth("app", "secret-password").create());
    let below = format!("{}/01", world.lock());
    let root = world.cluster().etcdctl_as_root();
    root.must(&["role", "add", "below"]);
    root.must(&["role", "grant-permission", "below", "readwrite", &below, "--prefix"]);
    root.must(&["user", "add", "neighbor:password"]);
    root.must(&["user", "grant-role", "neighbor", "below"]);
    let neighbor = world.cluster().etcdctl().with(&["--user", "neighbor:password"]);
    let a = world.candidate("a").start();
    a.leads();
    let lease = neighbor.grant(Duration::from_secs(600));
    for name in ["", "23", "/~entry/1", "/~force/1"] {
        neighbor.put(format!("{below}{name}").as_bytes(), b"neighbor", Some(lease));
    }
    let b = world.candidate("b").start();
    b.waits();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    assert_eq!(world.holder().value, "b");
    world.verdict();
}

/// Returns a counter of the only member.
fn metric(world: &World, name: &str) -> f64 {
    let metrics = world.cluster().member(0).metrics().expect("it answers");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

/// More keys than fit into one response, which resemble queue entries by their first letter, and requests and markers
/// of a megabyte each. All of them are ignored.
#[test]
fn more_keys_than_fit_into_one_response_do_not_disturb_the_election() {
    let world = world_on(Cluster::builder().size(1).plain().option("quota-backend-bytes", "1000000000").create());
    let etcdctl = world.cluster().etcdctl();
    // Not with a short lease, as the writes keep etcd busy.
    let a = world.candidate("a").start();
    a.leads();
    let below = |name: &str| format!("{}/{name}", world.lock());
    let kilobyte = "x".repeat(1 << 10);
    for prefix in ["0", "~entry/"] {
        etcdctl.put_all((0..5000).map(|number| below(&format!("{prefix}{number}"))), &kilobyte, None);
    }
    let long = |number: usize| below(&format!("{:x}/{}{number}", number % 15 + 1, "n".repeat(1000)));
    etcdctl.put_all((0..5500).map(long), "-", None);
    let lease = etcdctl.grant(Duration::from_secs(600));
    for number in 0..5 {
        for name in [format!("~force/{number}"), format!("~ousted/{number}"), format!("~entry/x{number}")] {
            etcdctl.put(below(&name).as_bytes(), &vec![b'x'; 1 << 20], Some(lease));
        }
    }
    let sent = || metric(&world, "etcd_network_client_grpc_sent_bytes_total");
    let before = sent();
    crate::undisturbed(&a, 2 * Timing::LONG.retry);
    let sent = sent() - before;
    assert!(sent < 200_000.0, "a leader without standbys reads no keys of others, and was sent {sent} bytes");
    let b = world.candidate("b").start();
    eventually(Timing::START, "b waits", || match b.code("/readyz") {
        200 => Ok(()),
        _ => Err(b.stderr()),
    });
    a.terminate();
    b.leads_within(Timing::START);
    crate::undisturbed(&b, 2 * Timing::LONG.retry);
    world.verdict();
}
