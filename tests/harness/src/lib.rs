//! The harness of the tests: real etcd clusters, a fault proxy, the real program, and one oracle.
//!
//! A test is a sequence of events, and ends with the verdict of the oracle:
//!
//! ```text
//! let world = World::shared();                       one lock of its own on a running three-member TLS cluster
//! let a = world.candidate("a").start();              the real program; its command is the journaling one
//! let b = world.candidate("b").start();
//! a.leads();  a.kill();  b.leads();                  every wait has a condition and a limit
//! world.verdict();                                   no two terms overlapped, tokens only grew, nothing is left
//! ```
//!
//! - [`World`] has one lock, its cluster, its candidates and its journal; a test that does not call its verdict fails.
//! - [`Cluster`] and its members can be killed, stopped, paused, resumed and restarted.
//! - [`Proxy`] is between a candidate and a member, and causes network faults: cut, refuse, black hole, one way, delay.
//! - [`Balancer`] is one address in front of all members; [`Names`] gives candidates one name for all members.
//! - [`Disk`] is a file system that can be made to hang.
//! - [`failover`] is the table of the times that the tests of the units measure.
//! - [`LockSet`] is a set in a register without a lock of its own, to which commands add.
//! - [`journal`] is the oracle; [`journaled`] the command that writes it.
//! - [`Timing`] derives the limits from lease, renew deadline and retry period, times `TEST_SLACK`.
//!
//! Everything stays on loopback, on addresses that no other test process uses. All processes die with the test process.
//! Logs are kept only if a test failed.

pub mod address;
mod balancer;
pub mod behavior;
mod candidate;
pub mod certificates;
mod cluster;
mod disk;
pub mod etcdctl;
pub mod failover;
pub mod http;
pub mod journal;
pub mod journaled;
mod lock_set;
mod member;
pub mod names;
pub mod process;
mod proxy;
pub mod random;
pub mod scratch;
mod setup;
pub mod suites;
mod terminal;
mod timing;
pub mod wait;
mod world;

pub use balancer::Balancer;
pub use behavior::Behavior;
pub use candidate::Candidate;
pub use cluster::{Cluster, ClusterBuilder};
pub use disk::Disk;
pub use journal::Journal;
pub use lock_set::{LockSet, Loss, Mode, Removal, Verdict};
pub use member::Member;
pub use names::Names;
pub use process::{End, Process};
pub use proxy::{Direction, Proxy};
pub use random::Random;
pub use setup::Setup;
pub use terminal::Terminal;
pub use timing::Timing;
pub use wait::{eventually, throughout};
pub use world::World;
