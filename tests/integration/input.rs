//! Bad input: an exit code, and a message with the flag, the variable, the value.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::program;

/// A complete configuration for an etcd that does not exist, with some settings changed.
fn run(changes: &[(&str, &str)], as_flags: bool) -> Output {
    let mut command = Command::new(program());
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let mut settings = vec![("LOCK_NAME", "lock"), ("IDENTITY", "me"), ("ENDPOINTS", "127.0.0.1:1")];
    // Whatever gets past the check would wait for etcd: it must not wait for ever.
    settings.push(("ACQUIRE_TIMEOUT", "0"));
    settings.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    for (name, value) in settings {
        command.env(variable(name), value);
    }
    for (name, value) in changes {
        if as_flags {
            command.arg(format!("{}={value}", flag(name)));
        } else {
            command.env(variable(name), value);
        }
    }
    command.args(["--", "true"]).output().expect("it starts")
}

fn variable(name: &str) -> String {
    format!("ETCD_AWAIT_ELECTION_{name}")
}

fn flag(name: &str) -> String {
    format!("--{}", name.to_lowercase().replace('_', "-"))
}

/// The message names the setting both ways; nothing went wrong inside.
#[track_caller]
fn refused(output: &Output, code: i32, names: &[&str], values: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{names:?} {values:?}: {message}");
    for name in names {
        assert!(message.contains(&flag(name)), "no {} in: {message}", flag(name));
        assert!(message.contains(&variable(name)), "no {} in: {message}", variable(name));
    }
    for value in values {
        assert!(message.contains(value), "no {value:?} in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_value_that_cannot_be_understood_is_named_with_flag_and_variable() {
    for (name, value) in [
        ("LOCK_NAME", "ends/with/"),
        ("ENDPOINTS", "ftp://somewhere:1"),
        ("ENDPOINTS", "somewhere:99999"),
        ("ENDPOINTS", "http://good:1,https://mixed:1,???"),
        ("LEASE_DURATION", "soon"),
        ("LEASE_DURATION", "-1"),
        ("LEASE_DURATION", "0"),
        ("LEASE_DURATION", "1500ms"),
        ("LEASE_DURATION", "99999999999999999999"),
        ("RENEW_DEADLINE", "soon"),
        ("RENEW_DEADLINE", "15"),
        ("RETRY_PERIOD", "soon"),
        ("RETRY_PERIOD", "10"),
        ("RETRY_PERIOD", "0"),
        ("STOP_GRACE", "soon"),
        ("STOP_GRACE", "-1s"),
        ("STOP_SIGNAL", "SIGNONSENSE"),
        ("ACQUIRE_TIMEOUT", "soon"),
        ("ON_LOSS", "despair"),
        ("LOG_FORMAT", "xml"),
        ("NOTIFY_READY", "never"),
        ("STATUS_ENDPOINT", "nowhere"),
        ("STATUS_ENDPOINT", "127.0.0.1:99999"),
    ] {
        for as_flags in [false, true] {
            refused(&run(&[(name, value)], as_flags), 64, &[name], &[value]);
        }
    }
}

#[test]
fn a_part_of_the_settings_is_an_error_that_names_the_rest() {
    for (given, missing) in [
        (("LOCK_NAME", "lock"), &["ENDPOINTS"][..]),
        (("ENDPOINTS", "127.0.0.1:1"), &["LOCK_NAME"]),
        (("IDENTITY", "me"), &["LOCK_NAME", "ENDPOINTS"]),
        (("STATUS_ENDPOINT", ":0"), &["LOCK_NAME", "ENDPOINTS"]),
    ] {
        let mut command = Command::new(program());
        command.env_clear().env("PATH", "/usr/bin:/bin").env(variable(given.0), given.1).stdin(Stdio::null());
        let output = command.args(["--", "true"]).output().expect("it starts");
        refused(&output, 64, missing, &[]);
    }
}

#[test]
fn settings_that_need_each_other_are_named_together() {
    refused(&run(&[("CERT", "/some/cert")], false), 64, &["KEY"], &[]);
    refused(&run(&[("KEY", "/some/key")], false), 64, &["CERT"], &[]);
    refused(&run(&[("USER", "somebody")], false), 64, &["PASSWORD"], &[]);
    refused(&run(&[("PASSWORD", "secret-password")], false), 64, &["USER"], &[]);
    let both = [("USER", "somebody"), ("PASSWORD", "secret-password"), ("PASSWORD_FILE", "/some/file")];
    let output = run(&both, false);
    refused(&output, 64, &["PASSWORD", "PASSWORD_FILE"], &[]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret-password"));
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| -> String {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("writing it");
        path.to_str().expect("a plain path").to_owned()
    };
    let nonsense = write("nonsense", "this is no certificate");
    let missing = path(directory.path(), "missing");
    for file in [&missing, &nonsense] {
        refused(&run(&[("CACERT", file)], false), 78, &["CACERT"], &[file]);
    }
    refused(&run(&[("CERT", &missing), ("KEY", &nonsense)], false), 78, &["CERT"], &[&missing]);
    refused(&run(&[("USER", "somebody"), ("PASSWORD_FILE", &missing)], false), 78, &["PASSWORD_FILE"], &[&missing]);
}

#[test]
fn a_flag_that_does_not_exist_is_a_usage_error() {
    let mut command = Command::new(program());
    let output = command.env_clear().args(["--no-such-flag", "--", "true"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-flag"));
}

#[test]
fn no_command_is_a_usage_error() {
    let mut command = Command::new(program());
    command.env_clear().args(["--lock-name=lock", "--endpoints=127.0.0.1:1"]);
    assert_eq!(command.output().expect("it starts").status.code(), Some(64));
}

/// A flag wins over its variable.
#[test]
fn flags_come_before_variables() {
    let mut command = Command::new(program());
    command.env_clear().env(variable("LEASE_DURATION"), "nonsense").env("PATH", "/usr/bin:/bin");
    command.args(["--lock-name=lock", "--endpoints=127.0.0.1:1", "--acquire-timeout=0", "--lease-duration=15"]);
    let output = command.args(["--", "true"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("a plain path").to_owned()
}
