//! Peers that share the lock: the Go tool of version 0.2, other etcd clients, and operators.

use std::rc::Rc;

use etcd_await_election::core::{
    kv::{Change, Compare, Op, Outcome, Range, Txn},
    names::LeaseId,
};

use crate::{
    oracle::Kind,
    sim::{MS, Process, SECOND, Time},
    world::World,
};

/// The longest time that a peer may need for a request.
const WAY: (Time, Time) = (MS, 5 * MS);

async fn ask_etcd(world: &World) {
    loop {
        world.sim.sleep(world.sim.between(WAY.0, WAY.1)).await;
        if world.net.has_quorum() {
            return;
        }
    }
}

fn grant(world: &World, ttl: Time) -> LeaseId {
    let lease = world.net.new_lease();
    world.net.change(|etcd| etcd.grant(lease, ttl, world.sim.now()));
    lease
}

/// The Go tool: it creates the holder key with a new lease if it is absent, and retries every retry period. A holder
/// whose key is deleted kills its command soon after, and then revokes its lease.
pub(crate) fn go(world: &Rc<World>, n: usize, retry: Time) {
    let (world, name) = (Rc::clone(world), format!("go{n}"));
    let sim = world.sim.clone();
    sim.spawn(&Process::new(&name), async move {
        let holder = world.machines[0].config.lock.holder();
        while world.troubled.get() {
            world.sim.sleep(world.sim.between(retry / 2, retry)).await;
            ask_etcd(&world).await;
            let lease = grant(&world, 8 * SECOND);
            ask_etcd(&world).await;
            let put = Txn {
                when: vec![Compare::Absent(Range::Key(holder.clone()))],
                then: vec![Op::Put(holder.clone(), name.clone().into(), lease)],
                otherwise: None,
            };
            if let Ok(Outcome::Then(revision)) = world.net.change(|etcd| etcd.commit(&put)) {
                world.sim.sleep(world.sim.between(WAY.0, WAY.1)).await;
                run_go(&world, &name, &holder, lease, revision).await;
            }
            ask_etcd(&world).await;
            world.net.change(|etcd| etcd.revoke(lease));
        }
    });
}

async fn run_go(world: &World, name: &str, holder: &[u8], lease: LeaseId, revision: i64) {
    let deleted = || world.net.etcd().get(holder).is_none_or(|kv| kv.mod_revision != revision);
    if deleted() {
        return;
    }
    world.sim.log(|| format!("{name} COMMAND STARTS"));
    world.oracle.begin(name, Kind::Go);
    let end = world.sim.now() + world.sim.between(SECOND, 15 * SECOND);
    while world.sim.now() < end && world.troubled.get() {
        world.sim.sleep(50 * MS).await;
        if world.net.has_quorum() {
            if deleted() {
                break;
            }
            world.net.change(|etcd| etcd.keep_alive(lease, world.sim.now()));
        }
    }
    // Some commands end slowly; the lease lives longer.
    let slowest = *world.sim.pick(&[300 * MS, 3 * SECOND]);
    world.sim.sleep(world.sim.between(MS, slowest)).await;
    world.oracle.stop(name);
}

/// `etcdctl elect`: leads when nothing below the lock's prefix is older than its own entry.
pub(crate) fn foreign(world: &Rc<World>, n: usize) {
    let (world, name) = (Rc::clone(world), format!("elect{n}"));
    let sim = world.sim.clone();
    sim.spawn(&Process::new(&name), async move {
        let prefix = world.machines[0].config.lock.prefix();
        while world.troubled.get() {
            world.sim.sleep(world.sim.between(0, 20 * SECOND)).await;
            ask_etcd(&world).await;
            let lease = grant(&world, 8 * SECOND);
            let entry = [prefix.clone(), lease.to_string().into_bytes()].concat();
            let put =
                Txn { when: vec![], then: vec![Op::Put(entry.clone(), name.clone().into(), lease)], otherwise: None };
            let _ = world.net.change(|etcd| etcd.commit(&put));
            let mut until = None;
            while world.troubled.get() && until.is_none_or(|until| world.sim.now() < until) {
                world.sim.sleep(50 * MS).await;
                if !world.net.has_quorum() {
                    continue;
                }
                world.net.change(|etcd| etcd.keep_alive(lease, world.sim.now()));
                let place = world.net.etcd().get(&entry).map(|kv| kv.create_revision);
                let Some(place) = place else { break };
                let head = !world.net.etcd().keys().any(|kv| kv.key.starts_with(&prefix) && kv.create_revision < place);
                if head && until.is_none() {
                    world.sim.log(|| format!("{name} LEADS"));
                    world.oracle.begin(&name, Kind::Foreign);
                    until = Some(world.sim.now() + world.sim.between(SECOND, 8 * SECOND));
                }
            }
            if until.is_some() {
                world.oracle.stop(&name);
            }
            ask_etcd(&world).await;
            world.net.change(|etcd| etcd.revoke(lease));
        }
    });
}

