//! The configuration of one instance: its settings, its environment, its command.

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

/// The configuration of one instance, created by [`World::candidate`](crate::World::candidate).
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
    /// Sets a setting by its variable's name without the prefix, such as `LOCK_NAME`.
    pub fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.settings.insert(name.into(), value.as_ref().into());
        self
    }

    /// Removes a setting.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Removes all settings.
    pub fn bare(mut self) -> Self {
        self.settings.clear();
        self
    }

    /// Adds an argument before the command.
    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.flags.push(flag.as_ref().into());
        self
    }

    /// Adds an environment variable that is not a setting.
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().into());
        self
    }

    /// Sets the identity; the default is the name.
    pub fn identity(self, identity: &str) -> Self {
        self.set("IDENTITY", identity)
    }

    /// Sets its timing; the default is [`Timing::LONG`].
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

    /// Makes it force leadership.
    pub fn force(self) -> Self {
        self.set("FORCE_ACQUIRE", "1")
    }

    /// Connects it to etcd through these proxies.
    pub fn via<'a>(self, proxies: impl IntoIterator<Item = &'a Proxy>) -> Self {
        let endpoints: Vec<String> = proxies.into_iter().map(Proxy::endpoint).collect();
        self.set("ENDPOINTS", endpoints.join(","))
    }

    /// Makes it resolve names only by `names`.
    pub fn names(mut self, names: &Names) -> Self {
        self.names = Some(names.clone());
        self
    }

    /// Sets the behavior of its journaling command.
    pub fn behavior(mut self, behavior: Behavior) -> Self {
        self.behavior = behavior;
        self
    }

    /// Replaces the journaling command.
    pub fn command<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command = Some(words.into_iter().map(|word| word.as_ref().into()).collect());
        self
    }

    /// Replaces the real program; for tests of the oracle.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Sets its standard input; the default is `/dev/null`.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Sets its standard output; the default is a file of the test.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Sets its standard error; [`Candidate::stderr`] is empty then.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Sets the file of its log.
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    /// Sets its controlling terminal, which it reads from and writes to.
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
        // PATH, and the variables of a build that measures coverage.
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

    /// Starts it, waits until it has ended, and returns how it ended.
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
