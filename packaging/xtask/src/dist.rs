//! `cargo xtask dist`: builds the release in `target/dist/`.
//!
//! ```text
//! ARCH/etcd-await-election                  the static program, the same in all packages
//! licences/                                 the licenses of its dependencies, in all packages
//! etcd-await-election_VERSION-1_ARCH.deb    Debian, Ubuntu
//! etcd-await-election-VERSION-1.ARCH.rpm    Fedora, RHEL, SUSE
//! etcd-await-election-VERSION-linux-ARCH.tar.gz
//! etcd-await-election-VERSION.cdx.json      the bill of materials (CycloneDX)
//! SHA256SUMS
//! ```
//!
//! Builds are reproducible: one commit always gives the same bytes, which `--twice` checks.

mod archive;
mod binary;
mod deb;
mod files;
mod licences;
mod rpm;
mod sbom;
mod twice;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools;

/// The version of the packages, which is that of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NAME: &str = "etcd-await-election";

/// An architecture and its names.
#[derive(Debug, PartialEq, Eq)]
struct Arch {
    /// The name in Debian, Go and container images.
    name: &'static str,
    /// The name in the kernel, RPM and compilers.
    machine: &'static str,
    /// The target of Rust.
    target: &'static str,
}

const ARCHS: [Arch; 2] = [
    Arch { name: "amd64", machine: "x86_64", target: "x86_64-unknown-linux-musl" },
    Arch { name: "arm64", machine: "aarch64", target: "aarch64-unknown-linux-musl" },
];

/// The options of the command line.
struct Order {
    archs: Vec<&'static Arch>,
    binary_only: bool,
    /// The tool for the bill of materials takes minutes to compile.
    without_sbom: bool,
    twice: bool,
}

/// Builds the release, or the parts that the arguments name.
pub(crate) fn dist(arguments: &[String]) -> Result<(), String> {
    let order = Order::parse(arguments)?;
    if order.twice {
        twice::check_committed()?;
    }
    for arch in &order.archs {
        binary::build(arch)?;
    }
    licences::build()?;
    if order.binary_only {
        return Ok(());
    }
    let pages = files::pages(&order.archs)?;
    let mut released = Vec::new();
    for arch in &order.archs {
        released.push(archive::build(arch, &pages)?);
        released.push(deb::build(arch, &pages)?);
        released.push(rpm::build(arch, &pages)?);
    }
    if !order.without_sbom {
        released.push(sbom::build()?);
    }
    let sums = sums(&released)?;
    if order.twice {
        twice::compare(&order, &sums)?;
    }
    print!("{sums}");
    Ok(())
}

/// Builds the contents of the image for this machine's architecture, the program and the licenses. Returns the program's path.
pub(crate) fn binary() -> Result<PathBuf, String> {
    licences::build()?;
    binary::build(Arch::here()?)
}

/// Builds the command that the tests gate, for this machine's architecture; call it after [`binary()`].
pub(crate) fn journaled() -> Result<PathBuf, String> {
    binary::build_journaled(Arch::here()?)
}

/// Installs the standard library for the static program. Returns an error if this machine cannot build it.
pub(crate) fn ready() -> Result<(), String> {
    binary::install_standard_library(Arch::here()?)
}

/// Builds only the Debian package of this machine's architecture.
pub(crate) fn deb() -> Result<(), String> {
    let arch = Arch::here()?;
    binary::build(arch)?;
    licences::build()?;
    deb::build(arch, &files::pages(&[arch])?).map(drop)
}

impl Order {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut order = Self { archs: vec![], binary_only: false, without_sbom: false, twice: false };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--binary" => order.binary_only = true,
                "--without-sbom" => order.without_sbom = true,
                "--twice" => order.twice = true,
                "--arch" => order.archs = Arch::named(words.next().unwrap_or_default())?,
                _ => {
                    return Err(format!(
                        "dist {word}: use --binary, --without-sbom, --twice, or --arch amd64|arm64|all"
                    ));
                }
            }
        }
        if order.binary_only && order.twice {
            return Err("dist --twice cannot be used with --binary: it compares the whole release".to_owned());
        }
        if order.archs.is_empty() {
            order.archs.push(Arch::here()?);
        }
        Ok(order)
    }
}

impl Arch {
    fn named(name: &str) -> Result<Vec<&'static Self>, String> {
        let archs: Vec<_> = ARCHS.iter().filter(|arch| name == "all" || arch.name == name).collect();
        if archs.is_empty() { Err(format!("--arch {name}: must be amd64, arm64 or all")) } else { Ok(archs) }
    }

    fn here() -> Result<&'static Self, String> {
        let machine = env::consts::ARCH;
        let here = ARCHS.iter().find(|arch| arch.machine == machine);
        here.ok_or_else(|| format!("there is no release for this machine's architecture, {machine}; use --arch"))
    }
}

/// Returns the folder of the release.
fn folder() -> PathBuf {
    tools::root().join("target/dist")
}

/// Returns an empty folder for intermediate files.
fn work(name: &str) -> Result<PathBuf, String> {
    let folder = tools::root().join("target/packaging").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(at(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    Ok(folder)
}

/// Returns the date of the release, which is that of the commit unless SOURCE_DATE_EPOCH is set; in seconds.
fn date() -> Result<String, String> {
    if let Ok(date) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(date);
    }
    let mut git = Command::new("git");
    let date = tools::output(git.args(["log", "-1", "--format=%ct"]).current_dir(tools::root()));
    date.map_err(|why| {
        format!("could not read the date of the commit: {why}; without git, set SOURCE_DATE_EPOCH=SECONDS")
    })
}

/// Writes `SHA256SUMS` for `sha256sum --check`, and returns its text.
fn sums(released: &[PathBuf]) -> Result<String, String> {
    let names = released.iter().filter_map(|file| file.file_name());
    let sums = tools::output(Command::new("sha256sum").arg("--").args(names).current_dir(folder()))? + "\n";
    let file = folder().join("SHA256SUMS");
    fs::write(&file, &sums).map_err(at(&file))?;
    Ok(sums)
}

/// Adds the path of a file to an error.
fn at(file: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", file.display())
}
