//! One run of one seed: chaos, recovery, and the checks after it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use etcd_await_election::{
    core::kv::{Change, Op, Txn},
    election::{keys::Request, view::View},
    guard::switch::Hooks,
};

use crate::{
    chaos,
    mutant::Mutant,
    oracle::show_key,
    peers,
    plan::{Plan, Profile},
    sim::{MS, SECOND, Sim, Time},
    story,
    world::World,
};

/// One schedule, which can be repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    pub(crate) mutant: Option<Mutant>,
}

/// The result of a run.
pub(crate) struct Ran {
    /// The number of terms that began, or what was violated.
    pub(crate) result: Result<Figures, String>,
    /// The log of the run, if requested.
    pub(crate) story: Vec<String>,
}

/// The figures of a successful run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) terms: u64,
    /// The time from the end of the faults until an instance led, in percent of the limit.
    pub(crate) led_after: u64,
    /// The same for a forced start.
    pub(crate) forced_after: u64,
}

impl Schedule {
    pub(crate) fn run(self, log: bool) -> Ran {
        let sim = Sim::new(self.seed, log);
        let run = || {
            let plan = Plan::draw(&sim, self.profile);
            sim.log(|| format!("{self:?} {plan:?}"));
            let world = plan.build(&sim, self.mutant);
            let result = Run { world: &world, plan: &plan }.to_the_end();
            world.net.end();
            result
        };
        let caught = catch_unwind(AssertUnwindSafe(|| if log { story::told(&sim, run) } else { run() }));
        let result = caught.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        });
        let story = sim.take_log();
        sim.end();
        Ran { result, story }
    }
}

struct Run<'a> {
    world: &'a Rc<World>,
    plan: &'a Plan,
}

