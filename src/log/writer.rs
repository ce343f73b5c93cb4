//! The log writer: a process that copies log lines from a pipe to the real stderr, so that gatekeeper and guard never block.
//!
//! A write to NFS, FUSE, a frozen file system or a terminal that is not read can block for ever, and a process that waits for a
//! disk cannot be killed. A thread would keep its process from exiting, so this is a process. It is a child of the gatekeeper that
//! was cloned without an exit signal, so that `waitpid` does not report it (`__WCLONE`, `wait(2)`) and it does not count as part
//! of the process tree. It blocks all signals and exits when gatekeeper and guard have closed the pipe.

use std::{
    io::{self, PipeReader},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::OnceLock,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl, stat::fstat},
    unistd::{Pid, chdir, read, setpgid, write},
};

use super::{stderr::dropped_lines, style::Style};
use crate::system::{fork::fork_unreported, mask::Mask};

/// Its name in `ps`.
pub const NAME: &std::ffi::CStr = c"log-writer";
/// The size of the pipe in bytes, if the system permits it: thousands of lines.
const CAPACITY: i32 = 1 << 20;
/// How long an ending process waits for the last lines to be written, in milliseconds.
const PATIENCE: u16 = 1000;
/// The size of one write, in bytes.
const PIECE: usize = 8 << 10;

/// The other end of this pipe is closed when the log writer has exited.
static ENDED: OnceLock<PipeReader> = OnceLock::new();

/// Starts the log writer, replaces stderr by the pipe to it, and returns the real stderr for the command. If stderr is a socket,
/// which can be written without blocking, it does nothing. Must be called before any thread exists.
pub(super) fn start(style: Style) -> io::Result<Option<OwnedFd>> {
    if fstat(io::stderr())?.st_mode & libc::S_IFMT == libc::S_IFSOCK {
        return Ok(None);
    }
    let real = io::stderr().as_fd().try_clone_to_owned()?;
    let (lines, pipe) = io::pipe()?;
    let (ended, end) = io::pipe()?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let _ = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(CAPACITY));
    // Before the clone, as signals for all processes of a unit or of a terminal must not reach the log writer.
    let mask = Mask::ALL.change(libc::SIG_SETMASK);
    let write = || {
        // The pipes replace stdin and stdout, which the log writer must not hold open.
        let placed = replace(0, lines.as_fd()).and_then(|()| replace(1, end.as_fd()));
        // SAFETY: closes what no code of this process uses from here on; it ends by `_exit`.
        unsafe {
            for ours in [pipe.as_raw_fd(), ended.as_raw_fd(), real.as_raw_fd(), lines.as_raw_fd(), end.as_raw_fd()] {
                libc::close(ours);
            }
            // Inherited descriptors. They stay open where the kernel lacks this call (before 5.9).
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        }
        if placed.is_ok() {
            copy_lines(style);
        }
    };
    // SAFETY: there is no other thread.
    let forked = unsafe { fork_unreported(write) };
    mask.set();
    forked?;
    replace(2, pipe.as_fd())?;
    // There is only one call, so this never fails.
    let _ = ENDED.set(ended);
    Ok(Some(real))
}

/// Waits at most one second until the last lines have been written. Must be called after the last line of this process.
pub fn finish() {
    let Some(ended) = ENDED.get() else { return };
    // Closes this end of the pipe. Later lines are lost.
    for ours in [1, 2] {
        let _ = replace(ours, ended.as_fd());
    }
    let _ = poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE));
}

/// Closes stdout in this process, as only the command uses it. On a file system that hangs it would delay the exit.
pub fn release_stdout() {
    let _ = replace(1, io::stderr().as_fd());
}

fn replace(number: RawFd, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: standard streams have no owner that closes them.
    Errno::result(unsafe { libc::dup2(by.as_raw_fd(), number) })?;
    Ok(())
}

/// Copies whole lines from fd 0 to fd 2 until the other ends of the pipe are closed.
fn copy_lines(style: Style) {
    let _ = prctl::set_name(NAME);
    // Leaves the gatekeeper's process group: SIGKILL to a whole group cannot be blocked, and the guard still writes lines then.
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = chdir("/");
    // SAFETY: placed there by `start`, and open as long as this process lives.
    let (lines, stderr) = unsafe { (BorrowedFd::borrow_raw(0), BorrowedFd::borrow_raw(2)) };
    let mut out = Out { stderr, style, dropped: 0, why: Errno::UnknownErrno, torn: false };
    let mut buffer = [0; PIECE];
    let mut filled = 0;
    loop {
        match read(lines, &mut buffer[filled..]) {
            Err(Errno::EINTR) => {}
            Ok(count @ 1..) => {
                filled += count;
                let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                let whole = if whole == 0 && filled == PIECE { filled } else { whole };
                out.put(&buffer[..whole]);
                buffer.copy_within(whole..filled, 0);
                filled -= whole;
            }
            _ => return out.put(&buffer[..filled]),
        }
    }
}

/// The real stderr, and the number of dropped lines.
struct Out<'a> {
    stderr: BorrowedFd<'a>,
    style: Style,
    dropped: u64,
    why: Errno,
    torn: bool,
}

impl Out<'_> {
    /// Writes lines, or drops them if that fails (a full disk, a closed terminal).
    fn put(&mut self, lines: &[u8]) {
        if self.dropped > 0 {
            let missing = dropped_lines(self.style, self.dropped, self.why.desc());
            if !self.write_all(missing.as_bytes()) {
                self.drop_lines(lines);
                return;
            }
            self.dropped = 0;
        }
        if !self.write_all(lines) {
            self.drop_lines(lines);
        }
    }

    fn drop_lines(&mut self, lines: &[u8]) {
        self.dropped += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    fn write_all(&mut self, text: &[u8]) -> bool {
        if self.torn {
            self.torn = false;
            if !self.write_all(b"\n") {
                self.torn = true;
                return false;
            }
        }
        let mut rest = text;
        while !rest.is_empty() {
            match write(self.stderr, rest) {
                Err(Errno::EINTR) => {}
                // Another process has set O_NONBLOCK on the same open file.
                Err(Errno::EAGAIN) => {
                    let _ = poll(&mut [PollFd::new(self.stderr, PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                Ok(count @ 1..) => rest = &rest[count..],
                failed => {
                    self.why = failed.err().unwrap_or(Errno::ENOSPC);
                    self.torn = rest.len() < text.len();
                    return false;
                }
            }
        }
        true
    }
}
