//! A file system that hangs, as NFS, FUSE or a frozen file system may: a process that writes to it cannot even be
//! killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An ext4 file system in a file; thawed and unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// Mounts a new file system below `directory`. Prints SKIPPED and returns `None` where that is not permitted.
    ///
    /// # Panics
    /// If the directory cannot be written.
    #[must_use]
    pub fn mount(directory: &Path) -> Option<Self> {
        let (image, mounted) = (directory.join("image"), directory.join("mounted"));
        fs::create_dir(&mounted).expect("a directory");
        // A sparse file.
        let made = run("truncate", &["--size=256M".as_ref(), &image])
            && run("mkfs.ext4", &["-q".as_ref(), &image])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mounted]);
        if !made {
            eprintln!("SKIPPED: mounting a file system needs root, a loop device and mkfs.ext4");
            return None;
        }
        Some(Self { mounted })
    }

    /// Returns its mount point.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Makes every write to it hang.
    ///
    /// # Panics
    /// If it cannot be frozen.
    pub fn freeze(&self) {
        assert!(run("fsfreeze", &["--freeze".as_ref(), &self.mounted]), "it can be frozen");
    }

    /// Lets writes continue.
    pub fn thaw(&self) {
        let _ = run("fsfreeze", &["--unfreeze".as_ref(), &self.mounted]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        let _ = run("umount", &["--lazy".as_ref(), &self.mounted]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_write_to_a_frozen_disk_completes_when_it_is_thawed() {
        let scratch = Scratch::new("disk");
        let Some(disk) = Disk::mount(scratch.path()) else { return };
        let file = disk.path().join("file");
        fs::write(&file, "before").expect("it can be written");
        disk.freeze();
        let (done, written) = mpsc::channel();
        thread::spawn({
            let file = file.clone();
            move || done.send(fs::write(&file, "after").is_ok())
        });
        assert!(written.recv_timeout(Duration::from_millis(300)).is_err(), "it was written");
        assert_eq!(fs::read_to_string(&file).expect("it can be read"), "before");
        disk.thaw();
        assert_eq!(written.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}
