//! `cargo xtask dist`: everything that is released, in `target/dist/`.
//!
//! ```text
//! ARCH/etcd-await-election                  the program: static, the same bytes in all that follows
//! licences/                                 of what it is made of, in all that follows
//! etcd-await-election_VERSION-1_ARCH.deb    Debian, Ubuntu
//! etcd-await-election-VERSION-1.ARCH.rpm    Fedora, RHEL, SUSE
//! etcd-await-election-VERSION-linux-ARCH.tar.gz
//! etcd-await-election-VERSION.cdx.json      what the program is made of (CycloneDX)
//! SHA256SUMS
//! ```
//!
//! From one commit always the same bytes: `--twice` shows it.

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

/// Of the packages; the version itself is the workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NAME: &str = "etcd-await-election";

/// An architecture, in the words of those who have one.
#[derive(Debug, PartialEq, Eq)]
struct Arch {
    /// Debian's, Go's and the containers' word.
    name: &'static str,
    /// The kernel's, and so the word of RPM and of compilers.
    machine: &'static str,
    /// What Rust compiles for.
    target: &'static str,
}

const ARCHS: [Arch; 2] = [
    Arch { name: "amd64", machine: "x86_64", target: "x86_64-unknown-linux-musl" },
    Arch { name: "arm64", machine: "aarch64", target: "aarch64-unknown-linux-musl" },
];

/// What the command line asked for.
struct Order {
    archs: Vec<&'static Arch>,
    binary_only: bool,
    /// The tool for the bill of materials takes minutes to compile.
    without_sbom: bool,
    twice: bool,
}

/// Makes what `arguments` order.
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

/// Makes what the image holds, for this machine's architecture: the program, whose path is returned, and the licences.
pub(crate) fn binary() -> Result<PathBuf, String> {
    licences::build()?;
    binary::build(Arch::here()?)
}

/// Makes the command that the tests gate, for this machine's architecture, after [`binary()`].
pub(crate) fn journaled() -> Result<PathBuf, String> {
    binary::build_journaled(Arch::here()?)
}

/// Whether this machine can make the program at all; what is missing for it is installed.
pub(crate) fn ready() -> Result<(), String> {
    binary::install_standard_library(Arch::here()?)
}

/// Makes the Debian package of this machine's architecture, and no more.
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
                        "dist {word}: must be --binary, --without-sbom, --twice, or --arch amd64|arm64|all"
                    ));
                }
            }
        }
        if order.binary_only && order.twice {
            return Err("dist --twice compares all that is released: leave --binary out".to_owned());
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
        here.ok_or_else(|| format!("nothing is released for {machine}, what this machine is; see --arch"))
    }
}

/// Where all of it goes.
fn folder() -> PathBuf {
    tools::root().join("target/dist")
}

/// What it is made from on the way, emptied.
fn work(name: &str) -> Result<PathBuf, String> {
    let folder = tools::root().join("target/packaging").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(at(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    Ok(folder)
}

/// The date of all that is made: the commit's, in seconds. Packagers give their own.
fn date() -> Result<String, String> {
    if let Ok(date) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(date);
    }
    let mut git = Command::new("git");
    let date = tools::output(git.args(["log", "-1", "--format=%ct"]).current_dir(tools::root()));
    date.map_err(|why| format!("{why}\nwithout git say of what date the sources are: SOURCE_DATE_EPOCH=SECONDS"))
}

/// `SHA256SUMS`, for `sha256sum --check`.
fn sums(released: &[PathBuf]) -> Result<String, String> {
    let names = released.iter().filter_map(|file| file.file_name());
    let sums = tools::output(Command::new("sha256sum").arg("--").args(names).current_dir(folder()))? + "\n";
    let file = folder().join("SHA256SUMS");
    fs::write(&file, &sums).map_err(at(&file))?;
    Ok(sums)
}

/// An error with the file that it is about.
fn at(file: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", file.display())
}
