//! What is known about the election, published once as one value; the HTTP endpoint, the metrics, `sd_notify` and
//! `ctl healthcheck` are views of it. Nobody here asks etcd.

pub mod http;
pub mod metrics;
pub mod systemd;

use std::time::Duration;

use crate::core::{clock::Instant, text, timing::Deadlines};

/// Where this instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not in the queue: connecting, or joining again.
    Joining,
    /// In the queue.
    Waiting {
        /// The number in the queue; the first standby is number 1.
        number: usize,
        /// The identity just ahead, if anybody is.
        behind: Option<String>,
    },
    /// The lock is held; the command is not started yet: that takes a moment, or as long as an evicted holder may still run.
    Elected,
    /// The command runs.
    Running,
    /// The command is being ended.
    Stopping,
    /// Not in the queue any more: the lease was given back or has expired.
    Released,
}

/// The published value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The lock's name.
    pub lock: String,
    /// This instance's identity.
    pub identity: String,
    /// Where this instance stands.
    pub phase: Phase,
    /// The identity on the holder key when last seen, this instance's own included.
    pub leader: Option<String>,
    /// The fencing token, while the lock is held.
    pub token: Option<i64>,
    /// The TTL that etcd granted.
    pub ttl: Duration,
    /// When the latest confirmed renewal (leader) or keepalive (waiting) was sent.
    pub renewed_at: Option<Instant>,
    /// The deadlines that the guard confirmed, while the command may run.
    pub deadlines: Option<Deadlines>,
    /// Since when this instance leads.
    pub elected_at: Option<Instant>,
    /// When the election loop turned last, whether or not etcd answers; `None` before the first turn.
    pub beat: Option<Instant>,
    /// The program was asked to end, or the command has ended by itself: no other term follows.
    pub ending: bool,
    /// A command was started, in this term or an earlier one.
    pub started: bool,
    /// The process tree of this term's command has exited.
    pub exited: bool,
    /// What happened so far.
    pub counters: Counters,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Terms begun: this instance was elected.
    pub elections: u64,
    /// Terms that ended by loss.
    pub losses: u64,
    /// Renewals confirmed.
    pub renewals: u64,
    /// Renewals that were not confirmed within a retry period.
    pub late_renewals: u64,
}

impl Status {
    /// The value before anything happened.
    #[must_use]
    pub fn new(lock: String, identity: String, ttl: Duration) -> Self {
        Self {
            lock,
            identity,
            phase: Phase::Joining,
            leader: None,
            token: None,
            ttl,
            renewed_at: None,
            deadlines: None,
            elected_at: None,
            beat: None,
            ending: false,
            started: false,
            exited: false,
            counters: Counters::default(),
        }
    }

    /// Whether the command runs here and its deadline has not passed: what a load balancer wants to know.
    #[must_use]
    pub fn is_leading(&self, now: Instant) -> bool {
        self.phase == Phase::Running && self.deadlines.is_some_and(|deadlines| now < deadlines.stop_at)
    }

    /// Whether the election loop turns, and no command outlives its deadlines. This holds with etcd dark for hours: a
    /// restart would not bring it back.
    #[must_use]
    pub fn is_alive(&self, now: Instant) -> bool {
        let stalled = self.beat.is_some_and(|beat| now.saturating_since(beat) > self.longest_turn());
        let overdue = self.deadlines.is_some_and(|deadlines| now >= deadlines.kill_at);
        !stalled && !overdue
    }

    /// Whether this instance leads, or would if the others went: it stands in the queue, and etcd was heard of within
    /// the TTL.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        let takes_part = matches!(self.phase, Phase::Waiting { .. } | Phase::Elected | Phase::Running);
        takes_part && !self.ending && self.hears_etcd(now) && self.is_alive(now)
    }

    /// Who leads, unless this was learnt too long ago.
    #[must_use]
    pub fn known_leader(&self, now: Instant) -> Option<&str> {
        self.leader.as_deref().filter(|_| self.renewed_at.is_none() || self.hears_etcd(now))
    }

    /// Where this instance stands, in words on one line.
    #[must_use]
    pub fn words(&self) -> String {
        let lock = &self.lock;
        let words = match &self.phase {
            Phase::Joining => format!("joining the election for {lock}"),
            Phase::Waiting { number, behind } => {
                let behind = behind.as_ref().map(|behind| format!(" behind {behind}")).unwrap_or_default();
                let leader = self.leader.as_ref().map(|leader| format!("; {leader} leads")).unwrap_or_default();
                format!("standby for {lock}: number {number} in the queue{behind}{leader}")
            }
            Phase::Elected => format!("elected for {lock}: the command is not started yet"),
            Phase::Running => format!("leader of {lock}: the command runs"),
            Phase::Stopping if self.exited => format!("leader of {lock}: the command has ended, handing over"),
            Phase::Stopping => format!("leader of {lock}: the command is being ended"),
            Phase::Released if self.counters.elections == 0 => format!("left the election for {lock}"),
            Phase::Released => format!("the lock {lock} was given back"),
        };
        text::escaped(&words).into_owned()
    }

    fn hears_etcd(&self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|at| now.saturating_since(at) <= self.ttl)
    }

    /// The loop turns several times per TTL. Twice the TTL is a stall; with a short one, a busy machine is none yet.
    fn longest_turn(&self) -> Duration {
        (self.ttl * 2).max(Duration::from_secs(10))
    }
}

