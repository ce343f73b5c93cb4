//! The tables, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    contestant::Contestant,
    noise::Noise,
    results::{Case, Fleet},
    stages::{STAGES, Stages},
    statistics::{Summary, ratios},
};

/// The results of one run of the bench.
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) noise: Noise,
    pub(crate) leader_changes: f64,
    /// Bytes.
    pub(crate) binary: u64,
    pub(crate) cases: Vec<Case>,
    pub(crate) stages: Option<Stages>,
    pub(crate) fleets: Vec<Fleet>,
}

/// Megabytes, of 10^6 bytes.
const BINARY_GOAL: f64 = 6.0;

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}.\n{}\n", self.machine, self.noise.verdict());
        if self.leader_changes > 0.0 {
            let _ = writeln!(text, "etcd elected a new leader {} times meanwhile.", self.leader_changes);
        }
        if !self.cases.is_empty() {
            text += "\nMedians in ms [quartiles]; ratios are medians of the ratios run by run [quartiles].\n\n";
            text += "| | etcd-await-election | etcdctl lock | bare | ratio to etcdctl | ratio to bare | goals |\n";
            text += "| --- | --: | --: | --: | --: | --: | --- |\n";
            self.cases.iter().for_each(|case| row(&mut text, case));
            text += "\n";
            self.cases.iter().for_each(|case| remarks(&mut text, case));
        }
        if let Some(stages) = &self.stages {
            stages_table(&mut text, stages);
        }
        if !self.fleets.is_empty() {
            text += "\nOne instance leads, and this many wait. *Each* is one instance; for etcd-await-election that is a pair of processes:\n\n";
            text += "| waiting | | requests/s | proposals/s | CPU ms/s each | etcd's CPU ms/s | PSS MB each | handover ms | ratio to one standby |\n";
            text += "| --: | --- | --: | --: | --: | --: | --: | --: | --: |\n";
            self.fleets.iter().for_each(|fleet| fleet_row(&mut text, fleet));
            text += "\n";
            self.fleets
                .iter()
                .filter(|fleet| fleet.contestant == Contestant::Program)
                .for_each(|fleet| fleet_goals(&mut text, fleet, self.requests_of_etcdctl(fleet.waiting)));
        }
        let _ = writeln!(
            text,
            "\nThe binary: {:.2} MB; goal ≤ {BINARY_GOAL} MB: {}.",
            self.megabytes(),
            yes(self.megabytes() <= BINARY_GOAL)
        );
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "noise": self.noise.json(),
            "leader_changes": self.leader_changes,
            "binary_bytes": self.binary,
            "cases": self.cases.iter().map(Case::json).collect::<Vec<_>>(),
            "stages": self.stages.as_ref().map(Stages::json),
            "fleets": self.fleets.iter().map(Fleet::json).collect::<Vec<_>>(),
        })
    }

    /// Returns the requests per second of `etcdctl lock` with this many standbys. Larger fleets than were measured are extrapolated.
    fn requests_of_etcdctl(&self, waiting: usize) -> Option<f64> {
        let fleets =
            self.fleets.iter().filter(|fleet| fleet.contestant == Contestant::Etcdctl && fleet.waiting <= waiting);
        let largest = fleets.max_by_key(|fleet| fleet.waiting)?;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
        let ratio = waiting as f64 / largest.waiting as f64;
        Some(largest.requests * ratio)
    }

    pub(crate) fn megabytes(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a file of some megabytes")]
        let bytes = self.binary as f64;
        bytes / 1e6
    }
}

fn row(text: &mut String, case: &Case) {
    let reached: Vec<_> = case.reached().iter().map(|(goal, reached)| format!("{goal}: {}", yes(*reached))).collect();
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} |",
        case.title,
        figure(Summary::of(case.of(Contestant::Program)), 1),
        figure(Summary::of(case.of(Contestant::Etcdctl)), 1),
        figure(Summary::of(case.of(Contestant::Bare)), 1),
        figure(case.ratio(Contestant::Etcdctl), 2),
        figure(case.ratio(Contestant::Bare), 2),
        reached.join("; ")
    );
}

fn remarks(text: &mut String, case: &Case) {
    let _ = write!(text, "- {}: {}", case.title, case.what);
    for series in case.series.iter().filter(|series| !series.note.is_empty()) {
        let _ = write!(text, "; {}: {}", series.contestant.name(), series.note);
    }
    let failed: usize = case.series.iter().flat_map(|series| &series.values).filter(|value| value.is_nan()).count();
    if failed > 0 {
        let _ = write!(text, "; {failed} runs FAILED");
    }
    let _ = writeln!(text, ". {} runs each.", case.series.first().map_or(0, |series| series.values.len()));
}

fn stages_table(text: &mut String, stages: &Stages) {
    let Some(medians) = stages.medians() else { return };
    let _ = writeln!(
        text,
        "\nThe stages of a handover after exit, in ms (medians of {} runs, in which each event was logged):\n\n\
         | stage | ms | |\n| --- | --: | --- |",
        stages.runs()
    );
    for ((name, what), median) in STAGES.iter().zip(medians) {
        let _ = writeln!(text, "| {name} | {median:.2} | {what} |");
    }
    let _ = writeln!(text, "| together | {:.2} | |", medians.iter().sum::<f64>());
}

fn fleet_row(text: &mut String, fleet: &Fleet) {
    let _ = writeln!(
        text,
        "| {} | {} | {:.1} | {:.2} | {:.2} | {:.1} | {:.2} | {} | {} |",
        fleet.waiting,
        fleet.contestant.name(),
        fleet.requests,
        fleet.proposals,
        fleet.cpu_ms,
        fleet.etcd_cpu_ms,
        fleet.pss_mb,
        figure(Summary::of(&fleet.hand_over), 1),
        figure(Summary::of(&ratios(&fleet.hand_over, &fleet.hand_over_of_one)), 2),
    );
}

/// `limit` is in requests per second.
fn fleet_goals(text: &mut String, fleet: &Fleet, limit: Option<f64>) {
    let ratio = Summary::of(&ratios(&fleet.hand_over, &fleet.hand_over_of_one)).map_or(f64::NAN, |ratio| ratio.median);
    // A period may begin or end in the measured time: a twentieth of a proposal per second is one in all.
    let mut goals =
        vec![("no proposals", fleet.proposals < 0.05), ("handover ≤ 2 × that with one standby", ratio <= 2.0)];
    if fleet.waiting >= 50 {
        goals.extend(limit.map(|limit| ("no more requests than etcdctl lock", fleet.requests <= limit)));
        goals.push(("PSS ≤ 1.3 MB per pair", fleet.pss_mb <= 1.3));
    }
    let goals: Vec<_> = goals.iter().map(|(goal, reached)| format!("{goal}: {}", yes(*reached))).collect();
    let _ = writeln!(text, "- {} waiting, goals: {}.", fleet.waiting, goals.join("; "));
}

fn figure(summary: Option<Summary>, digits: usize) -> String {
    summary.map_or_else(String::new, |Summary { median, quartiles: (low, high), .. }| {
        format!("**{median:.digits$}** [{low:.digits$} … {high:.digits$}]")
    })
}

const fn yes(reached: bool) -> &'static str {
    if reached { "yes" } else { "NO" }
}
