//! The report of a run.

use std::time::Duration;

use super::{
    chronicle::{Chronicle, Event, Lane},
    fleet::name,
    judge::{Term, gaps},
};

/// Summarizes the run.
pub(crate) fn summary(chronicle: &Chronicle, terms: &[Term]) -> String {
    let mut text = format!(
        "{} faults in {:.0} s ({} more had no target):\n",
        chronicle.events.len(),
        seconds(chronicle.ended - chronicle.begun),
        chronicle.skipped
    );
    for (name, count) in chronicle.counts() {
        text += &format!("{count:>6}  {name}\n");
    }
    text += "Instances reached etcd by:";
    for (way, count) in chronicle.ways() {
        text += &format!(" {count} × {way},");
    }
    text = text.trim_end_matches(',').to_owned();
    text += "\nInstances ended:";
    for (end, count) in &chronicle.ends {
        text += &format!(" {count} × {end},");
    }
    text = text.trim_end_matches(',').to_owned();
    let led: Vec<Duration> =
        chronicle.calms.iter().filter_map(|calm| Some(Duration::from_nanos(calm.led? - calm.from))).collect();
    text += &format!(
        "\n{} calms: an instance led {}\n",
        chronicle.calms.len(),
        spread(led).map_or_else(|| "never".to_owned(), |spread| format!("{spread} after the last fault was healed"))
    );
    let gaps = gaps(terms);
    let spread = spread(gaps.iter().map(|gap| gap.0).collect()).unwrap_or_else(|| "none".to_owned());
    text += &format!("{} terms; between one and the next: {spread}", terms.len());
    if let Some(&(worst, at)) = gaps.last() {
        let from = seconds(at.saturating_sub(chronicle.begun));
        text += &format!(" (from {from:.1} s to {:.1} s)", from + worst.as_secs_f64());
    }
    text + "\n"
}

/// Lists every fault and every term, in order.
pub(crate) fn story(chronicle: &Chronicle, terms: &[Term]) -> String {
    let zero = chronicle.begun;
    let time = |at: u64| seconds(at.saturating_sub(zero));
    let mut lines: Vec<(u64, String)> = Vec::new();
    for event in &chronicle.events {
        let until = if event.to > event.from { format!(" until {:.3}", time(event.to)) } else { String::new() };
        lines.push((event.from, format!("{} {} {}{until}", whom(event), event.name, event.detail)));
    }
    for presence in &chronicle.presences {
        lines.push((presence.from, format!("{} starts, by {}", presence.name, presence.way)));
        lines.extend(presence.to.map(|to| (to, format!("{} has ended", presence.name))));
    }
    for term in terms {
        let owner = name(term.instance);
        lines.push((term.from, format!("{owner}: the command starts with token {}", term.token)));
        lines.extend(term.asked.map(|at| (at, format!("{owner}: the command is asked to stop"))));
        lines.push((term.to, format!("{owner}: last record of token {}", term.token)));
    }
    for calm in &chronicle.calms {
        lines.push((calm.from, "all faults are healed".to_owned()));
    }
    lines.sort();
    lines.iter().map(|(at, line)| format!("{:>9.3}  {line}\n", time(*at))).collect()
}

fn whom(event: &Event) -> String {
    match event.lane {
        Lane::Instance(index) => format!("{}:", name(index)),
        Lane::Member(index) => format!("m{index}:"),
        Lane::Keys => "keys:".to_owned(),
    }
}

/// Formats median and worst.
fn spread(mut all: Vec<Duration>) -> Option<String> {
    all.sort();
    let (median, worst) = (all.get(all.len() / 2)?, all.last()?);
    Some(format!("median {:.0} ms, worst {:.0} ms", median.as_secs_f64() * 1e3, worst.as_secs_f64() * 1e3))
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}
