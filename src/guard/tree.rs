//! The process tree of the command: signals to every descendant of this process, and to no other process.
//!
//! A number in `/proc` may belong to another process by the time it is signaled. So:
//!
//! - A **direct child** keeps its number until *this* process reaps it. The thread that walks is the one that reaps, so
//!   nothing is reaped during a walk, and a direct child can be signaled by its number.
//! - For **deeper descendants** a pidfd is opened first and the parent is read afterwards. If the parent is a process of the
//!   tree and still alive, then so is this one. The signal is sent to the pidfd.
//!
//! This process is a subreaper: orphans become its children, so `waitpid` says when the tree has exited. The exception are
//! **foreign** processes, which have entered another PID namespace: their orphans become children of the first process there.
//! So before a process is killed it is stopped and everything below it is killed, and the pidfd of each foreign process that
//! was signaled is kept: the tree has exited only when these processes have exited, too.
//!
//! A walk can miss a process that is forked meanwhile; the next walk finds it. Without pidfds (Linux before 5.3) the tree is
//! killed one generation per walk.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    process,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};

use super::{cgroup::Cgroup, wait};
use crate::core::clock::Instant;

/// SIGTERM, and SIGCONT because a stopped process does not act on SIGTERM.
const TERM: &[i32] = &[libc::SIGTERM, libc::SIGCONT];

/// The process tree of the command.
#[derive(Debug)]
pub(super) struct Tree {
    /// The cgroup of the command, if it has one.
    cgroup: Option<Cgroup>,
    /// The foreign processes that were signaled and have not exited.
    foreign: Vec<Known>,
    /// When SIGKILL was first sent to this tree.
    killing_since: Option<Instant>,
}

impl Tree {
    /// How long foreign processes are given to stop, so that all their children are known. After that they are killed anyway:
    /// one that waits in the kernel does not stop, but may be killed.
    const STOPPING: Duration = Duration::from_millis(100);

    pub(super) const fn new(cgroup: Option<Cgroup>) -> Self {
        Self { cgroup, foreign: Vec::new(), killing_since: None }
    }

    pub(super) const fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Sends SIGTERM to every descendant that can be found, and returns one that refused it, if any did.
    pub(super) fn terminate(&mut self) -> Option<Denied> {
        self.walk(|walk, process| walk.terminate(process, DEEPEST))
    }

    /// Kills every descendant that can be found, and returns one that refused it, if any did. `group` is a process group to
    /// begin with, as the kernel reaches all its members at once. Its leader must not have been reaped, as that keeps the number.
    pub(super) fn kill(&mut self, group: Option<Pid>) -> Option<Denied> {
        let now = Instant::now();
        let since = *self.killing_since.get_or_insert(now);
        self.cgroup.iter().for_each(Cgroup::kill);
        let to_group = |signal: i32| {
            if let Some(group) = group {
                // SAFETY: kill has no memory effects; the group's number is taken, see above.
                unsafe { libc::kill(-group.as_raw(), signal) };
            }
        };
        to_group(libc::SIGSTOP);
        let waits = now.saturating_since(since) < Self::STOPPING;
        let mut complete = true;
        let denied = self.walk(|walk, process| complete &= walk.kill(process, DEEPEST, waits));
        if complete || !waits {
            // Also reaches what the group has forked during the walk.
            to_group(libc::SIGKILL);
        }
        // The cgroup reaches the processes of other users, too.
        denied.filter(|_| self.cgroup.is_none())
    }

    fn walk(&mut self, mut visit: impl FnMut(&mut Walk, Known)) -> Option<Denied> {
        self.forget_exited();
        if !wait::has_children() && self.foreign.is_empty() {
            return None; // The usual case, which must be fast: the next leader waits for it.
        }
        let me = Pid::this().as_raw();
        let mut walk = Walk { family: Family::look(), me, foreign: Vec::new(), denied: None };
        // The log writer is not part of the tree, and `waitpid` does not report it.
        for child in walk.family.children(me).into_iter().filter(|&child| wait::is_child(child)) {
            visit(&mut walk, Known::Child(child));
        }
        for process in std::mem::take(&mut self.foreign) {
            if !walk.has_visited(process.pid()) {
                visit(&mut walk, process);
            }
        }
        self.foreign = walk.foreign;
        walk.denied
    }

