//! Invalid input: an exit code, and a message with the flag or variable to change, and its value.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::program;

/// Runs the program with settings for an etcd that does not exist, some of them changed.
fn run(changes: &[(&str, &str)], as_flags: bool) -> Output {
    let mut command = Command::new(program());
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let mut settings = vec![("LOCK_NAME", "lock"), ("IDENTITY", "me"), ("ENDPOINTS", "127.0.0.1:1")];
    // If a check fails to reject the input, the program must not wait for etcd for ever.
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

/// Checks that the message has all these words and is not a panic.
#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

/// The flag and the variable of a setting.
fn both(name: &str) -> [String; 2] {
    [flag(name), variable(name)]
}

#[test]
fn an_invalid_value_is_reported_with_its_flag_or_variable() {
    for (name, value) in [
        ("LOCK_NAME", "ends/with/"),
        ("ENDPOINTS", "ftp://somewhere:1"),
        ("ENDPOINTS", "somewhere:99999"),
        ("ENDPOINTS", "good:1,???"),
        ("LEASE_DURATION", "soon"),
        ("LEASE_DURATION", "-1"),
        ("LEASE_DURATION", "0"),
        ("LEASE_DURATION", "1500ms"),
        ("LEASE_DURATION", "99999999999999999999"),
        ("RENEW_DEADLINE", "soon"),
        ("RENEW_DEADLINE", "15"),
        ("RETRY_PERIOD", "soon"),
        ("RETRY_PERIOD", "10"),
        ("RETRY_PERIOD", "6"),
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
        // The invalid element of a list.
        let shown = value.rsplit(',').next().expect("a value");
        refused(&run(&[(name, value)], false), 64, &[&variable(name), shown]);
        refused(&run(&[(name, value)], true), 64, &[&flag(name), shown]);
    }
}

#[test]
fn incomplete_settings_are_an_error_that_names_the_missing_ones() {
    for (given, missing) in [
        (("LOCK_NAME", "lock"), &["ENDPOINTS"][..]),
        (("ENDPOINTS", "127.0.0.1:1"), &["LOCK_NAME"]),
        (("IDENTITY", "me"), &["LOCK_NAME", "ENDPOINTS"]),
        (("STATUS_ENDPOINT", ":0"), &["LOCK_NAME", "ENDPOINTS"]),
    ] {
        let mut command = Command::new(program());
        command.env_clear().env("PATH", "/usr/bin:/bin").env(variable(given.0), given.1).stdin(Stdio::null());
        let output = command.args(["--", "true"]).output().expect("it starts");
        for name in missing {
            refused(&output, 64, &both(name).each_ref().map(String::as_str));
        }
    }
}

#[test]
fn settings_that_require_each_other_are_reported_together() {
    for (given, value, missing) in [
        ("CERT", "/some/cert", "KEY"),
        ("KEY", "/some/key", "CERT"),
        ("USER", "somebody", "PASSWORD"),
        ("PASSWORD", "secret-password", "USER"),
        ("PASSWORD_FILE", "/some/file", "USER"),
    ] {
        refused(&run(&[(given, value)], false), 64, &[&variable(given), &variable(missing), &flag(missing)]);
    }
    let both = [("USER", "somebody"), ("PASSWORD", "secret-password"), ("PASSWORD_FILE", "/some/file")];
    let output = run(&both, false);
    refused(&output, 64, &[&variable("PASSWORD"), &variable("PASSWORD_FILE")]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret-password"));
}

#[test]
fn acquire_timeout_zero_and_force_exclude_each_other() {
    let output = run(&[("ACQUIRE_TIMEOUT", "0"), ("FORCE_ACQUIRE", "1")], false);
    refused(&output, 64, &[&variable("ACQUIRE_TIMEOUT"), &variable("FORCE_ACQUIRE")]);
}

#[test]
fn an_unusable_file_is_reported_with_its_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| -> String {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("writing it");
        path.to_str().expect("a plain path").to_owned()
    };
    let nonsense = write("nonsense", "this is no certificate");
    let missing = path(directory.path(), "missing");
    for file in [&missing, &nonsense] {
        refused(&run(&[("CACERT", file)], false), 78, &[&variable("CACERT"), file]);
    }
    refused(&run(&[("CERT", &missing), ("KEY", &nonsense)], false), 78, &[&variable("CERT"), &missing]);
    let output = run(&[("USER", "somebody"), ("PASSWORD_FILE", &missing)], false);
    refused(&output, 78, &[&variable("PASSWORD_FILE"), &missing]);
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let mut command = Command::new(program());
    let output = command.env_clear().args(["--no-such-flag", "--", "true"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-flag"));
}

#[test]
fn a_missing_command_is_a_usage_error() {
    let mut command = Command::new(program());
    command.env_clear().args(["--lock-name=lock", "--endpoints=127.0.0.1:1"]);
    assert_eq!(command.output().expect("it starts").status.code(), Some(64));
}

/// A flag takes precedence over its variable.
#[test]
fn flags_take_precedence_over_variables() {
    let mut command = Command::new(program());
    command.env_clear().env(variable("LEASE_DURATION"), "nonsense").env("PATH", "/usr/bin:/bin");
    command.args(["--lock-name=lock", "--endpoints=127.0.0.1:1", "--acquire-timeout=0", "--lease-duration=15"]);
    let output = command.args(["--", "true"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("a plain path").to_owned()
}
