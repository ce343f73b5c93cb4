//! Runs a command only while it holds leadership in an etcd election.
//!
//! This is the architecture, for whoever wants to judge or to change the program; the README and docs/ are for those who use it.
//!
//! # The promise
//!
//! While etcd holds a lock for one instance, no other instance's command runs; and a command outlives its lock under no
//! single failure: not when its gatekeeper is killed, frozen or cut off, not when the command ignores SIGTERM, forks, or
//! daemonizes. What no lease can give is the edge of the promise (see docs/guarantees.md), and the fencing token is for that.
//!
//! # Two processes
//!
//! ```text
//! gatekeeper   asynchronous: etcd, HTTP, systemd. Decides who leads.              gatekeeper, election, etcd, status
//!   ├─ log-writer   copies lines to stderr, where that can block.                   log::writer
//!   └─ guard   synchronous, one poll loop: starts, stops and reaps the command.   guard
//!        └─ the command and all it forks
//! ```
//!
//! - [`guard`] is a dead man's switch, and what to read first. It is forked from `main`
//!   before there is a runtime. Its decisions are one pure function, [`guard::switch`]; the gatekeeper *feeds* it and has no other
//!   way to keep the command alive. Unfed it sends the stop signal at `stop_at` and SIGKILL at `kill_at`.
//! - [`gatekeeper`] is the story of one run: campaign, lead, hand over. It may be slow, frozen or dead; nothing unsafe follows.
//! - Both are subreapers: whichever of the two dies, the other owns every process of the command and ends it.
//!
//! # The election
//!
//! [`election`] speaks to etcd through a small trait, [`etcd::store::Store`], so that it also runs on simulated time against a
//! store in memory. [`election::keys`] has the keys, [`election::view`] says what one read of them means, and the steps are
//! [campaign](election::Election::campaign) (join, wait, claim, verify), [lead](election::Election::lead) and hand over.
//! [`etcd::client`] makes one cluster of many endpoints, and [`etcd::membership`] decides which one it is. [`etcd`] is the
//! real store: every address of a configured name is an endpoint, and all of them share one login.
//!
//! What holds everywhere:
//!
//! - A renewal counts from the moment before it was *sent*, and only if etcd confirms the lease *and* the lock.
//! - Nothing is taken from a living instance. A leader hands over when the guard has reported that the process tree has exited,
//!   or its lease runs out, and by then the guard has killed the tree.
//! - Nothing is written to etcd before it is decided which cluster is ours.
//! - No transaction is sent without comparing what it rests on; so a late one does no harm.
//! - Only [`system::clock`] reads time, on `CLOCK_BOOTTIME`. Timers wake; whoever wakes compares the deadline with the clock.
//! - [`core::timing`] is checked once, when it is made.
//!
//! # Layers
//!
//! A file imports only from its own folder and from layers below it, and in no circle; a test reads this drawing and all imports.
//!
//! ```text
//! main.rs      which role this process has
//! gatekeeper   drives the election and the guard: signals, lifecycle, start, end
//! ctl          what an operator, a container engine or the guard has this program do once
//! status       what is shown of the lifecycle: HTTP, metrics, systemd
//! election     keys, view, campaign, lead, handover
//! etcd         etcd client: hedging, rotation, vote; endpoint, watch, TLS, login, names, conversions
//! guard        dead man's switch: protocol, switch, liveness | process, spawn, signals, tree
//! log          lines on stderr, for both processes, without waiting
//! settings     flags and variables to a typed, checked and complete configuration
//! system       what the program takes from the machine: the clock, a runtime
//! core         instants, timing, limits, names, texts, exit codes, start errors: no IO, no tokio
//! ```
//!
//! The election is above the etcd client, as its steps are asynchronous and make requests. What it tells of its progress goes up
//! by a callback ([`election::progress`]).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod core;
pub mod ctl;
pub mod election;
pub mod etcd;
pub mod gatekeeper;
pub mod guard;
pub mod log;
pub mod settings;
pub mod status;
pub mod system;
