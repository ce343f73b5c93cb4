//! The versions of etcd to test against: the one on PATH, those of the Debian suites, and those built from Go modules.

pub(crate) mod debian;
mod go;

use std::{env, path::PathBuf};

/// One etcd to test against.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// What to call it.
    pub(crate) name: String,
    /// The folder with `etcd` and `etcdctl`; none for those on PATH.
    pub(crate) folder: Option<PathBuf>,
}

/// The versions that `names` stands for, separated by commas: `path`, `all`, `others` (all except `path`), a Debian suite or a
/// minor version. What is not there yet is downloaded or built; `all` and `others` skip what this machine cannot have.
///
/// # Errors
/// For an unknown name, or a version that was named and cannot be had.
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

/// The folders that a rolling upgrade goes through, as `ETCD_UPGRADE` wants them; `None` unless `names` asks for all versions and
/// this machine can have them.
///
/// # Errors
/// If one of them cannot be had.
pub(crate) fn upgrade_path(names: &str) -> Result<Option<PathBuf>, String> {
    if !matches!(names, "all" | "others") || debian::own_suite().is_err() || go::is_usable().is_err() {
        return Ok(None);
    }
    // From the newest 3.5: older ones cannot be upgraded to 3.6 in place.
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
        return Err(format!("--etcd {name}: must be path, all, others, or one of {known}"));
    };
    Ok(Etcd { name: format!("etcd {name}"), folder: Some(folder.map_err(|why| format!("--etcd {name}: {why}"))?) })
}

/// All that this machine can have besides the one on PATH; the suite that the machine is itself has that one.
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
