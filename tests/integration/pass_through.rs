//! Without election settings the program replaces itself with the command.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
};

use crate::program;

/// The program without settings.
fn bare(words: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_AWAIT_ELECTION_") {
            command.env_remove(name);
        }
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn output(mut command: Command) -> (Output, String) {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output, text)
}

#[test]
fn the_program_becomes_the_command_with_the_same_pid_and_parent() {
    for words in [&["--", "sh", "-c", "echo $$ $PPID"][..], &["sh", "-c", "echo $$ $PPID"]] {
        let mut command = bare(words);
        let child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(text, format!("{pid} {}", std::process::id()));
    }
}

#[test]
fn the_command_has_the_environment_and_signal_mask_of_the_caller() {
    let (_, with) = output(bare(&["--", "env"]));
    let (_, without) = output({
        let mut command = Command::new("env");
        command.stdin(Stdio::null());
        command
    });
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with("_="));
        lines.sort();
        lines
    };
    assert_eq!(sorted(&with), sorted(&without));

    let masks = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let (_, with) = output(bare(&[&["--"][..], &masks].concat()));
    let mut direct = Command::new(masks[0]);
    direct.args(&masks[1..]).stdin(Stdio::null());
    let (_, without) = output(direct);
    assert_eq!(with, without);
}

#[test]
fn logging_settings_alone_still_pass_through() {
    let mut command = bare(&["--", "sh", "-c", "echo $PPID"]);
    command.env("ETCD_AWAIT_ELECTION_LOG", "debug").env("ETCD_AWAIT_ELECTION_LOG_FORMAT", "json");
    let (output, text) = output(command);
    assert!(output.status.success());
    assert_eq!(text, std::process::id().to_string());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut command = bare(&["--", "sh", "-c", "echo $PPID"]);
    command.env("ETCD_AWAIT_ELECTION_LOCK_NAME", "").env("ETCD_AWAIT_ELECTION_LEASE_DURATION", "");
    let (output, text) = output(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, std::process::id().to_string());
}

#[test]
fn empty_variables_are_missing_where_an_election_is_requested() {
    for (words, set, missing) in [
        (&["true"][..], "LOCK_NAME", "--endpoints (or"),
        (&["true"], "ENDPOINTS", "--lock-name (or"),
        (&["ctl", "show"], "LOCK_NAME", "--endpoints (or"),
        (&["ctl", "healthcheck"], "LOCK_NAME", "--status-endpoint (or"),
    ] {
        let mut command = bare(words);
        for name in ["LOCK_NAME", "ENDPOINTS", "DISCOVERY_SRV", "STATUS_ENDPOINT", "IDENTITY"] {
            command.env(format!("ETCD_AWAIT_ELECTION_{name}"), if name == set { "l" } else { "" });
        }
        let (output, _) = output(command);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {message}");
        assert!(message.contains(&format!("requires {missing}")), "{words:?}: {message}");
    }
}

#[test]
fn every_exit_code_of_the_command_is_passed_on() {
    for code in 0..=255 {
        let (output, _) = output(bare(&["--", "sh", "-c", &format!("exit {code}")]));
        assert_eq!(output.status.code(), Some(code));
    }
}

/// No other process turns the signal into an exit code.
#[test]
fn a_command_killed_by_a_signal_is_reported_as_killed() {
    let (output, _) = output(bare(&["--", "sh", "-c", "kill -TERM $$"]));
    assert_eq!(output.status.signal(), Some(15));
}

#[test]
fn a_command_that_cannot_be_executed_exits_with_126_or_127_and_is_named() {
    for (command, code, why) in [
        ("no-such-command", 127, "was not found"),
        ("/no/such/command", 127, "was not found"),
        ("/", 126, "Is a directory"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let (output, _) = output(bare(&["--", command]));
        assert_eq!(output.status.code(), Some(code), "{command}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(command) && message.contains(why), "{command}: {message}");
    }
}

#[test]
fn no_command_at_all_is_a_usage_error() {
    let (output, _) = output(bare(&[]));
    assert_eq!(output.status.code(), Some(64));
}
