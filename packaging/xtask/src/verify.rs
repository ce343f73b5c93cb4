//! `cargo xtask verify`: tests the packages on machines in containers, and reports what this machine cannot test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{dist, suites, tools, versions::debian};

/// The parts to verify, which are the modules of `tests/machines/`.
const PARTS: [&str; 3] = ["packages", "systemd", "containers"];

/// The parts that need the static program.
const STATIC: [&str; 2] = ["packages", "containers"];

/// The parts whose tests run on each suite of Debian.
const ON_SUITES: [&str; 2] = ["packages", "systemd"];

/// Lists how the names of those tests begin whose result does not depend on the version of systemd or dpkg: they test the lease,
/// the guard, or scripts that other tests run on each suite. With `--differing` they run on the first suite only.
const SAME_EVERYWHERE: [&str; 14] = [
    "a_command_is_split_into_words",
    "a_command_that_ignores_sigterm",
    "a_host_paused_for",
    "a_host_that_is_cut_off",
    "a_reload_",
    "a_standby_takes_over_at_once_from_a_killed_guard",
    "a_standby_takes_over_from_a_lost_host",
    "a_stop_uses_the_stop_signal",
    "a_unit_with_invalid_settings",
    "an_exec_reload",
    "installation_and_upgrade_do_not_stop_a_leader",
    "on_a_stop_the_command_receives_only",
    "removal_without_etcd",
    "the_configuration_of_nginx",
];

/// The programs and files that this machine needs, with their Debian packages.
const NEEDED: [(&str, &str); 5] = [
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("iptables", "iptables"),
    ("mmdebstrap", "mmdebstrap"),
    (debian::KEYRING, "debian-archive-keyring"),
];

/// The options of the command line.
struct Order {
    parts: Vec<&'static str>,
    /// The suites of Debian for the parts that run on each; `None` for all available ones.
    suites: Option<Vec<&'static str>>,
    /// Whether only the first suite has all tests.
    differing: bool,
    /// Whether to write the measured times to the documents.
    table: bool,
}

impl Order {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut order = Self { parts: Vec::new(), suites: None, differing: false, table: false };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--suite" => order.suites = suites::named(words.next().unwrap_or_default())?,
                "--differing" => order.differing = true,
                "--table" => order.table = true,
                name => match PARTS.into_iter().find(|part| *part == name) {
                    Some(part) => order.parts.push(part),
                    None => {
                        return Err(format!(
                            "verify {name}: use --suite, --differing, --table, or one of {}",
                            PARTS.join(", ")
                        ));
                    }
                },
            }
        }
        if order.parts.is_empty() {
            order.parts = PARTS.to_vec();
        }
        if (order.suites.is_some() || order.differing) && !on_suites(&order.parts) {
            return Err(format!("verify --suite and --differing require one of the parts {}", ON_SUITES.join(", ")));
        }
        if order.table && (order.suites.is_some() || order.differing || !order.parts.contains(&"systemd")) {
            return Err("verify --table requires the part systemd, and all tests on all suites".to_owned());
        }
        Ok(order)
    }
}

/// Whether any of these parts runs on the suites.
fn on_suites(parts: &[&str]) -> bool {
    parts.iter().any(|part| ON_SUITES.contains(part))
}

