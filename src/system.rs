//! The clock of the machine, processes, signal masks and the asynchronous runtime.

pub mod clock;
pub mod fork;
pub mod mask;
pub mod runtime;
