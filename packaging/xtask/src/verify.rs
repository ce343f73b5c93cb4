//! `cargo xtask verify`: what ships, on whole machines in containers. Says what the machine at hand lacks for it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{dist, suites, tools, versions::debian};

/// What can be verified: the modules of `tests/machines/`.
const PARTS: [&str; 3] = ["packages", "systemd", "containers"];

/// Those of what ships as one static file.
const STATIC: [&str; 2] = ["packages", "containers"];

/// What the machine must have, and the Debian package it comes with.
const NEEDED: [(&str, &str); 5] = [
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("iptables", "iptables"),
    ("mmdebstrap", "mmdebstrap"),
    (debian::KEYRING, "debian-archive-keyring"),
];

/// What the command line asked for.
struct Order {
    parts: Vec<&'static str>,
    /// Of Debian, for the part `systemd`; all that can be had unless they are named.
    suites: Option<Vec<&'static str>>,
    /// Whether to write the times that were measured into the documents.
    table: bool,
}

impl Order {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut order = Self { parts: Vec::new(), suites: None, table: false };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--suite" => order.suites = suites::named(words.next().unwrap_or_default())?,
                "--table" => order.table = true,
                name => match PARTS.into_iter().find(|part| *part == name) {
                    Some(part) => order.parts.push(part),
                    None => return Err(format!("verify {name}: must be --suite, --table, or of {}", PARTS.join(", "))),
                },
            }
        }
        if order.parts.is_empty() {
            order.parts = PARTS.to_vec();
        }
        if order.suites.is_some() && !order.parts.contains(&"systemd") {
            return Err("verify --suite is for the part systemd, which was not asked for".to_owned());
        }
        if order.table && (order.suites.is_some() || !order.parts.contains(&"systemd")) {
            return Err("verify --table needs the times of systemd on all suites".to_owned());
        }
        Ok(order)
    }
}

/// Verifies the parts named, or all.
pub(crate) fn verify(arguments: &[String]) -> Result<(), String> {
    let Order { mut parts, suites: named, table } = Order::parse(arguments)?;
    if let Err(why) = ready() {
        eprintln!("SKIPPED: {}: {why}", parts.join(", "));
        return Ok(());
    }
    tools::install()?;
    let mut variables = Vec::new();
    // What runs in machines was built here, and need not run with an older C library.
    let mut own_suite_only = None;
    match dist::ready() {
        Ok(()) => {
            // What ships, and not what cargo would build for the tests.
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
    if parts.contains(&"systemd") {
        variables.push(("DEBIAN_MIRROR", suites::mirror()?.into()));
        run_on = suites::available(named.as_deref(), own_suite_only.as_deref())?;
        for suite in &run_on {
            // Of an earlier run.
            let _ = fs::remove_file(tools::root().join(format!("target/verify/failover-{suite}.csv")));
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    // What does not compile says nothing about this machine.
    crate::cargo(&["test", "--test", "machines", "--no-run"], &[], &variables)?;
    if let Err(why) = machines(&["engine::"], &variables) {
        // Some kernels, and some containers, let nobody have one.
        eprintln!("SKIPPED: {}: no engine runs here, as said above: {why}", parts.join(", "));
        return Ok(());
    }
    let mut words: Vec<_> = parts.iter().map(|part| format!("{part}::")).collect();
    for suite in suites::ALL.iter().filter(|suite| !run_on.contains(suite)) {
        words.extend(["--skip".to_owned(), format!("::{suite}::")]);
    }
    machines(&words.iter().map(String::as_str).collect::<Vec<_>>(), &variables)?;
    if table {
        crate::cargo(&["run", "--package", "harness", "--bin", "failover"], &[], &[])?;
    }
    Ok(())
}

/// Two tests at once: each is a handful of machines.
fn machines(words: &[&str], variables: &[(&str, PathBuf)]) -> Result<(), String> {
    let words = [&["test", "--test", "machines", "--", "--test-threads=2"], words].concat();
    crate::cargo(&words, &[], variables)
}

/// Whether machines can be made here; what is missing is only installed where nobody minds.
fn ready() -> Result<(), String> {
    if !tools::is_root() {
        return Err("it needs root, for the cgroups and the file systems of the machines".to_owned());
    }
    if !tools::on_path("apt-get") {
        return Err("the machines are made of Debian's packages, and there is no apt-get here".to_owned());
    }
    let missing =
        || NEEDED.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect::<Vec<_>>();
    if !missing().is_empty() && env::var_os("CI").is_some() {
        tools::apt_update()?;
        tools::apt_install(&missing())?;
    }
    let missing = missing();
    if !missing.is_empty() {
        return Err(format!("it needs {0}: apt-get install --no-install-recommends {0}", missing.join(" ")));
    }
    Ok(())
}

/// An engine that runs already needs neither its server's program here nor a firewall of ours.
fn has(program: &str) -> bool {
    let answers = || {
        let mut docker = Command::new("docker");
        docker.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        docker.status().is_ok_and(|status| status.success())
    };
    // Not on the PATH of every root.
    tools::on_path(program)
        || Path::new(program).is_file()
        || ["/usr/sbin", "/sbin"].iter().any(|folder| fs::metadata(format!("{folder}/{program}")).is_ok())
        || matches!(program, "dockerd" | "iptables") && answers()
}
