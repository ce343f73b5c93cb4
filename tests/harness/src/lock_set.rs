//! The set of Jepsen's `lock-set` test: the command of each term adds elements to a set by read-modify-write.
//!
//! The set is kept in two registers of the test, one with a fence and one without. They know nothing of the election, so
//! an update is lost if two commands add to a register at once. Each command adds the same elements to both registers,
//! so that both meet the same faults.

mod oracle;
mod register;
mod server;
mod worker;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

pub use oracle::{Loss, Verdict};
pub use register::{Mode, Removal};
pub(crate) use worker::start;

use self::{oracle::Record, server::Server};

/// Variable: the directory of the [`LockSet`] to which the command adds.
const DIRECTORY: &str = "JOURNALED_LOCK_SET";

/// Both registers, and the records of the commands.
#[derive(Debug)]
pub struct LockSet {
    directory: PathBuf,
    server: Server,
}

impl LockSet {
    /// Creates both registers, with empty sets; commands reach them through the files of this directory.
    ///
    /// # Panics
    /// If the files cannot be made.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        fs::write(records(directory), "").expect("the file of the records");
        Self { directory: directory.to_owned(), server: Server::start(&socket(directory)) }
    }

    /// Returns the variable that makes a journaling command add to this set.
    #[must_use]
    pub fn variable(&self) -> (&'static str, OsString) {
        (DIRECTORY, self.directory.clone().into())
    }

    /// Judges the additions to one register so far.
    ///
    /// # Panics
    /// If the records cannot be read.
    #[must_use]
    pub fn verdict(&self, mode: Mode) -> Verdict {
        self.server.with(mode, |register| {
            // While no command can write to the register: every element in it has a record already.
            let records = Record::read(&records(&self.directory)).expect("the records");
            Verdict::of(mode, &records, register)
        })
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("register")
}

fn records(directory: &Path) -> PathBuf {
    directory.join("additions")
}

/// Returns an element that no other term adds. It is followed by a space in the value of a register.
fn element(token: i64, number: u64) -> String {
    format!("{token}.{number}")
}
