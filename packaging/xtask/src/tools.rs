//! Finds and installs the tools that a build and the tests need besides Rust.
//!
//! etcd is unpacked below `target/` instead of installed, because the package would start a service.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A required tool.
struct Tool {
    name: &'static str,
    missing: fn() -> bool,
}

const TOOLS: [Tool; 4] = [
    Tool { name: "protoc with its well-known types", missing: || !has_protoc() },
    Tool { name: "etcd", missing: || find("etcd").is_none() },
    Tool { name: "etcdctl", missing: || find("etcdctl").is_none() },
    // Only root can bind its port.
    Tool { name: "dnsmasq", missing: || is_root() && find("dnsmasq").is_none() },
];

/// Installs missing tools, or returns an error that names them.
pub(crate) fn install() -> Result<(), String> {
    if missing().is_empty() {
        return Ok(());
    }
    eprintln!("missing: {}", missing().join(", "));
    if on_path("apt-get") {
        with_apt()?;
    } else if on_path("dnf") {
        run(as_root("dnf").args(["install", "-y", "protobuf-compiler", "protobuf-devel", "etcd", "dnsmasq"]))?;
    } else if on_path("nix") && env::var_os("IN_NIX_SHELL").is_none() {
        return Err("use the development shell: nix develop --command cargo xtask …".to_owned());
    }
    match missing() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!(
            "could not install {}; install them (usual package names: protobuf-compiler, libprotobuf-dev, etcd-server, \
             etcd-client, dnsmasq-base) and try again",
            missing.join(", ")
        )),
    }
}

/// Returns PATH with the folder of unpacked tools in front.
pub(crate) fn path() -> OsString {
    let system = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(unpacked().join("usr/bin")).chain(env::split_paths(&system));
    env::join_paths(paths).unwrap_or(system)
}

/// Returns the root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or_else(|| Path::new(".")).to_owned()
}

fn missing() -> Vec<&'static str> {
    TOOLS.iter().filter(|tool| (tool.missing)()).map(|tool| tool.name).collect()
}

fn with_apt() -> Result<(), String> {
    // Downloads need package lists, too.
    apt_update()?;
    if !has_protoc() {
        apt_install(&["protobuf-compiler", "libprotobuf-dev"])?;
    }
    // The program without the service.
    if is_root() && find("dnsmasq").is_none() {
        apt_install(&["dnsmasq-base"])?;
    }
    for (tool, package) in [("etcd", "etcd-server"), ("etcdctl", "etcd-client")] {
        if find(tool).is_none() {
            unpack(Command::new("apt-get"), package, &unpacked())?;
        }
    }
    Ok(())
}

/// Downloads a package and unpacks it into a folder.
pub(crate) fn unpack(mut apt: Command, package: &str, folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    run(apt.args(["download", "-qq", package]).current_dir(folder))?;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&file).arg(folder))?;
            fs::remove_file(&file).map_err(failed)?;
        }
    }
    Ok(())
}

/// Installs a program if it is missing, from these Debian packages.
pub(crate) fn need(program: &str, packages: &[&str]) -> Result<(), String> {
    if on_path(program) {
        return Ok(());
    }
    let names = packages.join(" ");
    if on_path("apt-get") {
        eprintln!("missing: {program}");
        apt_update()?;
        apt_install(packages)?;
    }
    if on_path(program) { Ok(()) } else { Err(format!("{program} is missing; install it (Debian packages: {names})")) }
}

/// Unpacks programs if one of them is missing, from this Debian package.
pub(crate) fn need_unpacked(programs: &[&str], package: &str) -> Result<(), String> {
    let are_there = || programs.iter().all(|program| on_path(program));
    if !are_there() && on_path("apt-get") {
        eprintln!("missing: {}", programs.join(", "));
        apt_update()?;
        unpack(Command::new("apt-get"), package, &unpacked())?;
    }
    let names = programs.join(" and ");
    if are_there() { Ok(()) } else { Err(format!("{names} are missing; install them (Debian package: {package})")) }
}

/// Updates the package lists, which a fresh container does not have.
pub(crate) fn apt_update() -> Result<(), String> {
    run(as_root("apt-get").args(["update", "-qq"]))
}

pub(crate) fn apt_install(packages: &[&str]) -> Result<(), String> {
    let mut apt = as_root("apt-get");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    run(apt.env("DEBIAN_FRONTEND", "noninteractive"))
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Returns a command that runs as root, with sudo if needed.
fn as_root(program: &str) -> Command {
    if is_root() || !on_path("sudo") {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}

pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    eprintln!("running {command:?}");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Returns the output of a command without trailing whitespace.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        Ok(output) => Err(format!("{command:?}: {}", output.status)),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Returns the cargo that runs this program.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn unpacked() -> PathBuf {
    root().join("target/tools")
}

/// Returns a folder beside the unpacked tools.
pub(crate) fn unpacked_in(name: &str) -> PathBuf {
    unpacked().join(name)
}

fn has_protoc() -> bool {
    let Some(protoc) = find("protoc") else { return false };
    // protoc looks for the types beside its own folder; the protoc of Nix finds them elsewhere.
    let beside = protoc.parent().map(|bin| bin.join("../include/google/protobuf/empty.proto"));
    env::var_os("PROTOC_INCLUDE").is_some()
        || beside.is_some_and(|file| file.exists())
        || env::var_os("IN_NIX_SHELL").is_some()
}

pub(crate) fn on_path(program: &str) -> bool {
    find(program).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|folder| folder.join(program)).find(|file| file.is_file())
}
