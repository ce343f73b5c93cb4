//! The changes of the lifecycle of an instance. The election itself does not depend on them.

use std::time::Duration;

use super::pause::Pause;
use crate::core::{clock::Instant, timing::Deadlines};

/// A change in the state of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// It joins the queue, or joins it again.
    Joining,
    /// Its lease was granted or renewed.
    Renewed {
        /// When the request for it was sent.
        sent: Instant,
        /// The time to live that etcd granted.
        ttl: Duration,
    },
    /// It waits in the queue.
    Waiting {
        /// The number in the queue; the first standby is number 1.
        number: usize,
        /// The identity just ahead of it in the queue, if there is one.
        behind: Option<String>,
    },
    /// It has read the identity in the holder key; `None` if there is no leader.
    LeaderSeen(Option<String>),
    /// It has read the pause; `None` after its end.
    Paused(Option<Pause>),
    /// It holds the lock, and waits until the lease of an evicted holder has expired.
    Evicting,
    /// It leads: the guard was ordered to start the command.
    Elected {
        /// The fencing token.
        token: i64,
    },
    /// The command runs.
    Started,
    /// The guard holds these deadlines.
    Fed(Deadlines),
    /// A renewal of the leader was confirmed.
    RenewalConfirmed {
        /// When it was sent.
        sent: Instant,
    },
    /// A renewal of the leader was not confirmed within a retry period.
    RenewalLate,
    /// Leadership was lost; the command is being stopped.
    Lost,
    /// The main process of the command has ended by itself, or could not be started.
    Ended {
        /// Whether another term follows.
        again: bool,
    },
    /// The check of the command succeeds, or fails.
    Healthy(bool),
    /// The check of the command fails, and no standby can take over.
    Stranded,
    /// This host may lead, or not.
    Eligible(bool),
    /// It stays out of the queue for this time, as its command was sick.
    StaysOut(Duration),
    /// The process tree has exited.
    Exited,
    /// It is not in the queue any more: the lease was revoked or will expire.
    Released,
    /// The program exits: the command is stopped, if it runs, and no other term follows.
    Ending,
}
