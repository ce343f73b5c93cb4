//! The parsers of single values. Each says what would be right in words that follow the value: "'x' is not a valid duration; …".

use std::{ffi::OsString, fmt::Display, str::FromStr, time::Duration};

use clap::ValueEnum;
use nix::{libc, sys::signal::Signal};
use tracing_subscriber::filter::Targets;

use crate::core::{
    names::{LockName, LockNameError},
    text::excerpt,
};

/// Makes a parser show the value in its error; for every value that is not secret.
pub(super) fn quoted<T, E: Display>(
    parser: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| parser(text).map_err(|why| format!("'{}' {why}", excerpt(text)))
}

/// Makes a parser hide the value in its error, because it may contain a secret.
pub(super) fn hidden<T, E: Display>(
    parser: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| parser(text).map_err(|why| format!("the value {why}"))
}

/// A value that no error shows.
#[expect(clippy::unnecessary_wraps, reason = "a parser")]
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret(text.to_owned()))
}

/// The name of a lock.
pub(super) fn lock_name(text: &str) -> Result<LockName, LockNameError> {
    text.parse()
}

/// `15` and `15s` are seconds, `1500ms` milliseconds, `2m` minutes.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "is not a valid duration; use 15, 15s, 1500ms or 2m";
    // A few centuries, and far from where nanoseconds or instants overflow.
    const LONGEST: Duration = Duration::from_secs(9_000_000_000);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(WRONG);
    }
    let milliseconds_each = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err(WRONG),
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds_each));
    let duration = milliseconds.map(Duration::from_millis).filter(|duration| *duration <= LONGEST);
    duration.ok_or("is too long; use at most 9000000000s")
}

/// `10`, `-1`.
pub(super) fn priority(text: &str) -> Result<i32, &'static str> {
    text.parse().map_err(|_| "is not a valid priority; use a whole number from -2147483648 to 2147483647")
}

/// A duration, also in hours and days, for a pause: it must outlive a maintenance and not be forgotten.
pub(super) fn pause_length(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 24 * 60 * 60;
    const LONGEST: Duration = Duration::from_secs(7 * DAY);
    let units = [("h", 60 * 60), ("d", DAY)];
    let found = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let length = match found {
        Some((number, seconds)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
            Duration::from_secs(seconds.unwrap_or(u64::MAX))
        }
        Some(_) => return Err("is not a valid duration; use 90s, 30m, 2h or 1d".to_owned()),
        None => duration(text).map_err(|_| "is not a valid duration; use 90s, 30m, 2h or 1d")?,
    };
    // etcd grants leases of whole seconds.
    match Duration::from_secs(length.as_secs() + u64::from(length.subsec_nanos() > 0)) {
        Duration::ZERO => Err("is too short; use at least 1s".to_owned()),
        length if length > LONGEST => Err("is too long; use at most 7d, and extend the pause later".to_owned()),
        length => Ok(length),
    }
}

/// The reason of a pause.
pub(super) fn reason(text: &str) -> Result<String, &'static str> {
    const LONGEST: usize = 256;
    match name(text)? {
        text if text.chars().count() > LONGEST => Err("is longer than 256 characters; use a shorter text"),
        text => Ok(text),
    }
}

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub(super) fn signal(text: &str) -> Result<i32, &'static str> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = if name.bytes().all(|byte| byte.is_ascii_digit()) {
        name.parse().ok()
    } else if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset =
            if offset.is_empty() { Some(0) } else { offset.strip_prefix('+').and_then(|n| n.parse::<u8>().ok()) };
        offset.map(|offset| first + i32::from(offset))
    } else {
        Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32)
    };
    match number {
        Some(libc::SIGSTOP) => {
            Err("would freeze the command instead of stopping it; use TERM, INT or QUIT, for example")
        }
        Some(number) if (1..=last).contains(&number) => Ok(number),
        _ => Err("is not a valid signal; use a name such as TERM or SIGTERM, or a number such as 15"),
    }
}

/// How many failures count: at least one.
pub(super) fn count(text: &str) -> Result<u32, &'static str> {
    let count = text.parse().ok().filter(|count| *count > 0 && text.bytes().all(|byte| byte.is_ascii_digit()));
    count.ok_or("is not a valid number; use 1 or more")
}

/// True for any value except the words that mean no.
#[expect(clippy::unnecessary_wraps, reason = "a parser")]
pub(super) fn yes(text: &str) -> Result<bool, String> {
    Ok(!["0", "f", "false", "no", "off"].contains(&text.to_ascii_lowercase().as_str()))
}

/// A name that fits on a line of a log and in a key's value.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    const LONGEST: usize = 1024;
    if text.chars().any(char::is_control) {
        return Err("contains control characters; use plain text on one line");
    }
    if text.trim().is_empty() {
        return Err("is blank; use a name");
    }
    if text.len() > LONGEST {
        return Err("is longer than 1024 bytes; use a shorter name");
    }
    Ok(text.to_owned())
}

/// The name in a certificate: a DNS name or an IP address.
pub(super) fn server_name(text: &str) -> Result<String, &'static str> {
    let is_dns = |text: &str| {
        text.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
    };
    if text.len() <= 253 && is_dns(text) || text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("is not a valid server name; use a DNS name or an IP address, without scheme and port")
}

/// The id of an etcd cluster in hexadecimal, as etcd logs it.
pub(super) fn cluster_id(text: &str) -> Result<u64, &'static str> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let id =
        u64::from_str_radix(digits, 16).ok().filter(|id| *id != 0 && digits.bytes().all(|d| d.is_ascii_hexdigit()));
    id.ok_or("is not a valid cluster id; use up to 16 hexadecimal digits, such as 3b1f6a9c02d7e845")
}

