//! The package for Fedora, RHEL and SUSE, by `rpmbuild` from a spec file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Arch, NAME, VERSION, at, binary, date,
    files::{documents, install, installed, item, licences},
    folder, work,
};
use crate::tools;

pub(super) fn build(arch: &Arch, pages: &Path) -> Result<PathBuf, String> {
    tools::need("rpmbuild", &["rpm"])?;
    let work = work(&format!("{}/rpm", arch.name))?;
    let root = work.join("root");
    let mut items = installed(&binary::path(arch), pages, "usr/share/zsh/site-functions");
    items.extend(documents("usr/share/doc/etcd-await-election")?);
    items.push(item("CHANGELOG.md", "usr/share/doc/etcd-await-election/CHANGELOG.md"));
    items.extend(licences("usr/share/licenses/etcd-await-election"));
    items.push(item("LICENSE", "usr/share/licenses/etcd-await-election/LICENSE"));
    install(&root, &items)?;

    let mut rpmbuild = Command::new("rpmbuild");
    // With fixed settings, so that those of this machine and its distribution have no effect.
    let define = [
        ("_topdir", work.join("build").display().to_string()),
        ("release_version", VERSION.to_owned()),
        ("installed", root.display().to_string()),
        ("removal", tools::root().join("packaging/removal.sh").display().to_string()),
        ("_binary_payload", "w19.zstdio".to_owned()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
    ];
    for (name, value) in define {
        rpmbuild.arg("--define").arg(format!("{name} {value}"));
    }
    rpmbuild.env("SOURCE_DATE_EPOCH", date()?).arg(format!("--target={}-linux", arch.machine));
    tools::run(rpmbuild.args(["--quiet", "-bb"]).arg(tools::root().join("packaging/rpm/etcd-await-election.spec")))?;

    let name = format!("{NAME}-{VERSION}-1.{}.rpm", arch.machine);
    let (built, package) = (work.join("build/RPMS").join(arch.machine).join(&name), folder().join(&name));
    fs::rename(&built, &package).map_err(at(&built))?;
    Ok(package)
}
