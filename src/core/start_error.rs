//! Why the program cannot do what it was told.

use super::exit_code::Exit;

/// Why the program cannot do what it was told: one text for the operator, and the code to end with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The code to end with: [`Exit::Usage`] or [`Exit::Config`].
    pub exit: Exit,
    text: String,
}

impl Refused {
    /// A refusal with this text.
    #[must_use]
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}
