//! Prometheus and promtool, as Debian packages them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use harness::{Candidate, Process, address::Address, eventually};

const PORT: u16 = 28_090;
/// The limit for an alert: a few scrapes and evaluations, or the longest window of a shortened rule.
const LIMIT: Duration = Duration::from_secs(60);

/// A running Prometheus that scrapes instances and evaluates the rules that ship, with shorter times.
pub(super) struct Prometheus {
    url: String,
    targets: PathBuf,
    log: PathBuf,
    _address: Address,
    _process: Process,
}

impl Prometheus {
    /// Starts it with its data in `directory`.
    pub(super) fn start(directory: &Path) -> Self {
        let address = Address::claim();
        let listen = format!("{}:{PORT}", address.ip());
        let file = |name: &str| directory.join(name);
        write(&file("alerts.yml"), &shortened(&super::read("alerts.yml")));
        write(
            &file("prometheus.yml"),
            "global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{job_name: gate, file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]}]\n",
        );
        promtool(["check".as_ref(), "config".as_ref(), file("prometheus.yml").as_os_str()]);
        let log = file("prometheus.log");
        let mut command = Command::new("prometheus");
        let option = |name: &str, value: &OsStr| [OsStr::new(name), OsStr::new("="), value].join(OsStr::new(""));
        command.arg(option("--config.file", file("prometheus.yml").as_os_str()));
        command.arg(option("--storage.tsdb.path", file("tsdb").as_os_str()));
        command.arg(option("--web.listen-address", listen.as_ref()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("its log"));
        let started = Self {
            url: format!("http://{listen}"),
            targets: file("targets.json"),
            log,
            _address: address,
            _process: Process::start(command),
        };
        eventually(LIMIT, "Prometheus answers", || started.query("vector(1)"));
        started
    }

    /// Scrapes these instances from now on, and no others.
    pub(super) fn scrape(&self, candidates: &[&Candidate]) {
        let addresses: Vec<_> = candidates.iter().map(|candidate| candidate.status_address().to_string()).collect();
        let partial = self.targets.with_extension("partial");
        write(&partial, &serde_json::json!([{ "targets": addresses }]).to_string());
        fs::rename(&partial, &self.targets).expect("renamed");
    }

    /// Waits until an alert fires.
    #[track_caller]
    pub(super) fn fires(&self, alert: &str) {
        self.waits_for(alert, true, || ());
    }

    /// Does this again and again until an alert fires.
    #[track_caller]
    pub(super) fn fires_while(&self, alert: &str, step: impl FnMut()) {
        self.waits_for(alert, true, step);
    }

    /// Waits until an alert does not fire any more.
    #[track_caller]
    pub(super) fn clears(&self, alert: &str) {
        self.waits_for(alert, false, || ());
    }

    #[track_caller]
    fn waits_for(&self, alert: &str, fires: bool, mut step: impl FnMut()) {
        let what = format!("{alert} {}", if fires { "fires" } else { "clears" });
        eventually(LIMIT, &what, || {
            step();
            let firing = self.firing()?;
            if firing.iter().any(|name| name == alert) == fires { Ok(()) } else { Err(format!("firing: {firing:?}")) }
        });
    }

    /// Waits until no alert fires, and each instance was scraped.
    #[track_caller]
    pub(super) fn is_quiet(&self, instances: usize) {
        eventually(LIMIT, "no alert fires", || {
            let scraped = self.query(&format!("count(etcd_await_election_info) == {instances}"))?;
            let firing = self.firing()?;
            if firing.is_empty() && !scraped.is_empty() {
                Ok(())
            } else {
                Err(format!("firing: {firing:?}; scraped: {scraped:?}"))
            }
        });
    }

    /// Waits until a query has a result.
    #[track_caller]
    pub(super) fn sees(&self, query: &str) {
        eventually(LIMIT, query, || if self.has(query)? { Ok(()) } else { Err("no result".to_owned()) });
    }

    /// Returns whether a query has a result.
    pub(super) fn has(&self, query: &str) -> Result<bool, String> {
        Ok(!self.query(query)?.is_empty())
    }

    /// Returns the names of the alerts that fire.
    pub(super) fn firing(&self) -> Result<Vec<String>, String> {
        let result = self.query("count by (alertname) (ALERTS{alertstate=\"firing\"})")?;
        let names = result.split("alertname=\"").skip(1).filter_map(|rest| rest.split('"').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Returns the result of a query as text.
    fn query(&self, query: &str) -> Result<String, String> {
        let output = Command::new("promtool").args(["query", "instant", &self.url, query]).output();
        let output = output.expect("promtool is installed");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!("{}; {log}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Returns the rules with times that fit into a test. Everything else is what ships.
fn shortened(rules: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, time)) if indent.trim().is_empty() && time.ends_with(['m', 'h']) => format!("{indent}for: 1s\n"),
        _ => format!("{}\n", line.replace("[15m]", "[30s]").replace("[5m]", "[20s]")),
    };
    let shortened: String = rules.lines().map(line).collect();
    for left in ["m]", "h]", "m\n", "h\n"] {
        let is_time = |(at, _): (usize, _)| shortened[..at].ends_with(|letter: char| letter.is_ascii_digit());
        assert!(!shortened.match_indices(left).any(is_time), "a time was not shortened:\n{shortened}");
    }
    shortened
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Runs promtool, which must succeed.
#[track_caller]
pub(super) fn promtool<const N: usize>(arguments: [&OsStr; N]) {
    let output = Command::new("promtool").args(arguments).output().expect("promtool is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
