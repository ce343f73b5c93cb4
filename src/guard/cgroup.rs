//! A cgroup for the command. The kernel can kill all its processes, also those of other users and in other PID namespaces.
//!
//! It is only created below a cgroup that was delegated to this program (`Delegate=` of a systemd unit). It is optional: the
//! process tree is killed process by process in any case.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    os::{
        fd::{AsRawFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process,
};

use nix::libc;

/// The command's cgroup.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    entrance: File,
    kill: File,
}

impl Cgroup {
    /// Creates it, if the cgroup v2 of this process is delegated and the kernel can kill a whole cgroup (Linux 5.14).
    pub(super) fn of_command() -> Option<Self> {
        let own = own_directory().filter(|own| is_delegated(own))?;
        let path = own.join(format!("command-{}", process::id()));
        // A process with the same number may have left one behind.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path).ok()?;
        let open = |name: &str| File::options().write(true).open(path.join(name)).ok();
        let Some((entrance, kill)) = open("cgroup.procs").zip(open("cgroup.kill")) else {
            let _ = fs::remove_dir(&path);
            return None;
        };
        Some(Self { path, entrance, kill })
    }

    /// Returns the descriptor for [`enter`].
    pub(super) fn entrance(&self) -> RawFd {
        self.entrance.as_raw_fd()
    }

    /// Sends SIGKILL to all its processes, including those that are being forked.
    pub(super) fn kill(&self) {
        let _ = (&self.kill).write(b"1");
    }

    /// Returns whether a process in it has not exited; false if that cannot be read.
    pub(super) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
    }

    /// Removes it if it is empty.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Moves this process into the cgroup. Async-signal-safe.
pub(super) fn enter(entrance: RawFd) {
    // SAFETY: the length is that of the buffer. If the write fails, the process stays where it is.
    unsafe { libc::write(entrance, b"0".as_ptr().cast(), 1) };
}

/// Returns the directory of the cgroup v2 of this process.
fn own_directory() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = mounts.lines().find_map(|mount| directory(mount, cgroup))?;
    // The mount may belong to another cgroup namespace.
    let members = fs::read_to_string(own.join("cgroup.procs")).ok()?;
    members.lines().any(|member| member.parse() == Ok(process::id())).then_some(own)
}

/// Returns where the mount of a line of `mountinfo` shows the cgroup.
fn directory(mount: &str, cgroup: &str) -> Option<PathBuf> {
    let (place, filesystem) = mount.split_once(" - ")?;
    let mut fields = place.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = Path::new(cgroup).strip_prefix(root).ok()?;
    (filesystem.starts_with("cgroup2 ") && !point.contains('\\')).then(|| Path::new(point).join(below))
}

/// Returns whether systemd has marked the cgroup as delegated: for root, or for other users (since version 251).
fn is_delegated(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    [c"trusted.delegate", c"user.delegate"].iter().any(|name| {
        let mut value = [0u8; 2];
        // SAFETY: both strings end with NUL, and the length is that of `value`.
        let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value[0] == b'1'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_for_each_kind_of_mount() {
        for (mount, cgroup, found) in [
            ("30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw", "/a/b", Some("/sys/fs/cgroup/a/b")),
            ("30 23 0:27 /a /sys/fs/cgroup ro - cgroup2 cgroup rw", "/a/b", Some("/sys/fs/cgroup/b")),
            ("30 23 0:27 /a /sys/fs/cgroup ro - cgroup2 cgroup rw", "/c", None),
            ("30 23 0:27 /a /sys/fs/cgroup ro - cgroup2 cgroup rw", "/ab", None),
            ("30 23 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids", "/a/b", None),
            ("30 23 0:27 / /a\\040b rw - cgroup2 cgroup2 rw", "/a/b", None),
            ("nonsense", "/", None),
        ] {
            assert_eq!(directory(mount, cgroup), found.map(PathBuf::from), "{mount}");
        }
    }
}
