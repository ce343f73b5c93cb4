//! The clock of the machine and the asynchronous runtime.

pub mod clock;
pub mod runtime;
