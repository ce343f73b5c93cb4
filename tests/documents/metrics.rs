//! The metrics and the alerts: `docs/operations.md` explains every one.

use std::path::Path;

use crate::{anchors, read};

/// Returns the words of a text that are names of metrics.
fn names(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("etcd_await_election") || word.starts_with("leader_election_")).collect()
}

/// Returns the metrics in the table of the page.
fn listed(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| names(line.strip_prefix("| `")?.split_once("` |")?.0).first().copied()).collect()
}

#[test]
fn every_metric_is_listed_in_the_operations_page() {
    let page = read(Path::new("docs/operations.md"));
    let listed = listed(&page);
    let table = read(Path::new("src/status/metrics/table.rs"));
    let literals = table.split('"').skip(1).step_by(2).filter(|literal| names(literal).as_slice() == [*literal]);
    let literals: Vec<_> = literals.collect();
    assert!(literals.len() > 20, "only {literals:?} were found in the code");
    let missing: Vec<_> = literals
        .iter()
        .filter(|name| {
            !["", "_info", "_total"].iter().any(|suffix| listed.contains(&format!("{name}{suffix}").as_str()))
        })
        .collect();
    assert!(missing.is_empty(), "docs/operations.md lacks these metrics; run cargo xtask generate: {missing:?}");
}

#[test]
fn every_alert_is_explained_where_it_points_to() {
    let (page, rules) = (read(Path::new("docs/operations.md")), read(Path::new("packaging/prometheus/alerts.yml")));
    let anchors = anchors(&page);
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        let name = alert.lines().next().expect("a name");
        let anchor = alert.split_once("/docs/operations.md#").and_then(|(_, rest)| rest.lines().next());
        let section = anchor.filter(|anchor| anchors.iter().any(|found| found == anchor));
        assert!(section.is_some(), "{name} points to {anchor:?}, which docs/operations.md does not have");
        assert!(page.contains(&format!("`{name}`, ")), "docs/operations.md does not explain {name}");
    }
}
