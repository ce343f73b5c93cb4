//! The command of the tests: each of its processes writes to the journal that it runs, in a way that survives SIGKILL.
//!
//! It is the test binary itself, started with one ignored test and the variables below. Each record is one `write` to a
//! file opened for appending, so that neither a kill nor another writer can split it.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction},
    unistd::{ForkResult, fork, setsid},
};

use crate::{
    behavior::Behavior,
    journal::{Kind, Record, now, read},
    lock_set,
    process::{Stat, lives},
};

/// Variable: the journal's file.
pub const JOURNAL: &str = "JOURNALED_FILE";
/// Variable: the candidate's name in the journal.
pub const NAME: &str = "JOURNALED_NAME";
/// Variable: the [`Behavior`].
pub const BEHAVIOR: &str = "JOURNALED_BEHAVIOR";
/// The variable with the fencing token, which the program sets.
const TOKEN: &str = "ETCD_AWAIT_ELECTION_FENCING_TOKEN";

/// The resolution of the journal: the interval at which a running process writes to it.
const BEAT: Duration = Duration::from_millis(5);

/// Runs the journaling command, and does not return, if this process was started as one.
///
/// No other thread may do anything meanwhile, as the command forks.
///
/// # Panics
/// If the journal cannot be written.
pub fn run() {
    let Some(path) = env::var_os(JOURNAL).map(PathBuf::from) else { return };
    let behavior = env::var(BEHAVIOR).ok().and_then(|text| Behavior::decode(&text)).expect("a known behavior");

    // Installed before the first record, so that a reader of the journal may send a signal. A mask would not do: the
    // test runner has another thread, which would receive the signal.
    handle(SigHandler::Handler(note));

    // Processes of an earlier term must not exist any more. They are looked for before the first record is written.
    let seen = read(&start_records(&path)).map(|records| other_terms_alive(&records)).unwrap_or_default();
    let mut writer = JournalWriter::begin(&path);
    for pid in seen {
        writer.write(Kind::Saw(pid));
    }

    if let Some(path) = &behavior.environment {
        // Written beside and renamed, so that a reader never finds a part of it.
        let text: String = env::vars_os().map(|(k, v)| format!("{}={}\n", k.display(), v.display())).collect();
        let partial = path.with_extension("partial");
        fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).expect("writing the environment");
    }
    for _ in 0..behavior.children {
        forked(|| live(JournalWriter::for_fork(), &behavior, false));
    }
    if behavior.daemon {
        forked(|| {
            setsid().expect("a session of its own");
            forked(|| live(JournalWriter::for_fork(), &behavior, false));
            process::exit(0);
        });
    }
    if let Some(signal) = behavior.die_by {
        writer.write(Kind::End);
        handle(SigHandler::SigDfl);
        raise(Signal::try_from(signal).expect("a signal")).expect("raising it");
    }
    // Last, as a process with a second thread must not fork.
    lock_set::start(token());
    live(writer, &behavior, true);
}

/// Writes a record per interval until it is time to end.
fn live(mut writer: JournalWriter, behavior: &Behavior, main: bool) -> ! {
    let begun = Instant::now();
    let mut end: Option<(u8, Instant)> = None;
    // Only the main process exits by itself; its descendants stay.
    if main && let Some((code, after)) = behavior.exit {
        end = Some((code, begun + after));
    }
    loop {
        thread::sleep(BEAT);
        if ASKED.swap(false, Ordering::Relaxed) {
            writer.write(Kind::Asked);
            if !behavior.stubborn {
                end = Some((0, Instant::now() + behavior.slow_stop));
            }
        }
        if let Some((code, at)) = end
            && Instant::now() >= at
        {
            writer.write(Kind::End);
            process::exit(i32::from(code));
        }
        writer.write(Kind::Alive);
    }
}

/// Whether this process has received a stop signal that it has not yet handled.
static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Sets the handler of SIGTERM and SIGINT.
fn handle(handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }.expect("handling a signal");
    }
}

/// Runs `child` in a fork.
fn forked(child: impl FnOnce()) {
    // SAFETY: the test runner's other thread only waits for this one, and holds no lock that the child could need.
    if let ForkResult::Child = unsafe { fork() }.expect("fork") {
        child();
    }
}

/// Returns the processes of other terms that still exist.
fn other_terms_alive(records: &[Record]) -> Vec<i32> {
    let own = token();
    let mut alive: Vec<i32> = records
        .iter()
        .filter(|record| record.token != own && lives(record.pid, record.started))
        .map(|record| record.pid)
        .collect();
    alive.dedup();
    alive
}

fn token() -> i64 {
    // The oracle rejects 0.
    env::var(TOKEN).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Returns the file with a copy of all first records. Each command reads it before its own first record, and after an
/// hour the journal itself would take too long to read.
fn start_records(journal: &Path) -> PathBuf {
    journal.with_extension("start_records")
}

/// The writer of one process's records.
struct JournalWriter {
    file: File,
    record: Record,
}

impl JournalWriter {
    fn begin(path: &Path) -> Self {
        let pid = i32::try_from(process::id()).expect("a pid");
        let started = Stat::of(pid).expect("this process exists").started;
        let name = env::var(NAME).unwrap_or_default();
        let record = Record { at: 0, kind: Kind::Start, pid, started, token: token(), name };
        // Written first, so that every process in the journal is also in this file.
        Self { file: append(&start_records(path)), record: record.clone() }.write(Kind::Start);
        let mut writer = Self { file: append(path), record };
        writer.write(Kind::Start);
        writer
    }

    /// Creates the writer of a forked process.
    fn for_fork() -> Self {
        Self::begin(&env::var_os(JOURNAL).map(PathBuf::from).expect("the journal's file"))
    }

    fn write(&mut self, kind: Kind) {
        self.record.kind = kind;
        self.record.at = now();
        self.file.write_all(self.record.to_string().as_bytes()).expect("writing the journal");
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("opening the journal")
}