impl Phase {
    /// All words that [`Phase::word`] has.
    pub const WORDS: [&str; 6] = ["joining", "waiting", "elected", "running", "stopping", "released"];

    /// One word for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
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

    /// The instant `seconds` after the start of the machine.
    pub(crate) fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    /// A leader that renewed at 100, with a TTL of 15: it is told to stop at 110, and killed at 114.
    pub(crate) fn leader() -> Status {
        Status {
            phase: Phase::Running,
            leader: Some("me".into()),
            token: Some(42),
            renewed_at: Some(at(100)),
            deadlines: Some(Deadlines { stop_at: at(110), kill_at: at(114) }),
            elected_at: Some(at(90)),
            beat: Some(at(100)),
            started: true,
            counters: Counters { elections: 1, losses: 0, renewals: 5, late_renewals: 2 },
            ..Status::new("db".into(), "me".into(), Duration::from_secs(15))
        }
    }

    /// The second in the queue, whose lease was kept alive at 100.
    pub(crate) fn standby() -> Status {
        Status {
            phase: Phase::Waiting { number: 2, behind: Some("b".into()) },
            leader: Some("a".into()),
            renewed_at: Some(at(100)),
            beat: Some(at(100)),
            ..Status::new("db".into(), "me".into(), Duration::from_secs(15))
        }
    }

    /// One that etcd does not answer.
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
            ("stopping, and not dead in time", in_phase(Phase::Stopping), 115, (false, false, false)),
            ("released", Status { phase: Phase::Released, deadlines: None, ..leader() }, 101, (false, true, false)),
            ("ending", ending, 101, (true, true, false)),
            ("a standby", standby(), 115, (false, true, true)),
            ("a standby with etcd dark", beating(standby(), 116), 116, (false, true, false)),
            ("a standby whose loop stalled", standby(), 131, (false, false, false)),
            ("joining", joining(), 101, (false, true, false)),
            ("joining for ever", beating(joining(), 9000), 9001, (false, true, false)),
            ("joining, stalled", joining(), 131, (false, false, false)),
            ("before the first turn", Status { beat: None, ..joining() }, 131, (false, true, false)),
        ] {
            let now = at(now);
            assert_eq!((status.is_leading(now), status.is_alive(now), status.is_ready(now)), expected, "{what}");
        }
    }

    #[test]
    fn the_leader_is_forgotten_with_etcd_dark() {
        assert_eq!(standby().known_leader(at(115)), Some("a"));
        assert_eq!(standby().known_leader(at(116)), None);
        assert_eq!(joining().known_leader(at(101)), None);
    }

    #[test]
    fn words_are_one_line() {
        assert_eq!(standby().words(), "standby for db: number 2 in the queue behind b; a leads");
        assert_eq!(leader().words(), "leader of db: the command runs");
        let stopping = Status { phase: Phase::Stopping, ..leader() };
        assert_eq!(stopping.words(), "leader of db: the command is being ended");
        assert_eq!(Status { exited: true, ..stopping }.words(), "leader of db: the command has ended, handing over");
        assert_eq!(Status { phase: Phase::Released, ..standby() }.words(), "left the election for db");
        assert_eq!(Status { phase: Phase::Released, ..leader() }.words(), "the lock db was given back");
        let evil = Status { leader: Some("x\nREADY=1\u{202e}".into()), ..standby() };
        assert!(evil.words().ends_with("x\\nREADY=1\\u{202e} leads"), "{}", evil.words());
    }
}
