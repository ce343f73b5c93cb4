//! The published status of an instance. The HTTP endpoint, the metrics and `sd_notify` show this one value; none of them
//! sends a request to etcd.

pub mod certificates;
pub mod http;
pub mod metrics;
pub mod renewals;
pub mod systemd;

use std::time::Duration;

use self::renewals::Renewals;
use crate::{
    core::{
        clock::Instant,
        text,
        timing::{Deadlines, show},
    },
    election::pause::Pause,
};

/// The phase of the election that this instance is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not in the queue: connecting, or joining again.
    Joining,
    /// A standby in the queue.
    Waiting {
        /// The number in the queue; the first standby is number 1.
        number: usize,
        /// The identity of the next entry ahead; `None` at the head of the queue.
        behind: Option<String>,
    },
    /// This instance holds the lock and has not started the command yet. After an eviction, it waits until the command of the
    /// evicted holder cannot run any more.
    Elected,
    /// The command runs.
    Running,
    /// The command is being stopped.
    Stopping,
    /// Not in the queue any more: the lease was revoked or has expired.
    Released,
}

/// The published value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The lock's name.
    pub lock: String,
    /// This instance's identity.
    pub identity: String,
    /// This instance's priority.
    pub priority: i32,
    /// The phase of the election.
    pub phase: Phase,
    /// The identity that the holder key had when it was last read; it can be this instance's own.
    pub leader: Option<String>,
    /// When `leader` was first read; `None` if the holder key has not been read, so that it is not known whether there is a leader.
    pub leader_since: Option<Instant>,
    /// The pause, if it was seen: while it lasts, no instance becomes leader.
    pub pause: Option<Pause>,
    /// The fencing token, while this instance holds the lock.
    pub token: Option<i64>,
    /// The TTL that etcd granted.
    pub ttl: Duration,
    /// When the latest confirmed renewal (leader) or keepalive (standby) was sent.
    pub renewed_at: Option<Instant>,
    /// The deadlines that the guard confirmed, while the command may run.
    pub deadlines: Option<Deadlines>,
    /// When this instance became leader.
    pub elected_at: Option<Instant>,
    /// When the election loop last ran, whether or not etcd answers; `None` before its first round.
    pub beat: Option<Instant>,
    /// A shutdown was requested, or the command has exited by itself: no other term follows.
    pub ending: bool,
    /// A command was started, in this term or an earlier one.
    pub started: bool,
    /// The process tree of this term's command has exited.
    pub exited: bool,
    /// Whether the check of the command succeeds, if that is known.
    pub command_healthy: Option<bool>,
    /// The check of the command fails, and no standby can take over.
    pub stranded: bool,
    /// Whether this host may lead, if that is checked and known.
    pub eligible: Option<bool>,
    /// How long this instance stays out of the queue after its command was sick.
    pub stays_out: Option<Duration>,
    /// Events since the start of the program.
    pub counters: Counters,
}

/// Events since the start of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Terms that began.
    pub elections: u64,
    /// Terms that ended by a loss of leadership.
    pub losses: u64,
    /// Terms that ended because the check of the command failed.
    pub sick_terms: u64,
    /// Renewals confirmed.
    pub renewals: Renewals,
    /// Renewals that were not confirmed within a retry period.
    pub late_renewals: u64,
}

impl Status {
    /// Returns the status of an instance that has just been started.
    #[must_use]
    pub fn new(lock: String, identity: String, ttl: Duration) -> Self {
        Self {
            lock,
            identity,
            priority: 0,
            phase: Phase::Joining,
            leader: None,
            leader_since: None,
            pause: None,
            token: None,
            ttl,
            renewed_at: None,
            deadlines: None,
            elected_at: None,
            beat: None,
            ending: false,
            started: false,
            exited: false,
            command_healthy: None,
            stranded: false,
            eligible: None,
            stays_out: None,
            counters: Counters::default(),
        }
    }

    /// Returns whether the command runs here and its stop deadline has not passed, which is what a load balancer needs to know.
    #[must_use]
    pub fn is_leading(&self, now: Instant) -> bool {
        self.phase == Phase::Running && self.deadlines.is_some_and(|deadlines| now < deadlines.stop_at)
    }

    /// Returns whether the election loop runs and no command has outlived its kill deadline. It is true also while etcd does not
    /// answer, as a restart of this program would not help.
    #[must_use]
    pub fn is_alive(&self, now: Instant) -> bool {
        let stalled = self.beat.is_some_and(|beat| now.saturating_since(beat) > self.longest_turn());
        let overdue = self.deadlines.is_some_and(|deadlines| now >= deadlines.kill_at);
        !stalled && !overdue
    }

