//! The gatekeeper: takes part in the election, and orders the guard to run the command while it leads.
//!
//! [`lifecycle`] has the state of the instance, and `run` the sequence of campaigns and terms.

pub mod lifecycle;
mod run;
mod start;

pub use self::{run::run, start::start};
