//! Writes to stderr without blocking.
//!
//! In gatekeeper and guard stderr is either a socket (the journal) or the pipe to the log writer. Lines for which there is no room
//! are dropped and counted.

use std::{
    fmt,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, send},
};
use tracing::Level;

use super::style::Style;
use crate::{core::text, settings::LogFormat};

/// Lines of this process that were dropped and not reported yet.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Whether the end of the last line could not be written.
static TORN: AtomicBool = AtomicBool::new(false);

/// Stderr, for one event.
pub(super) struct Stderr(pub(super) Style);

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // In text the fields have been escaped; in JSON the document is escaped here.
        match std::str::from_utf8(line) {
            Ok(document) if self.0.format == LogFormat::Json => {
                write_line(self.0, format!("{}\n", text::escaped_json(document.trim_end())).as_bytes());
            }
            _ => write_line(self.0, line),
        }
        // An error about a dropped line could not be reported anywhere.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Style {
    /// Writes one line as a warning, if there is room for it.
    pub fn warn(self, target: &str, message: &str) {
        if self.warnings {
            write_line(self, self.line(Level::WARN, target, message).as_bytes());
        }
    }

    /// Writes one line for developers, if such lines are logged and there is room for it.
    pub fn trace(self, target: &str, message: fmt::Arguments<'_>) {
        if self.traces {
            write_line(self, self.line(Level::TRACE, target, &message.to_string()).as_bytes());
        }
    }
}

/// Writes one line, and before it the number of lines that were dropped.
pub(super) fn write_line(style: Style, line: &[u8]) {
    write_line_to(io::stderr().as_fd(), style, line);
}

fn write_line_to(fd: BorrowedFd<'_>, style: Style, line: &[u8]) {
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    let reported = dropped == 0 || put(fd, dropped_lines(style, dropped, "stderr was blocked").as_bytes());
    if !(reported && put(fd, line)) {
        DROPPED.fetch_add(dropped * u64::from(!reported) + 1, Ordering::Relaxed);
    }
}

/// Returns the line that replaces dropped ones.
pub(super) fn dropped_lines(style: Style, number: u64, why: &str) -> String {
    style.line(Level::WARN, "log", &format!("dropped {number} log lines: {why}"))
}

/// Writes `line` and returns whether all of it was written.
fn put(fd: BorrowedFd<'_>, line: &[u8]) -> bool {
    let mut rest = line;
    if TORN.load(Ordering::Relaxed) {
        if write_now(fd, b"\n") != Ok(1) {
            return false;
        }
        TORN.store(false, Ordering::Relaxed);
    }
    while !rest.is_empty() {
        match write_now(fd, rest) {
            Err(Errno::EINTR) => {}
            Ok(written @ 1..) => rest = &rest[written..],
            _ => {
                TORN.store(rest.len() < line.len(), Ordering::Relaxed);
                return false;
            }
        }
    }
    true
}

/// Writes as much as there is room for. A socket is shared with the command, so its flags must not be changed; the pipe to the log
/// writer has `O_NONBLOCK`.
fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::ENOTSOCK) => nix::unistd::write(fd, bytes),
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::Shutdown, os::unix::net::UnixStream};

    use super::*;

    /// The statics are shared by all tests of this process, so there is one test for them.
    #[test]
    fn a_full_or_closed_stderr_costs_lines_and_no_time() {
        let (mut reader, socket) = UnixStream::pair().expect("a pair");
        assert!(put(socket.as_fd(), b"fits\n"));
        // More than any socket holds. This socket is in blocking mode.
        assert!(!put(socket.as_fd(), &vec![b'x'; 1 << 24]));
        assert!(TORN.load(Ordering::Relaxed));
        for _ in 0..2 {
            write_line_to(socket.as_fd(), Style::PLAIN, b"no room\n");
        }
        let mut text = vec![0; 5];
        reader.read_exact(&mut text).expect("a line");
        assert_eq!(text, b"fits\n");
        reader.set_nonblocking(true).expect("a flag");
        while reader.read(&mut [0; 1 << 16]).is_ok() {}
        write_line_to(socket.as_fd(), Style::PLAIN, b"whole again\n");
        let mut text = String::new();
        let _ = reader.read_to_string(&mut text);
        let lines: Vec<_> = text.split('\n').collect();
        let [torn, dropped, next, ""] = lines[..] else { panic!("{text}") };
        assert_eq!((torn, next), ("", "whole again"), "the torn line is ended first");
        assert!(dropped.ends_with(" WARN log: dropped 2 log lines: stderr was blocked"), "{dropped}");
        // Closing is not enough, as a process that another test forks at this moment also holds this end open for a while.
        reader.shutdown(Shutdown::Both).expect("a socket");
        assert!(!put(socket.as_fd(), b"nobody there\n"));
        TORN.store(false, Ordering::Relaxed);
    }
}
