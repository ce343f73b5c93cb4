//! Log lines for the journal of systemd, with the priority as a prefix (`sd-daemon(3)`), which the journal removes.

use std::{fmt, os::fd::AsFd};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Returns whether stderr is the journal: JOURNAL_STREAM contains the device and inode of its socket.
pub(super) fn is_stderr() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stat) = nix::sys::stat::fstat(std::io::stderr().as_fd()) else { return false };
    stream.to_str().is_some_and(|stream| names(stream, stat.st_dev, stat.st_ino))
}

fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// A format with the priority as a prefix.
pub(super) struct Prefixed<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// Returns the priority of `syslog(3)`.
pub(super) const fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        // 5 is "notice", which is not used.
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{fmt as tracing_fmt, layer::SubscriberExt};

    use super::*;

    #[test]
    fn the_stream_is_compared_in_both_numbers() {
        assert!(names("8:123", 8, 123));
        for other in ["8:124", "9:123", "8", "", "8:123:4", "x:y"] {
            assert!(!names(other, 8, 123), "{other}");
        }
    }

    #[test]
    fn each_line_begins_with_its_priority() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let layer = tracing_fmt::layer()
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&sink)))
            .fmt_fields(super::super::style::fields())
            .map_event_format(|format| Prefixed(format.without_time()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!("late");
            tracing::info!("joined");
            tracing::warn!(endpoint = "a\u{2028}b", "a message\n<0>forged\u{1b}[2J\u{202e}");
        });
        let text = String::from_utf8(lines.lock().expect("unpoisoned").clone()).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("<4>") && lines[0].ends_with("late"), "{text}");
        assert!(lines[1].starts_with("<6>") && lines[1].ends_with("joined"), "{text}");
        let escaped = "a message\\n<0>forged\\u{1b}[2J\\u{202e} endpoint=\"a\\u{2028}b\"";
        assert!(lines.len() == 3 && lines[2].ends_with(escaped), "{text}");
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
