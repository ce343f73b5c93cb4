//! The failover times after faults of the leading host, per version of systemd, which `cargo xtask verify` measures,
//! and their table in the documents.
//!
//! The tests of the units check that each time is within its [bounds](Fault::bounds) and [record] it in
//! `target/verify/`. The program `failover` of this package writes the table; a test here compares the table with the
//! faults.

use std::{
    fmt::Write as _,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{Timing, suites::SUITES};

/// A fault of the leading host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `systemctl stop` of the unit.
    Stop,
    /// Sends SIGKILL to the gatekeeper.
    GatekeeperKilled,
    /// SIGKILL to the guard.
    GuardKilled,
    /// A shutdown of systemd, and a boot.
    Reboot,
    /// SIGKILL to gatekeeper and guard.
    BothKilled,
    /// Sends SIGSTOP to the gatekeeper.
    GatekeeperFrozen,
    /// All processes of the host are killed at once.
    PowerLost,
    /// The host has no network.
    NetworkCut,
}

impl Fault {
    /// All faults, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Stop,
        Self::GatekeeperKilled,
        Self::GuardKilled,
        Self::Reboot,
        Self::BothKilled,
        Self::GatekeeperFrozen,
        Self::PowerLost,
        Self::NetworkCut,
    ];

    /// Returns its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "`systemctl stop`",
            Self::GatekeeperKilled => "The gatekeeper is killed",
            Self::GuardKilled => "The guard is killed",
            Self::Reboot => "The host is rebooted",
            Self::BothKilled => "Gatekeeper and guard are killed at once",
            Self::GatekeeperFrozen => "The gatekeeper is frozen (`SIGSTOP`)",
            Self::PowerLost => "The host loses its power",
            Self::NetworkCut => "The host is cut off the network",
        }
    }

    /// Returns whether leadership is handed over. Otherwise the next leader waits until the lease has expired.
    #[must_use]
    pub const fn hands_over(self) -> bool {
        matches!(self, Self::Stop | Self::GatekeeperKilled | Self::GuardKilled | Self::Reboot)
    }

    /// Returns the limits of the time from the fault until the next leader's command starts.
    ///
    /// The last renewal was sent at most a retry period before the fault, and may have been slow: hence twice. The
    /// upper limit allows for hosts and members that boot on the same two cores.
    #[must_use]
    pub fn bounds(self, timing: Timing) -> Range<Duration> {
        if self.hands_over() {
            Duration::ZERO..Timing::SWIFT
        } else {
            timing.lease() - 2 * timing.retry..timing.latest_failover() + Timing::SWIFT
        }
    }
}

/// The times that were measured with one version of systemd.
struct Figures {
    suite: &'static str,
    /// systemd's.
    version: String,
    /// In the order of [`Fault::ALL`].
    times: [Option<Duration>; Fault::ALL.len()],
}

