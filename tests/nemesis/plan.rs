//! The faults and their times, as a pure function of the seed.
//!
//! A run is a sequence of rounds. Each is a storm, with a fault about every second, and the calm after it, in which all
//! faults are healed and an instance must lead within the documented limit.

use std::time::Duration;

use harness::{Direction, Random, Timing};

/// How many instances take part.
pub(crate) const INSTANCES: usize = 5;
/// How many members the cluster has.
pub(crate) const MEMBERS: usize = 3;
/// The member whose address a stray cluster may take over: one member is always a minority.
pub(crate) const REPLACED: usize = 0;
/// The longest lease of [`Life`]'s.
pub(crate) const LONGEST_LEASE: u64 = 5;
/// The longest grace of [`Life`]'s.
pub(crate) const LONGEST_GRACE: u64 = 3;
/// The longest time that the supervisor waits before a restart.
pub(crate) const LONGEST_PAUSE: u64 = 1_500;
/// The longest time in milliseconds for which a command runs alone after its machine was frozen.
const LATEST_RESUME: u64 = 100;
/// The guarantee does not cover the deletion of two keys of one term: an operator waits until the first deletion has
/// had its effect.
const BETWEEN_DELETIONS: Duration = Duration::from_secs(2 * LONGEST_LEASE + LONGEST_GRACE);

/// Which faults a run causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only those that the guarantee covers.
    Guarantee,
    /// Also those beyond it: lease revoke, gatekeeper and guard frozen together.
    Beyond,
    /// Also whole machines that freeze for longer than a lease, which is beyond the guarantee.
    Machines,
}

/// One storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) steps: Vec<Step>,
    pub(crate) length: Duration,
}

/// One fault of a storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// After the beginning of the storm.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    /// How long, for what can be healed.
    pub(crate) lasting: Duration,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill(Part, Target),
    /// SIGSTOP, and SIGCONT later.
    Freeze(Part, Target),
    /// A network fault between an instance and one member, or all.
    Link(Link, Option<usize>, Target),
    /// One member fails.
    Member(Outage, usize),
    /// All members but one fail.
    Quorum(Outage, usize),
    /// The raft leader fails.
    RaftLeader(Outage),
    /// A stray cluster, like a member that was rebuilt alone, answers at the address of a member.
    Stray,
    /// Every response of one member, or of all, takes seconds.
    Slow(Option<usize>, Duration),
    /// DNS fails.
    NoName,
    /// The file system of the logs hangs.
    LogHangs,
    /// A supervisor's SIGTERM and start.
    Restart(Target),
    /// The same, and the new instance has FORCE_ACQUIRE.
    Force(Target),
    /// An operator deletes the holder key.
    DeleteHolder,
    /// An operator deletes an entry of the queue.
    DeleteEntry(Target),
    /// An operator revokes the leader's lease: beyond the limits of the guarantee.
    Revoke,
    /// Gatekeeper and guard of the leader freeze together: beyond the limits of the guarantee.
    FreezeBoth,
    /// All processes of the leader freeze for longer than a lease: beyond the limits of the guarantee. The command
    /// resumes first, and the guard and the gatekeeper this much later, so that the command runs on without a lock.
    FreezeMachine { guard: Duration, gatekeeper: Duration },
}

/// The target of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The leader at that time.
    Leader,
    /// This instance, leading or not.
    Instance(usize),
}

/// A process of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Gatekeeper,
    Guard,
    Command,
}

/// A network fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Cut,
    Reset,
    BlackHole,
    OneWay(Direction),
    Delay(Duration),
}

/// How a member fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Killed,
    Stopped,
    Frozen,
}

impl Round {
    /// Creates the storm with this number.
    pub(crate) fn new(seed: u64, number: u64, scope: Scope) -> Self {
        let mut random = Random::for_purpose(seed, &[1, number]);
        let length = random.between(14_000, 26_000);
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        let mut members_whole_at = Duration::ZERO;
        let mut deletion_from = Duration::ZERO;
        loop {
            at += random.between(200, 1_400);
            if at >= length {
                return Self { steps, length };
            }
            let mut fault = Fault::any(&mut random, scope);
            let lasting = fault.lasting(&mut random);
            match fault {
                // One outage at a time, so that a majority is only lost on purpose.
                Fault::Member(..) | Fault::Quorum(..) | Fault::RaftLeader(_) if at < members_whole_at => {
                    fault = Fault::Restart(Target::any(&mut random));
                }
                // And a second for the member to rejoin.
                Fault::Member(..) | Fault::Quorum(..) | Fault::RaftLeader(_) => {
                    members_whole_at = at + lasting + Duration::from_secs(1);
                }
                Fault::DeleteHolder | Fault::DeleteEntry(_) if at < deletion_from => {
                    fault = Fault::Kill(Part::Command, Target::Leader);
                }
                Fault::DeleteHolder | Fault::DeleteEntry(_) => deletion_from = at + BETWEEN_DELETIONS,
                // The calm would end it before its lease expires.
                Fault::FreezeMachine { .. } if at + lasting > length => {
                    fault = Fault::Restart(Target::any(&mut random));
                }
                _ => {}
            }
            steps.push(Step { at, fault, lasting });
        }
    }
}

