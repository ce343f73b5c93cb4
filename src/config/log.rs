//! What to log and how.

use tracing_subscriber::filter::Targets;

use super::Refused;
use crate::cli::{Given, setting};

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
pub(crate) const TARGET: &str = "etcd_await_election";

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
    use tracing::Level;

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
    fn the_default_that_is_documented_is_the_default_that_holds() {
        let documented = filter(setting::LOG.default.expect("a default")).expect("a filter");
        assert_eq!(documented, LogConfig::default().filter);
        assert!(documented.would_enable(TARGET, &Level::INFO) && !documented.would_enable(TARGET, &Level::DEBUG));
        assert!(documented.would_enable("h2", &Level::WARN) && !documented.would_enable("h2", &Level::INFO));
    }
}
