//! Runs a command only while it holds leadership in an etcd election.
//!
//! These pages describe the architecture, for readers who review or change the program. The README and docs/ are for operators.
//!
//! # The guarantee
//!
//! While etcd holds a lock for one instance, no other instance's command runs. The command does not outlive its lock under any
//! single failure: not if its gatekeeper is killed, frozen or cut off, and not if the command ignores SIGTERM, forks, or
//! daemonizes. docs/guarantees.md lists the limits of the guarantee, for which there is the fencing token.
//!
//! # Two processes
//!
//! ```text
//! gatekeeper   asynchronous: etcd, HTTP, systemd. Decides who leads.              gatekeeper, election, etcd, status
//!   ├─ log-writer   copies lines to stderr, where that can block.                   log::writer
//!   └─ guard   synchronous, one poll loop: starts, stops and reaps the command.   guard
//!        └─ the command and its descendants
//! ```
//!
//! - [`guard`] is a dead man's switch; read it first. It is forked in `main` before the runtime starts. Its decisions are one
//!   pure function, [`guard::switch`]. The gatekeeper *feeds* it and has no other way to keep the command alive. If it is not fed,
//!   it sends the stop signal at `stop_at` and SIGKILL at `kill_at`.
//! - [`gatekeeper`] runs one instance: campaign, lead, hand over. It may be slow, frozen or dead without harm.
//! - Both are subreapers: if one of them dies, the process tree of the command belongs to the other, which ends it.
//!
//! # The election
//!
//! [`election`] decides, as one pure function: [`Candidate::on`](election::Candidate::on) handles an event and returns actions. Each
//! phase of an instance has its own file. [`election::keys`] defines the keys, [`election::view`] interprets one read of them, and
//! `election::transactions` has every transaction. The [`gatekeeper`] performs the actions and feeds the events.
//!
//! [`etcd::client`] combines all endpoints, and [`etcd::membership`] decides which cluster is used. Every address of a configured
//! name is an endpoint, and all endpoints share one login. The client uses an endpoint through a small trait,
//! [`etcd::store::Store`], so that tests can run everything in simulated time against a store in memory.
//!
//! These rules hold everywhere:
//!
//! - A renewal counts from the moment before it was *sent*, and only if etcd confirms the lease *and* the lock.
//! - Leadership is never taken from a live instance. A leader hands over after the guard has reported that the process tree has
//!   exited, or its lease expires after the guard has killed the tree.
//! - Nothing is written to etcd before it is decided which cluster is used.
//! - Each transaction compares everything that it depends on, so it does no harm if it is applied late.
//! - Only [`system::clock`] reads the time, from `CLOCK_BOOTTIME`. A timer only wakes; afterwards the deadline is compared with
//!   the clock.
//! - [`core::timing`] is checked once, when it is created.
//!
//! # Layers
//!
//! A file imports only from its own folder and from layers below it, without cycles. A test checks all imports against this list.
//!
//! ```text
//! main.rs      which role this process has
//! gatekeeper   drives the election and the guard: signals, lifecycle, start, end
//! ctl          subcommands for operators and container engines
//! status       the lifecycle as HTTP, metrics and systemd show it
//! etcd         etcd client: hedging, rotation, vote; endpoint, watch, TLS, login, names, conversions
//! election     candidate and its phases, transactions, view, keys: no IO, no clock, no runtime
//! probe        asks URLs, ports and check commands whether something works
//! guard        dead man's switch: protocol, switch, liveness | process, spawn, signals, tree
//! log          lines on stderr, written without blocking
//! settings     flags and variables to a typed, checked and complete configuration
//! system       clock, processes, signal masks and runtime
//! core         instants, timing, limits, names, data model of etcd, texts, exit codes, start errors: no IO, no tokio
//! ```

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod core;
pub mod ctl;
pub mod election;
pub mod etcd;
pub mod gatekeeper;
pub mod guard;
pub mod log;
pub mod probe;
pub mod settings;
pub mod status;
pub mod system;
