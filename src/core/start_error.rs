//! Errors that end the program before it campaigns.

use std::io;

use super::{exit_code::Exit, text::escaped};

/// A message for the operator and an exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The exit code.
    pub exit: Exit,
    text: String,
}

impl StartError {
    /// Creates an error with this message. Its lines are escaped, because the path of a file, for example, can contain anything.
    #[must_use]
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        let text = text.into();
        let lines: Vec<_> = text.split('\n').map(escaped).collect();
        Self { exit, text: lines.join("\n") }
    }

    /// Returns a conversion for errors of the system while a part of the program is started.
    pub fn no_room(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(Exit::System, format!("could not start {what}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_does_nothing_to_a_terminal() {
        let error = StartError::new(Exit::Config, "there is no file /tmp/\u{1b}[2J\u{202e}\n\nUsage: \u{9b}");
        assert_eq!(error.to_string(), "there is no file /tmp/\\u{1b}[2J\\u{202e}\n\nUsage: \\u{9b}");
    }
}
