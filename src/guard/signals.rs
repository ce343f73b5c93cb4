//! Signals of both processes, and the signal mask and dispositions that the command receives.
//!
//! Both processes block all signals that can be blocked and read them from a signalfd, so there are no handlers and no signal
//! is missed. The command is executed with the mask and dispositions that this program was started with ([`Original`]).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    libc,
    sys::{
        signal::{SigHandler, SigSet, Signal, signal},
        signalfd::{SfdFlags, SignalFd, siginfo},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::system::mask::Mask;

/// The signal mask and dispositions that this process was started with.
#[derive(Clone, Copy, Debug)]
pub struct Original {
    mask: Mask,
    ignored: SigSet,
}

impl Original {
    /// Saves them. Must be called first in `main`, before any signal is blocked.
    #[must_use]
    pub fn save() -> Self {
        let mask = Mask::current();
        let mut ignored: SigSet = Signal::iterator().filter(|signal| is_ignored(*signal)).collect();
        if !PIPE_IS_IGNORED.load(Ordering::Relaxed) {
            ignored.remove(Signal::SIGPIPE);
        }
        // If SIGCHLD is ignored, the kernel reaps the children, and their exit status is lost.
        set_ignored(Signal::SIGCHLD, false);
        Self { mask, ignored }
    }

    /// Returns whether the process was started with this signal ignored, as by `nohup`.
    #[must_use]
    pub fn ignores(&self, signal: i32) -> bool {
        Signal::try_from(signal).is_ok_and(|signal| self.ignored.contains(signal))
    }

    /// Restores them, right before `execve`. Async-signal-safe.
    ///
    /// Only two dispositions have changed: Rust's runtime ignores SIGPIPE before `main`, and [`save`](Self::save) resets
    /// SIGCHLD. The runtime catches other signals, which `execve` undoes.
    pub(super) fn restore(&self) {
        for signal in [Signal::SIGPIPE, Signal::SIGCHLD] {
            set_ignored(signal, self.ignored.contains(signal));
        }
        self.mask.set();
    }
}

fn set_ignored(number: Signal, ignored: bool) {
    let handler = if ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: no handler is installed or removed; sigaction is async-signal-safe.
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

/// All signals except two kinds. Signals of faults such as SIGSEGV end a process even if they are blocked. A blocked SIGPIPE
/// would become pending although it is ignored, and be forwarded: a client of the status endpoint that closes its connection
/// would end the command.
const BLOCKABLE: Mask = Mask::ALL
    .without(Signal::SIGSEGV)
    .without(Signal::SIGBUS)
    .without(Signal::SIGFPE)
    .without(Signal::SIGILL)
    .without(Signal::SIGTRAP)
    .without(Signal::SIGABRT)
    .without(Signal::SIGSYS)
    .without(Signal::SIGPIPE);

/// Blocks the signals in this thread, and in all processes and threads that it starts afterwards.
pub(super) fn block() {
    BLOCKABLE.change(libc::SIG_BLOCK);
}

/// The blocked signals of this process, which are read from a signalfd.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals and opens a signalfd. Must be called before a thread is started, as that thread would still receive
    /// signals.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn open() -> io::Result<Self> {
        block();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&BLOCKABLE.to_sigset(), flags)?))
    }

    /// Returns the next pending signal. Signals about resource limits of this process itself are left out.
    #[must_use]
    pub fn read(&self) -> Option<i32> {
        loop {
            let info = self.0.read_signal().ok().flatten()?;
            if !is_about_our_limits(&info) {
                return i32::try_from(info.ssi_signo).ok();
            }
        }
    }

    /// Registers the signalfd with the runtime.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_async(self) -> io::Result<AsyncSignals> {
        // SAFETY: `Signals` keeps its one descriptor open, unchanged, as long as it lives.
        Ok(AsyncSignals(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?))
    }
}

/// Returns whether the kernel sent the signal because this process reached a resource limit (file size, processor time). Such a
/// signal is not meant for the command. Signals from other processes and from a terminal are forwarded.
fn is_about_our_limits(info: &siginfo) -> bool {
    let is_limit = [libc::SIGXFSZ, libc::SIGXCPU].iter().any(|limit| limit.cast_unsigned() == info.ssi_signo);
    // The sender of SIGXFSZ is this process, that of SIGXCPU the kernel.
    is_limit && (info.ssi_code > 0 || info.ssi_pid == std::process::id())
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

/// [`Signals`] for asynchronous code.
#[derive(Debug)]
pub struct AsyncSignals(AsyncFd<Signals>);

impl AsyncSignals {
    /// Waits for the next signal. The future can be dropped without losing a signal.
    pub async fn next(&mut self) -> i32 {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // The runtime is shutting down.
                return std::future::pending().await;
            };
            match ready.get_inner().read() {
                Some(signal) => return signal,
                None => ready.clear_ready(),
            }
        }
    }
}
