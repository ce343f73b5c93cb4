//! A cgroup of the command's own: killed by the kernel, with all that is in it, whoever it runs as and wherever it has gone.
//!
//! Only below a cgroup that was delegated to us (`Delegate=` of a systemd unit), as all others are somebody else's to change.
//! What is not there is not missed: the walk through the tree is done in any case.

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
    /// Makes one, if this process has a delegated cgroup v2 and the kernel can kill a whole cgroup (Linux 5.14).
    pub(super) fn of_command() -> Option<Self> {
        let own = own_directory().filter(|own| is_delegated(own))?;
        let path = own.join(format!("command-{}", process::id()));
        // One that was left by a process of the same number.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path).ok()?;
        let open = |name: &str| File::options().write(true).open(path.join(name)).ok();
        let Some((entrance, kill)) = open("cgroup.procs").zip(open("cgroup.kill")) else {
            let _ = fs::remove_dir(&path);
            return None;
        };
        Some(Self { path, entrance, kill })
    }

    /// A process enters by [`enter`].
    pub(super) fn entrance(&self) -> RawFd {
        self.entrance.as_raw_fd()
    }

    /// SIGKILL to all that is in it, what is being forked included.
    pub(super) fn kill(&self) {
        let _ = (&self.kill).write(b"1");
    }

    /// Whether processes in it have not exited. False if that cannot be read.
    pub(super) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
    }

    /// Removes it, if it is empty.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Moves this process. Async-signal-safe.
pub(super) fn enter(entrance: RawFd) {
    // SAFETY: the buffer is as long as is said. If it fails, the process stays where it is.
    unsafe { libc::write(entrance, b"0".as_ptr().cast(), 1) };
}

/// The directory of the cgroup v2 that this process is in.
fn own_directory() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = mounts.lines().find_map(|mount| directory(mount, cgroup))?;
    // The mount may be that of another cgroup namespace.
    let members = fs::read_to_string(own.join("cgroup.procs")).ok()?;
    members.lines().any(|member| member.parse() == Ok(process::id())).then_some(own)
}

/// Where a line of `mountinfo` shows the cgroup, if it does.
fn directory(mount: &str, cgroup: &str) -> Option<PathBuf> {
    let (place, what) = mount.split_once(" - ")?;
    let mut fields = place.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = Path::new(cgroup).strip_prefix(root).ok()?;
    (what.starts_with("cgroup2 ") && !point.contains('\\')).then(|| Path::new(point).join(below))
}

/// Whether systemd marked it so: the second is for those who are not root, since version 251.
fn is_delegated(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    [c"trusted.delegate", c"user.delegate"].iter().any(|name| {
        let mut value = [0u8; 2];
        // SAFETY: both strings end with NUL, and `value` is as long as is said.
        let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value[0] == b'1'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_in_whichever_way_it_is_mounted() {
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
