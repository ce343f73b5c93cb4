//! What was given: for each setting the flag, else the variable, else the default; and variables that mean nothing.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use super::setting::{self, PREFIX, Setting};
use crate::{config::Refused, core::exit_code::Exit};

/// The environment, as a value: tests pass their own.
pub type Variables = BTreeMap<OsString, OsString>;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Variable,
    /// Nowhere: the setting's default.
    Default,
}

/// One value with its origin, not yet understood.
#[derive(Clone, Debug)]
pub struct Value {
    /// The setting that it is for.
    pub setting: &'static Setting,
    /// Where it came from.
    pub source: Source,
    /// The value; not empty.
    pub raw: OsString,
}

/// The settings that have a value.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<&'static str, Value>);

impl Given {
    /// Takes each setting from `flags`, else from `variables`. An empty variable counts as unset, as it always did; an
    /// empty flag was written by somebody who meant something, and is refused.
    ///
    /// # Errors
    /// If a flag is empty.
    pub fn new(
        mut flags: impl FnMut(&'static Setting) -> Option<OsString>,
        variables: &Variables,
    ) -> Result<Self, Refused> {
        let mut given = BTreeMap::new();
        for setting in setting::ALL {
            let flag = flags(setting).map(|raw| (Source::Flag, raw));
            let variable = || {
                let raw = variables.get(OsStr::new(&setting.variable())).filter(|raw| !raw.is_empty())?;
                Some((Source::Variable, raw.clone()))
            };
            let Some((source, raw)) = flag.or_else(variable) else { continue };
            let value = Value { setting, source, raw };
            if value.raw.is_empty() {
                return Err(value.refuse("the value is empty; leave the flag out if nothing is meant"));
            }
            given.insert(setting.flag, value);
        }
        Ok(Self(given))
    }

    /// The value that was given for `setting`, or its default.
    #[must_use]
    pub fn get(&self, setting: &'static Setting) -> Option<Value> {
        let default = || Some(Value { setting, source: Source::Default, raw: setting.default?.into() });
        self.0.get(setting.flag).cloned().or_else(default)
    }

    /// The value that was given for `setting`, or its default.
    ///
    /// # Errors
    /// If there is neither.
    pub fn required(&self, setting: &'static Setting) -> Result<Value, Refused> {
        self.get(setting).ok_or_else(|| Refused::new(Exit::Usage, format!("{} is missing", setting.either())))
    }

    /// The first setting that asks for an election, if there is one: without it the command just runs.
    #[must_use]
    pub fn asks_for_election(&self) -> Option<&Value> {
        setting::ALL.iter().filter(|setting| setting.of_election).find_map(|setting| self.0.get(setting.flag))
    }
}

impl Value {
    /// The flag or the variable that has to be mended.
    #[must_use]
    pub fn spelled(&self) -> String {
        match self.source {
            Source::Flag => format!("--{}", self.setting.flag),
            Source::Variable => self.setting.variable(),
            Source::Default => format!("{} (its default)", self.setting.short()),
        }
    }

    /// Says that the value cannot be understood, without showing it.
    #[must_use]
    pub fn refuse(&self, why: impl std::fmt::Display) -> Refused {
        Refused::new(Exit::Usage, format!("{}: {why}", self.spelled()))
    }

    /// Says that what the value points to cannot be used.
    #[must_use]
    pub fn unusable(&self, why: impl std::fmt::Display) -> Refused {
        Refused::new(Exit::Config, format!("{}: {why}", self.spelled()))
    }

    /// The value as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str, Refused> {
        self.raw.to_str().ok_or_else(|| self.refuse("the value is not valid UTF-8"))
    }

