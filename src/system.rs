//! The clock of the machine, processes and the asynchronous runtime.

pub mod clock;
pub mod fork;
pub mod runtime;