    /// Returns whether the tree has exited. Must only be called when `waitpid` reports that there are no children.
    pub(super) fn has_exited(&mut self) -> bool {
        self.forget_exited();
        // After a kill by the cgroup, foreign processes die that no walk has seen.
        let is_dying = self.killing_since.is_some() && self.cgroup.as_ref().is_some_and(Cgroup::is_populated);
        let has_exited = self.foreign.is_empty() && !is_dying;
        if has_exited {
            self.killing_since = None;
        }
        has_exited
    }

    /// Descriptors that become readable when a foreign process exits, until [`forget_exited`](Self::forget_exited).
    pub(super) fn exits(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.foreign.iter().filter_map(Known::pidfd)
    }

    pub(super) fn forget_exited(&mut self) {
        self.foreign.retain(|process| !process.has_exited());
    }

    /// Removes the cgroup of the command, if it is empty.
    pub(super) fn remove_cgroup(&self) {
        self.cgroup.iter().for_each(Cgroup::remove);
    }
}

/// A process that may not be signaled: it runs as another user, and this process has no `CAP_KILL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied(i32);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "could not signal process {} of the command: {}; grant CAP_KILL to this program or delegate its cgroup to it \
             (Delegate=yes), or do not let its command change its user: the lease is kept until that process has exited",
            self.0,
            Errno::EPERM.desc()
        )
    }
}

/// Each level holds a descriptor. Deeper processes move up as their ancestors die.
const DEEPEST: u32 = 100;

/// A process that is part of the tree.
#[derive(Debug)]
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

    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Child(_) => None,
            Self::Deeper(_, pidfd) => Some(pidfd.as_fd()),
        }
    }

    /// Returns whether the process has not been reaped, so that its number is still valid.
    fn is_still_there(&self) -> bool {
        match self {
            Self::Child(_) => true,
            // A process that may not be signaled is still there.
            Self::Deeper(_, pidfd) => matches!(pidfd_signal(pidfd, 0), Ok(()) | Err(Errno::EPERM)),
        }
    }

    /// Returns whether a deeper descendant has exited, reaped or not. Children are left to `waitpid`.
    fn has_exited(&self) -> bool {
        let Some(pidfd) = self.pidfd() else { return false };
        // An error counts as alive: then the lease is kept.
        matches!(poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
    }

    fn signal(&self, signal: i32) -> Result<(), Errno> {
        match self {
            Self::Child(pid) => kill_child(*pid, signal),
            Self::Deeper(_, pidfd) => pidfd_signal(pidfd, signal),
        }
    }
}

/// One walk through the tree.
struct Walk {
    family: Family,
    me: i32,
    /// The foreign processes that were visited.
    foreign: Vec<Known>,
    denied: Option<Denied>,
}

impl Walk {
    /// Terminates a process, then everything below it: a supervisor is told before its children end.
    fn terminate(&mut self, process: Known, levels: u32) {
        let numbers = if levels == 0 { Vec::new() } else { self.family.children(process.pid()) };
        let children: Vec<_> = numbers.into_iter().filter_map(|pid| self.know(pid, &process)).collect();
        let is_foreign = is_foreign(process.pid());
        for signal in TERM {
            self.send(&process, *signal);
        }
        self.keep(process, is_foreign);
        for child in children {
            self.terminate(child, levels - 1);
        }
    }

    /// Kills everything below a process, then the process, and returns whether it did. While it `waits`, it does not kill
    /// foreign processes that have not stopped, nor their ancestors: those may have children that are not listed yet, and
    /// the death of a parent can end stopped children by SIGHUP before their own children are known.
    fn kill(&mut self, process: Known, levels: u32, waits: bool) -> bool {
        let stops = process.signal(libc::SIGSTOP).is_ok();
        // Before the children are listed: a process that has stopped does not fork afterwards.
        let is_foreign = is_foreign(process.pid());
        let mut complete = !stops || !is_foreign || has_stopped(process.pid());
        let children = if levels == 0 { Vec::new() } else { self.family.children(process.pid()) };
        for child in children {
            if let Some(child) = self.know(child, &process) {
                complete &= self.kill(child, levels - 1, waits);
            }
        }
        if complete || !waits {
            self.send(&process, libc::SIGKILL);
        }
        self.keep(process, is_foreign);
        complete
    }

    fn send(&mut self, process: &Known, signal: i32) {
        if process.signal(signal) == Err(Errno::EPERM) {
            self.denied.get_or_insert_with(|| Denied(process.pid()));
        }
    }

