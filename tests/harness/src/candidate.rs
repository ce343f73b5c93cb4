//! One instance of the real program.

use std::{fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    Timing,
    address::Address,
    etcdctl::Etcdctl,
    http::{self, Response},
    journal::{Journal, Life},
    process::{self, End, Process, Stat},
    wait::eventually,
};

/// A started instance.
#[derive(Debug)]
pub struct Candidate {
    pub(crate) name: String,
    pub(crate) identity: String,
    /// The prefix of the queue's keys.
    pub(crate) queue: String,
    pub(crate) etcdctl: Etcdctl,
    pub(crate) timing: Timing,
    pub(crate) begun: u64,
    pub(crate) process: Process,
    pub(crate) journal: Journal,
    pub(crate) _address: Address,
    pub(crate) status: SocketAddr,
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

impl Candidate {
    /// Returns its name in the journal.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its timing.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns the process id of the gatekeeper.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Returns the process id of the guard, which is the gatekeeper's child of that name.
    #[must_use]
    #[track_caller]
    pub fn guard_pid(&self) -> i32 {
        eventually(Timing::START, &format!("{} has a guard", self.name), || {
            self.guard().ok_or_else(|| format!("children {:?}", process::children(self.pid())))
        })
    }

    /// Returns the process id of the guard, if there is one now.
    #[must_use]
    pub fn guard(&self) -> Option<i32> {
        let is_guard = |&pid: &i32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"await-guard\n");
        self.process.unless_ended(process::children)?.into_iter().find(is_guard)
    }

    /// Returns the process id of the running command.
    #[must_use]
    #[track_caller]
    pub fn command_pid(&self) -> i32 {
        self.running_within(Timing::START).pid
    }

    /// Returns every process that this instance ever started, descendants of the command included.
    #[must_use]
    pub fn lives(&self) -> Vec<Life> {
        self.journal.lives().into_iter().filter(|life| life.name == self.name && life.from >= self.begun).collect()
    }

    /// Returns those processes that still exist.
    #[must_use]
    pub fn living(&self) -> Vec<Life> {
        self.lives().into_iter().filter(|life| process::lives(life.pid, life.started)).collect()
    }

    /// Waits until its command runs; returns the fencing token.
    #[track_caller]
    pub fn leads(&self) -> i64 {
        self.leads_within(Timing::START)
    }

    /// Waits at most `limit` until its command runs; returns the fencing token.
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

    /// Waits until its entry is in the queue in etcd.
    #[track_caller]
    pub fn waits(&self) {
        eventually(Timing::START, &format!("{} waits", self.name), || {
            let keys = self.etcdctl.keys(&self.queue)?;
            let entry = |name: &str| name.strip_prefix(&self.queue).is_some_and(|rest| rest.starts_with("~entry/"));
            let queued = keys.iter().any(|key| entry(&key.name) && key.value == self.identity);
            if queued { Ok(()) } else { Err(format!("{keys:?}; {}", self.stderr())) }
        });
    }

    /// Waits until the process tree of its command has exited.
    #[track_caller]
    pub fn command_exits_within(&self, limit: Duration) {
        eventually(limit, &format!("the process tree of {} has exited", self.name), || {
            let living = self.living();
            if living.is_empty() { Ok(()) } else { Err(format!("{living:?}")) }
        });
    }

    /// Sends a signal to the gatekeeper.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGTERM to the gatekeeper, as a supervisor does.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends SIGKILL to the gatekeeper.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Sends SIGSTOP to the gatekeeper.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Sends SIGCONT to the gatekeeper.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Returns its process id with its start time, unless the gatekeeper has ended.
    #[must_use]
    pub fn exact_pid(&self) -> Option<(i32, u64)> {
        self.process.unless_ended(|pid| Some((pid, Stat::of(pid)?.started)))?
    }

    /// Sends a signal to the guard.
    #[track_caller]
    pub fn signal_guard(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.guard_pid()), signal).expect("the guard is there");
    }

    /// Returns how the gatekeeper ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.process.end()
    }

    /// Waits until the gatekeeper has ended.
    #[track_caller]
    pub fn wait_exit(&self, limit: Duration) -> End {
        eventually(limit, &format!("{} ends", self.name), || {
            self.end().ok_or_else(|| format!("{:?}; {}", Stat::of(self.pid()), self.stderr()))
        })
    }

    /// Sends one request to its status endpoint.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn http(&self, method: &str, path: &str) -> io::Result<Response> {
        http::request(self.status, method, path)
    }

    /// Returns the HTTP status code of a path of its status endpoint, or 0 while it does not answer.
    #[must_use]
    pub fn code(&self, path: &str) -> u16 {
        self.http("GET", path).map_or(0, |answer| answer.status)
    }

    /// Returns the address of its status endpoint.
    #[must_use]
    pub const fn status_address(&self) -> SocketAddr {
        self.status
    }

    /// Returns its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    /// After [`Timing::START`].
    #[track_caller]
    pub fn logs(&self, text: &str) {
        self.logs_within(Timing::START, text);
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    /// After `limit`.
    #[track_caller]
    pub fn logs_within(&self, limit: Duration, text: &str) {
        eventually(limit, &format!("{text:?} in the log of {}", self.name), || {
            let log = self.stderr();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }

    /// Returns its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // The gatekeeper is killed first, so that it does not log the end of its guard. Process ids are checked for
        // reuse.
        let children = self.process.unless_ended(process::children).unwrap_or_default();
        let guard: Vec<(i32, u64)> =
            children.into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?.started))).collect();
        self.process.signal(Signal::SIGKILL);
        for (pid, started) in guard {
            process::kill_exactly(pid, started);
        }
        for life in self.lives() {
            process::kill_exactly(life.pid, life.started);
        }
    }
}
