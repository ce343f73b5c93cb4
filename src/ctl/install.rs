//! `ctl install`: copies the running program into a folder, as its image has no `cp`.
//!
//! In Kubernetes, an init container copies it into a volume that it shares with a container of another image.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, ErrorKind},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    sys::statvfs::{FsFlags, statvfs},
    unistd::geteuid,
};

use crate::core::{exit_code::Exit, start_error::StartError};

/// The name of the copy.
const NAME: &str = "etcd-await-election";
/// The running program, also if its file has been replaced.
const SELF: &str = "/proc/self/exe";
const EVERYONE_EXECUTES: u32 = 0o755;

/// Copies the running program into `folder` and prints where it is.
///
/// # Errors
/// If it cannot be read, or not be written there.
pub fn install(folder: &Path, json: bool) -> Result<Exit, StartError> {
    let refuse = |why: String| StartError::new(Exit::CannotCreate, why);
    let copy = copy(Path::new(SELF), folder).map_err(refuse)?;
    let version = env!("CARGO_PKG_VERSION");
    let line = if json {
        serde_json::json!({ "installed": copy.display().to_string(), "version": version }).to_string()
    } else {
        format!("installed {NAME} {version} as {}", copy.display())
    };
    super::print(&format_args!("{line}\n"))
}

/// Copies `program` into `folder`; returns the path of the copy. Until the copy is complete, that path has the previous one.
fn copy(program: &Path, folder: &Path) -> Result<PathBuf, String> {
    let target = folder.join(NAME);
    let failed = |error: io::Error| format!("could not write {}: {}", target.display(), explain(&error, folder));
    // Otherwise only the container with the command would report it.
    if statvfs(folder).map_err(|errno| failed(errno.into()))?.flags().contains(FsFlags::ST_NOEXEC) {
        let folder = folder.display();
        return Err(format!("could not use {folder}: it is mounted with noexec; mount a volume that allows execution"));
    }
    let mut source = File::open(program).map_err(|error| format!("could not read {}: {error}", program.display()))?;
    // Random, as processes of different containers have the same IDs. The kernel would refuse to write to a file that is executed.
    let random = RandomState::new().build_hasher().finish();
    let part = folder.join(format!(".{NAME}.{random:016x}"));
    let written = write(&mut source, &part).and_then(|()| fs::rename(&part, &target));
    written.map_err(|error| {
        let _ = fs::remove_file(&part);
        failed(error)
    })?;
    Ok(target)
}

fn write(source: &mut File, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(source, &mut file)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(EVERYONE_EXECUTES))?;
    // After a power failure the new name must not have an empty file.
    file.sync_all()
}

/// Returns what is wrong with the folder, and the remedy.
fn explain(error: &io::Error, folder: &Path) -> String {
    let shown = folder.display();
    match error.kind() {
        ErrorKind::NotFound => format!("there is no folder {shown}; create it or mount a volume there"),
        ErrorKind::NotADirectory => format!("{shown} is not a folder; give the folder to copy the program into"),
        ErrorKind::PermissionDenied => format!("permission denied; allow user {} to write to {shown}", geteuid()),
        ErrorKind::ReadOnlyFilesystem => format!("{shown} is read-only; mount a writable volume there"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let size = fs::metadata(SELF).map_or(0, |about| about.len()).div_ceil(1 << 20);
            format!("no space is left in {shown}; the program needs {size} MiB, twice that while it replaces a copy")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// Executes a new file. A process that another test has just forked may have it open for writing until it executes its own.
    fn executed(program: &Path) -> Child {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            match Command::new(program).arg("1000").spawn() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < limit => {
                    thread::yield_now()
                }
                child => break child.expect("it can be executed"),
            }
        }
    }

    #[test]
    fn a_copy_that_is_executed_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = copy(Path::new("/bin/sleep"), folder.path()).expect("copied");
        let mut running = executed(&target);
        let copied = copy(Path::new("/bin/true"), folder.path());
        // Writing to the file instead would be refused.
        let busy = OpenOptions::new().write(true).open(format!("/proc/{}/exe", running.id()));
        running.kill().and_then(|()| running.wait()).expect("it is killed");
        assert_eq!(copied.as_ref(), Ok(&target));
        assert_eq!(busy.expect_err("it is executed").kind(), ErrorKind::ExecutableFileBusy);
        assert_eq!(fs::read(&target).expect("the copy"), fs::read("/bin/true").expect("true"));
        assert_eq!(fs::metadata(&target).expect("the copy").permissions().mode() & 0o7777, 0o755);
        assert_eq!(names(folder.path()), [NAME]);
    }

    /// A reader that opens the path at any time finds one whole program or the other.
    #[test]
    fn the_copy_is_never_incomplete() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = fs::read("/bin/bash").expect("bash");
        let target = copy(Path::new("/bin/bash"), folder.path()).expect("copied");
        let copying = thread::spawn({
            let folder = folder.path().to_owned();
            move || (0..20).try_for_each(|_| copy(Path::new("/bin/bash"), &folder).map(drop))
        });
        while !copying.is_finished() {
            assert!(fs::read(&target).expect("the copy") == whole);
        }
        copying.join().expect("the copies").expect("copied");
    }

    #[test]
    fn an_error_names_the_folder_and_the_remedy_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |target: &Path| copy(Path::new("/bin/true"), target).expect_err("refused");
        let error = refused(&folder.path().join("missing"));
        assert!(error.contains("/missing/etcd-await-election: there is no folder "), "{error}");
        let error = refused(Path::new("/bin/true"));
        assert!(error.ends_with("/bin/true is not a folder; give the folder to copy the program into"), "{error}");
        // The rename fails, after everything was written.
        fs::create_dir(folder.path().join(NAME)).expect("a folder");
        refused(folder.path());
        assert_eq!(names(folder.path()), [NAME]);
        let error = copy(Path::new("/nowhere"), folder.path()).expect_err("no program");
        assert!(error.starts_with("could not read /nowhere: "), "{error}");
    }

    /// The program, started again in a mount namespace, where /mnt has a file system of its own.
    #[test]
    fn a_file_system_that_cannot_have_the_program_is_explained() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: file systems need root");
            return;
        }
        for (options, user, expected) in [
            ("size=16k", 0, "no space is left in /mnt; the program needs "),
            ("ro", 0, "/mnt is read-only; mount a writable volume there"),
            ("noexec", 0, "could not use /mnt: it is mounted with noexec"),
            ("mode=755", 65_534, "permission denied; allow user 65534 to write to /mnt"),
        ] {
            let script = format!(
                "mount -t tmpfs -o {options} none /mnt && exec setpriv --reuid={user} --clear-groups \"$@\" --exact \
                 ctl::install::tests::into_mnt --ignored --nocapture"
            );
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "sh", "-c", &script, "sh"]).arg(std::env::current_exe().expect("this test"));
            let output = unshare.stdin(Stdio::null()).output().expect("unshare");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains(expected), "{options}: {output:?}");
        }
    }

    #[test]
    #[ignore = "not a test"]
    fn into_mnt() {
        println!("{}", copy(Path::new("/bin/bash"), Path::new("/mnt")).expect_err("refused"));
        assert!(names(Path::new("/mnt")).is_empty());
    }
}
