//! Signal masks as the kernel has them.

use nix::{
    libc,
    sys::signal::{SigSet, Signal},
};

/// A set of signals in the layout of the kernel, one bit for each. The sets of the C libraries leave out the signals that they
/// use themselves (32 and 33, musl also 34), but such a signal ends the process if it is not blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u64);

impl Mask {
    const NONE: Self = Self(0);
    /// All signals.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns the set without this signal.
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !(1 << (signal as i32 - 1)))
    }

    /// Returns the mask of this thread.
    #[must_use]
    pub fn current() -> Self {
        Self::NONE.change(libc::SIG_BLOCK)
    }

    /// Makes this the mask of this thread. Async-signal-safe.
    pub fn set(self) {
        self.change(libc::SIG_SETMASK);
    }

    /// Changes the mask of this thread as `how` says, and returns the one before. Async-signal-safe.
    pub fn change(self, how: i32) -> Self {
        let mut before = 0u64;
        // SAFETY: both sets are as long as is said, and live through the call, which fails on nothing else.
        unsafe {
            libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const self.0, &raw mut before, size_of::<u64>());
        }
        Self(before)
    }

    /// Converts the set for functions of the C library that pass it to the kernel unchanged.
    #[must_use]
    pub fn to_sigset(self) -> SigSet {
        // SAFETY: all zeros is the empty set, and each C library's type begins with the kernel's set.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            (&raw mut set).cast::<u64>().write_unaligned(self.0);
            SigSet::from_sigset_t_unchecked(set)
        }
    }
}
