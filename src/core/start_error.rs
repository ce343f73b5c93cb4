//! Why the program does not do what it was told.

use std::io;

use super::exit_code::Exit;

/// One text for the operator, and the code to end with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The code to end with.
    pub exit: Exit,
    text: String,
}

impl StartError {
    /// An error with this text.
    #[must_use]
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// The machine has no room for a part of the program.
    pub fn no_room(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(Exit::System, format!("could not start {what}: {error}"))
    }
}
