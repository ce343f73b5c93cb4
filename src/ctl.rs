//! Commands that do one thing and exit: those of an operator (`ctl`) and of a container engine.

mod access;
pub mod healthcheck;
pub mod install;
mod interrupt;
pub mod list;
pub mod pages;
mod screen;
pub mod show;
pub mod watch;

/// Prints a text. A closed stream is ignored, where `print!` would panic.
pub fn print(text: &dyn std::fmt::Display, stream: &mut dyn std::io::Write) {
    let _ = write!(stream, "{text}").and_then(|()| stream.flush());
}
