//! The real program, as one instance among others.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    Timing,
    address::{Address, STATUS_PORT},
    behaviour::Behaviour,
    etcdctl::Etcdctl,
    http::{self, Response},
    journal::{Journal, Life, now},
    journaled,
    process::{self, End, Process, Stat},
    proxy::Proxy,
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
    pub(crate) behaviour: Behaviour,
    pub(crate) command: Option<Vec<OsString>>,
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

    /// What its journaling command does besides.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
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
        command.env(journaled::BEHAVIOUR, self.behaviour.encode());
        command.args(&self.flags);
        let gated = self.command.as_ref().unwrap_or(&self.journaled);
        if !gated.is_empty() {
            command.arg("--").args(gated);
        }

        let number = lock(&self.started).len();
        let output = |what: &str| self.logs.join(format!("{number}-{}.{what}", self.name));
        let (stdout, stderr) = (output("stdout"), output("stderr"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("the log of standard output"));
        command.stderr(File::create(&stderr).expect("the log of standard error"));
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

/// A started instance.
#[derive(Debug)]
pub struct Candidate {
    name: String,
    identity: String,
    /// The prefix of the queue's keys.
    queue: String,
    etcdctl: Etcdctl,
    timing: Timing,
    begun: u64,
    process: Process,
    journal: Journal,
    _address: Address,
    status: SocketAddr,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Candidate {
    /// Its name in the journal.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its durations.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// The gatekeeper's process id.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The guard's process id: the gatekeeper's child that runs the same program.
    #[must_use]
    #[track_caller]
    pub fn guard_pid(&self) -> i32 {
        let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        eventually(Timing::START, &format!("{} has a guard", self.name), || {
            let children = process::children(self.pid());
            let guard =
                children.iter().find(|&&child| program(child).is_some() && program(child) == program(self.pid()));
            guard.copied().ok_or_else(|| format!("children {children:?}"))
        })
    }

    /// The process id of the command that runs now.
    #[must_use]
    #[track_caller]
    pub fn command_pid(&self) -> i32 {
        self.running_within(Timing::START).pid
    }

    /// The processes that this instance ever started, forked ones too.
    #[must_use]
    pub fn lives(&self) -> Vec<Life> {
        self.journal.lives().into_iter().filter(|life| life.name == self.name && life.from >= self.begun).collect()
    }

    /// Those of them that still exist.
    #[must_use]
    pub fn living(&self) -> Vec<Life> {
        self.lives().into_iter().filter(|life| process::lives(life.pid, life.started)).collect()
    }

    /// Waits until its command runs; gives the fencing token.
    #[track_caller]
    pub fn leads(&self) -> i64 {
        self.leads_within(Timing::START)
    }

    /// The same with a limit.
    #[track_caller]
    pub fn leads_within(&self, limit: Duration) -> i64 {
        self.running_within(limit).token
    }

    #[track_caller]
    fn running_within(&self, limit: Duration) -> Life {
        eventually(limit, &format!("{} leads", self.name), || match self.end() {
            Some(end) => Err(format!("ended: {end:?}; {}", self.stderr())),
            None => self.living().into_iter().next().ok_or_else(|| self.stderr()),
        })
    }

    /// Waits until it stands in the queue, as etcd says.
    #[track_caller]
    pub fn waits(&self) {
        eventually(Timing::START, &format!("{} waits", self.name), || {
            let keys = self.etcdctl.keys(&self.queue)?;
            let entry = |name: &str| name.strip_prefix(&self.queue).is_some_and(|rest| rest.starts_with('0'));
            let queued = keys.iter().any(|key| entry(&key.name) && key.value == self.identity);
            if queued { Ok(()) } else { Err(format!("{keys:?}; {}", self.stderr())) }
        });
    }

    /// Waits until no process of its command exists any more.
    #[track_caller]
    pub fn command_gone_within(&self, limit: Duration) {
        eventually(limit, &format!("the command of {} is gone", self.name), || {
            let living = self.living();
            if living.is_empty() { Ok(()) } else { Err(format!("{living:?}")) }
        });
    }

    /// Sends a signal to the gatekeeper.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM, as any supervisor would.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGKILL to the gatekeeper.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// SIGSTOP to the gatekeeper.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT to the gatekeeper.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal to the guard.
    #[track_caller]
    pub fn signal_guard(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.guard_pid()), signal).expect("the guard is there");
    }

    /// How the gatekeeper ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.process.end()
    }

    /// Waits for the gatekeeper's end.
    #[track_caller]
    pub fn wait_exit(&self, limit: Duration) -> End {
        eventually(limit, &format!("{} ends", self.name), || {
            self.end().ok_or_else(|| format!("{:?}; {}", Stat::of(self.pid()), self.stderr()))
        })
    }

    /// One request to its status endpoint.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn http(&self, method: &str, path: &str) -> io::Result<Response> {
        http::request(self.status, method, path)
    }

    /// The status code of a path of its status endpoint; 0 while it does not answer.
    #[must_use]
    pub fn code(&self, path: &str) -> u16 {
        self.http("GET", path).map_or(0, |answer| answer.status)
    }

    /// Where its status endpoint is.
    #[must_use]
    pub const fn status_address(&self) -> SocketAddr {
        self.status
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // From the top down, each checked to be the very process: a guard killed first would be reported, not lost.
        let guard: Vec<(i32, u64)> =
            process::children(self.pid()).into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?.started))).collect();
        self.process.signal(Signal::SIGKILL);
        for (pid, started) in guard {
            process::kill_exactly(pid, started);
        }
        for life in self.lives() {
            process::kill_exactly(life.pid, life.started);
        }
    }
}
