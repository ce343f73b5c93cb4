//! One directory per test process for data, logs and certificates. It is removed at the end unless a test failed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// A directory that is removed when dropped, unless its test is failing.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    discarded: AtomicBool,
}

impl Scratch {
    /// Creates a directory; `name` only makes it easier to find.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = ROOT.path.join(format!("{number:04}-{name}"));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, discarded: AtomicBool::new(false) }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it also if the test fails.
    pub fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
    }

    /// Keeps everything of this test process, as the logs of the shared cluster belong to every test.
    pub fn keep(&self) {
        // The sweeper looks for this file. An error must not hide the failure that is being reported.
        let _ = fs::write(ROOT.path.join(KEEP), "");
        eprintln!("logs kept in {}", self.path.display());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() && !self.discarded.load(Ordering::Relaxed) {
            self.keep();
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The directory of the whole process. Statics are never dropped, and a process can be killed, so a shell waits for the
/// end of its input, which is the end of this process, and removes the directory.
struct Root {
    path: PathBuf,
    /// Holds the write end of its standard input.
    _sweeper: Child,
}

static ROOT: LazyLock<Root> = LazyLock::new(|| {
    let path = tempfile::Builder::new()
        .prefix("etcd-await-election-tests.")
        .tempdir()
        .expect("a directory for temporary files")
        .keep();
    let sweeper = Command::new("setsid")
        .args(["sh", "-c", SWEEP, "sweeper"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid and sh are needed");
    Root { path, _sweeper: sweeper }
});

const KEEP: &str = "a-test-failed";

/// Retried, as processes that die with the test process may still be writing.
const SWEEP: &str =
    r#"read -r _; [ -e "$1/a-test-failed" ] && exit; for _ in 1 2 3 4 5; do rm -rf "$1" && exit; sleep 1; done"#;
