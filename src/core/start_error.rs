//! Errors that end the program before it campaigns.

use std::io;

use super::exit_code::Exit;

/// A message for the operator and an exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The exit code.
    pub exit: Exit,
    text: String,
}

impl StartError {
    /// Creates an error with this message.
    #[must_use]
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// Returns a conversion for errors of the system while a part of the program is started.
    pub fn no_room(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(Exit::System, format!("could not start {what}: {error}"))
    }
}
