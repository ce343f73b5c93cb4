//! The log lines: `docs/operations.md` explains every one that an operator can see with the default settings.
//!
//! A line stands there as the code has it, with `…` for what is filled in. It is found by the calls that log, so a message that
//! another function makes up is not found; but everything that the page lists must be in the code.

use std::{fs, path::Path};

use crate::{read, root};

/// The calls that log, and the level that the page gives for them. The second are those of the guard.
const CALLS: [(&str, &str); 4] =
    [("tracing::error!(", "error"), ("tracing::warn!(", "warn"), ("tracing::info!(", "info"), ("log.warn(", "warn")];

/// Returns the code of all source files, without their tests.
fn code() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.push(text.split("#[cfg(test)]\nmod").next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// Returns the string literals of a call, from after its opening parenthesis to the closing one.
fn literals(call: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 1;
    let mut letters = call.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            '"' => {
                let mut text = String::new();
                while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
                    text.push(letter);
                    if letter == '\\' {
                        text.extend(letters.next());
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// Returns a literal as the page has it: on one line, and with `…` for each placeholder.
fn as_listed(literal: &str) -> String {
    let mut text = String::new();
    let mut in_placeholder = false;
    for letter in joined(literal).chars() {
        match letter {
            '{' => {
                if !text.ends_with('…') {
                    text.push('…');
                }
                in_placeholder = true;
            }
            '}' => in_placeholder = false,
            _ if in_placeholder => {}
            letter => text.push(letter),
        }
    }
    text
}

/// Joins the lines of literals that go on in the next line.
fn joined(code: &str) -> String {
    let mut lines = code.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

/// Returns level and text of a row about a log line.
fn row(line: &str) -> Option<(&str, &str)> {
    let (level, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
    let is_level = ["error", "warn", "info"].contains(&level);
    is_level.then_some((level, rest.split_once("` |")?.0))
}

#[test]
fn every_log_line_is_listed_in_the_operations_page() {
    let page = read(Path::new("docs/operations.md"));
    let listed: Vec<_> = page.lines().filter_map(row).collect();
    let code = code();
    let mut missing = Vec::new();
    let mut count = 0;
    for (call, level) in CALLS {
        for found in code.iter().flat_map(|code| code.split(call).skip(1)).flat_map(literals) {
            let text = as_listed(&found);
            // The name of who speaks, or a text that is made elsewhere.
            if !text.contains(char::is_alphabetic) || !text.contains(' ') {
                continue;
            }
            count += 1;
            if !listed.contains(&(level, text.as_str())) {
                missing.push(format!("| {level} | `{text}` | |"));
            }
        }
    }
    assert!(count > 40, "only {count} log lines were found in the code");
    assert!(missing.is_empty(), "docs/operations.md must explain these log lines:\n{}", missing.join("\n"));

    let code: Vec<_> = code.iter().map(|code| joined(code)).collect();
    let is_there = |text: &str| text.split('…').all(|part| code.iter().any(|code| code.contains(part)));
    let stale: Vec<_> = listed.iter().filter(|(_, text)| !is_there(text)).collect();
    assert!(stale.is_empty(), "docs/operations.md explains log lines that the program does not have: {stale:#?}");
}
