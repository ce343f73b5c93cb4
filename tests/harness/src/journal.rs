//! The oracle: it reads the journal that the commands wrote, and checks the guarantee.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

use crate::wait::lock;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The time in nanoseconds since boot, suspend included.
    pub at: u64,
    /// What happened.
    pub kind: Kind,
    /// The process.
    pub pid: i32,
    /// The start time of the process in kernel ticks, as process ids are reused.
    pub started: u64,
    /// The fencing token that it received; 0 for none.
    pub token: i64,
    /// The name of its candidate.
    pub name: String,
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process started.
    Start,
    /// The process runs.
    Alive,
    /// The process received a stop signal.
    Asked,
    /// The process is about to exit.
    End,
    /// This process of another term still existed when the process started.
    Saw(i32),
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, other) = match self.kind {
            Kind::Start => ("start", 0),
            Kind::Alive => ("alive", 0),
            Kind::Asked => ("asked", 0),
            Kind::End => ("end", 0),
            Kind::Saw(pid) => ("saw", pid),
        };
        writeln!(f, "{} {kind} {other} {} {} {} {}", self.at, self.pid, self.started, self.token, self.name)
    }
}

impl std::str::FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parse = || {
            let mut words = line.splitn(7, ' ');
            let at = words.next()?.parse().ok()?;
            let (kind, other) = (words.next()?, words.next()?.parse().ok()?);
            let kind = match kind {
                "start" => Kind::Start,
                "alive" => Kind::Alive,
                "asked" => Kind::Asked,
                "end" => Kind::End,
                "saw" => Kind::Saw(other),
                _ => return None,
            };
            let pid = words.next()?.parse().ok()?;
            let started = words.next()?.parse().ok()?;
            let token = words.next()?.parse().ok()?;
            Some(Self { at, kind, pid, started, token, name: words.next()?.to_owned() })
        };
        parse().ok_or_else(|| format!("not a record: {line:?}"))
    }
}

/// Returns the time of the journal's clock.
///
/// # Panics
/// If the system has no such clock.
#[must_use]
pub fn now() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock"));
    u64::try_from(now.as_nanos()).expect("less than 500 years since boot")
}

/// Reads all records of a file, in the order of writing.
///
/// # Errors
/// If there is no such file, or a line is not a record.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let text = fs::read_to_string(path)?;
    text.lines().map(|line| line.parse().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))).collect()
}

/// The lifetime of a process, from its start to its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The candidate.
    pub name: String,
    /// The fencing token of its term.
    pub token: i64,
    /// The process.
    pub pid: i32,
    /// The start time of the process in kernel ticks, as process ids are reused.
    pub started: u64,
    /// Its first record.
    pub from: u64,
    /// Its last record: it ran at least until then.
    pub to: u64,
    /// The time of the first stop signal.
    pub asked: Option<u64>,
    /// Whether it wrote that it exits.
    pub ended: bool,
    /// The processes of other terms that still existed when it started.
    pub saw: Vec<i32>,
}

/// The journal of one lock. Clones share the records that have been read, as the file only grows and is read often.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    known: Arc<Mutex<Known>>,
}

/// The part of a journal that has been read.
#[derive(Debug, Default)]
struct Known {
    offset: u64,
    lives: Lives,
}

impl Journal {
    /// Opens the journal in this file, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Arc::default() }
    }

    /// Returns its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns every process that ever wrote, in the order of their first records.
    ///
    /// # Panics
    /// If a line is not a record.
    #[must_use]
    pub fn lives(&self) -> Vec<Life> {
        let mut known = lock(&self.known);
        let mut text = String::new();
        match File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(known.offset))?;
            file.read_to_string(&mut text)
        }) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", self.path.display()),
        }
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            known.offset += u64::try_from(line.len()).expect("a short line");
            known.lives.add(&line.trim_end().parse().unwrap_or_else(|why| panic!("{}: {why}", self.path.display())));
        }
        known.lives.all.clone()
    }

    /// # Panics
    /// With the timeline, if the guarantee was violated.
    #[track_caller]
    pub fn assert_exclusive(&self) {
        let lives = self.lives();
        let broken = violations(&lives);
        assert!(broken.is_empty(), "the guarantee is violated:\n  {}\n{}", broken.join("\n  "), timeline(&lives));
    }

    /// Returns a readable timeline of all processes.
    #[must_use]
    pub fn timeline(&self) -> String {
        timeline(&self.lives())
    }
}

/// The records, by process.
#[derive(Debug, Default)]
struct Lives {
    all: Vec<Life>,
    /// The index of each process in `all`. The name is a part of the key, as containers have their own process ids.
    index: HashMap<(String, i32, u64), usize>,
}

impl Lives {
    fn add(&mut self, record: &Record) {
        let process = (record.name.clone(), record.pid, record.started);
        let index = *self.index.entry(process).or_insert(self.all.len());
        if index == self.all.len() {
            self.all.push(Life {
                name: record.name.clone(),
                token: record.token,
                pid: record.pid,
                started: record.started,
                from: record.at,
                to: record.at,
                asked: None,
                ended: false,
                saw: Vec::new(),
            });
        }
        let life = &mut self.all[index];
        life.to = life.to.max(record.at);
        match record.kind {
            Kind::Start | Kind::Alive => {}
            Kind::Asked => life.asked = life.asked.or(Some(record.at)),
            Kind::End => life.ended = true,
            Kind::Saw(pid) => life.saw.push(pid),
        }
    }
}

