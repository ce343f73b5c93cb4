//! The gatekeeper: takes part in the election, and orders the guard to run the command while it leads.
//!
//! [`lifecycle`] has the state of the instance, and `run` drives the candidate.

mod health;
pub mod lifecycle;
mod requests;
mod revocation;
mod run;
mod start;

pub use self::{
    run::{RunSettings, run},
    start::start,
};
