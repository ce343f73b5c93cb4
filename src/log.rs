//! The log: lines on stderr, for a terminal, a file or the journal, as text or JSON.
//!
//! Logging never stops the program: a process that holds the lock, or the dead man's switch, writes without waiting, to a
//! socket or to the [log writer](writer); lines for which there is no room are dropped and counted.

mod journal;
mod stderr;
mod style;
pub mod writer;

use std::{
    io::{self, IsTerminal},
    os::fd::OwnedFd,
};

use tracing::Level;
use tracing_subscriber::{
    fmt::{self, format::FmtSpan},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use self::style::Style;
use self::{journal::Prefixed, stderr::Stderr};
use crate::settings::{LogConfig, LogFormat, TARGET};

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

fn subscribe(config: &LogConfig, style: Style, ansi: bool) {
    let layer = fmt::layer()
        .with_writer(move || Stderr(style))
        .with_ansi(ansi)
        // In words a line says itself what it is about.
        .with_target(style.format == LogFormat::Json)
        .with_span_events(FmtSpan::NONE)
        .fmt_fields(style::fields())
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
