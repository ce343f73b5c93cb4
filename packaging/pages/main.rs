//! `cargo run --example pages -- DIR`: writes the manual page and the completions for bash, zsh and fish into a folder.
//!
//! Everything that the program knows of itself is taken from it; only the prose around it is here.

mod completions;
mod manual;

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: pages DIR");
        return ExitCode::FAILURE;
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("etcd-await-election.1"), manual::page()?)?;
    completions::write(folder)
}
