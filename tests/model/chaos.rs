//! The faults, many at a time. Faults beyond the limits of the guarantee are excluded: both processes of one instance
//! are never stopped at once, and an operator deletes one key at a time.

use std::rc::Rc;

use etcd_await_election::{
    core::kv::{Op, Txn},
    election::view::View,
    etcd::client::RequestTimeouts,
};

use crate::{
    net::{Link, Member, Way},
    plan::{Plan, Profile},
    sim::{MS, Process, SECOND, Time},
    world::World,
};

/// Causes faults until the plan's chaos is over.
pub(crate) fn unleash(world: &Rc<World>, plan: &Plan) {
    if plan.profile == Profile::Mixed {
        requests_vanish(world);
    }
    let (world, plan) = (Rc::clone(world), plan.clone());
    let sim = world.sim.clone();
    sim.spawn(&Process::new("chaos"), async move {
        loop {
            world.sim.sleep(world.sim.between(50 * MS, plan.calm)).await;
            if world.sim.now() > plan.chaos {
                return;
            }
            let length = if world.sim.chance(50) {
                world.sim.between(50 * MS, 2 * SECOND)
            } else {
                world.sim.between(SECOND, 25 * SECOND)
            };
            let kinds = match plan.profile {
                Profile::Any => 22,
                Profile::Late | Profile::Mixed => 30,
            };
            match world.sim.between(0, kinds) {
                0..=6 => process_fault(&world, length),
                7..=14 => link_fault(&world, length),
                15..=20 => etcd_fault(&world, length),
                21 => late_then_cut(&world),
                _ if plan.profile == Profile::Late => late_then_cut(&world),
                _ => slow(&world, any_machine(&world), length),
            }
        }
    });
}

/// Deletes requests just when an instance hands over for them, as if their owner died or an operator deleted them.
/// Their effects stay: an evicted holder may still run.
fn requests_vanish(world: &Rc<World>) {
    let world = Rc::clone(world);
    let sim = world.sim.clone();
    sim.spawn(&Process::new("requests vanish"), async move {
        let lock = &world.machines[0].config.lock;
        let mut known = 0;
        while world.troubled.get() {
            world.sim.sleep(MS).await;
            if world.net.etcd().revision == known {
                continue;
            }
            let before = known;
            let view = View::new(lock, world.net.etcd().everything());
            known = view.revision;
            // A new leader, with an eviction marker of its predecessor.
            let Some(holder) = view.holder.filter(|_| !view.markers.is_empty()) else { continue };
            if holder.mod_revision > before && world.sim.chance(50) {
                let leads = |machine: &usize| world.machines[*machine].config.identity.as_bytes() == holder.value;
                if let Some(leader) = (0..world.machines.len()).find(leads) {
                    slow(&world, leader, SECOND);
                }
                world.sim.sleep(world.sim.between(0, SECOND)).await;
                for asking in view.requests {
                    world.sim.log(|| format!("       FAULT: the request of {} is deleted", asking.request.lease));
                    let delete = Txn { when: vec![], then: vec![Op::Delete(asking.name.key)], otherwise: None };
                    let _ = world.net.change(|etcd| etcd.commit(&delete));
                }
            }
        }
    });
}

fn any_machine(world: &World) -> usize {
    usize::try_from(world.sim.between(0, world.machines.len() as u64)).expect("few")
}

fn any_member(world: &World) -> usize {
    usize::try_from(world.sim.between(0, world.net.members() as u64)).expect("few")
}

fn often_the_leader(world: &World) -> usize {
    let leader = world.oracle.leader();
    let leads =
        |machine: &usize| world.instance(*machine).is_some_and(|instance| Some(&instance.name) == leader.as_ref());
    (0..world.machines.len()).find(leads).filter(|_| world.sim.chance(60)).unwrap_or_else(|| any_machine(world))
}

/// One process of one instance without a fault; more often the leader's.
fn process_fault(world: &Rc<World>, length: Time) {
    let machine = often_the_leader(world);
    let Some(instance) = world.instance(machine).filter(crate::world::Instance::is_sound) else { return };
    let name = &instance.name;
    match world.sim.between(0, 6) {
        0 | 1 => {
            world.sim.log(|| format!("       FAULT: {name}'s gatekeeper killed"));
            world.kill_gatekeeper(machine);
        }
        2 => {
            world.sim.log(|| format!("       FAULT: {name}'s guard killed"));
            world.sim.kill(&instance.guard);
        }
        3 => world.terminate(machine),
        which => {
            let (process, what) =
                if which == 4 { (instance.gatekeeper, "gatekeeper") } else { (instance.guard, "guard") };
            world.sim.log(|| format!("       FAULT: {name}'s {what} frozen for {} ms", length / MS));
            world.sim.freeze(&process);
            let sim = world.sim.clone();
            world.sim.after(length, move || sim.thaw(&process));
        }
    }
}

