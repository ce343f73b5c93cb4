//! The few lines that the guard writes itself, to stderr, in the form of the program's log.

use std::io::IoSlice;

use nix::{errno::Errno, libc, poll};

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
    let stderr = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
    let mut ready = [poll::PollFd::new(stderr, poll::PollFlags::POLLOUT)];
    if !matches!(poll::poll(&mut ready, 0u8), Ok(1..)) {
        return;
    }
    // The command writes there too and can be quicker, so each of these must not wait either: a socket (systemd's
    // journal), then anything else on a kernel that knows how. What remains never waits, or is too old to be asked.
    let slice = IoSlice::new(line);
    // SAFETY: the buffer is `line`, for exactly its length; `IoSlice` has the layout of `iovec`.
    unsafe {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        if libc::send(2, line.as_ptr().cast(), line.len(), flags) >= 0 || Errno::last() != Errno::ENOTSOCK {
            return;
        }
        let at_the_end: libc::c_long = -1;
        if libc::syscall(libc::SYS_pwritev2, 2, &raw const slice, 1, at_the_end, at_the_end, libc::RWF_NOWAIT) >= 0 {
            return;
        }
        if matches!(Errno::last(), Errno::EOPNOTSUPP | Errno::ENOSYS) {
            libc::write(2, line.as_ptr().cast(), line.len());
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
