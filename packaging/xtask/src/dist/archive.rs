//! The tar archive, for systems without deb and rpm: one folder with the contents of the packages.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Arch, NAME, VERSION, binary, date,
    files::{DROP_INS, PROMETHEUS, install, item, licences, pages_of_docs},
    folder, work,
};
use crate::tools;

pub(super) fn build(arch: &Arch, pages: &Path) -> Result<PathBuf, String> {
    let name = format!("{NAME}-{VERSION}-linux-{}", arch.name);
    let root = work(&format!("{}/tar", arch.name))?;
    let mut items = vec![item(binary::path(arch), format!("{name}/bin/{NAME}"))];
    for file in ["README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"] {
        items.push(item(file, format!("{name}/{file}")));
    }
    items.extend(pages_of_docs(&name)?);
    items.extend(licences(&format!("{name}/licences")));
    items.push(item(pages.join("etcd-await-election.1"), format!("{name}/man/etcd-await-election.1")));
    for file in ["etcd-await-election.bash", "_etcd-await-election", "etcd-await-election.fish"] {
        items.push(item(pages.join(file), format!("{name}/completions/{file}")));
    }
    for file in ["etcd-await-election@.service", "example.env"].into_iter().chain(DROP_INS) {
        items.push(item(format!("packaging/systemd/{file}"), format!("{name}/systemd/{file}")));
    }
    for file in PROMETHEUS {
        items.push(item(format!("packaging/prometheus/{file}"), format!("{name}/prometheus/{file}")));
    }
    install(&root, &items)?;

    let archive = folder().join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    // Fixed owners, times and order of files, so that the archive is reproducible.
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"])
        .arg(format!("--mtime=@{}", date()?))
        .args(["--use-compress-program=gzip -9 --no-name", "--create", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(&root)
        .arg(&name);
    tools::run(&mut tar)?;
    Ok(archive)
}