/// Faults of the links of one machine, to one member or to all.
fn set_links(world: &Rc<World>, machine: usize, members: &[usize], link: Link, length: Time) {
    world.sim.log(|| format!("       FAULT: links {machine}-{members:?} {link:?} for {} ms", length / MS));
    for member in members {
        world.net.set_link(machine, *member, link);
        let (net, member) = (world.net.clone(), *member);
        world.sim.after(length, move || net.set_link(machine, member, Link::GOOD));
    }
}

fn link_fault(world: &Rc<World>, length: Time) {
    let link = *world.sim.pick(&[
        Link { there: Way::CUT, back: Way::CUT },
        Link { there: Way::CUT, back: Way::GOOD },
        Link { there: Way::GOOD, back: Way::CUT },
        Link { there: Way::SLOW, back: Way::GOOD },
        Link { there: Way::GOOD, back: Way::SLOW },
        Link { there: Way::BAD, back: Way::BAD },
        Link { there: Way::GOOD, back: Way { lost: 50, ..Way::GOOD } },
    ]);
    let all: Vec<_> = (0..world.net.members()).collect();
    let members = if world.sim.chance(60) { all } else { vec![any_member(world)] };
    set_links(world, any_machine(world), &members, link, length);
}

/// Responses become later and later, and then stop: a confirmed renewal counts from when it was sent.
fn late_then_cut(world: &Rc<World>) {
    let (machine, members) = (often_the_leader(world), (0..world.net.members()).collect::<Vec<_>>());
    let limit = RequestTimeouts::of(&world.machines[machine].config.timing).attempt_limit;
    let limit = Time::try_from(limit.as_micros()).expect("short");
    // A renewal is a read and a keepalive, one after the other, and both have to fit.
    let late = Way { lost: 0, delay: (limit / 4, limit / 2 - 20 * MS) };
    let length = world.sim.between(3 * SECOND, 12 * SECOND);
    set_links(world, machine, &members, Link { there: Way::GOOD, back: late }, 60 * SECOND);
    let again = Rc::clone(world);
    world.sim.after(length, move || {
        if !again.troubled.get() {
            return;
        }
        set_links(&again, machine, &members, Link { there: Way::CUT, back: late }, 25 * SECOND);
    });
}

/// Requests to all members are slow.
fn slow(world: &Rc<World>, machine: usize, length: Time) {
    let slow = Way { lost: 0, delay: (50 * MS, 600 * MS) };
    let members: Vec<_> = (0..world.net.members()).collect();
    set_links(world, machine, &members, Link { there: slow, back: Way::GOOD }, length);
}

fn etcd_fault(world: &Rc<World>, length: Time) {
    let (net, member) = (world.net.clone(), any_member(world));
    let log = |what: String| world.sim.log(|| format!("       FAULT: {what} for {} ms", length / MS));
    match world.sim.between(0, 8) {
        0..=2 => {
            // A member that does not know that the others have elected another raft leader.
            let stale = net.members() > 1 && world.sim.chance(30);
            let state = *world.sim.pick(&[Member::Dead, Member::Frozen, Member::CutOff { stale }]);
            log(format!("m{member} {state:?}"));
            net.set_member(member, state);
            world.sim.after(length, move || net.set_member(member, Member::Up));
        }
        3 => {
            log("no quorum".into());
            let outage = if world.sim.chance(50) { world.sim.between(200 * MS, 2 * SECOND) } else { length };
            net.lose_quorum();
            world.sim.after(outage, move || net.regain_quorum());
        }
        4 => {
            let lag = world.sim.between(50 * MS, 5 * SECOND);
            log(format!("watches at m{member} lag by {} ms", lag / MS));
            net.set_lag(member, lag);
            world.sim.after(length, move || net.set_lag(member, 0));
        }
        5 => {
            log("compaction, watches break".into());
            net.compact();
            net.break_streams(any_machine(world));
        }
        6 if net.members() > 1 => beside_an_old_leader(world, member, length),
        _ => {
            log("stale keepalives".into());
            net.set_stale_keepalives(true);
            world.sim.after(length, move || net.set_stale_keepalives(false));
        }
    }
}

/// A machine that can only reach a former raft leader.
fn beside_an_old_leader(world: &Rc<World>, member: usize, length: Time) {
    world.sim.log(|| format!("       FAULT: m{member} is cut off and does not know it for {} ms", length / MS));
    let others: Vec<_> = (0..world.net.members()).filter(|other| *other != member).collect();
    set_links(world, often_the_leader(world), &others, Link { there: Way::CUT, back: Way::CUT }, length);
    world.net.set_member(member, Member::CutOff { stale: true });
    let net = world.net.clone();
    world.sim.after(length, move || net.set_member(member, Member::Up));
}

/// Ends all faults and gives every instance a long-running command.
pub(crate) fn heal(world: &Rc<World>) {
    world.sim.log(|| "       ALL FAULTS END".to_owned());
    world.net.heal();
    world.troubled.set(false);
    world.forces.set(0);
    let mut habits = world.habits.get();
    habits.ends = 0;
    world.habits.set(habits);
    for machine in 0..world.machines.len() {
        if let Some(instance) = world.instance(machine) {
            world.sim.thaw(&instance.gatekeeper);
            world.sim.thaw(&instance.guard);
        }
    }
}
