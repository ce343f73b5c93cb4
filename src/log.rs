//! The log: lines on stderr, for a terminal, a file or the journal, as text or JSON.
//!
//! Logging never stops the program: a process that holds the lock, or the dead man's switch, writes without waiting, to a
//! socket or to the [log writer](writer); lines for which there is no room are dropped and counted.

mod journal;
mod stderr;
pub mod writer;

use std::{
    fmt::Debug,
    io::{self, IsTerminal},
    os::fd::OwnedFd,
};

use tracing::{Level, field::Field};
use tracing_subscriber::{
    field::MakeExt as _,
    filter::Targets,
    fmt::{
        self, FormatFields,
        format::{FmtSpan, Writer},
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::{journal::Prefixed, stderr::Stderr};
use crate::{
    cli::{Given, setting},
    config::Refused,
    core::text,
};

/// What to log and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which events.
    pub filter: Targets,
    /// In which form.
    pub format: LogFormat,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogConfig {
    /// Reads the settings that are about the log.
    ///
    /// # Errors
    /// If one of them cannot be understood.
    pub fn new(given: &Given) -> Result<Self, Refused> {
        Ok(Self {
            filter: given.required(&setting::LOG)?.parse(filter)?,
            format: given.required(&setting::LOG_FORMAT)?.parse(format)?,
        })
    }
}

impl Default for LogConfig {
    /// What holds when nothing is set.
    fn default() -> Self {
        use tracing_subscriber::filter::LevelFilter;

        let filter = Targets::new().with_default(LevelFilter::WARN).with_target(TARGET, LevelFilter::INFO);
        Self { filter, format: LogFormat::Text }
    }
}

/// This crate, as the filter knows it.
const TARGET: &str = "etcd_await_election";

/// How lines look that are not written by way of `tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    format: LogFormat,
    journal: bool,
    /// Whether warnings are wanted.
    warnings: bool,
}

impl Style {
    /// Text with a time stamp.
    pub const PLAIN: Self = Self { format: LogFormat::Text, journal: false, warnings: true };

    /// Writes one line as a warning, if there is room for it.
    pub fn warn(self, target: &str, message: &str) {
        if self.warnings {
            stderr::write_line(self, self.line(Level::WARN, target, message).as_bytes());
        }
    }

    fn line(self, level: Level, target: &str, message: &str) -> String {
        let priority = if self.journal { format!("<{}>", journal::priority(&level)) } else { String::new() };
        let time = now();
        match (self.format, self.journal) {
            (LogFormat::Text, false) => format!("{time} {level:>5} {target}: {}\n", text::escaped(message)),
            // The journal has a clock of its own.
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

/// The time of day, as `tracing` writes it.
fn now() -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Starts logging in a process that holds nothing and may wait for whoever reads its log.
pub fn init(config: &LogConfig) -> Style {
    let (style, ansi) = look(config);
    subscribe(config, style, ansi);
    style
}

/// Starts logging in a process that will hold the lock and must not wait. Returns the real stderr, for the command, if this
/// process has another one from now on. To be called before there is any thread, and [`writer::finish`] at the end.
///
/// # Errors
/// If the machine has no room for another process.
pub fn init_without_waiting(config: &LogConfig) -> io::Result<(Style, Option<OwnedFd>)> {
    let (style, ansi) = look(config);
    let real = writer::start(style)?;
    subscribe(config, style, ansi);
    Ok((style, real))
}

/// What the real stderr is.
fn look(config: &LogConfig) -> (Style, bool) {
    let journal = journal::is_stderr();
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let warnings = config.filter.would_enable(TARGET, &Level::WARN);
    (Style { format: config.format, journal, warnings }, ansi && !journal)
}

/// Fields of an event or a span; their values come from anywhere, as the messages of etcd do.
fn fields() -> impl for<'a> FormatFields<'a> + 'static {
    let write = |writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => writer.write_str(&text::escaped(&value)),
            name => write!(writer, "{name}={}", text::escaped(&value)),
        }
    };
    fmt::format::debug_fn(write).delimited(" ")
}

fn subscribe(config: &LogConfig, style: Style, ansi: bool) {
    let layer = fmt::layer()
        .with_writer(move || Stderr(style))
        .with_ansi(ansi)
        // In words a line says itself what it is about.
        .with_target(style.format == LogFormat::Json)
        .with_span_events(FmtSpan::NONE)
        .fmt_fields(fields())
        // On a write error the layer would report it by `eprintln!`, which panics when stderr is closed.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(config.filter.clone());
    let started = match (style.format, style.journal) {
        (LogFormat::Text, false) => registry.with(layer).try_init(),
        // The journal has a clock of its own.
        (LogFormat::Text, true) => {
            registry.with(layer.map_event_format(|format| Prefixed(format.without_time()))).try_init()
        }
        (LogFormat::Json, false) => registry.with(layer.json()).try_init(),
        (LogFormat::Json, true) => registry.with(layer.json().map_event_format(Prefixed)).try_init(),
    };
    // Only a test that logs already gets here.
    drop(started);
}

/// `warn,etcd_await_election=info`.
fn filter(text: &str) -> Result<Targets, &'static str> {
    const WRONG: &str =
        "is no filter: write off, error, warn, info, debug or trace, or target=level, separated by commas";
    // `Targets` alone would read a misspelled level as a target to be traced, and log nothing else.
    let is_level = |text: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| level.eq_ignore_ascii_case(text))
    };
    let is_target = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte))
    };
    let is_right = |part: &str| match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    };
    if !text.split(',').all(is_right) {
        return Err(WRONG);
    }
    text.parse().map_err(|_| WRONG)
}

fn format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is unknown: write text or json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for text in ["info", "OFF", "warn,h2=debug", "etcd_await_election::election=trace"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["", "inof", "info,", "a=b", "=info", "a b=info", "info h2=debug", "[x]=info", "2"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_that_tracing_does_not_write_look_like_its_own() {
        let line = |format, journal| Style { format, journal, warnings: true }.line(Level::WARN, "guard", "late");
        let plain = line(LogFormat::Text, false);
        assert!(plain.ends_with("Z  WARN guard: late\n"), "{plain}");
        assert_eq!(line(LogFormat::Text, true), "<4> WARN guard: late\n", "the journal stamps it");
        for (journal, prefix) in [(false, ""), (true, "<4>")] {
            let line = line(LogFormat::Json, journal);
            let json: serde_json::Value = serde_json::from_str(line.strip_prefix(prefix).expect(prefix)).expect("JSON");
            assert_eq!((&json["level"], &json["fields"]["message"]), (&"WARN".into(), &"late".into()));
        }
    }

    #[test]
    fn the_default_that_is_documented_is_the_default_that_holds() {
        let documented = filter(setting::LOG.default.expect("a default")).expect("a filter");
        assert_eq!(documented, LogConfig::default().filter);
        assert!(documented.would_enable(TARGET, &Level::INFO) && !documented.would_enable(TARGET, &Level::DEBUG));
        assert!(documented.would_enable("h2", &Level::WARN) && !documented.would_enable("h2", &Level::INFO));
    }
}