    /// Returns whether this instance leads or could become leader: it is in the queue, and etcd has answered within the TTL.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        let takes_part = matches!(self.phase, Phase::Waiting { .. } | Phase::Elected | Phase::Running);
        takes_part && !self.ending && self.has_recent_answer(now) && self.is_alive(now)
    }

    /// Returns the identity of the leader, unless it was read more than a TTL ago.
    #[must_use]
    pub fn known_leader(&self, now: Instant) -> Option<&str> {
        self.leader.as_deref().filter(|_| self.renewed_at.is_none() || self.has_recent_answer(now))
    }

    /// Returns whether there is a leader; `None` if that is not known, or was read more than a TTL ago.
    #[must_use]
    pub fn has_leader(&self, now: Instant) -> Option<bool> {
        self.leader_since.filter(|_| self.has_recent_answer(now)).map(|_| self.leader.is_some())
    }

    /// Returns the status as one line of text.
    #[must_use]
    pub fn summary(&self) -> String {
        let lock = &self.lock;
        let summary = match &self.phase {
            Phase::Joining | Phase::Released if self.stays_out.is_some() => {
                let pause = show(self.stays_out.unwrap_or_default());
                format!("not in the queue for {lock}: the check of the command failed here; staying out for {pause}")
            }
            Phase::Joining if self.eligible == Some(false) => {
                format!("not in the queue for {lock}: this host is not eligible")
            }
            Phase::Joining => format!("joining the election for {lock}"),
            Phase::Waiting { number, behind } => {
                let behind = behind.as_ref().map(|behind| format!(" behind {behind}")).unwrap_or_default();
                let leader = self.leader.as_ref().map(|leader| format!("; {leader} leads")).unwrap_or_default();
                format!("standby for {lock}: number {number} in the queue{behind}{leader}")
            }
            Phase::Elected => format!("elected for {lock}: the command has not been started yet"),
            Phase::Running if self.command_healthy == Some(false) => {
                let nobody = if self.stranded { "; no standby can take over" } else { "" };
                format!("leader of {lock}: the command runs, but its check fails{nobody}")
            }
            Phase::Running => format!("leader of {lock}: the command runs"),
            Phase::Stopping if self.exited => format!("leader of {lock}: the command has exited, handing over"),
            Phase::Stopping => format!("leader of {lock}: stopping the command"),
            Phase::Released if self.counters.elections == 0 => format!("left the election for {lock}"),
            Phase::Released => format!("released the lock {lock}"),
        };
        let paused = self.pause.as_ref().map(|pause| format!("; paused {pause}")).unwrap_or_default();
        text::escaped(&format!("{summary}{paused}")).into_owned()
    }

    fn has_recent_answer(&self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|at| now.saturating_since(at) <= self.ttl)
    }

    /// Returns how long a round of the election loop may take before the loop counts as stalled. It runs several times per TTL;
    /// the lower limit is for busy machines with a short TTL.
    fn longest_turn(&self) -> Duration {
        (self.ttl * 2).max(Duration::from_secs(10))
    }
}

impl Phase {
    /// All values of [`Phase::name`].
    pub const NAMES: [&str; 6] = ["joining", "waiting", "elected", "running", "stopping", "released"];

    /// Returns the name of the phase in JSON and in the metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Waiting { .. } => "waiting",
            Self::Elected => "elected",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Released => "released",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the instant `seconds` after the boot of the machine.
    pub(crate) fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    /// Returns a leader that renewed its lease of 15 s at 100: its command is stopped at 110 and killed at 114.
    pub(crate) fn leader() -> Status {
        Status {
            priority: 7,
            phase: Phase::Running,
            leader: Some("me".into()),
            leader_since: Some(at(90)),
            token: Some(42),
            renewed_at: Some(at(100)),
            deadlines: Some(Deadlines { stop_at: at(110), kill_at: at(114) }),
            elected_at: Some(at(90)),
            beat: Some(at(100)),
            started: true,
            counters: Counters { elections: 1, renewals: renewals(5), late_renewals: 2, ..Counters::default() },
            ..Status::new("db".into(), "me".into(), Duration::from_secs(15))
        }
    }

    fn renewals(count: u32) -> Renewals {
        let mut renewals = Renewals::default();
        (0..count).for_each(|_| renewals.add(Duration::from_millis(4)));
        renewals
    }

    /// Returns the second standby in the queue, whose lease was kept alive at 100.
    pub(crate) fn standby() -> Status {
        Status {
            phase: Phase::Waiting { number: 2, behind: Some("b".into()) },
            leader: Some("a".into()),
            leader_since: Some(at(60)),
            renewed_at: Some(at(100)),
            beat: Some(at(100)),
            ..Status::new("db".into(), "me".into(), Duration::from_secs(15))
        }
    }

