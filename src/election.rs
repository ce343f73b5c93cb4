//! The election.

pub mod keys;