/// `warn,etcd_await_election=info`.
pub(super) fn filter(text: &str) -> Result<Targets, &'static str> {
    const WRONG: &str =
        "is not a valid filter; use off, error, warn, info, debug or trace, or target=level, separated by commas";
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

/// A program with its arguments, split like the words of a shell: quotes and backslashes, but neither variables nor patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(Vec<OsString>);

impl CommandLine {
    /// Parses `/usr/bin/mount "/srv/my data"`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let words =
            shlex::split(text).ok_or("is not a valid command line; close the quote, or double the last backslash")?;
        match words.first() {
            None => Err("has no command; use a program and its arguments"),
            Some(program) if program.is_empty() => Err("has an empty program name; use a program and its arguments"),
            Some(_) => Ok(Self(words.into_iter().map(OsString::from).collect())),
        }
    }

    /// Returns the words, of which there is at least one.
    #[must_use]
    pub fn words(&self) -> &[OsString] {
        &self.0
    }
}

/// What to do when leadership was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum OnLoss {
    /// End, and let the supervisor start again.
    Exit,
    /// Join the queue again.
    Campaign,
}

/// When to tell systemd that the service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NotifyReady {
    /// When the settings are valid and this instance campaigns, whether or not etcd answers.
    Started,
    /// When this instance takes part in the election.
    Campaigning,
    /// When the command was started.
    Elected,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A value that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids() {
        for (text, id) in [("cdf818194e3a8c32", 0xcdf8_1819_4e3a_8c32), ("0x1A", 0x1a), ("7", 7)] {
            assert_eq!(cluster_id(text), Ok(id), "{text}");
        }
        for text in ["", "0", "0x", "+1", "x", "14841639068965178418", "1 "] {
            assert!(cluster_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn command_lines() {
        for (text, words) in [
            ("/bin/true", &["/bin/true"][..]),
            (r#" sh  -c 'echo "$A" | cat' "#, &["sh", "-c", r#"echo "$A" | cat"#]),
            (r#"mount "/srv/my data" /srv/it\'s"#, &["mount", "/srv/my data", "/srv/it's"]),
            ("a ''", &["a", ""]),
        ] {
            let parsed = CommandLine::parse(text).expect("a command line");
            assert_eq!(parsed.words(), words.iter().map(OsString::from).collect::<Vec<_>>(), "{text}");
        }
        for text in ["", "  ", "# nothing", "'a", "a \"b", "a \\", "'' a"] {
            assert!(CommandLine::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("15", 15_000), ("15s", 15_000), ("1500ms", 1500), ("2m", 120_000), ("0", 0), ("007s", 7000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1", "+1", "1.5", "1.5s", "1 s", " 1", "1h", "1S", "15sec", "٣", "1e3"] {
            assert!(duration(text).expect_err(text).starts_with("is not a valid duration"), "{text}");
        }
        for text in ["9000000001", "99999999999999999999", "18446744073709551615m"] {
            assert!(duration(text).expect_err(text).starts_with("is too long"), "{text}");
        }
    }

    #[test]
    fn lengths_of_a_pause() {
        for (text, seconds) in [("90", 90), ("1500ms", 2), ("30m", 1800), ("2h", 7200), ("7d", 604_800)] {
            assert_eq!(pause_length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, why) in [
            ("0", "is too short"),
            ("0h", "is too short"),
            ("8d", "is too long"),
            ("99999999999999999999h", "is too long"),
            ("h", "is not a valid"),
            ("+1h", "is not a valid"),
            ("1h30m", "is not a valid"),
            ("", "is not a valid"),
        ] {
            assert!(pause_length(text).expect_err(text).starts_with(why), "{text}");
        }
    }

    #[test]
    fn signals() {
        for (text, number) in [("TERM", 15), ("SIGTERM", 15), ("sigint", 2), ("15", 15), ("KILL", 9), ("64", 64)] {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        assert_eq!(signal("SIGRTMIN+3"), Ok(libc::SIGRTMIN() + 3));
        for text in
            ["", "0", "65", "-15", "SIG", "TERMINATE", "SIGSIGTERM", "RTMIN+99", "RTMIN3", "99999999999", "STOP"]
        {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn force_is_enabled_by_any_value_except_the_words_that_mean_no() {
        for text in ["1", "true", "yes", "on", "x", "00", "t"] {
            assert_eq!(yes(text), Ok(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "False", "FALSE", "no", "NO", "off", "Off"] {
            assert_eq!(yes(text), Ok(false), "{text}");
        }
    }

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
    fn a_value_in_an_error_has_no_control_characters_and_an_end() {
        assert_eq!(
            quoted(duration)("1\u{1b}"),
            Err("'1\\u{1b}' is not a valid duration; use 15, 15s, 1500ms or 2m".into())
        );
        assert!(excerpt(&"x".repeat(1000)).chars().count() == 121);
    }

    #[test]
    fn names() {
        assert_eq!(name("node-1 (späť)"), Ok("node-1 (späť)".to_owned()));
        for text in ["", " ", "a\nb", "a\u{7f}", &"x".repeat(1025)] {
            assert!(name(text).is_err(), "{text:?}");
        }
        for text in ["etcd-1.example", "10.0.0.1", "::1", "localhost"] {
            assert_eq!(server_name(text), Ok(text.to_owned()));
        }
        for text in ["", "a..b", "https://a", "a:2379", "a b", "ä"] {
            assert!(server_name(text).is_err(), "{text}");
        }
    }
}
