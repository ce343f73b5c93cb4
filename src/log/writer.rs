//! Stderr that does not block: whoever reads it (a stuck pipe, a stopped terminal) must not hold up the election.

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::guard::write_now;

/// What is written at once: a pipe that `poll` calls writable takes this much.
const PIECE: usize = 4096;
/// How long one piece may be waited for, in milliseconds; once this was in vain, not at all until stderr takes some again.
const PATIENCE: u16 = 100;

static STUCK: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Stderr, for one event.
///
/// `O_NONBLOCK` would be simpler, but the command shares the open file and would get it as well. So each piece is
/// preceded by `poll`, and written without waiting, as the command can fill the pipe in the moment between.
#[derive(Default)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        let told =
            dropped == 0 || put(stderr.as_fd(), format!("({dropped} lines of the log were lost here)\n").as_bytes());
        if !(told && put(stderr.as_fd(), line)) {
            DROPPED.fetch_add(dropped * u64::from(!told) + 1, Ordering::Relaxed);
        }
        // A line that was dropped is done with: there is nobody to whom an error could be told.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of `line`, or gives up; says which.
fn put(fd: BorrowedFd<'_>, line: &[u8]) -> bool {
    let mut rest = line;
    let until = Instant::now() + Duration::from_millis(PATIENCE.into());
    while !rest.is_empty() {
        let patience = if STUCK.load(Ordering::Relaxed) { 0 } else { PATIENCE };
        let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
        let writable = matches!(poll(&mut fds, PollTimeout::from(patience)), Ok(n) if n > 0);
        STUCK.store(!writable, Ordering::Relaxed);
        let written = if writable { write_now(fd, &rest[..rest.len().min(PIECE)]) } else { return false };
        match written {
            Ok(0) => return false,
            Ok(n) => rest = &rest[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if Instant::now() < until => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_full_pipe_and_a_closed_pipe_do_not_hold_up() {
        let (reader, writer) = io::pipe().expect("a pipe");
        assert!(put(writer.as_fd(), b"fits\n"));
        let begin = Instant::now();
        // More than any pipe holds.
        assert!(!put(writer.as_fd(), &vec![b'x'; 1 << 21]));
        for _ in 0..100 {
            assert!(!put(writer.as_fd(), b"no patience left\n"));
        }
        // The patience for one line; for a hundred it would be ten seconds.
        assert!(begin.elapsed().as_secs() < 5);
        drop(reader);
        assert!(!put(writer.as_fd(), b"nobody there\n"));
    }

    /// The command writes to the same pipe and is quicker at the moment that there is room; then its reader stops.
    #[test]
    fn a_command_that_fills_the_pipe_between_does_not_hold_up() {
        use std::{io::Read as _, thread};

        let (mut reader, writer) = io::pipe().expect("a pipe");
        let command = writer.try_clone().expect("a descriptor");
        let (told, done) = std::sync::mpsc::channel();
        thread::spawn(move || while (&command).write_all(&[b'x'; PIECE]).is_ok() {});
        let election = thread::spawn(move || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(3) {
                STUCK.store(false, Ordering::Relaxed);
                put(writer.as_fd(), b"a line\n");
                let _ = told.send(());
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            let _ = reader.read(&mut [0; PIECE]).expect("read");
            // For each page that it takes, the reader stops for longer than anybody has patience.
            while done.try_recv().is_ok() {}
            let returned = done.recv_timeout(Duration::from_millis(u64::from(PATIENCE) * 5));
            assert!(returned.is_ok(), "put() waits for the reader");
        }
        drop(reader);
        election.join().expect("ended");
    }
}
