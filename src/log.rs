//! Writes log lines to stderr, for a terminal, a file or the journal, as text or JSON.
//!
//! Gatekeeper and guard never wait for the log: they write to a socket or to the [log writer](writer) without blocking. Lines for
//! which there is no room are dropped and counted.

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

/// Starts logging in a process that does not hold the lock and may block on stderr.
pub fn init(config: &LogConfig) -> Style {
    let (style, ansi) = look(config);
    subscribe(config, style, ansi);
    style
}

/// Starts logging in a process that may hold the lock and must not block. Returns the real stderr for the command, if it was
/// replaced in this process. Must be called before any thread exists; call [`writer::finish`] at the end.
///
/// # Errors
/// If a limit of the system prevents another process.
pub fn init_without_waiting(config: &LogConfig) -> io::Result<(Style, Option<OwnedFd>)> {
    let (style, ansi) = look(config);
    let real = writer::start(style)?;
    subscribe(config, style, ansi);
    Ok((style, real))
}

/// Returns the style of lines for the present stderr, and whether colors are used.
fn look(config: &LogConfig) -> (Style, bool) {
    let journal = journal::is_stderr();
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let warnings = config.filter.would_enable(TARGET, &Level::WARN);
    let traces = config.filter.would_enable(TARGET, &Level::TRACE);
    (Style { format: config.format, journal, warnings, traces }, ansi && !journal)
}

fn subscribe(config: &LogConfig, style: Style, ansi: bool) {
    let layer = fmt::layer()
        .with_writer(move || Stderr(style))
        .with_ansi(ansi)
        // The text of a line names its subject itself.
        .with_target(style.format == LogFormat::Json)
        .with_span_events(FmtSpan::NONE)
        .fmt_fields(style::fields())
        // On a write error the layer would report it by `eprintln!`, which panics when stderr is closed.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(config.filter.clone());
    let started = match (style.format, style.journal) {
        (LogFormat::Text, false) => registry.with(layer).try_init(),
        // The journal adds a time stamp itself.
        (LogFormat::Text, true) => {
            registry.with(layer.map_event_format(|format| Prefixed(format.without_time()))).try_init()
        }
        (LogFormat::Json, false) => registry.with(layer.json()).try_init(),
        (LogFormat::Json, true) => registry.with(layer.json().map_event_format(Prefixed)).try_init(),
    };
    // Fails only in tests that have started logging before.
    drop(started);
}
