//! What is explored: instances and budgets.

use std::{sync::Arc, time::Duration};

use etcd_await_election::{
    core::timing::Timing,
    guard::switch::Hooks,
    settings::{ElectionConfig, OnLoss},
};

use crate::explore::{
    budget::{Budget, Kind},
    mutant::Mutant,
    state::Setup,
    steps::LOCK,
    story,
};

impl Setup {
    /// Returns instances with the default settings, and a budget of faults of any kind.
    pub(crate) fn new(instances: usize, faults: u8) -> Self {
        Self {
            configs: (0..instances).map(|n| Arc::new(config(n))).collect(),
            budget: Budget::of(faults, &Kind::ALL),
            hooks: Hooks::default(),
            warm: false,
            beyond: false,
            mutant: None,
        }
    }

    /// Allows only faults of these kinds.
    #[must_use]
    pub(crate) fn only(mut self, kinds: &[Kind]) -> Self {
        self.budget = self.budget.only(kinds);
        self
    }

    /// Allows no more faults of one kind than this.
    #[must_use]
    pub(crate) fn at_most(mut self, kind: Kind, limit: u8) -> Self {
        self.budget = self.budget.at_most(kind, limit);
        self
    }

    /// Lets these instances make a request to every leader.
    #[must_use]
    pub(crate) fn force(mut self, instances: &[usize]) -> Self {
        instances.iter().for_each(|n| Arc::make_mut(&mut self.configs[*n]).force = true);
        self
    }

    /// Gives all instances one identity, which was set.
    #[must_use]
    pub(crate) fn with_same_identity(mut self) -> Self {
        for config in &mut self.configs {
            let config = Arc::make_mut(config);
            config.identity = "same".to_owned();
            config.identity_is_explicit = true;
        }
        self
    }

    /// Gives each instance a priority.
    #[must_use]
    pub(crate) fn priorities(mut self, priorities: &[i32]) -> Self {
        for (config, priority) in self.configs.iter_mut().zip(priorities) {
            Arc::make_mut(config).priority = *priority;
        }
        self
    }

    /// Lets all instances fail back.
    #[must_use]
    pub(crate) fn failing_back(mut self) -> Self {
        self.configs.iter_mut().for_each(|config| Arc::make_mut(config).failback = Some(Duration::from_secs(1)));
        self
    }

    /// Gives all instances both hooks.
    #[must_use]
    pub(crate) fn with_hooks(mut self) -> Self {
        self.hooks = Hooks { on_elected: true, on_stopped: true };
        self
    }

    /// Lets all instances ask whether their hosts are eligible.
    #[must_use]
    pub(crate) fn asking(mut self) -> Self {
        self.configs.iter_mut().for_each(|config| Arc::make_mut(config).asks_eligibility = true);
        self
    }

    /// Lets instances exit after a loss.
    #[must_use]
    pub(crate) fn exiting(mut self) -> Self {
        self.configs.iter_mut().for_each(|config| Arc::make_mut(config).on_loss = OnLoss::Exit);
        self
    }
}

fn config(n: usize) -> ElectionConfig {
    let (s, ms) = (Duration::from_secs, Duration::from_millis);
    ElectionConfig {
        lock: LOCK.parse().expect("a name"),
        identity: story::name(n).to_string(),
        identity_is_explicit: false,
        // All renewals have one period, so that fewer instants differ. A leader survives the loss of one renewal.
        timing: Timing::new(s(3), ms(2200), s(1), s(1)).expect("a legal timing"),
        force: false,
        acquire_timeout: None,
        on_loss: OnLoss::Campaign,
        priority: 0,
        failback: None,
        asks_eligibility: false,
        sick_pause: Duration::from_secs(2),
    }
}

