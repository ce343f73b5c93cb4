//! Signals to every descendant of this process, and to nothing else.
//!
//! A number in `/proc` may be another process by the time it is signalled. So:
//!
//! - A **direct child** keeps its number until *this* process reaps it, and nothing is reaped during a walk (the process
//!   that walks is the one that reaps, in the same thread): it can be signalled by number.
//! - Of **anything deeper** a pidfd is opened first and its parent read afterwards: if that is a process already known to
//!   be ours, and still the same one after the reading (its pidfd still takes signals), then so is this one. Its pidfd
//!   is what gets the signal. A descendant cannot leave: this process is a subreaper, so orphans fall to it; but those of
//!   one that has entered another PID namespace fall to the first process of that, which is why children are looked up
//!   before their parent is killed.
//!
//! One walk can miss what forks during it, though what is to be killed is stopped first. Its orphans are direct children in the
//! next; "gone" is what `waitpid` says, never what a walk saw. Without pidfds (Linux before 5.3) the tree is killed one generation per walk.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process,
};

use nix::{errno::Errno, libc, unistd::Pid};

use super::wait;

/// SIGKILL, which also ends what is stopped.
pub(super) const KILL: &[i32] = &[libc::SIGKILL];
/// SIGTERM, and SIGCONT for those that are stopped and could not see it.
pub(super) const TERM: &[i32] = &[libc::SIGTERM, libc::SIGCONT];

/// Sends `signals` to every descendant that can be found, and returns one that refused them, if any did. `group` is a
/// process group to begin with: the kernel reaches all its members at once. Only one whose leader has not been reaped, as
/// the number is taken until then.
pub(super) fn signal(group: Option<Pid>, signals: &[i32]) -> Option<Denied> {
    let to_group = |signal: i32| {
        if let Some(group) = group {
            // SAFETY: kill has no memory effects; the group's number is taken, see above.
            unsafe { libc::kill(-group.as_raw(), signal) };
        }
    };
    if !wait::has_children() {
        return None; // Most commands leave nothing behind, and the next leader waits for this.
    }
    // What is to be killed is only stopped until its children are known.
    if signals == KILL {
        to_group(libc::SIGSTOP);
    }
    let mut walk = Walk { family: Family::look(), me: Pid::this().as_raw(), signals, denied: None };
    // The log writer is none of the tree, and `waitpid` knows nothing of it.
    let children = walk.family.children(walk.me).into_iter().filter(|&child| wait::is_child(child));
    let children: Vec<_> = children.map(Known::Child).collect();
    for child in children {
        walk.visit(&child, DEEPEST);
    }
    // What it has forked meanwhile.
    for signal in signals {
        to_group(*signal);
    }
    walk.denied
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

/// Each level holds a descriptor for each child. What lies deeper comes up as its ancestors die.
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
            // Not allowed to signal it is still there.
            Self::Deeper(_, pidfd) => matches!(pidfd_signal(pidfd, 0), Ok(()) | Err(Errno::EPERM)),
        }
    }

    fn signal(&self, signal: i32) -> Result<(), Errno> {
        match self {
            Self::Child(pid) => kill_child(*pid, signal),
            Self::Deeper(_, pidfd) => pidfd_signal(pidfd, signal),
        }
    }
}

/// One walk through the tree.
struct Walk<'a> {
    family: Family,
    me: i32,
    signals: &'a [i32],
    denied: Option<Denied>,
}

impl Walk<'_> {
    /// Signals a process and all below it. Its children are looked up before: those of one that lives in another PID namespace
    /// do not fall to this process when it is killed, but to that namespace's first process.
    fn visit(&mut self, process: &Known, levels: u32) {
        if self.signals == KILL {
            let _ = process.signal(libc::SIGSTOP);
        }
        let children = if levels == 0 { Vec::new() } else { self.children(process) };
        for signal in self.signals {
            if process.signal(*signal) == Err(Errno::EPERM) {
                self.denied.get_or_insert_with(|| Denied(process.pid()));
            }
        }
        for child in children {
            self.visit(&child, levels - 1);
        }
    }

    fn children(&self, parent: &Known) -> Vec<Known> {
        let is_ours = |pid| {
            parent_of(pid).is_some_and(|ppid| ppid == self.me || (ppid == parent.pid() && parent.is_still_there()))
        };
        let known = |pid| {
            let pidfd = pidfd_open(pid)?;
            is_ours(pid).then_some(Known::Deeper(pid, pidfd))
        };
        self.family.children(parent.pid()).into_iter().filter_map(known).collect()
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

/// Signal 0 only asks.
fn pidfd_signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null pointer for the signal's details is allowed, and asks for those of `kill`.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    Errno::result(answer).map(drop)
}

/// Sends a signal to a child that has not been reaped; says if that is not allowed.
pub(super) fn signal_child(child: Pid, signal: i32) -> Option<Denied> {
    (kill_child(child.as_raw(), signal) == Err(Errno::EPERM)).then_some(Denied(child.as_raw()))
}

fn kill_child(child: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill has no memory effects; an unreaped child keeps its number.
    Errno::result(unsafe { libc::kill(child, signal) }).map(drop)
}

/// Whether `/proc` shows what this process and its children see: else what is found there may be strangers, and what is not
/// found there would outlive the lock.
pub(super) fn check_proc() -> io::Result<()> {
    const REMEDY: &str = "mount the /proc of this PID namespace (mount -t proc proc /proc), by which the processes of the \
                          command are found";
    let unusable = |cause: &str| io::Error::other(format!("could not use /proc: {cause}; {REMEDY}"));
    let named = fs::read_link("/proc/self").map_err(|error| unusable(&format!("/proc/self: {error}")))?;
    // From outside of a namespace its processes have more than one number.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).map(|n| n.split_whitespace().count());
    if named.as_os_str().as_encoded_bytes() != process::id().to_string().as_bytes() || numbers.is_some_and(|n| n != 1) {
        return Err(unusable("it is that of another PID namespace"));
    }
    let namespace = |of: &str| fs::read_link(format!("/proc/self/ns/{of}")).ok();
    if namespace("pid_for_children").is_some_and(|children| Some(children) != namespace("pid")) {
        return Err(unusable("children of this process are in another PID namespace (unshare --pid needs --fork)"));
    }
    Ok(())
}
