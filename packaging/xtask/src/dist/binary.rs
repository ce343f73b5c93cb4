//! Builds the program as one static file, which runs on any Linux and in an empty container.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Arch, NAME, at, folder};
use crate::tools;

/// The maximum size of the program, in bytes.
const MOST: u64 = 6_000_000;

pub(super) fn build(arch: &Arch) -> Result<PathBuf, String> {
    // For protoc.
    tools::install()?;
    install_standard_library(arch)?;
    compile(arch, &["--release", "--package", NAME])?;
    let built = tools::root().join("target").join(arch.target).join("release").join(NAME);
    let binary = path(arch);
    fs::create_dir_all(binary.parent().unwrap_or(&binary)).map_err(at(&binary))?;
    fs::copy(&built, &binary).map_err(at(&built))?;
    let size = fs::metadata(&binary).map_err(at(&binary))?.len();
    if size > MOST {
        return Err(format!("{}: {size} bytes is more than the maximum of {MOST}", binary.display()));
    }
    eprintln!("{}: {size} bytes", binary.display());
    Ok(binary)
}

/// Builds the command that the tests gate, also as a static file.
pub(super) fn build_journaled(arch: &Arch) -> Result<PathBuf, String> {
    compile(arch, &["--package", "harness", "--bin", "journaled"])?;
    Ok(tools::root().join("target").join(arch.target).join("debug/journaled"))
}

pub(super) fn path(arch: &Arch) -> PathBuf {
    folder().join(arch.name).join(NAME)
}

/// Installs Rust's standard library for the target with rustup, unless it is there.
pub(super) fn install_standard_library(arch: &Arch) -> Result<(), String> {
    let mut rustc = Command::new("rustc");
    let libraries = tools::output(rustc.args(["--print", "target-libdir", "--target", arch.target]))?;
    if Path::new(&libraries).is_dir() {
        return Ok(());
    }
    tools::run(Command::new("rustup").args(["target", "add", arch.target])).map_err(|why| {
        format!("{why}\nthis Rust cannot compile for {}, and rustup could not install the target", arch.target)
    })
}

fn compile(arch: &Arch, what: &[&str]) -> Result<(), String> {
    let variable = arch.target.replace('-', "_");
    let mut cargo = Command::new(tools::cargo());
    cargo
        .args(["build", "--locked", "--target", arch.target])
        .args(what)
        .current_dir(tools::root())
        .env("PATH", tools::path())
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f"))
        .env(format!("CC_{variable}"), c_compiler(arch)?)
        // The headers are those of glibc, whose hardened functions musl does not have.
        .env(format!("CFLAGS_{variable}"), "-U_FORTIFY_SOURCE");
    tools::run(&mut cargo)
}

/// Uses Rust's own linker for all architectures, and removes the paths of this machine from the program.
fn flags() -> Result<Vec<String>, String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let home = home.ok_or("neither CARGO_HOME nor HOME is set: where are the sources of the dependencies?")?;
    let sysroot = tools::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    // The last match counts, so the checkout, which may be inside of the others, comes last.
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    Ok(vec![
        "-Clinker=rust-lld".to_owned(),
        // A bit instead of 24 bytes for each address in the data; musl's start-up code reads it since 1.2.4.
        "-Clink-arg=--pack-dyn-relocs=relr".to_owned(),
        remap(Path::new(&sysroot), "/rust"),
        remap(&home, "/cargo"),
        remap(&tools::root(), "/source"),
    ])
}

/// Returns the C compiler, for the cryptography, which is C and assembly.
fn c_compiler(arch: &Arch) -> Result<String, String> {
    if arch.machine == env::consts::ARCH {
        tools::need("cc", &["gcc", "libc6-dev"])?;
        return Ok("cc".to_owned());
    }
    let compiler = format!("{}-linux-gnu-gcc", arch.machine);
    let package = format!("gcc-{}-linux-gnu", arch.machine.replace('_', "-"));
    tools::need(&compiler, &[&package, &format!("libc6-dev-{}-cross", arch.name)])?;
    Ok(compiler)
}
