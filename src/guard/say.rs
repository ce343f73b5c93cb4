//! The few lines that the guard writes itself, to stderr, in the form of the program's log.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::{errno::Errno, libc, poll, sys::stat::fstat};

use crate::log::LogFormat;

impl LogFormat {
    /// Writes one line, if stderr takes it at once; else it is lost. A guard that waited for whoever reads the log could
    /// miss its deadline. `message` has nothing that JSON would have to escape.
    pub(super) fn warn(self, message: &str) {
        let time = rfc3339_now();
        let line = match self {
            Self::Text => format!("{time}  WARN guard: {message}\n"),
            Self::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"fields\":{{\"message\":\"{message}\"}},\"target\":\"guard\"}}\n"
            ),
        };
        write_without_waiting(line.as_bytes());
    }
}

fn write_without_waiting(line: &[u8]) {
    // SAFETY: stderr is borrowed for this call only; if it is closed poll says so.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    let mut ready = [poll::PollFd::new(stderr, poll::PollFlags::POLLOUT)];
    if !matches!(poll::poll(&mut ready, 0u8), Ok(1..)) {
        return;
    }
    let _ = write_now(stderr, line);
}

/// Writes what there is room for. The command writes there too and can be quicker than whoever has just asked `poll`, so
/// each of these must not wait either: a socket (systemd's journal), then anything else on a kernel that knows how. What
/// remains never waits, or is too old to be asked; and a file has no reader to wait for, but on some file systems (btrfs)
/// takes nothing that must not wait.
pub(crate) fn write_now(fd: BorrowedFd<'_>, line: &[u8]) -> nix::Result<usize> {
    let (raw, slice) = (fd.as_raw_fd(), IoSlice::new(line));
    let is_file = fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
    // SAFETY: the buffer is `line`, for exactly its length; `IoSlice` has the layout of `iovec`.
    unsafe {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match Errno::result(libc::send(raw, line.as_ptr().cast(), line.len(), flags)) {
            Err(Errno::ENOTSOCK) if is_file => return nix::unistd::write(fd, line),
            Err(Errno::ENOTSOCK) => {}
            sent => return sent.map(isize::cast_unsigned),
        }
        let at_the_end: libc::c_long = -1;
        let written =
            libc::syscall(libc::SYS_pwritev2, raw, &raw const slice, 1, at_the_end, at_the_end, libc::RWF_NOWAIT);
        match Errno::result(written) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => nix::unistd::write(fd, line),
            written => written.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
}

fn rfc3339_now() -> String {
    // The log shows the time of day; nothing is decided by it.
    // SAFETY: both functions only write the struct that they are given, for which all zeros is valid.
    let (now, day) = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        let mut day: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&raw const now.tv_sec, &raw mut day);
        (now, day)
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        day.tm_year + 1900,
        day.tm_mon + 1,
        day.tm_mday,
        day.tm_hour,
        day.tm_min,
        day.tm_sec,
        now.tv_nsec / 1000
    )
}
