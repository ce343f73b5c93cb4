//! The plan that follows from a seed: the instances, the rates of their clocks, and the possible faults.

use std::{cell::Cell, rc::Rc, time::Duration};

use etcd_await_election::{
    core::timing::Timing,
    guard::switch::Hooks,
    settings::{ElectionConfig, OnLoss},
};

use crate::{
    command::Habits,
    mutant::Mutant,
    net::Net,
    oracle::Oracle,
    sim::{MS, MachineClock, SECOND, Sim, Time},
    world::{Machine, World},
};

/// The focus of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// All faults, at random.
    Any,
    /// Late responses, and links that are cut just after.
    Late,
    /// A mixed fleet: many handovers over slow links, Go peers, an operator who deletes the holder key.
    Mixed,
}

/// One run, before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) timing: Timing,
    pub(crate) machines: usize,
    pub(crate) members: usize,
    /// The time for which faults occur.
    pub(crate) chaos: Time,
    /// The longest time from one fault to the next.
    pub(crate) calm: Time,
    /// The number of Go peers, and their retry period.
    pub(crate) go: usize,
    pub(crate) go_retry: Time,
    pub(crate) foreign: usize,
    pub(crate) operator: bool,
    /// Whether an operator pauses the lock now and then.
    pub(crate) pauses: bool,
    /// Whether machines 0 and 1 have the same identity.
    pub(crate) twins: bool,
    pub(crate) forces: u64,
    pub(crate) habits: Habits,
    pub(crate) hooks: Hooks,
}

impl Plan {
    pub(crate) fn draw(sim: &Sim, profile: Profile) -> Self {
        let all =
            [(15, 10_000, 2_000, 10_000), (8, 5_000, 1_000, 20_000), (5, 3_000, 1_000, 2_000), (3, 1_500, 500, 1_000)];
        // With shorter ones a late response times out before it matters.
        let timings = if profile == Profile::Late { &all[..2] } else { &all };
        let (lease, renew, retry, grace) = *sim.pick(timings);
        let ms = Duration::from_millis;
        let timing =
            Timing::new(Duration::from_secs(lease), ms(renew), ms(retry), ms(grace)).expect("a timing that works");
        let mixed = profile == Profile::Mixed;
        Self {
            profile,
            timing,
            machines: usize::try_from(sim.between(3, 6)).expect("few"),
            members: *sim.pick(&[1, 3, 3]),
            chaos: sim.between(30, 80) * SECOND,
            calm: sim.between(SECOND, 8 * SECOND),
            go: if mixed || sim.chance(30) { usize::try_from(sim.between(1, 3)).expect("few") } else { 0 },
            go_retry: if mixed { 100 * MS } else { sim.between(200 * MS, 3 * SECOND) },
            foreign: usize::from(sim.chance(20)),
            operator: mixed || sim.chance(40),
            twins: sim.chance(15),
            forces: *sim.pick(&[0, 10, 40]),
            hooks: *sim.pick(&[
                Hooks::default(),
                Hooks { on_elected: true, on_stopped: true },
                Hooks { on_elected: false, on_stopped: true },
            ]),
            habits: Habits {
                ends: if mixed { 100 } else { *sim.pick(&[0, 30, 90]) },
                lives: (SECOND / 2, *sim.pick(&[3 * SECOND, 30 * SECOND])),
                stubborn: if profile == Profile::Late { 40 } else { *sim.pick(&[0, 10, 40]) },
                slowest: *sim.pick(&[50 * MS, SECOND, 8 * SECOND]),
            },
            pauses: profile != Profile::Late && sim.chance(30),
        }
    }

    /// Creates the world of this plan, without any started instance.
    pub(crate) fn build(&self, sim: &Sim, mutant: Option<Mutant>) -> Rc<World> {
        let machine = |n: usize| {
            let twin = self.twins && n < 2;
            let explicit = twin || sim.chance(50);
            Machine {
                clock: MachineClock {
                    sim: sim.clone(),
                    rate: sim.between(990_000, 1_010_001),
                    offset: sim.between(0, 1 << 40),
                },
                config: ElectionConfig {
                    lock: "lock".parse().expect("a name"),
                    identity: if twin { "twin".to_owned() } else { format!("host{n}") },
                    identity_is_explicit: explicit,
                    timing: self.timing,
                    force: false,
                    acquire_timeout: sim.chance(10).then(|| Duration::from_secs(sim.between(0, 20))),
                    on_loss: *sim.pick(&[OnLoss::Exit, OnLoss::Campaign]),
                    priority: *sim.pick(&[0, 0, 0, 0, 1, 2, -1]),
                    // It would add terms before that of a forced start, whose time is judged. The exploration covers it.
                    failback: None,
                    asks_eligibility: false,
                    sick_pause: Duration::from_secs(60),
                },
                current: None.into(),
                started: Cell::default(),
                wanted: Cell::new(true),
            }
        };
        Rc::new(World {
            sim: sim.clone(),
            net: Net::new(sim.clone(), self.members),
            oracle: Rc::new(Oracle::new(sim)),
            machines: (0..self.machines).map(machine).collect(),
            habits: Rc::new(Cell::new(self.habits)),
            hooks: self.hooks,
            mutant,
            forces: Cell::new(self.forces),
            troubled: Cell::new(true),
        })
    }
}
