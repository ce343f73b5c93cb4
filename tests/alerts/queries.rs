//! Every query of the rules and the dashboard is valid, and every metric in it exists.

use std::{collections::BTreeSet, fs};

use harness::{Candidate, Cluster, Timing, World, eventually};
use serde_json::Value;

use crate::{prometheus, read};

/// The words of queries that are not names of metrics.
const WORDS: [&str; 17] = [
    "and",
    "by",
    "changes",
    "count",
    "group_left",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "on",
    "or",
    "rate",
    "sum",
    "time",
    "unless",
    "vector",
    "bool",
];

/// Returns the names of the metrics in a query.
fn metrics(query: &str) -> BTreeSet<String> {
    let mut rest = String::new();
    let (mut quoted, mut braces, mut brackets) = (false, 0, 0);
    for letter in query.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' => braces += 1,
            '}' => braces -= 1,
            '[' => brackets += 1,
            ']' => brackets -= 1,
            _ if braces + brackets > 0 => {}
            letter => rest.push(letter),
        }
    }
    // The labels of a clause.
    for clause in ["by (", "on (", "group_left ("] {
        while let Some((before, after)) = rest.split_once(clause) {
            rest = format!("{before} {}", after.split_once(')').expect("a closing parenthesis").1);
        }
    }
    let words = rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':');
    let names = words.filter(|word| word.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_'));
    names.filter(|word| !WORDS.contains(word)).map(str::to_owned).collect()
}

/// Returns the queries of the dashboard and of its variables, with the variables filled in.
fn queries_of_dashboard() -> Vec<String> {
    fn find(value: &Value, key: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(query)) = fields.get(key) {
                    found.push(query.clone());
                }
                fields.values().for_each(|value| find(value, key, found));
            }
            Value::Array(values) => values.iter().for_each(|value| find(value, key, found)),
            _ => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
    let (mut queries, mut variables) = (Vec::new(), Vec::new());
    find(&dashboard, "expr", &mut queries);
    find(&dashboard, "definition", &mut variables);
    assert!(queries.len() > 10 && variables.len() == 2, "{queries:?} {variables:?}");
    for variable in variables {
        let inner = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        queries.push(inner.and_then(|inner| inner.rsplit_once(',')).expect("label_values").0.to_owned());
    }
    let filled = |query: String| query.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$lock", ".*");
    let queries: Vec<_> = queries.into_iter().map(filled).collect();
    assert!(!queries.iter().any(|query| query.contains('$')), "an unknown variable: {queries:?}");
    queries
}

/// Returns the expressions of the rules, and the names that rules record.
fn queries_of_rules() -> (Vec<String>, BTreeSet<String>) {
    let (mut queries, mut recorded) = (Vec::new(), BTreeSet::new());
    let rules = read("alerts.yml");
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.trim().strip_prefix("- record: ") {
            recorded.insert(name.to_owned());
        }
        let Some((indent, query)) = line.split_once("expr: ").filter(|(indent, _)| indent.trim().is_empty()) else {
            continue;
        };
        let mut query = query.trim_start_matches(">-").to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(&format!("{indent}  "))) {
            query = format!("{query} {}", more.trim());
        }
        queries.push(query);
    }
    assert!(queries.len() > 10, "{queries:?}");
    (queries, recorded)
}

/// Returns the names of the samples at `/metrics`.
fn exposed(candidate: &Candidate) -> BTreeSet<String> {
    let text = candidate.http("GET", "/metrics").expect("an answer").body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned())).collect()
}

#[test]
fn the_dashboard_has_valid_queries() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("queries.yml");
    let rule = |(number, query)| serde_json::json!({ "record": format!("query:{number}"), "expr": query });
    let rules: Vec<_> = queries_of_dashboard().into_iter().enumerate().map(rule).collect();
    // YAML includes JSON.
    let rules = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&file, rules.to_string()).expect("written");
    prometheus::promtool(["check".as_ref(), "rules".as_ref(), file.as_os_str()]);
}

#[test]
fn every_metric_of_a_query_exists() {
    let world = World::new(Cluster::shared(), env!("CARGO_BIN_EXE_etcd-await-election").as_ref());
    let a = world.candidate("a").start();
    a.leads();
    let b = world.candidate("b").start();
    b.waits();
    world.cluster().etcdctl().put(format!("{}/~pause", world.lock()).as_bytes(), b"{\"until\":4102444800}", None);
    let (rules, recorded) = queries_of_rules();
    let mut wanted = BTreeSet::new();
    for query in queries_of_dashboard().iter().chain(&rules) {
        wanted.extend(metrics(query));
    }
    assert!(wanted.len() > 10, "{wanted:?}");
    eventually(Timing::START, "every metric exists", || {
        let known: BTreeSet<_> = [exposed(&a), exposed(&b), recorded.clone()].into_iter().flatten().collect();
        let missing: Vec<_> = wanted.difference(&known).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
    });
    world.verdict();
}

#[test]
fn names_are_found_in_queries() {
    let names = |query| metrics(query).into_iter().collect::<Vec<_>>();
    assert_eq!(
        names("sum by (job, lock) (rate(x_total{a=~\"b{c\", d=\"e\"}[5m]) * on (job) group_left (f) y) > 3"),
        ["x_total", "y"]
    );
    assert_eq!(names("a:b:sum == 0 unless on (job) c - time() < 14 * 86400"), ["a:b:sum", "c"]);
}
