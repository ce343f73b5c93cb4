//! The journaling command in machines, with one journal for all of them.
//!
//! All machines share the kernel and its clock, so the oracle works as it does for processes.

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{
    Behavior, Journal, eventually,
    journal::{Life, now},
    journaled,
    scratch::Scratch,
};

use crate::engine::Blueprint;

/// The journal's folder in a machine.
pub(crate) const FOLDER: &str = "/journal";
/// The command, with its arguments.
pub(crate) const COMMAND: &str = "/usr/bin/journaled --exact journaled --ignored --nocapture --test-threads=1 --quiet";
/// The program under test.
pub(crate) const PROGRAM: &str = "/usr/bin/etcd-await-election";

/// The age limit of the last record of a running process, which writes one every five milliseconds.
const SIGN: Duration = Duration::from_millis(500);

/// The program under test: the one just built, or the one that `PROGRAM_BIN` names, such as a packaged one.
pub(crate) fn program() -> PathBuf {
    let built = || assert_cmd::cargo::cargo_bin!("etcd-await-election").into();
    env::var_os("PROGRAM_BIN").map_or_else(built, PathBuf::from)
}

/// The journal of one lock.
pub(crate) struct Gated {
    journal: Journal,
    scratch: Scratch,
}

impl Gated {
    /// # Panics
    /// If its files cannot be made.
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new("journal");
        // Writable for any user.
        let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        for name in ["journal", "journal.start_records"] {
            let path = scratch.path().join(name);
            fs::write(&path, "").and_then(|()| open(&path, 0o666)).expect("making the journal");
        }
        open(scratch.path(), 0o777).expect("opening the journal's folder");
        Self { journal: Journal::new(scratch.path().join("journal")), scratch }
    }

    /// Puts the command and the journal into a machine. `JOURNALED_BIN` names one that runs with any C library.
    pub(crate) fn install(&self, blueprint: Blueprint) -> Blueprint {
        let this = || env::current_exe().expect("the test binary");
        let command = env::var_os("JOURNALED_BIN").map_or_else(this, PathBuf::from);
        blueprint.mount(self.scratch.path(), FOLDER, "rw").mount(&command, "/usr/bin/journaled", "ro")
    }

    /// The variables that the command needs, as lines of an environment file.
    pub(crate) fn variables(name: &str, behavior: &Behavior) -> String {
        let (file, what) = (format!("{FOLDER}/journal"), behavior.encode());
        format!("{}={file}\n{}={name}\n{}={what}\n", journaled::JOURNAL, journaled::NAME, journaled::BEHAVIOR)
    }

    /// The journal.
    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until a command runs that began after this moment; on the host of this name, or on any.
    #[track_caller]
    pub(crate) fn runs_since(&self, moment: u64, limit: Duration, name: Option<&str>) -> Life {
        eventually(limit, &format!("the command runs on {}", name.unwrap_or("a host")), || {
            let lives = self.journal.lives();
            let wanted = |life: &&Life| name.is_none_or(|name| life.name == name) && life.from >= moment;
            let found = lives.iter().filter(wanted).find(|life| lives_now(life));
            found.cloned().ok_or_else(|| self.journal.timeline())
        })
    }

    /// Returns the present state of a process.
    ///
    /// # Panics
    /// If it was not.
    pub(crate) fn again(&self, life: &Life) -> Life {
        let lives = self.journal.lives();
        let same = |other: &&Life| (other.pid, other.started, &other.name) == (life.pid, life.started, &life.name);
        lives.iter().find(same).cloned().expect("it was seen before")
    }

    /// # Panics
    /// If the guarantee was violated, or there were fewer than this many terms.
    #[track_caller]
    pub(crate) fn verdict(&self, terms: usize) {
        self.journal.assert_exclusive();
        let mut tokens: Vec<i64> = self.journal.lives().iter().map(|life| life.token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert!(tokens.len() >= terms, "fewer than {terms} terms:\n{}", self.journal.timeline());
    }
}

/// Returns whether it has just written a record.
fn lives_now(life: &Life) -> bool {
    !life.ended && now().saturating_sub(life.to) < u64::try_from(SIGN.as_nanos()).expect("half a second")
}
