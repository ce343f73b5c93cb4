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
    /// The suites of Debian for the part `systemd`; `None` for all available ones.
    suites: Option<Vec<&'static str>>,
    /// Whether to write the measured times to the documents.
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
                    None => return Err(format!("verify {name}: use --suite, --table, or one of {}", PARTS.join(", "))),
                },
            }
        }
        if order.parts.is_empty() {
            order.parts = PARTS.to_vec();
        }
        if order.suites.is_some() && !order.parts.contains(&"systemd") {
            return Err("verify --suite requires the part systemd".to_owned());
        }
        if order.table && (order.suites.is_some() || !order.parts.contains(&"systemd")) {
            return Err("verify --table requires the part systemd, and cannot be used with --suite".to_owned());
        }
        Ok(order)
    }
}

/// Verifies the given parts, or all.
pub(crate) fn verify(arguments: &[String]) -> Result<(), String> {
    let Order { mut parts, suites: named, table } = Order::parse(arguments)?;
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
    if parts.contains(&"systemd") {
        variables.push(("DEBIAN_MIRROR", suites::mirror()?.into()));
        run_on = suites::available(named.as_deref(), own_suite_only.as_deref())?;
        for suite in &run_on {
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
    machines(&words.iter().map(String::as_str).collect::<Vec<_>>(), &variables)?;
    if table {
        crate::cargo(&["run", "--package", "harness", "--bin", "failover"], &[], &[])?;
    }
    Ok(())
}

/// Runs two tests at a time, as each has several machines.
fn machines(words: &[&str], variables: &[(&str, PathBuf)]) -> Result<(), String> {
    let words = [&["test", "--test", "machines", "--", "--test-threads=2"], words].concat();
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
