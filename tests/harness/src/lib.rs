//! What the tests stand on: real etcd clusters, a fault proxy, the real program, and one oracle.
//!
//! A test tells a story in the words of the promise and ends with the verdict of the oracle:
//!
//! ```text
//! let world = World::shared();                       one lock of its own on a running three-member TLS cluster
//! let a = world.candidate("a").start();              the real program; its command is the journaling one
//! let b = world.candidate("b").start();
//! a.leads();  a.kill();  b.leads();                  every wait has a condition and a limit
//! world.verdict();                                   no two terms overlapped, tokens only grew, nothing is left
//! ```
//!
//! - [`World`] ties one lock, its cluster, its candidates and its journal together; forgetting the verdict is a failure.
//! - [`Cluster`] and its members have the verbs of failure: kill, stop, pause, resume, restart.
//! - [`Proxy`] stands between a candidate and a member: cut, refuse, black hole, one way, delay.
//! - [`Balancer`] is one address in front of all members; [`Names`] gives candidates a name that stands for all of them.
//! - [`Disk`] is a file system that can be made to hang.
//! - [`failover`] is the table of what the tests of the units measure.
//! - [`journal`] is the oracle; [`journaled`] the command that writes it.
//! - [`Timing`] gives the limits: they follow from lease, renew deadline and retry period, times `TEST_SLACK`.
//!
//! Everything stays on loopback, on addresses that no other test process has; everything started dies with the test
//! process; logs stay only where a test failed.

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
