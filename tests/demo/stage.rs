//! The output of the demo: a line whenever the state of an instance changes or a hook runs.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal as _, stdout},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{Candidate, journal::Life};

/// The pause between two events, for the reader.
const PAUSE: Duration = Duration::from_secs(2);

/// Prints changes as they happen, until it is closed.
pub(crate) struct Stage {
    shared: Arc<Shared>,
    watcher: thread::JoinHandle<()>,
}

struct Shared {
    begun: Instant,
    /// The file to which hooks append lines.
    notes: PathBuf,
    cast: Mutex<BTreeMap<String, Arc<Candidate>>>,
    closed: AtomicBool,
}

impl Stage {
    /// Creates a stage without instances, which shows the lines of the file `notes`.
    pub(crate) fn new(notes: &Path) -> Self {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            notes: notes.to_owned(),
            cast: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let watcher = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.watch()
        });
        Self { shared, watcher }
    }

    /// Shows this instance, instead of an earlier one of its name.
    pub(crate) fn follow(&self, candidate: &Arc<Candidate>) {
        let mut cast = self.shared.cast.lock().unwrap_or_else(PoisonError::into_inner);
        cast.insert(candidate.name().to_owned(), Arc::clone(candidate));
    }

    /// Announces the next event.
    pub(crate) fn announce(&self, what: &str) {
        println!("\n{} -- {what}", self.shared.time());
    }

    /// Waits for the reader.
    pub(crate) fn pause(&self) {
        thread::sleep(PAUSE);
    }

    /// Ends the output.
    pub(crate) fn close(self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        drop(self.watcher.join());
    }
}

impl Shared {
    fn time(&self) -> String {
        format!("{:6.2}s", self.begun.elapsed().as_secs_f64())
    }

    fn watch(&self) {
        let (mut shown, mut noted) = (String::new(), 0);
        loop {
            let is_last = self.closed.load(Ordering::Relaxed);
            let now = self.states();
            let notes = fs::read_to_string(&self.notes).unwrap_or_default();
            for note in notes.lines().skip(noted) {
                println!("{}    {note}", self.time());
            }
            noted = notes.lines().count();
            if now != shown {
                println!("{}    {now}", self.time());
                shown = now;
            }
            if is_last {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Formats all instances in fixed columns.
    fn states(&self) -> String {
        let cast = self.cast.lock().unwrap_or_else(PoisonError::into_inner);
        cast.values().map(|candidate| state_of(candidate)).collect::<Vec<_>>().join("   ")
    }
}

/// Formats the state of one instance.
fn state_of(candidate: &Candidate) -> String {
    let name = candidate.name();
    let bold = |text: String| if stdout().is_terminal() { format!("\x1b[1;32m{text}\x1b[0m") } else { text };
    match (candidate.living().first(), candidate.end()) {
        (Some(life), _) => bold(format!("{:20}", format!("{name} RUNS (token {})", life.token))),
        (None, Some(_)) => format!("{:20}", format!("{name} has exited")),
        (None, None) if is_frozen(candidate.pid()) => format!("{:20}", format!("{name} is frozen")),
        (None, None) => format!("{:20}", format!("{name} {}", waiting(&candidate.stderr()))),
    }
}

/// Returns what an instance without a command does, by its latest log line about that.
fn waiting(log: &str) -> &'static str {
    let lines = [
        ("joined as number", "waits"),
        ("this host is not eligible", "is not eligible"),
        ("staying out of the queue", "stays out"),
    ];
    lines
        .into_iter()
        .max_by_key(|(line, _)| log.rfind(line))
        .filter(|(line, _)| log.contains(line))
        .map_or("starts", |(_, state)| state)
}

/// Returns whether the process is stopped, from proc_pid_stat(5).
fn is_frozen(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
}

/// Draws a row for each interval, to scale.
pub(crate) fn timeline(lives: &[Life]) -> String {
    const WIDTH: u64 = 60;
    let zero = lives.iter().map(|life| life.from).min().unwrap_or(0);
    let whole = lives.iter().map(|life| life.to).max().unwrap_or(0).saturating_sub(zero).max(1);
    let seconds = |at: u64| Duration::from_nanos(at - zero).as_secs_f64();
    let column = |at: u64| usize::try_from((at - zero) * WIDTH / whole).unwrap_or(0);
    let mut before: Option<u64> = None;
    let mut text = String::new();
    for life in lives {
        let (from, to) = (column(life.from), column(life.to));
        let bar = format!("{}{}", " ".repeat(from), "#".repeat((to - from).max(1)));
        let gap = before.map_or_else(String::new, |before| {
            format!("   {:.0} ms after the previous term", (seconds(life.from) - seconds(before)) * 1000.0)
        });
        text += &format!(
            "{:>6}  token {:<4} {bar:62} {:6.2}s to {:6.2}s{gap}\n",
            life.name,
            life.token,
            seconds(life.from),
            seconds(life.to)
        );
        before = Some(life.to);
    }
    text
}
