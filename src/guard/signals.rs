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
    ignores_pipe: bool,
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
        Self { mask, ignores_pipe: PIPE_IS_IGNORED.load(Ordering::Relaxed) }
    }

    /// Restores them, right before `execve`. Async-signal-safe.
    ///
    /// SIGPIPE is the only disposition that is not as we found it: Rust's runtime ignores it before `main`. Others it
    /// catches, which `execve` undoes; those that were ignored still are.
    pub(super) fn restore(&self) {
        let handler = if self.ignores_pipe { SigHandler::SigIgn } else { SigHandler::SigDfl };
        // SAFETY: no handler of ours is installed or removed; sigaction is async-signal-safe.
        let _ = unsafe { signal(Signal::SIGPIPE, handler) };
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None);
    }
}

static PIPE_IS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime ignores SIGPIPE, with glibc and with a static musl: both walk `.init_array` before `main`.
extern "C" fn look_at_sigpipe() {
    // SAFETY: a null pointer for the new action only reads the old one, into a struct for which all zeros is valid.
    let ignored = unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut found) == 0 && found.sa_sigaction == libc::SIG_IGN
    };
    PIPE_IS_IGNORED.store(ignored, Ordering::Relaxed);
}

#[used]
// SAFETY: the section is a list of pointers to functions of this kind, called once before `main`; this one touches only
// an atomic and needs nothing of Rust's runtime.
#[unsafe(link_section = ".init_array")]
static LOOK_AT_SIGPIPE: extern "C" fn() = look_at_sigpipe;

/// All signals but those that say that the program itself is broken: blocked, those would end it all the same.
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
