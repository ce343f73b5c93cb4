//! Runs a command only while it holds leadership in an etcd election.

pub mod clock;
pub mod config;
pub mod election;
pub mod etcd;
pub mod exit_code;
pub mod gatekeeper;
pub mod guard;
pub mod release;
pub mod status;
pub mod timing;