impl Run<'_> {
    fn to_the_end(&self) -> Result<Figures, String> {
        let (world, plan) = (self.world, self.plan);
        for machine in 0..world.machines.len() {
            let again = Rc::clone(world);
            world.sim.after(world.sim.between(0, SECOND), move || {
                again.start(machine, again.sim.chance(again.forces.get()))
            });
        }
        (0..plan.go).for_each(|n| peers::go(world, n, plan.go_retry));
        (0..plan.foreign).for_each(|n| peers::foreign(world, n));
        if plan.operator {
            peers::operator(world);
        }
        if plan.pauses {
            peers::pauses(world);
        }
        chaos::unleash(world, plan);
        // Faults may last beyond the end of the chaos; they all end now.
        self.until(plan.chaos + 2 * SECOND, || false)?;
        chaos::heal(world);
        let led_after = self.within(self.liveness_bound(), "no instance leads, long after all faults", || {
            world.oracle.leader().is_some()
        })?;
        // The leases of dead instances have expired.
        self.until(world.sim.now() + 2 * self.lease() + 5 * SECOND, || false)?;
        self.stray_requests()?;
        let forced_after = self.force()?;
        self.stop()?;
        Ok(Figures { terms: world.oracle.terms(), led_after, forced_after })
    }

    fn lease(&self) -> Time {
        micros(self.plan.timing.lease())
    }

    /// A lease with the extension of a raft election and etcd's expiry interval, a stopping command, a few retry
    /// periods, and a supervisor's restart. A hook may hang as long as a lease.
    fn liveness_bound(&self) -> Time {
        let timing = &self.plan.timing;
        let bound = self.lease() + 3 * SECOND / 2 + micros(timing.stop_grace()) + 3 * SECOND;
        let hooks = if self.plan.hooks == Hooks::default() { 0 } else { self.lease() };
        bound + 4 * micros(timing.retry_period()) + hooks
    }

    /// Advances time until `end`, or until `done`; returns whether it was done.
    fn until(&self, end: Time, done: impl Fn() -> bool) -> Result<bool, String> {
        let sim = &self.world.sim;
        while sim.now() < end {
            if done() {
                return Ok(true);
            }
            sim.run_until((sim.now() + 100 * MS).min(end));
            if let Some(violation) = self.world.oracle.violation() {
                return Err(violation);
            }
        }
        Ok(done())
    }

    /// Fails with `otherwise` if `done` is not true by then. Returns the time in percent of the limit.
    fn within(&self, bound: Time, otherwise: &str, done: impl Fn() -> bool) -> Result<u64, String> {
        let begun = self.world.sim.now();
        if self.until(begun + bound, done)? {
            return Ok((self.world.sim.now() - begun) * 100 / bound);
        }
        let keys: Vec<_> = self.world.net.etcd().keys().map(show_key).collect();
        self.world.oracle.violate(format!("{otherwise}: {keys:#?}"));
        Err(self.world.oracle.violation().unwrap_or_default())
    }

    /// Checks that requests for other holders, or whose owner has no queue entry, do not disturb the leader.
    fn stray_requests(&self) -> Result<(), String> {
        let (world, lock) = (self.world, &self.world.machines[0].config.lock);
        if self.plan.twins {
            // A restarted instance of the same identity may make a request to this leader at any time.
            return Ok(());
        }
        let (leader, stops) = (world.oracle.leader(), world.oracle.stops());
        let view = View::new(lock, world.net.etcd().everything());
        let standby = view.entries.iter().find(|entry| entry.ours && !view.holds(entry.lease));
        let nobody = world.net.new_lease();
        let second = world.net.new_lease();
        let now = world.sim.now();
        world.net.change(|etcd| etcd.grant(nobody, self.lease(), now));
        let holder = view.holder.as_ref().and_then(|holder| holder.lease);
        let mut strays = vec![Request { to: None, lease: nobody }, Request { to: holder, lease: nobody }];
        strays.extend(standby.map(|standby| Request { to: Some(second), lease: standby.lease }));
        let put = |request: Request| Op::Put(lock.request(request), b"stray".to_vec(), request.lease);
        let txn = Txn { when: vec![], then: strays.into_iter().map(put).collect(), otherwise: None };
        let _ = world.net.change(|etcd| etcd.commit(&txn));
        self.until(world.sim.now() + 3 * micros(self.plan.timing.retry_period()), || false)?;
        // A candidate whose request was deleted in the chaos may have made it again.
        let changes = lock.requests().into_iter().flat_map(|range| world.net.etcd().changes(&range, view.revision + 1));
        let others = changes.filter(|change| matches!(change, Change::Put(kv) if kv.value != b"stray")).count();
        if world.oracle.stops() != stops && others == 0 {
            world.oracle.violate(format!("{leader:?} is disturbed by requests that are not for it"));
            return Err(world.oracle.violation().unwrap_or_default());
        }
        world.net.change(|etcd| etcd.revoke(nobody));
        Ok(())
    }

    /// Checks that a forced start takes over from a live leader within the TTL.
    fn force(&self) -> Result<u64, String> {
        let world = self.world;
        if self.plan.twins {
            // A restarted instance of the same identity may also make a request, and lead before this one.
            return Ok(0);
        }
        let leader = world.oracle.leader();
        let leads = |machine: usize| world.instance(machine).map(|instance| instance.name) == leader;
        // An instance that gives up also deletes its request.
        let patient = |machine: usize| world.machines[machine].config.acquire_timeout.is_none();
        let waits = |machine: &usize| patient(*machine) && !leads(*machine);
        let Some(machine) = (0..world.machines.len()).find(waits) else { return Ok(0) };
        world.machines[machine].wanted.set(false);
        world.terminate(machine);
        self.within(10 * SECOND, "a waiting instance does not end", || {
            world.instance(machine).is_none_or(|old| old.is_over())
        })?;
        world.start(machine, true);
        let name = world.instance(machine).map(|instance| instance.name).unwrap_or_default();
        let bound = self.lease() + 4 * micros(self.plan.timing.retry_period());
        self.within(bound, "a forced start does not lead", || world.oracle.has_started(&name))
    }

    /// Checks that all instances end, and that no keys or leases remain.
    fn stop(&self) -> Result<(), String> {
        let world = self.world;
        for (n, machine) in world.machines.iter().enumerate() {
            machine.wanted.set(false);
            world.terminate(n);
        }
        let over = || (0..world.machines.len()).all(|n| world.instance(n).is_none_or(|instance| instance.is_over()));
        let bound = self.lease() + micros(self.plan.timing.stop_grace()) + 10 * SECOND;
        self.within(bound, "an instance does not end on SIGTERM", over)?;
        self.within(10 * MS, "keys remain", || world.net.etcd().keys().next().is_none())?;
        self.within(self.lease() + 2 * SECOND, "leases remain", || world.net.etcd().leases() == 0)?;
        Ok(())
    }
}

fn micros(duration: std::time::Duration) -> Time {
    Time::try_from(duration.as_micros()).expect("a short time")
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// Runs many seeds of a profile, or the configured one with its log.
pub(crate) fn seeds(profile: Profile, count: u64) {
    let begun = std::time::Instant::now();
    let (seeds, tell) = match variable("MODEL_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..variable("MODEL_SEEDS").unwrap_or(count), false),
    };
    let (mut sum, runs) = (Figures::default(), seeds.end - seeds.start);
    for seed in seeds {
        let schedule = Schedule { seed, profile, mutant: None };
        let ran = schedule.run(tell);
        if tell {
            eprintln!("{}", ran.story.join("\n"));
        }
        match ran.result {
            Ok(figures) => {
                sum.terms += figures.terms;
                sum.led_after = sum.led_after.max(figures.led_after);
                sum.forced_after = sum.forced_after.max(figures.forced_after);
            }
            Err(violation) => {
                let story = schedule.run(true).story;
                panic!("{violation}\n{}\n{profile:?}: repeat with MODEL_SEED={seed}: {violation}", story.join("\n"));
            }
        }
    }
    eprintln!("{profile:?}: {runs} schedules in {:.1?}, {sum:?}", begun.elapsed());
}
