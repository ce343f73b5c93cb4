//! Signals for a command that has to restore the terminal before it ends or is suspended.

use std::io;

use nix::sys::{
    signal::{SigSet, Signal, raise},
    signalfd::{SfdFlags, SignalFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The signals that concern a command on a terminal.
pub(super) struct Interrupts(AsyncFd<SignalFd>);

/// What a signal asks for.
pub(super) enum Interrupt {
    /// The command ends with the number of this signal.
    End(u8),
    /// The command stops until it is continued: Ctrl-Z.
    Suspend,
    /// The terminal has to be drawn again: it was resized, or the command continues.
    Redraw,
}

impl Interrupts {
    /// Blocks the signals, so that only [`next`](Self::next) reports them.
    pub(super) fn block() -> io::Result<Self> {
        use Signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
        let signals: SigSet = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH].into_iter().collect();
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: a `SignalFd` owns its descriptor and keeps it open as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(signals, Interest::READABLE) }?))
    }

    /// Waits for a signal.
    pub(super) async fn next(&self) -> Interrupt {
        let read = self.0.async_io(Interest::READABLE, |signals| {
            signals.read_signal()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        let number = read.await.map_or(Signal::SIGTERM as u32, |signal| signal.ssi_signo);
        match i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok()) {
            Some(Signal::SIGTSTP) => Interrupt::Suspend,
            Some(Signal::SIGCONT | Signal::SIGWINCH) => Interrupt::Redraw,
            _ => Interrupt::End(u8::try_from(number).unwrap_or(u8::MAX)),
        }
    }
}

/// Stops this process, as Ctrl-Z does by default; returns when it continues. Where nobody could continue it, the kernel ignores that.
pub(super) fn suspend() -> io::Result<()> {
    let stop = SigSet::from(Signal::SIGTSTP);
    raise(Signal::SIGTSTP)?;
    // Here the pending signal has its effect.
    stop.thread_unblock()?;
    Ok(stop.thread_block()?)
}
