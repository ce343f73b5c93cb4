//! One test: a lock of its own, a cluster, candidates, and the verdict that cannot be forgotten.

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

/// Tests that run instances, at once: each is a handful of processes on a small machine.
static WORLDS: Semaphore = Semaphore::new(8);

/// Everything of one test.
pub struct World {
    cluster: Arc<Cluster>,
    lock: String,
    program: PathBuf,
    /// How the journaling command is called.
    journaled: Vec<OsString>,
    journal: Journal,
    candidates: Arc<Mutex<Vec<Arc<Candidate>>>>,
    judged: Cell<bool>,
    scratch: Scratch,
    _permit: Permit,
}

impl World {
    /// A lock of its own on `cluster`, for the program under test. The journaling command is the test `journaled` at the
    /// root of the running test binary.
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

    /// An instance that takes part in this election, with everything set that it needs.
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

    /// The journal of this lock.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A directory for this test.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The journaling command's words, for a candidate that wraps it.
    #[must_use]
    pub fn journaled(&self) -> &[OsString] {
        &self.journaled
    }

    /// The keys of this lock, and of no other.
    ///
    /// # Errors
    /// If etcd cannot be asked.
    pub fn keys(&self) -> Result<Vec<Key>, String> {
        let below = format!("{}/", self.lock);
        let keys = self.cluster.etcdctl().keys(&self.lock)?;
        Ok(keys.into_iter().filter(|key| key.name == self.lock || key.name.starts_with(&below)).collect())
    }

    /// The holder key, which must be there.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    #[track_caller]
    pub fn holder(&self) -> Key {
        let keys = self.keys().expect("etcd answers");
        keys.iter()
            .find(|key| key.name == self.lock)
            .cloned()
            .unwrap_or_else(|| panic!("nobody holds the lock: {keys:?}"))
    }

    /// Waits until nothing of this election is left in etcd.
    #[track_caller]
    pub fn no_keys_left_within(&self, limit: Duration) {
        eventually(limit, "no key of the lock is left", || {
            let keys = self.keys()?;
            if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
        });
    }

    /// A proxy in front of each member.
    #[must_use]
    pub fn proxies(&self) -> Vec<Proxy> {
        self.cluster.members().iter().map(Proxy::of).collect()
    }

    /// The end of every test: ends all instances as a supervisor would, and holds the journal against the promise.
    ///
    /// # Panics
    /// If an instance does not end, if a process of a command outlives it, or if the promise was broken.
    #[track_caller]
    pub fn verdict(&self) {
        self.close();
        self.journal.assert_exclusive();
    }

    /// The first half of it, for whoever judges the journal alone.
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
            // The longest there is: a stubborn command, its grace, and an etcd that does not answer the farewell.
            candidate.wait_exit(candidate.timing().grace + candidate.timing().lease() + Timing::START);
        }
        self.nothing_runs();
    }

    /// No process of any command is left.
    #[track_caller]
    fn nothing_runs(&self) {
        // What a killed gatekeeper leaves its guard with is ended within the grace; all else is gone already.
        eventually(Timing::LONG.lease(), "no process of a command is left", || {
            let lives = self.journal.lives();
            let left: Vec<_> = lives.iter().filter(|life| process::lives(life.pid, life.started)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// What everybody said, for a test that fails.
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
