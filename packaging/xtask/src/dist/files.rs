//! Collects the files of the packages in a folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Arch, NAME, at, binary, work};
use crate::tools;

/// A file of a package: its source, relative to the checkout if it is not absolute, and its destination.
pub(super) struct Item {
    from: PathBuf,
    to: String,
}

pub(super) fn item(from: impl Into<PathBuf>, to: impl Into<String>) -> Item {
    Item { from: from.into(), to: to.into() }
}

/// Writes the manual page and the completions, which are the same for all architectures, with a program that runs on this machine.
pub(super) fn pages(built: &[&'static Arch]) -> Result<PathBuf, String> {
    let folder = work("pages")?;
    let mut command = match Arch::here().ok().filter(|here| built.contains(here)) {
        Some(here) => Command::new(binary::path(here)),
        None => {
            let mut cargo = Command::new(tools::cargo());
            cargo.args(["run", "--quiet", "--locked", "--package", NAME, "--"]).env("PATH", tools::path());
            cargo
        }
    };
    tools::run(command.args(["ctl", "pages"]).arg(&folder).current_dir(tools::root()))?;
    Ok(folder)
}

/// Returns the files of both deb and rpm. Only the folders of zsh's completions and of the documents differ.
pub(super) fn installed(binary: &Path, pages: &Path, zsh: &str) -> Vec<Item> {
    vec![
        item(binary, "usr/bin/etcd-await-election"),
        item("packaging/systemd/etcd-await-election@.service", "usr/lib/systemd/system/etcd-await-election@.service"),
        item("packaging/systemd/example.env", "etc/etcd-await-election/example.env"),
        item(pages.join("etcd-await-election.1"), "usr/share/man/man1/etcd-await-election.1.gz"),
        item(pages.join("etcd-await-election.bash"), "usr/share/bash-completion/completions/etcd-await-election"),
        item(pages.join("_etcd-await-election"), format!("{zsh}/_etcd-await-election")),
        item(pages.join("etcd-await-election.fish"), "usr/share/fish/vendor_completions.d/etcd-await-election.fish"),
    ]
}

/// The drop-ins of `packaging/systemd/`, which are packaged as examples.
pub(super) const DROP_INS: [&str; 6] =
    ["credentials.conf", "cron.conf", "gate.conf", "nginx.conf", "postgresql.conf", "redis-server.conf"];

/// The files of `packaging/prometheus/`, which are packaged as examples.
pub(super) const PROMETHEUS: [&str; 2] = ["alerts.yml", "dashboard.json"];

/// Lists the pages of `docs/`, with the pictures that they show.
pub(super) fn pages_of_docs(folder: &str) -> Result<Vec<Item>, String> {
    let docs = tools::root().join("docs");
    let entries = fs::read_dir(&docs).map_err(at(&docs))?;
    let names: Vec<_> =
        entries.map(|entry| Ok(entry.map_err(at(&docs))?.file_name())).collect::<Result<_, String>>()?;
    let names = names.iter().map(|name| name.to_string_lossy());
    Ok(names.map(|name| item(format!("docs/{name}"), format!("{folder}/docs/{name}"))).collect())
}

/// Returns the documents and examples.
pub(super) fn documents(folder: &str) -> Result<Vec<Item>, String> {
    let mut items = vec![item("README.md", format!("{folder}/README.md"))];
    items.extend(pages_of_docs(folder)?);
    for name in DROP_INS {
        items.push(item(format!("packaging/systemd/{name}"), format!("{folder}/examples/{name}")));
    }
    for name in PROMETHEUS {
        items.push(item(format!("packaging/prometheus/{name}"), format!("{folder}/examples/prometheus/{name}")));
    }
    Ok(items)
}

/// Returns the licenses of the dependencies.
pub(super) fn licences(folder: &str) -> Vec<Item> {
    let file = |name: &str| item(super::folder().join("licences").join(name), format!("{folder}/{name}"));
    vec![file("crates.txt"), file("rust.html")]
}

/// Copies the files into `root` with fixed modes. A file whose destination ends in `.gz` is compressed.
pub(super) fn install(root: &Path, items: &[Item]) -> Result<(), String> {
    for item in items {
        let (from, to) = (tools::root().join(&item.from), root.join(&item.to));
        let parent = to.parent().unwrap_or(root);
        fs::create_dir_all(parent).map_err(at(parent))?;
        fs::copy(&from, &to).map_err(at(&from))?;
        let program = item.to.contains("bin/");
        if item.to.ends_with(".gz") {
            let plain = to.with_extension("");
            fs::rename(&to, &plain).map_err(at(&to))?;
            tools::run(Command::new("gzip").args(["-9", "--no-name"]).arg(&plain))?;
        }
        set_mode(&to, if program { 0o755 } else { 0o644 })?;
    }
    for_each_folder(root, &|folder| set_mode(folder, 0o755))
}

pub(super) fn set_mode(file: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).map_err(at(file))
}

fn for_each_folder(folder: &Path, act: &impl Fn(&Path) -> Result<(), String>) -> Result<(), String> {
    act(folder)?;
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() {
            for_each_folder(&path, act)?;
        }
    }
    Ok(())
}

/// Returns a template of `packaging/` with its `@WORDS@` replaced.
pub(super) fn filled(template: &str, words: &[(&str, &str)]) -> Result<String, String> {
    let file = tools::root().join(template);
    let text = fs::read_to_string(&file).map_err(at(&file))?;
    Ok(words.iter().fold(text, |text, (word, value)| text.replace(&format!("@{word}@"), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every drop-in of `packaging/systemd/` must be packaged.
    #[test]
    fn every_drop_in_is_packaged() {
        let folder = fs::read_dir(tools::root().join("packaging/systemd")).expect("the folder");
        let names = folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let mut found: Vec<String> = names.filter(|name| name.ends_with(".conf")).collect();
        found.sort();
        assert_eq!(found, DROP_INS);
    }
}
