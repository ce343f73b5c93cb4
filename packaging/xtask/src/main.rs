//! `cargo xtask …`: the project's own commands, for a machine with only Rust on it.
//!
//! Depends on next to nothing, so that it is soon built.

mod dist;
mod suites;
mod tools;
mod verify;
mod versions;

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

const USAGE: &str = "\
cargo xtask demo      a three-member TLS cluster, three instances, and what happens to their leaders; about a minute
cargo xtask test      all tests, against real clusters (further arguments go to cargo test)
               --etcd WHICH first: the integration tests against other versions of etcd. path, all, others (all except path),
                       or names of versions such as trixie,3.6 (Debian suites: 3.4 and 3.5; 3.6 and 3.7: built with Go);
                       further arguments go to the tests, such as auth:: tls::
               --differing after that: only those tests whose subject differs between the versions
               --all-on VERSION after that: but all tests on this one
cargo xtask generate  writes the files that follow from the settings: tables in docs/, example.env, what the NixOS module reads
cargo xtask nemesis   five instances and a fault every second, as long as you like: --minutes 60 --seed 7
cargo xtask bench     how fast it is and what it costs, beside etcdctl lock and bare etcd (--help for what it can be told)
cargo xtask verify    what ships, on whole machines in containers; needs root and Debian: packages, systemd, containers, or all
               --suite bookworm,trixie,forky: systemd only as it is in these suites of Debian; all that can be had unless it is given
               --table: and write how soon the next host leads into docs/systemd.md
cargo xtask dist      what is released, in target/dist: the static program, deb, rpm, tar.gz, a bill of materials, checksums
               --arch amd64|arm64|all: instead of this machine's
               --binary: only the program; --without-sbom: all but the bill of materials, whose tool takes minutes to compile
               --twice: and again from a clone of the commit; it must be the same
cargo xtask setup     only install what these need: etcd, etcdctl, protoc";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let name = arguments.next();
    let rest: Vec<_> = arguments.collect();
    let result = match name.as_deref() {
        Some("demo") => tools::install().and_then(|()| demo(&rest)),
        Some("test") => tools::install().and_then(|()| test(&rest)),
        Some("generate") => tools::install().and_then(|()| generate(&rest)),
        Some("nemesis") => tools::install().and_then(|()| nemesis(&rest)),
        Some("bench") => tools::install().and_then(|()| bench(&rest)),
        Some("verify") => verify::verify(&rest),
        Some("dist") => dist::dist(&rest),
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

/// What differs between the versions of etcd: what the model assumes, logins, leases, reads without values, watches, TLS, restarts,
/// warnings, and what `etcdctl` does. Part of every check, so only what is soon done.
const DIFFERING: [&str; 12] = [
    "assumptions::",
    "auth::",
    "backup::",
    "foreign_keys::",
    "tokens::",
    "tls::",
    "loss::",
    "versions::",
    "compaction",
    "rolling_restart",
    "without_space",
    "observer",
];

fn test(arguments: &[String]) -> Result<(), String> {
    let [option, which, rest @ ..] = arguments else { return all_tests(arguments) };
    if option != "--etcd" {
        return all_tests(arguments);
    }
    let (filters, rest) = match rest {
        [differing, rest @ ..] if differing == "--differing" => (&DIFFERING[..], rest),
        rest => (&[][..], rest),
    };
    let (all_on, rest) = match rest {
        [all_on, version, rest @ ..] if all_on == "--all-on" => (Some(version), rest),
        rest => (None, rest),
    };
    let mut failed = Vec::new();
    for etcd in versions::named(which)? {
        eprintln!("== {}", etcd.name);
        let mut words = vec!["test", "--test", "integration", "--"];
        if all_on.is_none_or(|version| etcd.name != format!("etcd {version}")) {
            words.extend(filters);
        }
        let folder = etcd.folder.as_deref();
        let variables = folder.map(|it| [("ETCD_BIN", it.join("etcd")), ("ETCDCTL_BIN", it.join("etcdctl"))]);
        if let Err(message) = cargo(&words, rest, variables.as_ref().map_or(&[], |both| both)) {
            failed.push(format!("{}: {message}", etcd.name));
        }
    }
    if let Some(path) = versions::upgrade_path(which)? {
        eprintln!("== rolling upgrade: {}", path.display());
        let words = ["test", "--test", "integration", "--", "rolling_upgrade"];
        failed.extend(cargo(&words, &[], &[("ETCD_UPGRADE", path)]).err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn all_tests(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--workspace"], arguments, &[])
}

/// A test knows the files and writes them instead of comparing.
fn generate(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--lib", "generated_files", "--"], arguments, &[("GENERATE", "yes".into())])
}

fn demo(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "demo", "--"], arguments, &[])
}

fn nemesis(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "nemesis", "--"], arguments, &[])
}

/// Of the program that ships, where it can be made.
fn bench(arguments: &[String]) -> Result<(), String> {
    let shipped = dist::ready().and_then(|()| dist::binary());
    let programs: Vec<_> = shipped
        .inspect_err(|why| eprintln!("{why}\nso the program that cargo makes for this machine is measured"))
        .map(|program| ("PROGRAM_BIN", program))
        .into_iter()
        .collect();
    cargo(&["bench", "--quiet", "--bench", "bench", "--"], arguments, &programs)
}

/// Runs cargo with what `setup` installed on its PATH, and with variables for the tests, most of which name programs.
fn cargo(arguments: &[&str], more: &[String], variables: &[(&str, PathBuf)]) -> Result<(), String> {
    let mut command = Command::new(tools::cargo());
    command.args(arguments).args(more).env("PATH", tools::path()).current_dir(tools::root());
    command.envs(variables.iter().map(|(variable, path)| (variable, path)));
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed: {status}", arguments.join(" "))) }
}
