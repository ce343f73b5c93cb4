//! How one instance is started: its settings, its environment, its command.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::{
    Timing,
    address::{Address, STATUS_PORT},
    behavior::Behavior,
    candidate::Candidate,
    etcdctl::Etcdctl,
    journal::{Journal, now},
    journaled,
    names::Names,
    process::{End, Process},
    proxy::Proxy,
    terminal::Terminal,
    timing::setting,
    wait::{eventually, lock},
};

/// What one instance shall be started with; made by [`World::candidate`](crate::World::candidate).
#[must_use]
pub struct Setup {
    pub(crate) program: PathBuf,
    pub(crate) journaled: Vec<OsString>,
    pub(crate) name: String,
    pub(crate) journal: Journal,
    pub(crate) etcdctl: Etcdctl,
    pub(crate) logs: PathBuf,
    pub(crate) started: Arc<Mutex<Vec<Arc<Candidate>>>>,
    pub(crate) settings: BTreeMap<String, OsString>,
    pub(crate) environment: BTreeMap<String, OsString>,
    pub(crate) flags: Vec<OsString>,
    pub(crate) timing: Timing,
    pub(crate) behavior: Behavior,
    pub(crate) command: Option<Vec<OsString>>,
    pub(crate) stdin: Option<Stdio>,
    pub(crate) stdout: Option<Stdio>,
    pub(crate) stderr: Option<Stdio>,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) names: Option<Names>,
}

impl Setup {
    /// Sets a setting by the end of its variable's name, such as `LOCK_NAME`.
    pub fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.settings.insert(name.into(), value.as_ref().into());
        self
    }

    /// Takes a setting away.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Takes all settings away.
    pub fn bare(mut self) -> Self {
        self.settings.clear();
        self
    }

    /// Adds a word to the command line, before the command.
    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.flags.push(flag.as_ref().into());
        self
    }

    /// Adds a variable that is none of the program's settings.
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().into());
        self
    }

    /// The identity, if it is not the name.
    pub fn identity(self, identity: &str) -> Self {
        self.set("IDENTITY", identity)
    }

    /// Its durations; [`Timing::LONG`] unless said otherwise.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        for (name, value) in [
            ("LEASE_DURATION", timing.lease.to_string()),
            ("RENEW_DEADLINE", setting(timing.renew)),
            ("RETRY_PERIOD", setting(timing.retry)),
            ("STOP_GRACE", setting(timing.grace)),
        ] {
            self = self.set(name, value);
        }
        self
    }

    /// Asks for the lead.
    pub fn force(self) -> Self {
        self.set("FORCE_ACQUIRE", "1")
    }

    /// Reaches etcd through these.
    pub fn via<'a>(self, proxies: impl IntoIterator<Item = &'a Proxy>) -> Self {
        let endpoints: Vec<String> = proxies.into_iter().map(Proxy::endpoint).collect();
        self.set("ENDPOINTS", endpoints.join(","))
    }

    /// Resolves names by these, and by nothing else.
    pub fn names(mut self, names: &Names) -> Self {
        self.names = Some(names.clone());
        self
    }

    /// What its journaling command does besides.
    pub fn behavior(mut self, behavior: Behavior) -> Self {
        self.behavior = behavior;
        self
    }

    /// Another command than the journaling one.
    pub fn command<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command = Some(words.into_iter().map(|word| word.as_ref().into()).collect());
        self
    }

    /// Another program than the real one; for tests of the oracle.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Where it reads from; from nothing unless said otherwise.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Where it writes to; to a file of the test unless said otherwise.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Where its log goes instead of to a file of the test; [`Candidate::stderr`] finds nothing then.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// The file that its log goes to.
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    /// Its controlling terminal, which it reads from and writes to.
    pub fn on(self, terminal: &Terminal) -> Self {
        self.stdin(terminal.slave()).stdout(terminal.slave())
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Arc<Candidate> {
        let address = Address::claim();
        let status = SocketAddr::from((address.ip(), STATUS_PORT));
        if !self.settings.is_empty() {
            self.settings.entry("STATUS_ENDPOINT".into()).or_insert_with(|| status.to_string().into());
        }
        let mut command = Command::new(&self.program);
        command.env_clear();
        // Where commands are found, and where a build that measures coverage writes.
        for (name, value) in env::vars_os() {
            if name == "PATH" || name.as_encoded_bytes().starts_with(b"LLVM_") {
                command.env(name, value);
            }
        }
        command.envs(&self.environment);
        for (name, value) in &self.settings {
            command.env(format!("ETCD_AWAIT_ELECTION_{name}"), value);
        }
        command.env(journaled::JOURNAL, self.journal.path());
        command.env(journaled::NAME, &self.name);
        command.env(journaled::BEHAVIOR, self.behavior.encode());
        command.args(&self.flags);
        let gated = self.command.as_ref().unwrap_or(&self.journaled);
        if !gated.is_empty() {
            command.arg("--").args(gated);
        }

        if let Some(names) = &self.names {
            names.apply_to(&mut command);
        }

        let number = lock(&self.started).len();
        let output = |what: &str| self.logs.join(format!("{number}-{}.{what}", self.name));
        let (stdout, stderr) = (output("stdout"), self.log_file.unwrap_or_else(|| output("stderr")));
        command.stdin(self.stdin.unwrap_or_else(Stdio::null));
        let log = || File::create(&stdout).expect("the log of standard output").into();
        command.stdout(self.stdout.unwrap_or_else(log));
        let log = || File::create(&stderr).expect("the log of standard error").into();
        command.stderr(self.stderr.unwrap_or_else(log));
        let text = |name: &str| self.settings.get(name).map(|value| value.to_string_lossy().into_owned());
        let candidate = Arc::new(Candidate {
            identity: text("IDENTITY").unwrap_or_default(),
            queue: format!("{}/", text("LOCK_NAME").unwrap_or_default()),
            etcdctl: self.etcdctl,
            name: self.name,
            timing: self.timing,
            begun: now(),
            process: Process::start(command),
            journal: self.journal,
            _address: address,
            status,
            stdout,
            stderr,
        });
        lock(&self.started).push(Arc::clone(&candidate));
        candidate
    }

    /// Starts it and waits for its end: for what ends by itself, soon.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    #[track_caller]
    pub fn run(self) -> (End, Arc<Candidate>) {
        let candidate = self.start();
        let end = eventually(Timing::START + Timing::SWIFT, &format!("{} ends", candidate.name), || {
            candidate.end().ok_or_else(|| candidate.stderr())
        });
        (end, candidate)
    }
}