    /// Returns an instance that has not had an answer of etcd yet.
    pub(crate) fn joining() -> Status {
        Status { beat: Some(at(100)), ..Status::new("db".into(), "me".into(), Duration::from_secs(15)) }
    }

    #[test]
    fn leading_alive_and_ready_over_time() {
        let in_phase = |phase| Status { phase, ..leader() };
        let ending = Status { ending: true, ..leader() };
        let beating = |status: Status, seconds| Status { beat: Some(at(seconds)), ..status };
        for (what, status, now, expected) in [
            ("a leader", leader(), 109, (true, true, true)),
            ("past its stop deadline", leader(), 110, (false, true, true)),
            ("past its kill deadline", leader(), 114, (false, false, false)),
            ("a leader without deadlines", Status { deadlines: None, ..leader() }, 101, (false, true, true)),
            ("elected", Status { phase: Phase::Elected, deadlines: None, ..leader() }, 101, (false, true, true)),
            ("stopping", in_phase(Phase::Stopping), 101, (false, true, false)),
            ("stopping, past its kill deadline", in_phase(Phase::Stopping), 115, (false, false, false)),
            ("released", Status { phase: Phase::Released, deadlines: None, ..leader() }, 101, (false, true, false)),
            ("ending", ending, 101, (true, true, false)),
            ("a standby", standby(), 115, (false, true, true)),
            ("a standby without etcd", beating(standby(), 116), 116, (false, true, false)),
            ("a standby whose loop stalled", standby(), 131, (false, false, false)),
            ("joining", joining(), 101, (false, true, false)),
            ("joining for hours", beating(joining(), 9000), 9001, (false, true, false)),
            ("joining, stalled", joining(), 131, (false, false, false)),
            ("before the first round", Status { beat: None, ..joining() }, 131, (false, true, false)),
        ] {
            let now = at(now);
            assert_eq!((status.is_leading(now), status.is_alive(now), status.is_ready(now)), expected, "{what}");
        }
    }

    #[test]
    fn the_leader_is_unknown_one_ttl_after_the_last_answer() {
        assert_eq!(standby().known_leader(at(115)), Some("a"));
        assert_eq!(standby().known_leader(at(116)), None);
        assert_eq!(joining().known_leader(at(101)), None);
        assert_eq!(standby().has_leader(at(115)), Some(true));
        assert_eq!(Status { leader: None, ..standby() }.has_leader(at(115)), Some(false));
        assert_eq!(standby().has_leader(at(116)), None);
        assert_eq!(joining().has_leader(at(101)), None);
    }

    #[test]
    fn the_summary_is_one_line() {
        assert_eq!(standby().summary(), "standby for db: number 2 in the queue behind b; a leads");
        assert_eq!(leader().summary(), "leader of db: the command runs");
        let stopping = Status { phase: Phase::Stopping, ..leader() };
        assert_eq!(stopping.summary(), "leader of db: stopping the command");
        assert_eq!(Status { exited: true, ..stopping }.summary(), "leader of db: the command has exited, handing over");
        assert_eq!(Status { phase: Phase::Released, ..standby() }.summary(), "left the election for db");
        assert_eq!(Status { phase: Phase::Released, ..leader() }.summary(), "released the lock db");
        let pause = br#"{"until":1795619045,"by":"root@a","reason":"disk\nfull"}"#;
        let paused = Status { pause: Some(Pause::read(pause)), ..leader() };
        let expected =
            "leader of db: the command runs; paused until Wed, 25 Nov 2026 15:04:05 GMT by root@a: disk\\nfull";
        assert_eq!(paused.summary(), expected);
        let sick = Status { command_healthy: Some(false), ..leader() };
        assert_eq!(sick.summary(), "leader of db: the command runs, but its check fails");
        let stranded = Status { stranded: true, ..sick };
        assert!(stranded.summary().ends_with("but its check fails; no standby can take over"));
        let ineligible = Status { eligible: Some(false), ..joining() };
        assert_eq!(ineligible.summary(), "not in the queue for db: this host is not eligible");
        assert!(!ineligible.is_ready(at(101)) && ineligible.is_alive(at(101)));
        let out = Status { phase: Phase::Released, stays_out: Some(Duration::from_secs(60)), ..leader() };
        assert!(out.summary().ends_with("the check of the command failed here; staying out for 60s"));
        let evil = Status { leader: Some("x\nREADY=1\u{202e}".into()), ..standby() };
        assert!(evil.summary().ends_with("x\\nREADY=1\\u{202e} leads"), "{}", evil.summary());
    }
}