/// Writes a time to `target/verify/failover-SUITE.csv`, in place of an earlier one.
///
/// # Panics
/// If the file cannot be written.
pub fn record(suite: &'static str, version: &str, fault: Fault, took: Duration) {
    static FILES: Mutex<()> = Mutex::new(());
    let _held = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut figures = Figures::read(suite);
    version.clone_into(&mut figures.version);
    figures.times[fault as usize] = Some(took);
    let mut text = format!("systemd,{version}\n");
    for (fault, took) in Fault::ALL.into_iter().zip(figures.times) {
        if let Some(took) = took {
            let _ = writeln!(text, "{fault:?},{:.3}", took.as_secs_f64());
        }
    }
    let file = file(suite);
    let folder = file.parent().expect("it is in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, text))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

impl Figures {
    /// Returns the recorded times.
    fn read(suite: &'static str) -> Self {
        let text = fs::read_to_string(file(suite)).unwrap_or_default();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(','));
        let seconds = |fault: Fault| value(&format!("{fault:?}"))?.parse().ok().map(Duration::from_secs_f64);
        Self { suite, version: value("systemd").unwrap_or_default().to_owned(), times: Fault::ALL.map(seconds) }
    }
}

/// Writes the table into the documents.
///
/// # Errors
/// If a suite or a fault has not been measured, or the document has no marks for the table.
pub fn document() -> Result<(), String> {
    let figures: Vec<_> = SUITES.iter().map(|suite| Figures::read(suite)).collect();
    let table = table(&figures)?;
    let text = fs::read_to_string(page()).map_err(|error| format!("{}: {error}", page().display()))?;
    let (before, _, after) = parts(&text).ok_or_else(|| format!("{}: no {BEGIN} … {END}", page().display()))?;
    fs::write(page(), format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
        .map_err(|error| format!("{}: {error}", page().display()))
}

const BEGIN: &str = "<!-- failover -->";
const END: &str = "<!-- /failover -->";

fn table(figures: &[Figures]) -> Result<String, String> {
    let timing = Timing::LONG;
    let mut text = format!(
        "The time from the fault until the command starts on the next host, as the tests of `cargo xtask verify` measured it at the\n\
         default timing (`LEASE_DURATION` {}, `RENEW_DEADLINE` {}, `RETRY_PERIOD` {}); `--table` writes this part of the page. The\n\
         hosts are containers on one machine. Where leadership is handed over, the command ends as soon as it is asked to. A test\n\
         fails if a time is beyond its limits.\n\n",
        seconds(timing.lease()),
        seconds(timing.renew),
        seconds(timing.retry),
    );
    text += "| What happens to the leading host | Limits |";
    for Figures { suite, version, .. } in figures {
        let _ = write!(text, " {suite}, systemd {version} |");
    }
    text += &format!("\n| --- | --- |{}\n", " --: |".repeat(figures.len()));
    for fault in Fault::ALL {
        let bounds = fault.bounds(timing);
        let (earliest, latest) = (seconds(bounds.start), seconds(bounds.end));
        let limits = if fault.hands_over() {
            format!("within {latest}: leadership is handed over")
        } else {
            format!("{earliest} to {latest}: the lease has to expire")
        };
        let _ = write!(text, "| {} | {limits} |", fault.name());
        for Figures { suite, times, .. } in figures {
            let took = times[fault as usize];
            let took =
                took.ok_or_else(|| format!("{suite}, {fault:?}: not measured; run cargo xtask verify systemd"))?;
            if !bounds.contains(&took) {
                return Err(format!("{suite}, {fault:?}: {took:?} is beyond {bounds:?}; this machine was busy"));
            }
            let _ = write!(text, " {:.2} s |", took.as_secs_f64());
        }
        text.push('\n');
    }
    Ok(text)
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// Splits the text at the marks.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (between, after) = rest.split_once(END)?;
    Some((before, between, after))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn page() -> PathBuf {
    root().join("docs/systemd.md")
}

fn file(suite: &str) -> PathBuf {
    root().join(format!("target/verify/failover-{suite}.csv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the figures of a written table, column by column.
    fn figures(table: &str) -> Option<Vec<Figures>> {
        let rows = table.lines().filter(|line| line.starts_with('|'));
        let mut rows = rows.map(|line| line.trim_matches(['|', ' ']).split(" | ").skip(2).collect());
        let head: Vec<&str> = rows.next()?;
        let rows: Vec<Vec<&str>> = rows.skip(1).collect();
        let figures = SUITES.iter().enumerate().map(|(column, suite)| {
            let version = head.get(column)?.strip_prefix(suite)?.strip_prefix(", systemd ")?.to_owned();
            let time = |fault: Fault| {
                rows.get(fault as usize)?.get(column)?.strip_suffix(" s")?.parse().ok().map(Duration::from_secs_f64)
            };
            Some(Figures { suite, version, times: Fault::ALL.map(time) })
        });
        figures.collect()
    }

    /// The rows, bounds and suites are the same, and the figures are within the bounds.
    #[test]
    fn the_documents_contain_the_failover_table_of_the_tests() {
        let text = fs::read_to_string(page()).expect("the page");
        let (_, written, _) = parts(&text).expect("the marks");
        let figures = figures(written).unwrap_or_else(|| panic!("other suites than {SUITES:?}: {written}"));
        assert!(figures.iter().all(|figures| figures.version.starts_with(|first: char| first.is_ascii_digit())));
        let again = table(&figures).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(written.trim(), again.trim(), "run cargo xtask verify --table");
    }
}
