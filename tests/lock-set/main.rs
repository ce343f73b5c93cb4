//! `cargo xtask lock-set`: Jepsen's test that found lost updates under the locks of etcd.
//!
//! The commands add elements to a set, each by reading the whole set, waiting, and writing it back, while the nemesis
//! causes its faults. With `--freeze-machines` it shows what only a fencing token prevents. See `harness::LockSet`.

#[path = "../nemesis/command_line.rs"]
mod command_line;
#[path = "../nemesis/run.rs"]
mod nemesis;

use std::process::ExitCode;

fn main() -> ExitCode {
    command_line::main(true)
}
