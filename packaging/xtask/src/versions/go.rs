//! Builds etcd from its Go modules, for versions that no Debian suite has.
//!
//! Each version is a module in `tests/etcd` that has the three programs as its tools and pins all dependencies by `go.sum`.

use std::{fs, path::PathBuf, process::Command};

use crate::tools;

/// The minor versions that are built, each in the folder of that name.
pub(super) const MINORS: [&str; 2] = ["3.6", "3.7"];

/// Returns an error with the reason if this machine cannot build them.
pub(super) fn is_usable() -> Result<(), String> {
    if tools::on_path("go") {
        Ok(())
    } else {
        Err("Go is not on the PATH, and etcd is built from its modules".to_owned())
    }
}

/// Returns the folder with `etcd`, `etcdctl` and `etcdutl` of a minor version. Builds them the first time, and again if the
/// pinned version has changed.
pub(super) fn programs(minor: &str) -> Result<PathBuf, String> {
    is_usable()?;
    let module = tools::root().join("tests/etcd").join(minor);
    let folder = tools::unpacked_in(&format!("etcd-{minor}"));
    let (pinned, built) = (module.join("go.sum"), folder.join("go.sum"));
    let read = |file: &PathBuf| fs::read(file).ok();
    if read(&built).is_some() && read(&built) == read(&pinned) {
        return Ok(folder);
    }
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let mut go = Command::new("go");
    go.args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&folder).arg("tool");
    tools::run(go.current_dir(&module).env("CGO_ENABLED", "0"))?;
    // The package of the server has the name of its folder.
    fs::rename(folder.join("server"), folder.join("etcd")).map_err(failed)?;
    fs::copy(&pinned, &built).map_err(failed)?;
    Ok(folder)
}
