//! The suites of Debian that machines are built from, each with its version of systemd.

// The tests share the list.
#[path = "../../../tests/harness/src/suites.rs"]
#[allow(unreachable_pub, reason = "it belongs to a library")]
mod list;

use std::process::Stdio;

pub(crate) use list::SUITES as ALL;

use crate::{
    tools,
    versions::debian::{self, Apt},
};

/// Parses names of suites, separated by commas; returns `None` for `all`.
///
/// # Errors
/// For a name that is not in the list.
pub(crate) fn named(names: &str) -> Result<Option<Vec<&'static str>>, String> {
    if names == "all" {
        return Ok(None);
    }
    let find = |name| ALL.iter().copied().find(|suite| *suite == name);
    let unknown = || format!("--suite {names}: must be all, or of {}, separated by commas", ALL.join(", "));
    names.split(',').map(find).collect::<Option<Vec<_>>>().map(Some).ok_or_else(unknown)
}

/// Returns the suites that are available on this machine. The others are reported as skipped.
///
/// # Errors
/// If a suite in `named` is not available, or the mirror cannot be asked.
pub(crate) fn available(named: Option<&[&'static str]>, own_only: Option<&str>) -> Result<Vec<&'static str>, String> {
    let own = debian::own_suite();
    let mut available = Vec::new();
    for suite in named.unwrap_or(ALL).iter().copied() {
        let missing = if own.as_deref() == Ok(suite) {
            None
        } else if let Some(why) = own_only {
            Some(why.to_owned())
        } else if let Some(mirror) = mirror()? {
            on_the_mirror(&mirror, suite)?.err()
        } else {
            None
        };
        match missing {
            None => available.push(suite),
            Some(why) if named.is_some() => return Err(format!("--suite {suite}: {why}")),
            Some(why) => eprintln!("SKIPPED: {suite}: {why}"),
        }
    }
    Ok(available)
}

/// Returns the Debian mirror of this machine; `None` if it is not Debian: then mmdebstrap uses its own.
pub(crate) fn mirror() -> Result<Option<String>, String> {
    debian::own_suite().ok().map(|_| debian::mirror()).transpose()
}

/// Returns whether the mirror has a suite, or else the message of apt.
///
/// # Errors
/// If apt fails for another reason.
fn on_the_mirror(mirror: &str, suite: &str) -> Result<Result<(), String>, String> {
    let folder = tools::root().join("target/machines").join(format!("apt-{suite}"));
    let apt = Apt::new(folder, suite, mirror)?;
    let output = apt.get().args(["update", "-qq"]).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("apt-get: {error}"))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match not_there(&said) {
        Some(why) => Ok(Err(why.to_owned())),
        None => Err(format!("apt-get update for {suite}: {}: {said}", output.status)),
    }
}

/// Returns the line of apt that says that there is no such suite.
fn not_there(output: &str) -> Option<&str> {
    let line = output.lines().find(|line| line.ends_with("does not have a Release file."))?;
    Some(line.trim_start_matches("E: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mirror_without_the_suite_is_a_reason_to_skip_it() {
        let without = "E: The repository 'http://mirror.example/debian nosuch Release' does not have a Release file.\n";
        assert_eq!(not_there(without), Some(without.trim().trim_start_matches("E: ")));
        let unsigned = "W: GPG error: http://mirror.example/debian forky InRelease: no public key\n\
                        E: The repository 'http://mirror.example/debian forky InRelease' is not signed.\n";
        assert_eq!(not_there(unsigned), None);
    }

    #[test]
    fn suites_are_named_as_they_are_listed() {
        assert_eq!(named("all"), Ok(None));
        assert_eq!(named("forky,bookworm"), Ok(Some(vec!["forky", "bookworm"])));
        assert!(named("").is_err() && named("trixie,sid").is_err());
    }
}
