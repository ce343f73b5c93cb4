//! The versions of etcd to test against: the one on PATH, those of the Debian suites, and those built from Go modules.

pub(crate) mod debian;
mod go;

use std::{env, path::PathBuf};

/// One etcd to test against.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// Its name in messages.
    pub(crate) name: String,
    /// The folder with `etcd` and `etcdctl`; `None` for those on PATH.
    pub(crate) folder: Option<PathBuf>,
}

/// Returns the versions for names that are separated by commas: `path`, `all`, `others` (all except `path`), a Debian suite or a
/// minor version. They are downloaded or built the first time; `all` and `others` skip those that are not available here.
///
/// # Errors
/// For an unknown name, or a version that was named and is not available.
pub(crate) fn named(names: &str) -> Result<Vec<Etcd>, String> {
    let mut etcds = Vec::new();
    for name in names.split(',') {
        match name {
            "path" => etcds.push(on_path()),
            "all" => {
                etcds.push(on_path());
                etcds.extend(others()?);
            }
            "others" => etcds.extend(others()?),
            name => etcds.push(of(name)?),
        }
    }
    Ok(etcds)
}

/// Returns the folders of a rolling upgrade, in the format of `ETCD_UPGRADE`; `None` unless `names` means all versions and they
/// are available here.
///
/// # Errors
/// If a download or a build fails.
pub(crate) fn upgrade_path(names: &str) -> Result<Option<PathBuf>, String> {
    if !matches!(names, "all" | "others") || debian::own_suite().is_err() || go::is_usable().is_err() {
        return Ok(None);
    }
    // It starts with the newest 3.5, as older ones cannot be upgraded to 3.6 in place.
    let folders = std::iter::once("forky").chain(go::MINORS).map(|name| of(name).map(|etcd| etcd.folder));
    let folders: Vec<_> = folders.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    env::join_paths(folders).map(|path| Some(path.into())).map_err(|error| error.to_string())
}

fn on_path() -> Etcd {
    Etcd { name: "the etcd on PATH".to_owned(), folder: None }
}

fn of(name: &str) -> Result<Etcd, String> {
    let folder = if debian::SUITES.contains(&name) {
        debian::programs(name)
    } else if go::MINORS.contains(&name) {
        go::programs(name)
    } else {
        let known = [&debian::SUITES[..], &go::MINORS].concat().join(", ");
        return Err(format!("--etcd {name}: use path, all, others, or one of {known}"));
    };
    Ok(Etcd { name: format!("etcd {name}"), folder: Some(folder.map_err(|why| format!("--etcd {name}: {why}"))?) })
}

/// Returns all available versions except the one on PATH. The suite of this machine is excluded, as it has that one.
fn others() -> Result<Vec<Etcd>, String> {
    let mut names = Vec::new();
    match debian::own_suite() {
        Ok(own) => names.extend(debian::SUITES.into_iter().filter(|suite| own != *suite)),
        Err(why) => eprintln!("SKIPPED: etcd of {}: {why}", debian::SUITES.join(", ")),
    }
    match go::is_usable() {
        Ok(()) => names.extend(go::MINORS),
        Err(why) => eprintln!("SKIPPED: etcd {}: {why}", go::MINORS.join(", ")),
    }
    names.into_iter().map(of).collect()
}
