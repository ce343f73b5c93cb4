//! The words that everything else is written in: no IO, and nothing that waits.

pub mod clock;
pub mod exit_code;
pub mod limits;
pub mod names;
pub mod start_error;
pub mod text;
pub mod timing;
