//! The tables of the manual, rendered from the definitions so that they cannot drift from the program.

use super::{command, setting};
use crate::core::exit_code::Exit;

/// "Every setting" as a Markdown table.
#[must_use]
pub fn settings_table() -> String {
    let mut table = "| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for setting in setting::ALL {
        let default = match (setting.default, setting.otherwise) {
            (Some(default), _) => format!("`{default}`"),
            (None, otherwise) => otherwise.unwrap_or_default().to_owned(),
        };
        let value = setting.value.replace('|', "\\|");
        let (flag, variable, help) = (setting.flag, setting.variable(), setting.help);
        table += &format!("| `--{flag}` {value} | `{variable}` | {default} | {help} |\n");
    }
    let mut questions: Vec<_> =
        command().get_arguments().filter(|arg| arg.get_help_heading() == Some("Questions")).cloned().collect();
    questions.sort_by_key(clap::Arg::get_index);
    for question in questions {
        let help = question.get_help().map(ToString::to_string).unwrap_or_default();
        table += &format!("| `--{}` | | | {help} |\n", question.get_long().unwrap_or_default());
    }
    table
}

/// "Every exit code" as a Markdown table.
#[must_use]
pub fn exit_codes_table() -> String {
    let mut table = "| code | meaning |\n| --- | --- |\n".to_owned();
    for (code, meaning) in Exit::ALL.map(Exit::meaning) {
        table += &format!("| {code} | {meaning} |\n");
    }
    table
}

/// The exit codes for the end of `--help`.
pub(super) fn exit_codes_help() -> String {
    let lines =
        Exit::ALL.map(Exit::meaning).map(|(code, meaning)| format!("  {code:>5}  {}", meaning.replace('`', "")));
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page must have the table between its markers; to mend it, copy what the failure prints.
    #[track_caller]
    fn page_has(page: &str, name: &str, table: &str) {
        let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the page");
        let expected = format!("<!-- {name} -->\n\n{table}\n<!-- /{name} -->");
        assert!(text.contains(&expected), "docs/{page} must have this part:\n{expected}\n");
    }

    #[test]
    fn the_settings_page_has_every_setting() {
        page_has("settings.md", "settings", &settings_table());
    }

    #[test]
    fn the_operations_page_has_every_exit_code() {
        page_has("operations.md", "exit codes", &exit_codes_table());
    }
}
