//! What the program takes from the machine: its clock, and a runtime to wait on.

pub mod clock;
pub mod runtime;
