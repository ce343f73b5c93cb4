//! Runs a command only while it holds leadership in an etcd election.

pub mod cli;
pub mod clock;
pub mod config;
pub mod election;
pub mod etcd;
pub mod exit_code;
pub mod gatekeeper;
pub mod guard;
pub mod log;
pub mod release;
pub mod show;
pub mod status;
pub mod timing;
