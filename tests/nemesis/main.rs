//! `cargo xtask nemesis`: the nemesis for any time, with a seed that can be repeated.

mod command_line;
#[path = "run.rs"]
mod nemesis;

use std::process::ExitCode;

fn main() -> ExitCode {
    command_line::main(false)
}
