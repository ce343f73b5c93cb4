//! `cargo xtask …`: the project's own commands, for a machine with only Rust on it.
//!
//! Depends on nothing, so that it is built at once.

mod tools;

use std::{
    env,
    process::{Command, ExitCode},
};

const USAGE: &str = "\
cargo xtask demo      a three-member TLS cluster, three instances, and what happens to their leaders; about a minute
cargo xtask test      all tests, against real clusters (further arguments go to cargo test)
cargo xtask nemesis   five instances and a fault every second, as long as you like: --minutes 60 --seed 7
cargo xtask bench     how fast it is and what it costs, beside etcdctl lock and bare etcd (--help for what it can be told)
cargo xtask setup     only install what these need: etcd, etcdctl, protoc";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let name = arguments.next();
    let rest: Vec<_> = arguments.collect();
    let result = match name.as_deref() {
        Some("demo") => tools::install().and_then(|()| demo(&rest)),
        Some("test") => tools::install().and_then(|()| test(&rest)),
        Some("nemesis") => tools::install().and_then(|()| nemesis(&rest)),
        Some("bench") => tools::install().and_then(|()| bench(&rest)),
        Some("setup") => tools::install(),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--workspace"], arguments)
}

fn demo(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "demo", "--"], arguments)
}

fn nemesis(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "nemesis", "--"], arguments)
}

fn bench(arguments: &[String]) -> Result<(), String> {
    cargo(&["bench", "--quiet", "--bench", "bench", "--"], arguments)
}

/// Runs cargo with what `setup` installed on its PATH.
fn cargo(arguments: &[&str], more: &[String]) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).args(more).env("PATH", tools::path()).current_dir(tools::root());
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed: {status}", arguments.join(" "))) }
}
