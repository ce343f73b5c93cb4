//! `cargo xtask verify`: what ships, on whole machines in containers. Says what the machine at hand lacks for it.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{dist, tools};

/// What can be verified: the modules of `tests/machines/`.
const PARTS: [&str; 3] = ["packages", "systemd", "containers"];

/// Those of what ships as one static file.
const STATIC: [&str; 2] = ["packages", "containers"];

/// What the machine must have, and the Debian package it comes with.
const NEEDED: [(&str, &str); 4] =
    [("docker", "docker.io"), ("dockerd", "docker.io"), ("iptables", "iptables"), ("mmdebstrap", "mmdebstrap")];

/// Verifies the parts named, or all.
pub(crate) fn verify(arguments: &[String]) -> Result<(), String> {
    if let Some(unknown) = arguments.iter().find(|name| !PARTS.contains(&name.as_str())) {
        return Err(format!("verify {unknown}: must be of {}", PARTS.join(", ")));
    }
    let mut parts: Vec<&str> =
        if arguments.is_empty() { PARTS.to_vec() } else { arguments.iter().map(String::as_str).collect() };
    if let Err(why) = ready() {
        eprintln!("LEFT OUT: {}: {why}", parts.join(", "));
        return Ok(());
    }
    tools::install()?;
    let mut programs = Vec::new();
    match dist::ready() {
        Ok(()) => {
            // What ships, and not what cargo would build for the tests.
            programs.push(("PROGRAM_BIN", dist::binary()?));
            if parts.contains(&"packages") {
                dist::deb()?;
            }
        }
        Err(why) => {
            let (without, rest): (Vec<_>, _) = parts.into_iter().partition(|part| STATIC.contains(part));
            eprintln!("LEFT OUT: {}: {why}", without.join(", "));
            parts = rest;
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    let parts: Vec<_> = parts.iter().map(|part| format!("{part}::")).collect();
    // What does not compile says nothing about this machine.
    crate::cargo(&["test", "--test", "machines", "--no-run"], &[], &programs)?;
    if let Err(why) = machines(&["engine::"], &programs) {
        // Some kernels, and some containers, let nobody have one.
        eprintln!("LEFT OUT: {}: no engine runs here, as said above: {why}", parts.join(", "));
        return Ok(());
    }
    machines(&parts.iter().map(String::as_str).collect::<Vec<_>>(), &programs)
}

/// Two tests at once: each is a handful of machines.
fn machines(filters: &[&str], programs: &[(&str, PathBuf)]) -> Result<(), String> {
    let words = [&["test", "--test", "machines", "--", "--test-threads=2"], filters].concat();
    crate::cargo(&words, &[], programs)
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
        || ["/usr/sbin", "/sbin"].iter().any(|folder| fs::metadata(format!("{folder}/{program}")).is_ok())
        || matches!(program, "dockerd" | "iptables") && answers()
}