/// An operator who pauses the lock, and ends the pause by hand or lets its lease expire. Meanwhile no instance becomes leader.
pub(crate) fn pauses(world: &Rc<World>) {
    let world = Rc::clone(world);
    let sim = world.sim.clone();
    sim.spawn(&Process::new("pauses"), async move {
        let lock = &world.machines[0].config.lock;
        let (pause, holder) = (lock.pause(), lock.holder());
        while world.troubled.get() {
            world.sim.sleep(world.sim.between(SECOND, 12 * SECOND)).await;
            ask_etcd(&world).await;
            let lease = grant(&world, world.sim.between(3 * SECOND, 20 * SECOND));
            let put = Txn {
                when: vec![Compare::Absent(Range::Key(pause.clone()))],
                then: vec![Op::Put(pause.clone(), b"{}".to_vec(), lease)],
                otherwise: None,
            };
            let Ok(Outcome::Then(revision)) = world.net.change(|etcd| etcd.commit(&put)) else { continue };
            world.sim.log(|| "       operator pauses the lock".to_owned());
            let end = world.sim.now() + world.sim.between(SECOND, 25 * SECOND);
            let exists = || world.net.etcd().get(&pause).is_some();
            while world.troubled.get() && exists() && world.sim.now() < end {
                world.sim.sleep(50 * MS).await;
            }
            ask_etcd(&world).await;
            world.net.change(|etcd| etcd.revoke(lease));
            // It may have ended before, by its lease or another operator.
            let ended = world.net.etcd().changes(&Range::Key(pause.clone()), revision + 1).into_iter().next();
            let Some(Change::Deleted(_, ended)) = ended else { continue };
            for change in world.net.etcd().changes(&Range::Key(holder.clone()), revision + 1) {
                match change {
                    Change::Put(kv) if kv.mod_revision < ended && !kv.value.starts_with(b"go") => {
                        world.oracle.violate(format!("{} becomes leader while the lock is paused", kv.identity()));
                    }
                    _ => {}
                }
            }
        }
    });
}

/// An operator with `etcdctl del`: one key at a time, and the next one only after the effects of the first.
pub(crate) fn operator(world: &Rc<World>) {
    let world = Rc::clone(world);
    let sim = world.sim.clone();
    sim.spawn(&Process::new("operator"), async move {
        let config = &world.machines[0].config;
        let settled = Time::try_from(config.timing.lease().as_micros()).expect("short") + 4 * SECOND;
        loop {
            world.sim.sleep(world.sim.between(settled, 2 * settled)).await;
            ask_etcd(&world).await;
            if !world.troubled.get() {
                return;
            }
            let keys: Vec<_> = world.net.etcd().keys().map(|kv| kv.key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let key = if world.sim.chance(50) { config.lock.holder() } else { world.sim.pick(&keys).clone() };
            world.sim.log(|| format!("       operator deletes {}", String::from_utf8_lossy(&key)));
            let revision = world.net.etcd().revision;
            let deleted = world.net.etcd().keys().find(|kv| kv.key == key).cloned();
            world.oracle.depose(deleted.as_ref(), revision);
            let delete = Txn { when: vec![], then: vec![Op::Delete(key)], otherwise: None };
            let _ = world.net.change(|etcd| etcd.commit(&delete));
        }
    });
}
