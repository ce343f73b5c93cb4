//! The configuration of each instance, as a pure function of the seed.

use std::time::Duration;

use harness::{Behavior, Random, Timing};

use super::plan::{LONGEST_GRACE, LONGEST_LEASE, LONGEST_PAUSE, MEMBERS};

/// The configuration of one instance, and the time that its supervisor waits before the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) timing: Timing,
    pub(crate) behavior: Behavior,
    pub(crate) campaigns_again: bool,
    pub(crate) pause: Duration,
    pub(crate) way: Way,
    /// Whether its log is on the file system that may hang.
    pub(crate) log_may_hang: bool,
}

/// The endpoints of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the addresses of all members, of which this one is the first.
    Members(usize),
    /// By the address of a stray cluster, and then those of all members.
    StrayFirst,
    /// By the address of a stray cluster, and those of all members but one.
    StrayInstead,
    /// By one name for all members.
    Name,
    /// By the address of a balancer in front of all members. One endpoint has no majority, so CLUSTER_ID is set.
    Balancer,
}

impl Way {
    fn any(random: &mut Random) -> Self {
        match random.below(100) {
            0..30 => Self::Members(random.index(MEMBERS)),
            30..45 => Self::StrayFirst,
            45..60 => Self::StrayInstead,
            60..80 => Self::Name,
            _ => Self::Balancer,
        }
    }

    /// Returns whether a stray cluster may take over the address of a member: two stray endpoints could be a majority.
    pub(crate) const fn may_stray(self) -> bool {
        matches!(self, Self::Members(_) | Self::Name | Self::Balancer)
    }

    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Members(_) => "all members",
            Self::StrayFirst => "a stray and all members",
            Self::StrayInstead => "a stray and two members",
            Self::Name => "one name",
            Self::Balancer => "a balancer",
        }
    }
}

impl Life {
    /// Creates the configuration of the `number`th start of an instance.
    pub(crate) fn new(seed: u64, instance: usize, number: u64) -> Self {
        let mut random = Random::for_purpose(seed, &[2, instance as u64, number]);
        let lease = 3 + random.below(LONGEST_LEASE - 2);
        let timing = Timing {
            lease,
            renew: Duration::from_millis(lease * 1_000 - 1_000 - random.below(3) * 250),
            retry: Duration::from_millis(500),
            grace: random.between(300, LONGEST_GRACE * 1_000),
        };
        let mut behavior = Behavior {
            children: u32::try_from(random.below(3)).unwrap_or(0),
            daemon: random.chance(30),
            ..Behavior::default()
        };
        match random.below(10) {
            0..4 => {}
            4..6 => behavior.stubborn = true,
            6..8 => behavior.slow_stop = random.between(100, 2_000),
            _ => behavior.exit = Some((u8::from(random.chance(50)), random.between(20, 9_000))),
        }
        let pause = if random.chance(50) { Duration::ZERO } else { random.between(0, LONGEST_PAUSE) };
        let campaigns_again = random.chance(50);
        let (way, log_may_hang) = (Way::any(&mut random), random.chance(40));
        Self { timing, behavior, campaigns_again, pause, way, log_may_hang }
    }
}
