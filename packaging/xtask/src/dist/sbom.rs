//! The bill of materials: every crate in the program with its version, checksum and license.

use std::{fs, path::PathBuf, process::Command};

use super::{ARCHS, NAME, VERSION, at, date, folder, work};
use crate::tools;

/// The tool that writes it, which is compiled once.
const TOOL: &str = "cargo-cyclonedx@0.5.9";

pub(super) fn build() -> Result<PathBuf, String> {
    let tools_root = tools::unpacked_in("cyclonedx");
    let tool = tools_root.join("bin/cargo-cyclonedx");
    if !tool.is_file() {
        let mut cargo = Command::new(tools::cargo());
        tools::run(cargo.args(["install", "--quiet", "--locked", "--root"]).arg(&tools_root).arg(TOOL))?;
    }
    // The tool writes beside every manifest of the workspace, so it runs in a copy.
    let copy = work("sbom")?;
    let mut git = Command::new("git");
    git.args(["checkout-index", "--all", "--force"]).arg(format!("--prefix={}/", copy.display()));
    tools::run(git.current_dir(tools::root()))?;
    let mut cyclonedx = Command::new(&tool);
    cyclonedx
        .args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps"])
        // The crates are the same for all architectures.
        .args(["--target", ARCHS[0].target])
        .args(["--override-filename", "bom"])
        .env("SOURCE_DATE_EPOCH", date()?);
    tools::run(cyclonedx.current_dir(&copy))?;

    let bom = copy.join("bom.json");
    let text = fs::read_to_string(&bom).map_err(at(&bom))?;
    let file = folder().join(format!("{NAME}-{VERSION}.cdx.json"));
    fs::write(&file, without_folder(&text)).map_err(at(&file))?;
    Ok(file)
}

/// Removes the folder of the copy, which the tool puts into the project's identifier: `path+file:///FOLDER#NAME@VERSION`.
fn without_folder(text: &str) -> String {
    const PLACE: &str = "path+file://";
    let mut parts = text.split(PLACE);
    let start = parts.next().unwrap_or_default().to_owned();
    parts.fold(start, |text, part| text + PLACE + "/source" + part.find('#').map_or("", |name| &part[name..]))
}
