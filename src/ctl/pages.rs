//! `ctl pages FOLDER`: the manual page and the completions for bash, zsh and fish, for packages.
//!
//! The program writes them itself, so that a package is built by compiling once, also for another architecture.

mod completions;
mod manual;

use std::{fs, io, path::Path};

/// Writes the files into a folder, which need not exist.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("etcd-await-election.1"), manual::page()?)?;
    completions::write(folder)
}
