//! Commands that do one thing and exit: those of an operator (`ctl`) and of a container engine.

mod access;
pub mod healthcheck;
pub mod install;
mod interrupt;
pub mod list;
pub mod pages;
pub mod pause;
pub mod resign;
pub mod resume;
mod screen;
pub mod show;
pub mod watch;

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use crate::core::{exit_code::Exit, start_error::StartError, text};

/// Prints a text to stdout.
///
/// # Errors
/// If it cannot be written.
pub fn print(text: &dyn Display) -> Result<Exit, StartError> {
    let mut stdout = io::stdout().lock();
    printed(write!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Prints one JSON object on one line to stdout.
fn print_json(object: &serde_json::Value) -> Result<Exit, StartError> {
    print(&format_args!("{}\n", text::escaped_json(&object.to_string())))
}

/// Returns how a command ends that has written to stdout. That nobody reads any more is no error: a reader such as `head` closes it.
fn printed(result: io::Result<()>) -> Result<Exit, StartError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(StartError::new(Exit::CannotPrint, format!("could not write to stdout: {error}")))
        }
        _ => Ok(Exit::Command(0)),
    }
}
