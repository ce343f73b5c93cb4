//! The program ends as the command does; a command that cannot be executed is reported before the election.

use std::time::Duration;

use harness::{Behavior, End, Timing};
use nix::sys::signal::Signal;

use crate::shared_world;

/// Codes with a conventional meaning, and some without. The test in `pass_through` tries all 256.
const CODES: [u8; 22] = [0, 1, 2, 3, 42, 64, 69, 70, 71, 75, 77, 78, 79, 80, 99, 126, 127, 128, 137, 143, 254, 255];

#[test]
fn the_program_exits_with_the_exit_code_of_the_command() {
    let world = shared_world();
    // A few at a time share one lock, so that a mixed-up exit code would be noticed.
    for codes in CODES.chunks(5) {
        let all: Vec<_> = codes
            .iter()
            .map(|&code| {
                let behavior = Behavior::exits(code, Duration::ZERO);
                (code, world.candidate(&format!("code-{code}")).behavior(behavior).start())
            })
            .collect();
        for (code, candidate) in all {
            assert_eq!(candidate.wait_exit(5 * Timing::START), End::Code(i32::from(code)));
        }
    }
    world.verdict();
}

#[test]
fn a_signal_is_128_and_its_number() {
    let world = shared_world();
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGABRT,
        Signal::SIGKILL,
        Signal::SIGUSR1,
        Signal::SIGALRM,
        Signal::SIGTERM,
    ];
    for signal in signals {
        let number = signal as i32;
        let behavior = Behavior { die_by: Some(number), ..Behavior::default() };
        let (end, _) = world.candidate(signal.as_str()).behavior(behavior).run();
        assert_eq!(end, End::Code(128 + number), "{signal}");
    }
    world.verdict();
}

/// etcd does not exist, so an instance that campaigned first would wait.
#[test]
fn a_command_that_cannot_be_executed_is_reported_before_campaigning() {
    let world = shared_world();
    let directory = world.directory().to_str().expect("a plain path").to_owned();
    let plain_file = format!("{directory}/plain");
    std::fs::write(&plain_file, "no program").expect("writing it");
    for (command, code, why) in [
        ("no-such-command".to_owned(), 127, "was not found"),
        (format!("{directory}/no-such-command"), 127, "was not found"),
        (plain_file, 126, "Permission denied"),
        (directory, 126, "Is a directory"),
    ] {
        let (end, candidate) = world.candidate("a").set("ENDPOINTS", "127.0.0.1:1").command([&command]).run();
        assert_eq!(end, End::Code(code), "{command}: {}", candidate.stderr());
        let log = candidate.stderr();
        assert!(log.contains(&command) && log.contains(why), "{log}");
    }
    world.verdict();
}
