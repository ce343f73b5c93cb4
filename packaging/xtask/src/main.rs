//! `cargo xtask …`: the development commands of the project. They need only Rust, and install the other tools.
//!
//! This package has few dependencies, so that it builds fast.

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
cargo xtask demo      Show failovers with a three-member TLS cluster and three instances; takes about a minute
cargo xtask test      Run all tests against real clusters; further arguments are passed to cargo test
               --etcd WHICH          Run the integration tests with other versions of etcd: path, all, others (all except path),
                                     or versions such as trixie,3.6 (Debian suites have 3.4 and 3.5; 3.6 and 3.7 are built with Go).
                                     This must be the first option; further arguments are passed to the tests: auth:: tls::
               --differing           After --etcd: run only the tests whose subject differs between the versions
               --all-on VERSION      After --differing: run all tests on this version
cargo xtask generate  Write the files that are generated from the settings: tables in docs/, example.env, JSON for the NixOS module
cargo xtask nemesis   Run five instances and cause a fault every second: --minutes 60 --seed 7
cargo xtask lock-set  Do so while the commands add to a set, and check that no update is lost: --minutes 10 --freeze-machines
cargo xtask explore   Check all states of the election and the guard within a budget of faults: --instances 2 --faults 2 (--help lists the options)
cargo xtask bench     Measure speed and cost, compared with etcdctl lock and etcd alone (--help lists the options)
cargo xtask verify    Test the packages on machines in containers: packages, systemd, containers, or all; needs root and Debian
               --suite bookworm,trixie,forky    Test packages and systemd only on these suites of Debian; the default is all available
               --differing           On all suites except the first, run only the tests whose result depends on the suite
               --table               Also write the measured times of failovers to docs/systemd.md
cargo xtask alerts    Test the alert rules and the dashboard with a real Prometheus, which is unpacked if it is missing; takes a minute
cargo xtask dist      Build the release in target/dist: the static program, deb, rpm, tar.gz, a bill of materials, checksums
               --arch amd64|arm64|all    Build for these architectures; the default is that of this machine
               --binary              Build only the program
               --without-sbom        Leave out the bill of materials, whose tool takes minutes to compile
               --twice               Build again from a clone of the commit, and compare
cargo xtask setup     Install the tools that these commands need: etcd, etcdctl, protoc";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let name = arguments.next();
    let rest: Vec<_> = arguments.collect();
    let result = match name.as_deref() {
        Some("demo") => tools::install().and_then(|()| demo(&rest)),
        Some("test") => tools::install().and_then(|()| test(&rest)),
        Some("generate") => tools::install().and_then(|()| generate(&rest)),
        Some("nemesis") => tools::install().and_then(|()| nemesis(&rest)),
        Some("lock-set") => tools::install().and_then(|()| lock_set(&rest)),
        Some("explore") => explore(&rest),
        Some("bench") => tools::install().and_then(|()| bench(&rest)),
        Some("alerts") => alerts(&rest),
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

/// The tests whose subject differs between versions of etcd. All checks run them on each version, so they must be fast.
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

/// Runs the test that compares the generated files, which writes them if `GENERATE` is set.
fn generate(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--lib", "generated_files", "--"], arguments, &[("GENERATE", "yes".into())])
}

fn demo(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "demo", "--"], arguments, &[])
}

fn nemesis(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "nemesis", "--"], arguments, &[])
}

fn lock_set(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--test", "lock-set", "--"], arguments, &[])
}

/// Needs neither etcd nor any other tool, but speed.
fn explore(arguments: &[String]) -> Result<(), String> {
    cargo(&["test", "--quiet", "--profile", "explore", "--test", "explore", "--"], arguments, &[])
}

fn alerts(arguments: &[String]) -> Result<(), String> {
    tools::install()?;
    tools::need_unpacked(&["prometheus", "promtool"], "prometheus")?;
    cargo(&["test", "--test", "alerts"], arguments, &[])
}

/// Measures the static program, or else, where it cannot be built, the one that cargo builds for this machine.
fn bench(arguments: &[String]) -> Result<(), String> {
    let shipped = dist::ready().and_then(|()| dist::binary());
    let programs: Vec<_> = shipped
        .inspect_err(|why| eprintln!("measuring the program that cargo builds for this machine: {why}"))
        .map(|program| ("PROGRAM_BIN", program))
        .into_iter()
        .collect();
    cargo(&["bench", "--quiet", "--bench", "bench", "--"], arguments, &programs)
}

/// Runs cargo with the installed tools on its PATH and with these variables.
fn cargo(arguments: &[&str], more: &[String], variables: &[(&str, PathBuf)]) -> Result<(), String> {
    let mut command = Command::new(tools::cargo());
    command.args(arguments).args(more).env("PATH", tools::path()).current_dir(tools::root());
    command.envs(variables.iter().map(|(variable, path)| (variable, path)));
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed: {status}", arguments.join(" "))) }
}
