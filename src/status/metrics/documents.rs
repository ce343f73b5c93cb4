//! The table of `docs/operations.md`, which `cargo xtask generate` writes.

use std::fmt::Write as _;

use super::{metric::Kind, table::METRICS};
use crate::settings::documents;

#[test]
fn generated_files_have_all_metrics() {
    documents::check("docs/operations.md", Some(["<!-- metrics -->\n\n", "\n<!-- /metrics -->"]), &table());
}

/// Returns all metrics as a Markdown table.
fn table() -> String {
    let mut table = "| metric | type | meaning |\n| --- | --- | --- |\n".to_owned();
    for metric in METRICS {
        let (suffix, kind) = match metric.kind {
            Kind::Gauge => ("", "gauge"),
            Kind::Counter => ("_total", "counter"),
            Kind::Histogram => ("", "histogram"),
            Kind::Info => ("_info", "gauge"),
        };
        let labels = if metric.labels.is_empty() { String::new() } else { format!("{{{}}}", metric.labels.join(",")) };
        let _ = writeln!(table, "| `{}{suffix}{labels}` | {kind} | {} |", metric.name, metric.help);
    }
    table
}
