//! What an operator, a container engine or the guard has this program do once.

pub mod healthcheck;
pub mod pages;
pub mod release;
pub mod show;

/// Prints. A stream that is closed is no reason to panic.
pub fn say(text: &dyn std::fmt::Display, stream: &mut dyn std::io::Write) {
    let _ = write!(stream, "{text}").and_then(|()| stream.flush());
}
