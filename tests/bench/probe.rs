//! The command that is gated: it writes down the moment it begins and the moment it ends, and does nothing else.
//!
//! The bench binary itself, started again: nothing to find, and the same for every contestant.

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

/// The word that makes the bench binary a probe.
pub(crate) const ROLE: &str = "probe";

/// Is the probe, writing to `path`. `begun` was read before anything else.
pub(crate) fn run(begun: u64, path: &Path) {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGUSR1);
    // Before the first line: whoever reads it may ask for the end at once.
    ends.thread_block().expect("blocking signals");
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the probe's file");
    let mut write = |what: &str, at: u64| {
        file.write_all(format!("{what} {at} {}\n", getpid()).as_bytes()).expect("writing the probe's file");
    };
    write("start", begun);
    ends.wait().expect("waiting for a signal");
    write("end", now());
}

/// What a probe writes, as its instance's owner reads it. One file per instance.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
}

impl Record {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file that the probe has to be given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// When the command began.
    pub(crate) fn started(&self, limit: Duration) -> Result<u64, Failure> {
        until(limit, "the command starts", || self.find("start").map(|(at, _)| at))
    }

    /// When the command ended.
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
        let text = fs::read_to_string(&self.path).ok()?;
        text.lines().find_map(|line| {
            let mut words = line.strip_prefix(what)?.split_whitespace();
            Some((words.next()?.parse().ok()?, Pid::from_raw(words.next()?.parse().ok()?)))
        })
    }
}
