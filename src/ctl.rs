//! What an operator, a container engine or the guard has this program do once.

pub mod healthcheck;
pub mod pages;
pub mod release;
pub mod show;
