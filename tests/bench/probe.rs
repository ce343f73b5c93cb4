//! The command of the bench: it writes the instants of its start and its end, and does nothing else.
//!
//! It is the bench binary itself, started again, and the same for every contestant.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::journal::now;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::{Pid, getpid},
};

use crate::wait::{Failure, until};

/// The argument that makes the bench binary a probe.
pub(crate) const ROLE: &str = "probe";

/// Runs the probe of instance `number`, which writes to `path`. `begun` was read first.
pub(crate) fn run(begun: u64, path: &Path, number: &str) {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGUSR1);
    // Before the first line, as its reader may send the signal at once.
    ends.thread_block().expect("blocking signals");
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the probe's file");
    let mut write = |what: &str, at: u64| {
        file.write_all(format!("{number} {what} {at} {}\n", getpid()).as_bytes()).expect("writing the probe's file");
    };
    write("start", begun);
    ends.wait().expect("waiting for a signal");
    write("end", now());
}

/// The reader of the records of one instance's probe. All instances of a lock share one file.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    number: usize,
}

impl Record {
    pub(crate) const fn new(path: PathBuf, number: usize) -> Self {
        Self { path, number }
    }

    /// Returns the number of its instance.
    pub(crate) const fn number(&self) -> usize {
        self.number
    }

    /// Returns the arguments of the probe.
    pub(crate) fn arguments(&self) -> [String; 3] {
        // The paths of the bench are text.
        [ROLE.to_owned(), self.path.to_string_lossy().into_owned(), self.number.to_string()]
    }

    /// Returns the number of the instance whose command started last.
    pub(crate) fn last_started(&self) -> Option<usize> {
        let text = fs::read_to_string(&self.path).ok()?;
        let last = text.lines().rfind(|line| line.contains(" start "))?;
        last.split(' ').next()?.parse().ok()
    }

    /// Returns when the command started.
    pub(crate) fn started(&self, limit: Duration) -> Result<u64, Failure> {
        until(limit, "the command starts", || self.find("start").map(|(at, _)| at))
    }

    /// Returns when the command ended.
    pub(crate) fn ended(&self, limit: Duration) -> Result<u64, Failure> {
        until(limit, "the command ends", || self.find("end").map(|(at, _)| at))
    }

    /// Sends the command itself a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let (Some((_, pid)), None) = (self.find("start"), self.find("end")) {
            let _ = kill(pid, signal);
        }
    }

    fn find(&self, what: &str) -> Option<(u64, Pid)> {
        let own = format!("{} {what} ", self.number);
        let text = fs::read_to_string(&self.path).ok()?;
        text.lines().find_map(|line| {
            let mut words = line.strip_prefix(&own)?.split_whitespace();
            Some((words.next()?.parse().ok()?, Pid::from_raw(words.next()?.parse().ok()?)))
        })
    }
}
