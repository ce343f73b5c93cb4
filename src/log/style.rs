//! The format of log lines.

use std::fmt::Debug;

use tracing::{Level, field::Field};
use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{
        self, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
};

use super::journal;
use crate::{core::text, settings::LogFormat};

/// The format of lines that are not written by `tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub(super) format: LogFormat,
    pub(super) journal: bool,
    /// Whether warnings are logged.
    pub(super) warnings: bool,
    /// Whether each event is logged.
    pub(super) traces: bool,
}

impl Style {
    /// Text with a time stamp.
    pub const PLAIN: Self = Self { format: LogFormat::Text, journal: false, warnings: true, traces: false };

    pub(super) fn line(self, level: Level, target: &str, message: &str) -> String {
        let priority = if self.journal { format!("<{}>", journal::priority(&level)) } else { String::new() };
        let time = now();
        match (self.format, self.journal) {
            (LogFormat::Text, false) => format!("{time} {level:>5} {target}: {}\n", text::escaped(message)),
            // The journal adds a time stamp itself.
            (LogFormat::Text, true) => format!("{priority}{level:>5} {target}: {}\n", text::escaped(message)),
            (LogFormat::Json, _) => {
                let message = serde_json::Value::from(message).to_string();
                format!(
                    "{priority}{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"fields\":{{\"message\":{}}},\"target\":\"{target}\"}}\n",
                    text::escaped_json(&message)
                )
            }
        }
    }
}

/// Returns the time of day in the format of `tracing`.
fn now() -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Formats fields and escapes their values, which can come from outside.
pub(super) fn fields() -> impl for<'a> FormatFields<'a> + 'static {
    let write = |writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => writer.write_str(&text::escaped(&value)),
            name => write!(writer, "{name}={}", text::escaped(&value)),
        }
    };
    fmt::format::debug_fn(write).delimited(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_tracing_does_not_write_look_like_its_own() {
        let line = |format, journal| Style { format, journal, ..Style::PLAIN }.line(Level::WARN, "guard", "late");
        let plain = line(LogFormat::Text, false);
        assert!(plain.ends_with("Z  WARN guard: late\n"), "{plain}");
        assert_eq!(line(LogFormat::Text, true), "<4> WARN guard: late\n", "the journal stamps it");
        for (journal, prefix) in [(false, ""), (true, "<4>")] {
            let line = line(LogFormat::Json, journal);
            let json: serde_json::Value = serde_json::from_str(line.strip_prefix(prefix).expect(prefix)).expect("JSON");
            assert_eq!((&json["level"], &json["fields"]["message"]), (&"WARN".into(), &"late".into()));
        }
    }
}
