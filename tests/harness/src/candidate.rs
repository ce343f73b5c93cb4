//! The real program, as one instance among others.

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

    /// The guard's process id: the gatekeeper's child of that name.
    #[must_use]
    #[track_caller]
    pub fn guard_pid(&self) -> i32 {
        eventually(Timing::START, &format!("{} has a guard", self.name), || {
            self.guard().ok_or_else(|| format!("children {:?}", process::children(self.pid())))
        })
    }

    /// The same, if there is a guard now.
    #[must_use]
    pub fn guard(&self) -> Option<i32> {
        let is_guard = |&pid: &i32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"await-guard\n");
        process::children(self.pid()).into_iter().find(is_guard)
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
            let entry = |name: &str| name.strip_prefix(&self.queue).is_some_and(|rest| rest.starts_with("~entry/"));
            let queued = keys.iter().any(|key| entry(&key.name) && key.value == self.identity);
            if queued { Ok(()) } else { Err(format!("{keys:?}; {}", self.stderr())) }
        });
    }

    /// Waits until no process of its command exists any more.
    #[track_caller]
    pub fn command_exits_within(&self, limit: Duration) {
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
