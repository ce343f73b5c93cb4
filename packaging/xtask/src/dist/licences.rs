//! Collects the licenses of the program's dependencies, most of which require that their text is distributed with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{ARCHS, NAME, at, folder};
use crate::tools;

/// How the names of license files begin.
const PAPERS: [&str; 7] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE", "PATENTS"];

const PREAMBLE: &str = "etcd-await-election is linked statically. Besides its own sources it contains these crates, the standard library of Rust
(see rust.html), and musl libc (MIT, Copyright © 2005-2020 Rich Felker, et al.). Each text below is that of the crates above it.
";

/// Writes `licences/` beside the programs: the licenses of the crates, of Rust, and of the project.
pub(super) fn build() -> Result<(), String> {
    let licences = folder().join("licences");
    fs::create_dir_all(&licences).map_err(at(&licences))?;
    let write = |name: &str, text: String| {
        let file = licences.join(name);
        fs::write(&file, text).map_err(at(&file))
    };
    write("crates.txt", crates()?)?;
    let sysroot = tools::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(tools::root()))?;
    write("rust.html", read(&Path::new(&sysroot).join("share/doc/rust/COPYRIGHT-library.html"))?)?;
    write("LICENSE", read(&tools::root().join("LICENSE"))?)
}

/// Returns every text once, below the names of all crates that have it.
fn crates() -> Result<String, String> {
    let linked = linked()?;
    let mut metadata = cargo("metadata");
    metadata.args(["--format-version", "1", "--filter-platform", ARCHS[0].target]);
    let metadata: Value = serde_json::from_str(&tools::output(&mut metadata)?).map_err(|error| error.to_string())?;
    let packages: Vec<_> = metadata["packages"].as_array().into_iter().flatten().map(Package::new).collect();
    let packages = packages.iter().filter(|package| linked.contains(&package.id) && package.name != NAME);

    let mut texts = BTreeMap::<String, (Vec<String>, String)>::new();
    let mut by_repository = BTreeMap::new();
    let mut without = Vec::new();
    for package in packages {
        let papers = package.papers()?;
        if papers.is_empty() {
            without.push(package);
        } else {
            by_repository.entry(package.repository).or_insert(&package.id);
        }
        for paper in papers {
            let text = read(&paper)?;
            // Some texts differ only in their line breaks.
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(words).or_insert_with(|| (vec![], text)).0.push(package.to_string());
        }
    }
    let mut sections: Vec<_> = texts.into_values().collect();
    for package in without {
        let sibling = by_repository.get(package.repository);
        let sibling = sibling.ok_or_else(|| format!("{package}: the crate has no license file"))?;
        sections.push((vec![package.to_string()], format!("The same as {sibling}, which is in the same repository.")));
    }
    sections.sort();
    let section = |(crates, text): &(Vec<String>, String)| {
        let rule = "=".repeat(100);
        format!("\n{rule}\n{}\n{rule}\n\n{}\n", crates.join("\n"), text.trim_end())
    };
    Ok(PREAMBLE.to_owned() + &sections.iter().map(section).collect::<String>())
}

/// Returns `NAME vVERSION` of all crates that are linked into the program, without those that only build or test it.
fn linked() -> Result<BTreeSet<String>, String> {
    let mut tree = cargo("tree");
    tree.args(["--package", NAME, "--edges", "no-build,no-dev,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    let lines = tools::output(tree.args(["--target", ARCHS[0].target]))?;
    let id = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(lines.lines().map(id).collect())
}

/// A crate and its license.
struct Package<'a> {
    name: &'a str,
    /// The form of [`linked`].
    id: String,
    licence: &'a str,
    repository: &'a str,
    folder: &'a Path,
}

impl<'a> Package<'a> {
    fn new(package: &'a Value) -> Self {
        let text = |name: &str| package[name].as_str().unwrap_or_default();
        Self {
            name: text("name"),
            id: format!("{} v{}", text("name"), text("version")),
            licence: text("license"),
            repository: text("repository"),
            folder: Path::new(text("manifest_path")).parent().unwrap_or_else(|| Path::new("")),
        }
    }

    fn papers(&self) -> Result<Vec<PathBuf>, String> {
        let files = fs::read_dir(self.folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut papers: Vec<_> = files.map_err(at(self.folder))?.into_iter().map(|file| file.path()).collect();
        papers.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            file.is_file() && PAPERS.iter().any(|paper| name.starts_with(paper))
        });
        papers.sort();
        Ok(papers)
    }
}

impl std::fmt::Display for Package<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.licence)
    }
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(tools::cargo());
    cargo.args([command, "--locked"]).current_dir(tools::root());
    cargo
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(at(file))
}
