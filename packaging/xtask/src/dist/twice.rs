//! Checks that builds are reproducible, by a second build from a clone in another folder.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use super::{Order, at, work};
use crate::tools;

/// Checks that there are no uncommitted changes, which a clone would not have.
pub(super) fn check_committed() -> Result<(), String> {
    let changed = tools::output(Command::new("git").args(["status", "--porcelain"]).current_dir(tools::root()))?;
    if changed.is_empty() {
        Ok(())
    } else {
        Err(format!("--twice requires that all changes are committed:\n{changed}"))
    }
}

/// Builds again and compares the checksums with those of the first build.
pub(super) fn compare(order: &Order, first: &str) -> Result<(), String> {
    let root = tools::root();
    let clone = work("a clone")?;
    tools::run(Command::new("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(&root).arg(&clone))?;
    share(&root.join("target/tools"), &clone.join("target/tools"))?;
    for arch in &order.archs {
        let mut cargo = Command::new(tools::cargo());
        cargo.args(["xtask", "dist", "--arch", arch.name]).args(order.without_sbom.then_some("--without-sbom"));
        tools::run(cargo.current_dir(&clone))?;
        let file = clone.join("target/dist/SHA256SUMS");
        let second = fs::read_to_string(&file).map_err(at(&file))?;
        let differing: Vec<_> = second.lines().filter(|line| !first.lines().any(|other| other == *line)).collect();
        if !differing.is_empty() {
            return Err(format!(
                "these files of the second build in {} differ:\n{}",
                clone.display(),
                differing.join("\n")
            ));
        }
    }
    eprintln!("built twice in two folders, with the same result");
    Ok(())
}

/// Shares the compiled tools with the clone.
fn share(tools: &Path, with: &Path) -> Result<(), String> {
    fs::create_dir_all(with.parent().unwrap_or(with)).map_err(at(with))?;
    symlink(tools, with).map_err(at(with))
}
