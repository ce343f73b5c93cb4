//! The gatekeeper: takes part in the election, and has the guard run the command while it leads.
//!
//! [`lifecycle`] is the state that it decides by and shows, [`run`](mod@run) the story of one run.

pub mod lifecycle;
mod run;
mod start;

pub use self::{run::run, start::start};
