//! Signals to every descendant of this process, and to nothing else.
//!
//! A number in `/proc` may be another process by the time it is signalled. So:
//!
//! - A **direct child** keeps its number until *this* process reaps it, and nothing is reaped during a walk (the process
//!   that walks is the one that reaps, in the same thread): it can be signalled by number.
//! - Of **anything deeper** a pidfd is opened first and its parent read afterwards: if that is a process already known to
//!   be ours, and still the same one after the reading (its pidfd still takes signals), then so is this one. Its pidfd
//!   is what gets the signal. A descendant cannot leave: this process is a subreaper, so orphans fall to it.
//!
//! One walk can miss what forks during it. Its orphans are direct children in the next; "gone" is what `waitpid` says,
//! never what a walk saw. Without pidfds (Linux before 5.3) the tree is killed one generation per walk.

use std::{
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{errno::Errno, libc, unistd::Pid};

use super::wait;

/// SIGKILL, which also ends what is stopped.
pub(super) const KILL: &[i32] = &[libc::SIGKILL];
/// SIGTERM, and SIGCONT for those that are stopped and could not see it.
pub(super) const TERM: &[i32] = &[libc::SIGTERM, libc::SIGCONT];

/// Sends `signals` to every descendant that can be found. `group` is a process group to begin with: the kernel reaches
/// all its members at once. Only one whose leader has not been reaped, as the number is taken until then.
pub(super) fn signal(group: Option<Pid>, signals: &[i32]) {
    if let Some(group) = group {
        for signal in signals {
            // SAFETY: kill has no memory effects; the group's number is taken, see above.
            unsafe { libc::kill(-group.as_raw(), *signal) };
        }
    }
    if !wait::has_children() {
        return; // Most commands leave nothing behind, and the next leader waits for this.
    }
    let family = Family::look();
    let me = Pid::this().as_raw();
    // The log writer is none of the tree, and `waitpid` knows nothing of it.
    let children: Vec<_> = family.children(me).into_iter().filter(|&child| wait::is_child(child)).collect();
    for child in &children {
        for signal in signals {
            // SAFETY: kill has no memory effects; a direct child keeps its number until we reap it.
            unsafe { libc::kill(*child, *signal) };
        }
    }
    for child in children {
        descend(&family, me, &Known::Child(child), signals, DEEPEST);
    }
}

/// Each level holds a descriptor. What lies deeper comes up as its ancestors die.
const DEEPEST: u32 = 100;

/// A process that is one of ours.
enum Known {
    Child(i32),
    Deeper(i32, OwnedFd),
}

impl Known {
    const fn pid(&self) -> i32 {
        match self {
            Self::Child(pid) | Self::Deeper(pid, _) => *pid,
        }
    }

    /// Whether the number still means this process: it has not been reaped.
    fn is_still_there(&self) -> bool {
        match self {
            Self::Child(_) => true,
            Self::Deeper(_, pidfd) => pidfd_signal(pidfd, 0),
        }
    }
}

fn descend(family: &Family, me: i32, parent: &Known, signals: &[i32], levels: u32) {
    if levels == 0 {
        return;
    }
    for pid in family.children(parent.pid()) {
        let Some(pidfd) = pidfd_open(pid) else { continue };
        let Some(ppid) = parent_of(pid) else { continue };
        if ppid != me && !(ppid == parent.pid() && parent.is_still_there()) {
            continue;
        }
        for signal in signals {
            pidfd_signal(&pidfd, *signal);
        }
        descend(family, me, &Known::Deeper(pid, pidfd), signals, levels - 1);
    }
}

/// Who is whose child.
enum Family {
    /// The kernel keeps lists (`CONFIG_PROC_CHILDREN`).
    Lists,
    /// It does not: (process, parent) of everything there is.
    Scan(Vec<(i32, i32)>),
}

impl Family {
    fn look() -> Self {
        if fs::exists("/proc/thread-self/children").unwrap_or(false) {
            return Self::Lists;
        }
        Self::Scan(numbers("/proc").filter_map(|pid| Some((pid, parent_of(pid)?))).collect())
    }

    fn children(&self, parent: i32) -> Vec<i32> {
        match self {
            // The lists are kept per thread.
            Self::Lists => numbers(&format!("/proc/{parent}/task"))
                .filter_map(|thread| fs::read_to_string(format!("/proc/{parent}/task/{thread}/children")).ok())
                .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
                .collect(),
            Self::Scan(all) => all.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid).collect(),
        }
    }
}

/// The entries of a directory whose names are numbers.
fn numbers(directory: &str) -> impl Iterator<Item = i32> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent of a process that runs. None of one that has ended: there is nothing to signal.
fn parent_of(pid: i32) -> Option<i32> {
    // `pid (name) state ppid …`, and the name can contain anything, also parentheses and bytes that are no UTF-8.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "X" | "x") {
        return None;
    }
    fields.next()?.parse().ok()
}

fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: no memory is involved; the kernel opens pidfds close-on-exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process was there to take the signal; signal 0 only asks.
fn pidfd_signal(pidfd: &OwnedFd, signal: i32) -> bool {
    // SAFETY: a null pointer for the signal's details is allowed, and asks for those of `kill`.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    // Not allowed to signal it (a setuid program) is still there.
    answer == 0 || Errno::last() == Errno::EPERM
}

/// Sends a signal to a child that has not been reaped.
pub(super) fn signal_child(child: Pid, signal: i32) {
    // SAFETY: kill has no memory effects; an unreaped child keeps its number.
    unsafe { libc::kill(child.as_raw(), signal) };
}