/// Explored with all tests.
pub(crate) fn small() -> Vec<(&'static str, Setup)> {
    vec![
        ("two instances, one fault", Setup::new(2, 1)),
        ("two instances that exit after a loss, one fault", Setup::new(2, 1).exiting()),
        ("two instances, one with FORCE_ACQUIRE, one fault", Setup::new(2, 1).force(&[0])),
        ("two instances with FORCE_ACQUIRE, one fault", Setup::new(2, 1).force(&[0, 1])),
        ("two instances with one identity, one fault", Setup::new(2, 1).with_same_identity()),
        ("two instances with ON_ELECTED and ON_STOPPED, one fault", Setup::new(2, 1).with_hooks()),
        ("three instances without faults", Setup::new(3, 0)),
        ("two instances with different priorities, one fault", Setup::new(2, 1).priorities(&[0, 1])),
        ("two instances that fail back, one fault", Setup::new(2, 1).priorities(&[0, 1]).failing_back()),
        ("three instances that fail back", Setup::new(3, 0).priorities(&[0, 1, 2]).failing_back()),
        (
            "three instances that fail back to two of one priority, one of which ends",
            Setup::new(3, 1).only(&[Kind::Exit, Kind::CrashGatekeeper]).priorities(&[0, 1, 1]).failing_back(),
        ),
        (
            "three instances with different priorities, one of which ends",
            Setup::new(3, 1).only(&[Kind::Exit, Kind::CrashGatekeeper]).priorities(&[0, 1, 2]),
        ),
        ("two instances on hosts that may not be eligible, one fault", Setup::new(2, 1).asking()),
        (
            "a sick command, a host that is not eligible, SIGTERM and an exit",
            Setup::new(2, 2).only(&[Kind::Sick, Kind::Ineligible, Kind::Terminate, Kind::Exit]).asking(),
        ),
        (
            "an operator requests a handover while an evicted holder runs",
            Setup::new(2, 2).only(&[Kind::Go, Kind::Resign]).force(&[0]),
        ),
        (
            "an operator pauses the lock beside any other event of an instance",
            Setup::new(2, 2)
                .only(&[Kind::Pause, Kind::Exit, Kind::Terminate, Kind::CrashGatekeeper, Kind::Resign, Kind::Restart])
                .at_most(Kind::Pause, 1),
        ),
    ]
}

/// Returns where each mutant is found.
pub(crate) fn of_mutant(mutant: Mutant) -> Setup {
    use Kind::*;
    let mut setup = match mutant {
        Mutant::ReleasesEarly => Setup::new(2, 1).only(&[Exit, Terminate]),
        Mutant::CountsFromAnswer => Setup::new(2, 2).only(&[Cut, Delay]).at_most(Cut, 1).at_most(Delay, 1),
        Mutant::HandOverWithoutHolder => Setup::new(2, 3).only(&[GoForce, Delay, Exit]),
        Mutant::IgnoresMarkers => Setup::new(2, 1).only(&[Go]).force(&[0]),
        Mutant::JoinIgnoresMarkers | Mutant::ClaimIgnoresMarkers => Setup::new(2, 2).only(&[Go, Terminate]).force(&[0]),
        Mutant::HandOverPastOthers => Setup::new(2, 2).only(&[Foreign, Exit]),
        Mutant::JoinOverwrites => Setup::new(2, 0),
        Mutant::ObeysRequestsToOthers | Mutant::ObeysWithoutEntry => Setup::new(2, 1).only(&[Stray]),
        Mutant::FeedsWhileRequested => Setup::new(2, 1).only(&[Resign]),
        Mutant::ClaimOverwrites => Setup::new(2, 3).only(&[Go, GoForce, Delay, Exit]),
        Mutant::HandOverPastPriorities => Setup::new(3, 2).only(&[Exit, Delay]).at_most(Exit, 1).priorities(&[0, 0, 1]),
        Mutant::HandOverPastNewPriorities => {
            Setup::new(3, 2).only(&[Exit, Delay]).at_most(Exit, 1).priorities(&[0, 1, 2])
        }
        Mutant::ClaimIgnoresPriorities | Mutant::StartsPastPriorities => {
            Setup::new(2, 1).only(&[Go]).priorities(&[0, 1])
        }
        Mutant::FailsBackFromEquals => Setup::new(2, 0).priorities(&[1, 1]).failing_back(),
        Mutant::JoinIgnoresPause => Setup::new(2, 1).only(&[Pause]),
        Mutant::ClaimIgnoresPause | Mutant::ClaimByReadIgnoresPause => Setup::new(2, 2).only(&[Pause, CrashGatekeeper]),
        Mutant::HandOverIgnoresPause => Setup::new(2, 2).only(&[Pause, Exit]),
        Mutant::EvictIgnoresPause => Setup::new(2, 2).only(&[Pause, Go]).force(&[0]),
        Mutant::ObeysWhilePaused => Setup::new(2, 2).only(&[Pause, Resign]),
        Mutant::StepsDownAlone => Setup::new(1, 1).only(&[Sick]),
        Mutant::IgnoresSickness => Setup::new(2, 1).only(&[Sick]),
        Mutant::JoinsIneligible => Setup::new(2, 1).only(&[Ineligible]).asking(),
        Mutant::StartsOnStaleWait => Setup::new(2, 2).only(&[Cut, Delay]).at_most(Cut, 1).at_most(Delay, 1),
        Mutant::ReleasesBeforeOnStopped => Setup::new(2, 1).only(&[Exit, Terminate]).with_hooks(),
        Mutant::SparesOnStopped => Setup::new(2, 2).only(&[CrashGatekeeper, Stubborn]).with_hooks(),
    };
    setup.warm = matches!(mutant, Mutant::CountsFromAnswer | Mutant::StartsOnStaleWait);
    setup.mutant = Some(mutant);
    setup
}
