//! The metrics: `docs/operations.md` explains every one that the program has.

use std::path::Path;

use crate::read;

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