    /// Keeps a foreign process. `waitpid` reports it only if it is a child.
    fn keep(&mut self, process: Known, is_foreign: bool) {
        if is_foreign && matches!(process, Known::Deeper(..)) {
            self.foreign.push(process);
        }
    }

    fn has_visited(&self, pid: i32) -> bool {
        self.foreign.iter().any(|visited| visited.pid() == pid && visited.is_still_there())
    }

    fn know(&self, pid: i32, parent: &Known) -> Option<Known> {
        let pidfd = pidfd_open(pid)?;
        let ppid = parent_of(pid)?;
        let is_ours = ppid == self.me || (ppid == parent.pid() && parent.is_still_there());
        is_ours.then_some(Known::Deeper(pid, pidfd))
    }
}

/// How the children of a process are found.
enum Family {
    /// From the lists of the kernel (`CONFIG_PROC_CHILDREN`).
    Lists,
    /// From a scan of all processes: (process, parent).
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
            // There is one list per thread.
            Self::Lists => numbers(&format!("/proc/{parent}/task"))
                .filter_map(|thread| fs::read_to_string(format!("/proc/{parent}/task/{thread}/children")).ok())
                .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
                .collect(),
            Self::Scan(all) => all.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid).collect(),
        }
    }
}

/// Returns the entries of a directory whose names are numbers.
fn numbers(directory: &str) -> impl Iterator<Item = i32> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Returns the parent of a process that has not been reaped.
fn parent_of(pid: i32) -> Option<i32> {
    let (state, parent) = state_and_parent(&format!("/proc/{pid}/stat"))?;
    (state != 'X').then_some(parent)
}

/// Returns whether all threads of a process have stopped or exited.
fn has_stopped(pid: i32) -> bool {
    numbers(&format!("/proc/{pid}/task"))
        .filter_map(|thread| state_and_parent(&format!("/proc/{pid}/task/{thread}/stat")))
        .all(|(state, _)| matches!(state, 'T' | 'Z' | 'X'))
}

fn state_and_parent(file: &str) -> Option<(char, i32)> {
    // `pid (name) state ppid …`, and the name can contain anything, also parentheses and bytes that are not UTF-8.
    let stat = fs::read(file).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?.to_ascii_uppercase();
    Some((state, fields.next()?.parse().ok()?))
}

/// Returns whether a process is in another PID namespace, where it has a second number.
fn is_foreign(pid: i32) -> bool {
    // The name of the process, in its first line, can contain bytes that are not UTF-8.
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:")).unwrap_or_default();
    numbers.split(u8::is_ascii_whitespace).filter(|number| !number.is_empty()).count() > 1
}

fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: no memory is involved; the kernel opens pidfds close-on-exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the descriptor is new and has no other owner.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal. Signal 0 only checks that the process exists.
fn pidfd_signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null pointer for `info` is allowed; the kernel then fills it in as for `kill`.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    Errno::result(answer).map(drop)
}

/// Sends a signal to a child that has not been reaped, and returns an error only if that is not permitted.
pub(super) fn signal_child(child: Pid, signal: i32) -> Option<Denied> {
    (kill_child(child.as_raw(), signal) == Err(Errno::EPERM)).then_some(Denied(child.as_raw()))
}

fn kill_child(child: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill has no memory effects; an unreaped child keeps its number.
    Errno::result(unsafe { libc::kill(child, signal) }).map(drop)
}

/// Checks that `/proc` shows the PID namespace of this process and its children. Otherwise descendants could not be found, or
/// other processes could be signaled.
pub(super) fn check_proc() -> io::Result<()> {
    const REMEDY: &str = "mount the /proc of this PID namespace (mount -t proc proc /proc), by which the processes of the \
                          command are found";
    let unusable = |cause: &str| io::Error::other(format!("could not use /proc: {cause}; {REMEDY}"));
    let named = fs::read_link("/proc/self").map_err(|error| unusable(&format!("/proc/self: {error}")))?;
    // From outside of a namespace its processes have more than one number.
    let is_outside = is_foreign(Pid::this().as_raw());
    if named.as_os_str().as_encoded_bytes() != process::id().to_string().as_bytes() || is_outside {
        return Err(unusable("it is that of another PID namespace"));
    }
    let namespace = |of: &str| fs::read_link(format!("/proc/self/ns/{of}")).ok();
    if namespace("pid_for_children").is_some_and(|children| Some(children) != namespace("pid")) {
        return Err(unusable("children of this process are in another PID namespace (unshare --pid needs --fork)"));
    }
    Ok(())
}