    /// Reads the value with the setting's parser, which says what would be right.
    ///
    /// # Errors
    /// If the parser does not understand it. The value is shown unless it is secret.
    pub fn parse<T, E: std::fmt::Display>(&self, parser: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Refused> {
        let text = self.text()?;
        parser(text).map_err(|why| {
            if self.setting.secret { self.refuse(why) } else { self.refuse(format_args!("'{}' {why}", shown(text))) }
        })
    }
}

/// A value fit for a line of an error message: no control characters, not endless.
#[must_use]
pub fn shown(text: &str) -> String {
    const MOST: usize = 120;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(MOST).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    let plain: String =
        start.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect();
    plain + more
}

/// One line for each variable that looks like a setting and is none.
pub(super) fn unknown_variables(variables: &Variables) -> Vec<String> {
    let names = variables.keys().filter_map(|name| name.to_str()?.strip_prefix(PREFIX));
    names
        .filter(|name| !is_setting(name) && !set_by_outer_instance(name) && !set_by_kubernetes(name))
        .map(warn)
        .collect()
}

fn is_setting(name: &str) -> bool {
    setting::ALL.iter().any(|setting| setting.short() == name)
}

/// What a command finds in its environment, and so an instance that is itself such a command.
fn set_by_outer_instance(name: &str) -> bool {
    matches!(name, "FENCING_TOKEN" | "LEADER_KEY" | "LEASE_ID")
}

/// Kubernetes gives every container the addresses of the services of its namespace: for a service that is called
/// `etcd-await-election-x` as `…_X_SERVICE_HOST`, `…_X_SERVICE_PORT_HTTP`, `…_X_PORT` and `…_X_PORT_80_TCP_ADDR`.
fn set_by_kubernetes(name: &str) -> bool {
    let name = format!("_{name}");
    let port_with_number = || {
        let number = name.rsplit_once("_PORT_").map(|(_, rest)| rest.split('_').next().unwrap_or_default());
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || port_with_number()
}

fn warn(name: &str) -> String {
    let nearest =
        setting::ALL.iter().map(|setting| (distance(name, &setting.short()), setting)).min_by_key(|(d, _)| *d);
    let meant = match nearest {
        // A third of the letters may differ; beyond that a guess does not help.
        Some((distance, setting)) if distance * 3 <= name.len() => format!("; did you mean {}?", setting.variable()),
        _ => String::new(),
    };
    format!("{PREFIX}{} is not a setting and is ignored{meant}", shown(name))
}

/// How many letters to add, drop or change to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), (*value).into())).collect()
    }

    fn given(flag: Option<&str>, variable: Option<&str>) -> Result<Given, Refused> {
        let variables = variable.map(|value| variables(&[("LOCK_NAME", value)])).unwrap_or_default();
        Given::new(|setting| (setting.flag == "lock-name").then(|| flag.map(Into::into)).flatten(), &variables)
    }

    #[test]
    fn the_flag_goes_before_the_variable_and_an_empty_variable_is_unset() {
        let origin = |flag, variable| {
            let value = given(flag, variable).expect("understood").get(&setting::LOCK_NAME)?;
            Some((value.source, value.raw.into_string().expect("text")))
        };
        assert_eq!(origin(Some("f"), Some("v")), Some((Source::Flag, "f".into())));
        assert_eq!(origin(None, Some("v")), Some((Source::Variable, "v".into())));
        assert_eq!(origin(None, Some("")), None);
        assert_eq!(origin(None, None), None);
        let refused = given(Some(""), Some("v")).expect_err("an empty flag").to_string();
        assert!(refused.starts_with("--lock-name: the value is empty"), "{refused}");
    }

    #[test]
    fn an_unknown_variable_is_named_with_what_it_was_meant_to_be() {
        for (name, expected) in [
            ("LOCKNAME", "; did you mean ETCD_AWAIT_ELECTION_LOCK_NAME?"),
            ("ENDPOINT", "; did you mean ETCD_AWAIT_ELECTION_ENDPOINTS?"),
            ("CA_CERT", "; did you mean ETCD_AWAIT_ELECTION_CACERT?"),
            ("FROBNICATE", "is ignored"),
        ] {
            let warnings = unknown_variables(&variables(&[(name, "x"), ("LOCK_NAME", "l")]));
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].ends_with(expected), "{warnings:?}");
        }
    }

    #[test]
    fn variables_that_others_set_are_ignored_silently() {
        for name in [
            "FENCING_TOKEN",
            "LEADER_KEY",
            "LEASE_ID",
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_2379_TCP",
            "PORT_2379_TCP_ADDR",
            "STATUS_SERVICE_HOST",
            "STATUS_PORT_80_TCP_PROTO",
        ] {
            assert_eq!(unknown_variables(&variables(&[(name, "x")])), Vec::<String>::new());
        }
        assert_eq!(unknown_variables(&variables(&[("PORT_HTTP", "x")])).len(), 1);
    }
}