/// Verifies the given parts, or all.
pub(crate) fn verify(arguments: &[String]) -> Result<(), String> {
    let Order { mut parts, suites: named, differing, table } = Order::parse(arguments)?;
    if let Err(why) = ready() {
        eprintln!("SKIPPED: {}: {why}", parts.join(", "));
        return Ok(());
    }
    tools::install()?;
    let mut variables = Vec::new();
    // Programs that are linked to this machine's C library may not run on an older suite.
    let mut own_suite_only = None;
    match dist::ready() {
        Ok(()) => {
            // The released program instead of the one that cargo builds for tests.
            variables.push(("PROGRAM_BIN", dist::binary()?));
            variables.push(("JOURNALED_BIN", dist::journaled()?));
            if parts.contains(&"packages") {
                dist::deb()?;
            }
        }
        Err(why) => {
            let (without, rest): (Vec<_>, _) = parts.into_iter().partition(|part| STATIC.contains(part));
            if !without.is_empty() {
                eprintln!("SKIPPED: {}: {why}", without.join(", "));
            }
            parts = rest;
            own_suite_only = Some(why);
        }
    }
    let mut run_on = Vec::new();
    if on_suites(&parts) {
        variables.extend(suites::mirror()?.map(|mirror| ("DEBIAN_MIRROR", mirror.into())));
        run_on = suites::available(named.as_deref(), own_suite_only.as_deref())?;
        for suite in run_on.iter().filter(|_| parts.contains(&"systemd")) {
            // The result of an earlier run.
            let _ = fs::remove_file(tools::root().join(format!("target/verify/failover-{suite}.csv")));
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    // Compiled first, so that a compiler error does not count as a machine without an engine.
    crate::cargo(&["test", "--test", "machines", "--no-run"], &[], &variables)?;
    if let Err(why) = machines(&["engine::"], &variables) {
        // Some kernels and some containers do not allow an engine.
        eprintln!("SKIPPED: {}: could not start a container engine, see above: {why}", parts.join(", "));
        return Ok(());
    }
    let mut words: Vec<_> = parts.iter().map(|part| format!("{part}::")).collect();
    for suite in suites::ALL.iter().filter(|suite| !run_on.contains(suite)) {
        words.extend(["--skip".to_owned(), format!("::{suite}::")]);
    }
    for suite in run_on.iter().skip(1).filter(|_| differing) {
        words.extend(SAME_EVERYWHERE.iter().flat_map(|test| ["--skip".to_owned(), format!("::{suite}::{test}")]));
    }
    machines(&words.iter().map(String::as_str).collect::<Vec<_>>(), &variables)?;
    if table {
        crate::cargo(&["run", "--package", "harness", "--bin", "failover"], &[], &[])?;
    }
    Ok(())
}

/// Runs three tests at a time: each has several machines, most of which wait.
fn machines(words: &[&str], variables: &[(&str, PathBuf)]) -> Result<(), String> {
    let words = [&["test", "--test", "machines", "--", "--test-threads=3"], words].concat();
    crate::cargo(&words, &[], variables)
}

/// Returns whether machines can be created here. Missing programs are installed only if CI is set.
fn ready() -> Result<(), String> {
    if !tools::is_root() {
        return Err("root is required for the cgroups and the file systems of the machines".to_owned());
    }
    if !tools::on_path("apt-get") {
        return Err("apt-get is required, as the machines are built from Debian packages".to_owned());
    }
    let missing =
        || NEEDED.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect::<Vec<_>>();
    if !missing().is_empty() && env::var_os("CI").is_some() {
        tools::apt_update()?;
        tools::apt_install(&missing())?;
    }
    let missing = missing();
    if !missing.is_empty() {
        return Err(format!("missing: {0}; apt-get install --no-install-recommends {0}", missing.join(" ")));
    }
    Ok(())
}

/// Returns whether a program or file is present. If an engine runs already, dockerd and iptables are not needed.
fn has(program: &str) -> bool {
    let answers = || {
        let mut docker = Command::new("docker");
        docker.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        docker.status().is_ok_and(|status| status.success())
    };
    // The sbin folders may not be on the PATH.
    tools::on_path(program)
        || Path::new(program).is_file()
        || ["/usr/sbin", "/sbin"].iter().any(|folder| fs::metadata(format!("{folder}/{program}")).is_ok())
        || matches!(program, "dockerd" | "iptables") && answers()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differing_leaves_to_one_suite_are_tests() {
        let folder = tools::root().join("tests/machines");
        let files = ["systemd.rs", "systemd/services.rs", "packages/reload.rs", "packages/removal.rs"];
        let read = |file| fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let sources = files.map(read).concat();
        for test in SAME_EVERYWHERE {
            assert!(sources.contains(&format!("\nfn {test}")), "no test is called {test}…");
        }
    }
}
