//! The behavior of a test's command, besides writing the journal.

use std::{path::PathBuf, time::Duration};

/// By default the command runs until SIGTERM or SIGINT, and then exits with 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    /// Exit with this code, after this time.
    pub exit: Option<(u8, Duration)>,
    /// Kill itself by this signal, at once.
    pub die_by: Option<i32>,
    /// Ignore SIGTERM and SIGINT.
    pub stubborn: bool,
    /// The time that it takes to end after a stop signal.
    pub slow_stop: Duration,
    /// The number of children that it forks into its own process group; they outlive it unless they are killed.
    pub children: u32,
    /// Whether it starts a daemon: forked twice, in its own session.
    pub daemon: bool,
    /// The file to which it writes its environment.
    pub environment: Option<PathBuf>,
}

impl Behavior {
    /// Exits with this code, after this time.
    #[must_use]
    pub fn exits(code: u8, after: Duration) -> Self {
        Self { exit: Some((code, after)), ..Self::default() }
    }

    /// Ignores stop signals.
    #[must_use]
    pub fn stubborn() -> Self {
        Self { stubborn: true, ..Self::default() }
    }

    /// Takes this long to stop.
    #[must_use]
    pub fn slow(stop: Duration) -> Self {
        Self { slow_stop: stop, ..Self::default() }
    }

    /// Encodes this as text, for the environment of the command.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut words = Vec::new();
        if let Some((code, after)) = self.exit {
            words.push(format!("exit={code}@{}", after.as_millis()));
        }
        if let Some(signal) = self.die_by {
            words.push(format!("die={signal}"));
        }
        if self.stubborn {
            words.push("stubborn=1".into());
        }
        if !self.slow_stop.is_zero() {
            words.push(format!("slow={}", self.slow_stop.as_millis()));
        }
        if self.children > 0 {
            words.push(format!("children={}", self.children));
        }
        if self.daemon {
            words.push("daemon=1".into());
        }
        if let Some(path) = &self.environment {
            words.push(format!("environment={}", path.display()));
        }
        words.join(";")
    }

    /// Decodes the text; returns `None` if it is invalid.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut behavior = Self::default();
        for word in text.split(';').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=')?;
            match name {
                "exit" => {
                    let (code, after) = value.split_once('@')?;
                    behavior.exit = Some((code.parse().ok()?, Duration::from_millis(after.parse().ok()?)));
                }
                "die" => behavior.die_by = Some(value.parse().ok()?),
                "stubborn" => behavior.stubborn = true,
                "slow" => behavior.slow_stop = Duration::from_millis(value.parse().ok()?),
                "children" => behavior.children = value.parse().ok()?,
                "daemon" => behavior.daemon = true,
                "environment" => behavior.environment = Some(value.into()),
                _ => return None,
            }
        }
        Some(behavior)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_behavior_decodes_to_the_same_value() {
        let all = Behavior {
            exit: Some((7, Duration::from_millis(20))),
            die_by: Some(9),
            stubborn: true,
            slow_stop: Duration::from_millis(300),
            children: 2,
            daemon: true,
            environment: Some("/tmp/x".into()),
        };
        for behavior in [Behavior::default(), all] {
            assert_eq!(Behavior::decode(&behavior.encode()), Some(behavior));
        }
        assert_eq!(Behavior::decode("dance=1"), None);
    }
}
