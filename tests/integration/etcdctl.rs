//! `etcdctl elect` and `etcdctl lock` beside instances of this program: all share one queue.

use std::{fs, path::Path, sync::Arc, time::Duration};

use harness::{Behavior, Candidate, Timing, World, eventually, process::Process, throughout};
use nix::{sys::signal::Signal, unistd::Pid};

use crate::{shared_world, shell_gatekeeper};

/// Starts `etcdctl lock` with the journaling command. Its lock revision serves as the token.
fn lock(world: &World, name: &str) -> Arc<Candidate> {
    let script = format!(
        "exec env {} lock {} -- sh -c 'ETCD_AWAIT_ELECTION_FENCING_TOKEN=$ETCD_LOCK_REV exec \"$@\"' sh \"$@\"",
        world.cluster().etcdctl().line(),
        world.lock(),
    );
    world.candidate(name).program(shell_gatekeeper(world, name, &script)).behavior(Behavior::default()).start()
}

/// Ends the command of `etcdctl lock`, which forwards no signals.
fn unlock(candidate: &Candidate) {
    let _ = nix::sys::signal::kill(Pid::from_raw(candidate.command_pid()), Signal::SIGTERM);
    candidate.wait_exit(Timing::SWIFT);
}

/// Waits until the queue has this many entries of all clients.
fn queue(world: &World, length: usize) {
    eventually(Timing::START, &format!("the queue has {length} entries"), || {
        let keys = world.keys()?;
        let queued = keys.iter().filter(|key| key.name != world.lock()).count();
        if queued == length { Ok(()) } else { Err(format!("{keys:?}")) }
    });
}

#[test]
fn etcdctl_lock_and_instances_share_one_queue() {
    let world = shared_world();
    let first = lock(&world, "first");
    first.leads();
    let second = world.candidate("second").start();
    second.waits();
    let third = lock(&world, "third");
    queue(&world, 3);
    let fourth = world.candidate("fourth").start();
    fourth.waits();
    assert_eq!(world.journal().lives().len(), 1);

    unlock(&first);
    second.leads_within(Timing::SWIFT);
    second.terminate();
    third.leads_within(Timing::SWIFT);
    unlock(&third);
    fourth.leads_within(Timing::SWIFT);
    let order: Vec<_> = world.journal().lives().into_iter().map(|life| life.name).collect();
    assert_eq!(order, ["first", "second", "third", "fourth"]);
    world.verdict();
}

/// `etcdctl lock` waits for the lease of a killed leader, and for its command.
#[test]
fn etcdctl_lock_waits_for_the_command_of_a_killed_leader() {
    let world = shared_world();
    let a = world.candidate("a").behavior(Behavior::stubborn()).timing(Timing::SHORT).start();
    a.leads();
    let next = lock(&world, "next");
    queue(&world, 2);
    a.kill();
    next.leads_within(Timing::SHORT.latest_failover() + Timing::SHORT.grace);
    unlock(&next);
    world.verdict();
}

/// `etcdctl elect` with its output: the key and its value, once it leads.
fn elect(world: &World, proposal: &str) -> (Process, std::path::PathBuf) {
    let file = world.directory().join(proposal);
    (world.cluster().etcdctl().start_writing(&["elect", world.lock(), proposal], &file), file)
}

fn says(file: &Path) -> String {
    fs::read_to_string(file).expect("the file is there")
}

#[test]
fn etcdctl_elect_waits_for_the_leader_and_is_not_overtaken() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let (foreign, file) = elect(&world, "foreign");
    queue(&world, 2);
    let b = world.candidate("b").start();
    b.waits();
    let forcing = world.candidate("forcing").force().start();
    // A request overtakes the whole queue, the order of which stays the same.
    forcing.leads();
    assert_eq!(says(&file), "");
    forcing.terminate();
    eventually(Timing::SWIFT, "the other client leads", || match says(&file) {
        said if said.contains("foreign") => Ok(()),
        said => Err(said),
    });
    // Another etcd client cannot be asked to hand over, so b waits, with force as well.
    let again = world.candidate("again").force().start();
    again.waits();
    throughout(Timing::LONG.retry, "no instance starts", || match (b.living().len(), again.living().len()) {
        (0, 0) => Ok(()),
        living => Err(format!("{living:?}")),
    });
    foreign.signal(Signal::SIGKILL);
    foreign.wait_exit(Timing::SWIFT);
    let left = world.keys().expect("etcd answers").into_iter().find(|key| key.value == "foreign");
    world.cluster().etcdctl().revoke(left.expect("its lease goes on").lease);
    again.leads_within(Timing::START);
    again.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn an_etcdctl_observer_sees_every_leader() {
    let world = shared_world();
    let file = world.directory().join("observed");
    let _observer = world.cluster().etcdctl().start_writing(&["elect", "--listen", world.lock()], &file);
    let sees = |leaders: &[&str]| {
        eventually(Timing::START, &format!("the observer has seen {leaders:?}"), || {
            let text = says(&file);
            let mut seen: Vec<_> = text.lines().skip(1).step_by(2).collect();
            seen.dedup();
            if seen == leaders { Ok(()) } else { Err(text) }
        });
    };
    let a = world.candidate("a").start();
    a.leads();
    sees(&["a"]);
    let b = world.candidate("b").start();
    b.waits();
    let c = world.candidate("c").start();
    c.waits();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    sees(&["a", "b"]);
    let d = world.candidate("d").force().start();
    d.leads();
    sees(&["a", "b", "d"]);
    d.kill();
    c.leads_within(Timing::SWIFT);
    sees(&["a", "b", "d", "c"]);
    // A pending request is not a leader: while the leader is frozen the observer still sees it.
    c.pause();
    let e = world.candidate("e").force().start();
    e.waits();
    throughout(Duration::from_millis(500), "c is seen to lead", || {
        let text = says(&file);
        if text.lines().last() == Some("c") { Ok(()) } else { Err(text) }
    });
    c.resume();
    e.leads();
    sees(&["a", "b", "d", "c", "e"]);
    world.verdict();
}
