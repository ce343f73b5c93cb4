//! The parts to measure, and the number of runs.

use std::ffi::OsString;

use crate::wait::Failure;

const USAGE: &str = "\
cargo xtask bench [OPTION …]
  --runs N              how often each time is taken (25); what waits for a lease, a fifth of it
  --parts A,B           only these of: start vote exit sigterm killed cut-off force pass-through stages fleet
  --waiting A,B         how many wait in the fleets (1,10,50,100)
  --waiting-etcdctl N   the largest fleet of etcdctl lock: its processes are large (50)
  --publish             write the tables to docs/benchmarks.md and the plot to docs/benchmarks.svg";

/// The parts that are times, in the order in which they are taken.
const TIMES: [&str; 8] = ["pass-through", "start", "vote", "exit", "sigterm", "killed", "cut-off", "force"];

/// The options of the bench.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) runs: usize,
    parts: Vec<String>,
    pub(crate) waiting: Vec<usize>,
    pub(crate) waiting_etcdctl: usize,
    pub(crate) publish: bool,
}

impl Options {
    pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut options =
            Self { runs: 25, parts: Vec::new(), waiting: vec![1, 10, 50, 100], waiting_etcdctl: 50, publish: false };
        let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            // cargo passes it to every bench.
            if word == "--bench" {
                continue;
            }
            if word == "--publish" {
                options.publish = true;
                continue;
            }
            let value = words.next().unwrap_or_default();
            let number =
                |text: &str| text.parse::<usize>().map_err(|_| format!("{word} {text:?}: not a number\n{USAGE}"));
            match word.as_str() {
                "--runs" => options.runs = number(&value)?.max(1),
                "--parts" => options.parts = value.split(',').map(str::to_owned).collect(),
                "--waiting" => options.waiting = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--waiting-etcdctl" => options.waiting_etcdctl = number(&value)?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        let unknown = |part: &&String| !["stages", "fleet"].contains(&part.as_str()) && !TIMES.contains(&part.as_str());
        match options.parts.iter().find(unknown) {
            Some(part) => Err(format!("unknown part {part:?}\n{USAGE}")),
            None => Ok(options),
        }
    }

    /// Returns whether this part is selected.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// Returns the selected times.
    pub(crate) fn times(&self) -> impl Iterator<Item = &'static str> {
        TIMES.into_iter().filter(|part| self.has(part))
    }
}
