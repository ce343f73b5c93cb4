//! Signals: what they were before us, and how the two processes take them instead.
//!
//! Both processes block every signal they can and read them from a descriptor, so no handler runs anywhere and none is
//! missed. The command gets back what we found ([`Original`]).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    libc,
    sys::{
        signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

/// The signal mask and dispositions that this process was started with.
#[derive(Clone, Copy, Debug)]
pub struct Original {
    mask: SigSet,
    ignored: SigSet,
}

impl Original {
    /// Saves them. To be called first in `main`, before anything is blocked.
    ///
    /// # Panics
    /// Never: reading the mask cannot fail.
    #[must_use]
    pub fn save() -> Self {
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).expect("the mask can always be read");
        let mut ignored: SigSet = Signal::iterator().filter(|signal| is_ignored(*signal)).collect();
        if !PIPE_IS_IGNORED.load(Ordering::Relaxed) {
            ignored.remove(Signal::SIGPIPE);
        }
        // The children of a process that ignores it are reaped by the kernel, and nobody learns how they ended.
        set_ignored(Signal::SIGCHLD, false);
        Self { mask, ignored }
    }

    /// Whether the process was started with this signal ignored, as by `nohup`.
    #[must_use]
    pub fn ignores(&self, signal: i32) -> bool {
        Signal::try_from(signal).is_ok_and(|signal| self.ignored.contains(signal))
    }

    /// Restores them, right before `execve`. Async-signal-safe.
    ///
    /// Two dispositions are not as we found them: Rust's runtime ignores SIGPIPE before `main`, and we do not ignore SIGCHLD.
    /// Others it catches, which `execve` undoes; those that were ignored still are.
    pub(super) fn restore(&self) {
        for signal in [Signal::SIGPIPE, Signal::SIGCHLD] {
            set_ignored(signal, self.ignored.contains(signal));
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None);
    }
}

fn set_ignored(number: Signal, ignored: bool) {
    let handler = if ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: no handler of ours is installed or removed; sigaction is async-signal-safe.
    let _ = unsafe { signal(number, handler) };
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a null pointer for the new action only reads the old one, into a struct for which all zeros is valid.
    unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as i32, ptr::null(), &raw mut found) == 0 && found.sa_sigaction == libc::SIG_IGN
    }
}

static PIPE_IS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime ignores SIGPIPE, with glibc and with a static musl: both walk `.init_array` before `main`.
extern "C" fn look_at_sigpipe() {
    PIPE_IS_IGNORED.store(is_ignored(Signal::SIGPIPE), Ordering::Relaxed);
}

#[used]
// SAFETY: the section is a list of pointers to functions of this kind, called once before `main`; this one touches only
// an atomic and asks the kernel; it needs nothing of Rust's runtime.
#[unsafe(link_section = ".init_array")]
static LOOK_AT_SIGPIPE: extern "C" fn() = look_at_sigpipe;

/// All signals but two kinds. Those that say that the program itself is broken would end it all the same. And SIGPIPE, which
/// Rust's runtime ignores, would be kept while it is blocked, to be forwarded: a client of the status endpoint that hangs up,
/// or a reader of the log, would end the command.
#[must_use]
pub fn blockable() -> SigSet {
    let mut set = SigSet::all();
    for signal in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGSYS,
        Signal::SIGPIPE,
    ] {
        set.remove(signal);
    }
    set
}

/// Blocks them in this thread, and in all processes and threads that it starts from now on.
pub(super) fn block() -> SigSet {
    let set = blockable();
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
    set
}

/// The signals of this process, blocked and to be read.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals and opens their descriptor. Before any thread is started, or that thread would still get them.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn open() -> io::Result<Self> {
        Ok(Self(SignalFd::with_flags(&block(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal that came, if one did.
    #[must_use]
    pub fn read(&self) -> Option<i32> {
        let info = self.0.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo).ok()
    }

    /// Makes them awaitable.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_async(self) -> io::Result<AsyncSignals> {
        // SAFETY: `Signals` keeps its one descriptor open, unchanged, as long as it lives.
        Ok(AsyncSignals(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// [`Signals`] for the asynchronous side.
#[derive(Debug)]
pub struct AsyncSignals(AsyncFd<Signals>);

impl AsyncSignals {
    /// The next signal. Can be dropped and called again without losing one.
    pub async fn next(&mut self) -> i32 {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // Only when the runtime shuts down: nobody will ask for a signal again.
                return std::future::pending().await;
            };
            match ready.get_inner().read() {
                Some(signal) => return signal,
                None => ready.clear_ready(),
            }
        }
    }
}
