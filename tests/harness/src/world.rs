//! The world of one test: a lock, a cluster, candidates, and the verdict, which a test must not omit.

use std::{
    cell::Cell,
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    Timing,
    behavior::Behavior,
    candidate::Candidate,
    cluster::Cluster,
    etcdctl::Key,
    journal::Journal,
    process,
    proxy::Proxy,
    scratch::Scratch,
    setup::Setup,
    wait::{Permit, Semaphore, eventually, lock},
};

/// The number of worlds at once: each has several processes.
static WORLDS: Semaphore = Semaphore::new(8);

/// Everything of one test.
pub struct World {
    cluster: Arc<Cluster>,
    lock: String,
    program: PathBuf,
    /// The command line of the journaling command.
    journaled: Vec<OsString>,
    journal: Journal,
    candidates: Arc<Mutex<Vec<Arc<Candidate>>>>,
    judged: Cell<bool>,
    scratch: Scratch,
    _permit: Permit,
}

impl World {
    /// Creates a world with a new lock on `cluster`. The journaling command is the test `journaled` of the running test
    /// binary.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, program: &Path) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let permit = WORLDS.acquire(1);
        let scratch = Scratch::new("world");
        let executable = env::current_exe().expect("the test binary");
        let mut journaled = vec![executable.into_os_string()];
        journaled.extend(
            ["--exact", "journaled", "--ignored", "--nocapture", "--test-threads=1", "--quiet"].map(OsString::from),
        );
        Self {
            cluster,
            lock: format!("tests/{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            program: program.to_owned(),
            journaled,
            journal: Journal::new(scratch.path().join("journal")),
            candidates: Arc::default(),
            judged: Cell::new(false),
            scratch,
            _permit: permit,
        }
    }

    /// Configures an instance of this election with all the settings that it needs.
    pub fn candidate(&self, name: &str) -> Setup {
        let mut settings = BTreeMap::<String, OsString>::new();
        let mut set = |name: &str, value: OsString| settings.insert(name.to_owned(), value);
        set("LOCK_NAME", self.lock.clone().into());
        set("IDENTITY", name.into());
        set("ENDPOINTS", self.cluster.endpoints().join(",").into());
        if self.cluster.tls() {
            let certificates = self.cluster.certificates();
            set("CACERT", certificates.ca.clone().into());
            set("CERT", certificates.client.cert.clone().into());
            set("KEY", certificates.client.key.clone().into());
        }
        if let Some((user, password)) = self.cluster.auth() {
            set("USER", user.into());
            set("PASSWORD", password.into());
        }
        let setup = Setup {
            program: self.program.clone(),
            journaled: self.journaled.clone(),
            name: name.to_owned(),
            journal: self.journal.clone(),
            etcdctl: self.cluster.etcdctl(),
            logs: self.scratch.path().to_owned(),
            started: Arc::clone(&self.candidates),
            settings,
            environment: BTreeMap::new(),
            flags: Vec::new(),
            timing: Timing::LONG,
            behavior: Behavior::default(),
            command: None,
            stdin: None,
            stdout: None,
            stderr: None,
            log_file: None,
            names: None,
        };
        setup.timing(Timing::LONG)
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The lock's name.
    #[must_use]
    pub fn lock(&self) -> &str {
        &self.lock
    }

    /// Returns the journal of this lock.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Returns the directory of this test.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the command line of the journaling command, for a candidate that wraps it.
    #[must_use]
    pub fn journaled(&self) -> &[OsString] {
        &self.journaled
    }

    /// Returns the keys of this lock.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn keys(&self) -> Result<Vec<Key>, String> {
        let below = format!("{}/", self.lock);
        let keys = self.cluster.etcdctl().keys(&self.lock)?;
        Ok(keys.into_iter().filter(|key| key.name == self.lock || key.name.starts_with(&below)).collect())
    }

    /// Returns the holder key, which must exist.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn holder(&self) -> Key {
        let keys = self.keys().expect("etcd answers");
        keys.iter()
            .find(|key| key.name == self.lock)
            .cloned()
            .unwrap_or_else(|| panic!("the lock has no holder: {keys:?}"))
    }

    /// Waits until etcd has no keys of this lock.
    #[track_caller]
    pub fn no_keys_left_within(&self, limit: Duration) {
        eventually(limit, "no key of the lock remains", || {
            let keys = self.keys()?;
            if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
        });
    }

    /// Starts a proxy in front of each member.
    #[must_use]
    pub fn proxies(&self) -> Vec<Proxy> {
        self.cluster.members().iter().map(Proxy::of).collect()
    }

    /// Ends the test: stops all instances as a supervisor does, and checks the journal against the guarantee.
    ///
    /// # Panics
    /// If an instance does not end, if a process of a command outlives it, or if the guarantee was violated.
    #[track_caller]
    pub fn verdict(&self) {
        self.close();
        self.journal.assert_exclusive();
    }

    /// Stops all instances, for a test that checks the journal itself.
    ///
    /// # Panics
    /// If an instance does not end, or if a process of a command outlives it.
    #[track_caller]
    pub fn close(&self) {
        self.judged.set(true);
        let candidates = lock(&self.candidates).clone();
        for candidate in &candidates {
            candidate.resume();
            candidate.terminate();
        }
        for candidate in &candidates {
            // The longest end: a command that ignores SIGTERM for its grace period, and an etcd that does not answer
            // the last requests.
            candidate.wait_exit(candidate.timing().grace + candidate.timing().lease() + Timing::START);
        }
        self.nothing_runs();
    }

    /// Waits until no process of a command exists.
    #[track_caller]
    fn nothing_runs(&self) {
        // The guard of a killed gatekeeper ends the command within the grace period; all other processes have ended
        // already.
        eventually(Timing::LONG.lease(), "no process of a command runs", || {
            let lives = self.journal.lives();
            let left: Vec<_> = lives.iter().filter(|life| process::lives(life.pid, life.started)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// Prints the timeline and the logs of all instances of a failed test.
    fn report(&self) {
        eprintln!("{}", self.journal.timeline());
        for candidate in lock(&self.candidates).iter() {
            eprintln!("--- {} ({}): {:?}\n{}", candidate.name(), candidate.pid(), candidate.end(), candidate.stderr());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for candidate in lock(&self.candidates).iter() {
            candidate.signal(Signal::SIGCONT);
        }
        let forgotten = !self.judged.get() && !thread::panicking();
        if forgotten {
            self.scratch.discard();
        } else if thread::panicking() {
            self.report();
        }
        lock(&self.candidates).clear();
        assert!(!forgotten, "a test must end with the verdict");
    }
}
