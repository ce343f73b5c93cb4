//! Variables that are not settings: misspelled ones, and what others set.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use super::args::definition;
use crate::core::text::excerpt;

/// The prefix of all variables.
pub(super) const PREFIX: &str = "ETCD_AWAIT_ELECTION_";

/// Returns the variable of a setting; `setting` is the name of its field.
pub(super) fn variable(setting: &str) -> String {
    format!("{PREFIX}{}", setting.to_ascii_uppercase())
}

/// The environment, as a value: tests pass their own.
pub type Variables = BTreeMap<OsString, OsString>;

/// Warns about a `PIDFile=` in the unit that runs this program: systemd puts it into the environment, see systemd.exec(5).
pub(super) fn pid_file_of_unit(variables: &Variables) -> Option<String> {
    let value = |name: &str| variables.get(OsStr::new(name)).filter(|value| !value.is_empty());
    value("NOTIFY_SOCKET")?;
    let file = value("PIDFILE")?.display();
    Some(format!(
        "the unit has PIDFile={file}: systemd may take the process that it names for the gatekeeper, and the command can \
         outlive its lock; clear it with an empty PIDFile= in a drop-in, as gate.conf does"
    ))
}

/// One line for each variable that looks like a setting and is none.
pub(super) fn unknown(variables: &Variables) -> Vec<String> {
    let definition = definition();
    let settings: Vec<&str> = definition.get_arguments().filter_map(|arg| short(arg.get_env()?)).collect();
    let names = variables.keys().filter_map(|name| short(name));
    names
        .filter(|name| !settings.contains(name) && !set_by_outer_instance(name) && !set_by_kubernetes(name))
        .map(|name| warn(name, &settings))
        .collect()
}

/// Returns the name of one of our variables without the prefix.
fn short(name: &OsStr) -> Option<&str> {
    name.to_str()?.strip_prefix(PREFIX)
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

fn warn(name: &str, settings: &[&str]) -> String {
    let nearest = settings.iter().map(|setting| (distance(name, setting), setting)).min_by_key(|(d, _)| *d);
    let meant = match nearest {
        // A third of the letters may differ; beyond that a guess does not help.
        Some((distance, setting)) if distance * 3 <= name.len() => format!("; did you mean {PREFIX}{setting}?"),
        _ => String::new(),
    };
    format!("{PREFIX}{} is not a setting and is ignored{meant}", excerpt(name))
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

    #[test]
    fn an_unknown_variable_is_named_with_what_it_was_meant_to_be() {
        for (name, expected) in [
            ("LOCKNAME", "; did you mean ETCD_AWAIT_ELECTION_LOCK_NAME?"),
            ("ENDPOINT", "; did you mean ETCD_AWAIT_ELECTION_ENDPOINTS?"),
            ("CA_CERT", "; did you mean ETCD_AWAIT_ELECTION_CACERT?"),
            ("FROBNICATE", "is ignored"),
        ] {
            let warnings = unknown(&variables(&[(name, "x"), ("LOCK_NAME", "l")]));
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
            assert_eq!(unknown(&variables(&[(name, "x")])), Vec::<String>::new());
        }
        assert_eq!(unknown(&variables(&[("PORT_HTTP", "x")])).len(), 1);
    }
}
