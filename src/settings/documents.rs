//! Files that are generated from the settings: `cargo xtask generate` writes them, and a test fails if one of them is stale.

use std::{
    fmt::Write as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

use clap::{Arg, Command, builder::ValueParser};

use super::args::{CTL, definition, synopsis};
use crate::core::exit_code::Exit;

/// Variable that makes the test write the files instead of comparing them.
const GENERATE: &str = "GENERATE";

/// A file, the marks around its generated part (`None` for the whole file), and that part.
type Part = (&'static str, Option<[&'static str; 2]>, String);

fn parts() -> Vec<Part> {
    vec![
        ("docs/settings.md", Some(["<!-- settings -->\n\n", "\n<!-- /settings -->"]), settings_table()),
        ("docs/operations.md", Some(["<!-- exit codes -->\n\n", "\n<!-- /exit codes -->"]), exit_codes_table()),
        ("packaging/systemd/example.env", Some(["# All settings:\n", ""]), example_env()),
        ("nix/module/settings.json", None, json()),
    ]
}

#[test]
fn generated_files_are_up_to_date() {
    for (name, marks, part) in parts() {
        check(name, marks, &part);
    }
}

/// Compares the generated part of a file, or writes it if [`GENERATE`] is set.
pub(crate) fn check(name: &str, marks: Option<[&str; 2]>, part: &str) {
    // Several tests may write into the same file.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let new = match marks {
        None => part.to_owned(),
        Some([begin, end]) => {
            let (head, rest) = old.split_once(begin).unwrap_or_else(|| panic!("{name} has no {begin:?}"));
            // Without an end the part is the last one.
            let tail = if end.is_empty() { rest.len() } else { rest.find(end).expect(end) };
            [head, begin, part, &rest[tail..]].concat()
        }
    };
    if std::env::var_os(GENERATE).is_some() {
        std::fs::write(&path, new).expect("written");
    } else {
        assert!(old == new, "{name} is stale; run cargo xtask generate");
    }
}

/// Returns all settings, in the order of the help.
fn settings(definition: &Command) -> impl Iterator<Item = &Arg> {
    definition.get_arguments().filter(|arg| arg.get_env().is_some())
}

fn variable(arg: &Arg) -> &str {
    arg.get_env().and_then(|name| name.to_str()).expect("a variable")
}

fn value_name(arg: &Arg) -> String {
    arg.get_value_names().expect("a name").first().expect("a name").to_string()
}

fn default(arg: &Arg) -> Option<&str> {
    arg.get_default_values().first().map(|value| value.to_str().expect("UTF-8"))
}

fn help(help: Option<&clap::builder::StyledStr>) -> String {
    help.expect("a help text").to_string()
}

/// Returns all settings and operator commands as Markdown tables.
fn settings_table() -> String {
    let definition = definition();
    let mut table = "| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for arg in settings(&definition) {
        let (flag, value) = (arg.get_long().expect("a flag"), value_name(arg).replace('|', "\\|"));
        let default = default(arg).map(|default| format!("`{default}`")).unwrap_or_default();
        let (variable, help) = (variable(arg), help(arg.get_help()));
        let _ = writeln!(table, "| `--{flag}` {value} | `{variable}` | {default} | {help} |");
    }
    table += "\n| operator command | meaning |\n| --- | --- |\n";
    let ctl = definition.find_subcommand(CTL).expect("ctl");
    for verb in ctl.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let _ = writeln!(table, "| `ctl {}{}` | {} |", verb.get_name(), synopsis(verb), help(verb.get_about()));
    }
    table
}

/// Returns all exit codes as a Markdown table.
fn exit_codes_table() -> String {
    let mut table = "| code | meaning |\n| --- | --- |\n".to_owned();
    for (code, meaning) in Exit::ALL.map(Exit::meaning) {
        let _ = writeln!(table, "| {code} | {meaning} |");
    }
    table
}

/// Returns all settings as comments of an environment file.
fn example_env() -> String {
    let definition = definition();
    let mut text = String::new();
    for arg in settings(&definition) {
        text += "\n";
        let mut line = "#".to_owned();
        for word in help(arg.get_help()).split(' ') {
            if line.chars().count() + word.chars().count() > 118 {
                let _ = writeln!(text, "{line}");
                line = "#".to_owned();
            }
            line += &format!(" {word}");
        }
        let value = default(arg).map_or_else(|| value_name(arg), str::to_owned);
        let _ = writeln!(text, "{line}\n#{}={value}", variable(arg));
    }
    text
}

/// Returns all settings for the NixOS module.
fn json() -> String {
    let definition = definition();
    let settings = settings(&definition).map(|arg| {
        let words: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let is = |parser: ValueParser| arg.get_value_parser().type_id() == parser.type_id();
        let kind = match value_name(arg).as_str() {
            "SECONDS" | "TIME" => "duration",
            _ if arg.get_num_args().is_some_and(|range| range.min_values() == 0) => "boolean",
            _ if is(ValueParser::path_buf()) => "path",
            _ if !words.is_empty() => "enum",
            _ => "string",
        };
        serde_json::json!({
            "flag": arg.get_long(),
            "group": arg.get_help_heading(),
            "variable": variable(arg),
            "type": kind,
            "values": words,
            "default": default(arg),
            "description": help(arg.get_help()) + ".",
        })
    });
    let text = serde_json::to_string_pretty(&settings.collect::<Vec<_>>()).expect("JSON");
    text + "\n"
}
