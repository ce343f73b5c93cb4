//! The pause: while its key exists, no instance becomes leader, and a running command goes on. An operator makes and ends it.
//!
//! The key decides, whatever its value is. The value is for people, and for the versions that follow.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::core::{names::shown, text};

/// The version of the value that this program writes.
const VERSION: u32 = 1;
/// The last second of the year 9999, the latest time of day that can be shown.
const LATEST: u64 = 253_402_300_799;

/// What the value of the pause key says. A value of a later version, or one that another program wrote, may say nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Pause {
    version: u32,
    /// When it was made, in seconds since 1970.
    pub since: Option<u64>,
    /// When it was to end, in seconds since 1970. etcd counts the time of the lease on its own clock, so this is for people only.
    pub until: Option<u64>,
    /// Who made it: `USER@HOST`.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Pause {
    /// Returns the pause that begins at this time of day, in seconds since 1970.
    #[must_use]
    pub fn new(since: u64, length: Duration, by: String, reason: Option<String>) -> Self {
        let until = since.saturating_add(length.as_secs());
        Self { version: VERSION, since: Some(since), until: Some(until), by: Some(by), reason }
    }

    /// Reads the value of the pause key. Texts are cut as identities are.
    #[must_use]
    pub fn read(value: &[u8]) -> Self {
        let mut pause: Self = serde_json::from_slice(value).unwrap_or_default();
        for text in [&mut pause.by, &mut pause.reason].into_iter().flatten() {
            *text = shown(text.as_bytes());
        }
        pause
    }

    /// Returns the value of the pause key.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl fmt::Display for Pause {
    /// For example: `until Wed, 25 Nov 2026 15:04:05 GMT by root@host-a: disk replacement`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) => write!(f, "until {}", time_of_day(until))?,
            None => f.write_str("until an unknown time")?,
        }
        if let Some(by) = &self.by {
            write!(f, " by {}", text::escaped(by))?;
        }
        match &self.reason {
            Some(reason) => write!(f, ": {}", text::escaped(reason)),
            None => Ok(()),
        }
    }
}

/// Returns a time of day as it is shown in HTTP, which names the day of the week and the time zone.
#[must_use]
pub fn time_of_day(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST)))
}

/// The pause as a candidate knows it, and the revision at which it learned that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) pause: Option<Pause>,
    pub(super) revision: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_later_version_is_read_as_far_as_it_is_known() {
        let pause = Pause::new(1_795_615_445, Duration::from_secs(3600), "root@a".into(), Some("disk\n".into()));
        assert_eq!(Pause::read(&pause.value()), pause);
        assert_eq!(pause.to_string(), "until Wed, 25 Nov 2026 15:04:05 GMT by root@a: disk\\n");
        let later = br#"{"version":7,"until":1795619045,"reason":"x","who":["y"]}"#;
        assert_eq!(Pause::read(later).to_string(), "until Wed, 25 Nov 2026 15:04:05 GMT: x");
        for unknown in [&b""[..], b"\xff", b"[1]", br#"{"until":"tomorrow"}"#] {
            assert_eq!(Pause::read(unknown).to_string(), "until an unknown time");
        }
    }

    #[test]
    fn any_time_and_any_text_can_be_shown() {
        let pause = Pause { until: Some(u64::MAX), by: Some("x".repeat(1 << 20)), ..Pause::default() };
        let read = Pause::read(&pause.value()).to_string();
        assert!(read.starts_with("until Fri, 31 Dec 9999 23:59:59 GMT by x") && read.len() < 400, "{read}");
        assert_eq!(Pause::new(1, Duration::MAX, "a".into(), None).until, Some(u64::MAX));
    }
}