/// Returns every violation of the guarantee: terms do not overlap, and tokens only grow.
#[must_use]
pub fn violations(lives: &[Life]) -> Vec<String> {
    let mut broken = Vec::new();
    for life in lives {
        let who = format!("{} (process {}, token {})", life.name, life.pid, life.token);
        if life.token <= 0 {
            broken.push(format!("{who} received no fencing token"));
        }
        for pid in &life.saw {
            broken.push(format!("{who} started while process {pid} of another term existed"));
        }
    }
    // A term is every process with one token: the command and its descendants.
    let mut terms: BTreeMap<i64, (&str, u64, u64)> = BTreeMap::new();
    for life in lives {
        let term = terms.entry(life.token).or_insert((&life.name, life.from, life.to));
        if term.0 != life.name {
            broken.push(format!("{} and {} received the same token {}", term.0, life.name, life.token));
        }
        term.1 = term.1.min(life.from);
        term.2 = term.2.max(life.to);
    }
    // In the order of tokens each term begins after every earlier one has ended: this implies both parts of the
    // guarantee.
    let mut latest: Option<(i64, &str, u64, u64)> = None;
    for (token, (name, from, to)) in terms {
        if let Some((earlier, whose, begun, until)) = latest
            && from <= until
        {
            // A term that ended before the other one began is in the wrong order; otherwise they overlap.
            let both = Duration::from_nanos(until.min(to).saturating_sub(from.max(begun)));
            broken.push(if to < begun {
                format!("the token decreased: {name} (token {token}) came before {whose} (token {earlier})")
            } else {
                format!("two terms overlapped for {both:?}: {name} (token {token}) and {whose} (token {earlier})")
            });
        }
        if latest.is_none_or(|latest| latest.3 < to) {
            latest = Some((token, name, from, to));
        }
    }
    broken
}

/// Returns a timeline with a line for each process.
#[must_use]
pub fn timeline(lives: &[Life]) -> String {
    let Some(zero) = lives.iter().map(|life| life.from).min() else { return "the journal is empty".into() };
    let ms = |at: u64| (at - zero) / 1_000_000;
    let mut lines = String::from("from ms ..   to ms  token  candidate (process)\n");
    for life in lives {
        let asked = life.asked.map(|at| format!(", asked to stop at {} ms", ms(at))).unwrap_or_default();
        let end = if life.ended { "exited" } else { "last record" };
        lines += &format!(
            "{:>7} .. {:>7} {:>6}  {} ({}): {end}{asked}\n",
            ms(life.from),
            ms(life.to),
            life.token,
            life.name,
            life.pid
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: &str, token: i64, from: u64, to: u64) -> Life {
        let pid = i32::try_from(from).expect("small");
        let name = name.to_owned();
        Life { name, token, pid, started: 1, from, to, asked: None, ended: false, saw: Vec::new() }
    }

    #[test]
    fn consecutive_terms_satisfy_the_guarantee() {
        assert!(violations(&[]).is_empty());
        assert!(violations(&[life("a", 5, 10, 20), life("a", 5, 11, 25), life("b", 6, 26, 30)]).is_empty());
    }

    #[test]
    fn overlapping_terms_are_found() {
        let broken = violations(&[life("a", 5, 10, 20), life("b", 6, 19, 30)]);
        assert!(broken[0].contains("two terms overlapped"), "{broken:?}");
    }

    #[test]
    fn a_descendant_of_a_command_counts_as_the_command() {
        let broken = violations(&[life("a", 5, 10, 20), life("a", 5, 11, 40), life("b", 6, 30, 50)]);
        assert!(broken[0].contains("two terms overlapped"), "{broken:?}");
    }

    #[test]
    fn a_long_term_is_compared_with_all_later_terms() {
        let broken = violations(&[life("a", 5, 10, 90), life("b", 6, 20, 30), life("c", 7, 40, 50)]);
        assert_eq!(broken.len(), 2, "{broken:?}");
    }

    #[test]
    fn a_decreasing_token_is_found() {
        let broken = violations(&[life("a", 6, 10, 20), life("b", 5, 30, 40)]);
        assert!(broken[0].contains("the token decreased"), "{broken:?}");
    }

    #[test]
    fn a_token_used_by_two_terms_is_found() {
        let broken = violations(&[life("a", 5, 10, 20), life("b", 5, 30, 40)]);
        assert!(broken[0].contains("the same token 5"), "{broken:?}");
    }

    #[test]
    fn a_missing_token_is_found() {
        assert!(violations(&[life("a", 0, 10, 20)])[0].contains("no fencing token"));
    }

    #[test]
    fn a_process_that_its_successor_saw_running_is_found() {
        let mut successor = life("b", 6, 30, 40);
        successor.saw.push(10);
        assert!(violations(&[life("a", 5, 10, 20), successor])[0].contains("while process 10"));
    }

    #[test]
    fn a_growing_journal_is_read_incrementally_and_an_incomplete_line_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::new(directory.path().join("journal"));
        assert_eq!(journal.lives(), []);
        fs::write(journal.path(), "10 start 0 1 2 3 a\n20 alive 0 1 2 3 a\n30 al").expect("writing it");
        assert_eq!((journal.lives()[0].from, journal.lives()[0].to), (10, 20));
        let more = "10 start 0 1 2 3 a\n20 alive 0 1 2 3 a\n30 alive 0 1 2 3 a\n40 start 0 9 2 4 b\n";
        fs::write(journal.path(), more).expect("writing it");
        assert_eq!(journal.lives()[0].to, 30);
        assert_eq!(journal.lives()[1].name, "b");
    }

    #[test]
    fn records_are_read_back_unchanged() {
        for kind in [Kind::Start, Kind::Alive, Kind::Asked, Kind::End, Kind::Saw(7)] {
            let record = Record { at: now(), kind, pid: 1, started: 2, token: 3, name: "a b".into() };
            assert_eq!(record.to_string().trim_end().parse(), Ok(record));
        }
        assert!("12 start".parse::<Record>().is_err());
    }
}