impl Fault {
    fn any(random: &mut Random, scope: Scope) -> Self {
        let target = Target::any(random);
        match scope {
            Scope::Beyond if random.chance(5) => return random.pick(&[Self::Revoke, Self::FreezeBoth]),
            Scope::Machines if random.chance(30) => {
                let [guard, gatekeeper] = [(); 2].map(|()| random.between(0, LATEST_RESUME));
                return Self::FreezeMachine { guard, gatekeeper };
            }
            _ => {}
        }
        match random.below(128) {
            0..10 => Self::Kill(Part::Gatekeeper, target),
            10..16 => Self::Kill(Part::Guard, target),
            16..21 => Self::Kill(Part::Command, target),
            21..31 => Self::Freeze(Part::Gatekeeper, target),
            31..38 => Self::Freeze(Part::Guard, target),
            38..42 => Self::Freeze(Part::Command, target),
            42..66 => {
                let link = Link::any(random);
                let one = random.chance(35).then(|| random.index(MEMBERS));
                Self::Link(link, one, target)
            }
            66..76 => Self::Member(Outage::any(random), random.index(MEMBERS)),
            76..81 => Self::Quorum(Outage::any(random), random.index(MEMBERS)),
            81..88 => Self::Restart(target),
            88..94 => Self::Force(Target::Instance(random.index(INSTANCES))),
            94..97 => Self::DeleteHolder,
            97..100 => Self::DeleteEntry(target),
            100..108 => Self::Stray,
            108..114 => {
                let one = random.chance(50).then(|| random.index(MEMBERS));
                Self::Slow(one, random.between(2_000, 3_000))
            }
            114..120 => Self::RaftLeader(Outage::any(random)),
            120..123 => Self::NoName,
            _ => Self::LogHangs,
        }
    }

    /// The leader survives about half of the lasting faults.
    fn lasting(self, random: &mut Random) -> Duration {
        match self {
            Self::Freeze(..)
            | Self::FreezeBoth
            | Self::Link(..)
            | Self::Member(..)
            | Self::Quorum(..)
            | Self::RaftLeader(_)
            | Self::Stray
            | Self::Slow(..)
            | Self::NoName
            | Self::LogHangs => {
                if random.chance(50) {
                    random.between(100, 1_500)
                } else {
                    random.between(1_500, 8_000)
                }
            }
            Self::FreezeMachine { .. } => longest_lease() + random.between(1_000, 4_000),
            _ => Duration::ZERO,
        }
    }

    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill(Part::Gatekeeper, _) => "gatekeeper killed",
            Self::Kill(Part::Guard, _) => "guard killed",
            Self::Kill(Part::Command, _) => "command killed",
            Self::Freeze(Part::Gatekeeper, _) => "gatekeeper frozen",
            Self::Freeze(Part::Guard, _) => "guard frozen",
            Self::Freeze(Part::Command, _) => "command frozen",
            Self::Link(Link::Cut, ..) => "network cut",
            Self::Link(Link::Reset, ..) => "connections reset",
            Self::Link(Link::BlackHole, ..) => "network black hole",
            Self::Link(Link::OneWay(Direction::ToMember), ..) => "network one-way, requests lost",
            Self::Link(Link::OneWay(Direction::ToCandidate), ..) => "network one-way, responses lost",
            Self::Link(Link::Delay(_), ..) => "network slow",
            Self::Member(Outage::Killed, _) => "member killed",
            Self::Member(Outage::Stopped, _) => "member stopped",
            Self::Member(Outage::Frozen, _) => "member frozen",
            Self::Quorum(..) => "one of two members down: no quorum",
            Self::RaftLeader(_) => "raft leader down",
            Self::Stray => "a stray cluster at m0's address",
            Self::Slow(..) => "responses take seconds",
            Self::NoName => "DNS fails",
            Self::LogHangs => "logs hang",
            Self::Restart(_) => "instance restarted",
            Self::Force(_) => "restarted with force",
            Self::DeleteHolder => "holder key deleted",
            Self::DeleteEntry(_) => "entry deleted",
            Self::Revoke => "lease revoked (beyond)",
            Self::FreezeBoth => "gatekeeper and guard frozen (beyond)",
            Self::FreezeMachine { .. } => "machine frozen (beyond)",
        }
    }
}

impl Target {
    fn any(random: &mut Random) -> Self {
        if random.chance(60) { Self::Leader } else { Self::Instance(random.index(INSTANCES)) }
    }
}

impl Link {
    fn any(random: &mut Random) -> Self {
        match random.below(10) {
            0..2 => Self::Cut,
            2..3 => Self::Reset,
            3..6 => Self::BlackHole,
            6..7 => Self::OneWay(Direction::ToMember),
            7..8 => Self::OneWay(Direction::ToCandidate),
            _ => Self::Delay(random.between(50, 900)),
        }
    }
}

impl Outage {
    fn any(random: &mut Random) -> Self {
        random.pick(&[Self::Killed, Self::Stopped, Self::Frozen, Self::Frozen])
    }
}

/// Returns the limit of the time from the end of all faults until an instance leads: a lease that a raft election
/// extended, the grace period of a stopping command, and the restart of an instance.
pub(crate) fn bound() -> Duration {
    let timing = Timing { lease: LONGEST_LEASE, ..Timing::SHORT };
    timing.latest_failover_with_election() + Duration::from_secs(LONGEST_GRACE) + Duration::from_millis(LONGEST_PAUSE)
}

/// The longest that a lease can outlive its last renewal.
pub(crate) const fn longest_lease() -> Duration {
    Duration::from_secs(LONGEST_LEASE)
}
