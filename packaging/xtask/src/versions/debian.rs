//! The etcd of the Debian suites, unpacked below `target/`.
//!
//! Packages of another suite are not installed. They are downloaded with separate package lists and unpacked in a folder, where
//! etcd runs, as it is a Go program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools;

/// The suites whose versions of etcd are tested.
pub(super) const SUITES: [&str; 3] = ["bookworm", "trixie", "forky"];

/// The keys that the suites are signed with.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Returns the suite of this machine, or an error if it is not Debian.
pub(crate) fn own_suite() -> Result<String, String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if value(&release, "ID") != Some("debian") || !tools::on_path("apt-get") {
        return Err("this machine is not Debian".to_owned());
    }
    Ok(value(&release, "VERSION_CODENAME").unwrap_or_default().to_owned())
}

/// Returns the folder with `etcd` and `etcdctl` of a suite; downloads them the first time.
pub(super) fn programs(suite: &str) -> Result<PathBuf, String> {
    let folder = tools::unpacked_in(&format!("etcd-{suite}"));
    let programs = folder.join("usr/bin");
    if ["etcd", "etcdctl"].iter().all(|program| programs.join(program).is_file()) {
        return Ok(programs);
    }
    own_suite()?;
    let apt = Apt::new(tools::unpacked_in(&format!("apt-{suite}")), suite, &mirror()?)?;
    tools::run(apt.get().args(["update", "-qq"]))?;
    for package in ["etcd-server", "etcd-client"] {
        tools::unpack(apt.get(), package, &folder)?;
    }
    Ok(programs)
}

/// `apt-get` for another suite, with separate lists and caches, so that those of the machine do not change.
pub(crate) struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Keeps its files in the folder `home`.
    pub(crate) fn new(home: PathBuf, suite: &str, mirror: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", home.display());
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(folder)).map_err(failed)?;
        }
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(home.join("sources.list"), source).map_err(failed)?;
        Ok(Self { home })
    }

    pub(crate) fn get(&self) -> Command {
        let mut apt = Command::new("apt-get");
        let mut option = |name: &str, value: &Path| {
            apt.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::Etc::sourcelist", &self.home.join("sources.list"));
        option("Dir::Etc::sourceparts", Path::new("/dev/null"));
        option("Dir::State::lists", &self.home.join("lists"));
        option("Dir::Cache", &self.home.join("cache"));
        // As root, apt would use another user for downloads, which may not be able to read the checkout.
        option("APT::Sandbox::User", Path::new("root"));
        apt
    }
}

/// Returns the mirror of this machine.
pub(crate) fn mirror() -> Result<String, String> {
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let text = sources.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    // One format has `URIs: URL …`, the other `deb [options] URL suite …`.
    let address = text
        .lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://"));
    address.map(str::to_owned).ok_or_else(|| format!("no source of packages in {}", sources.join(" or ")))
}

/// Returns a value of `/etc/os-release`.
fn value<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches('"'))
}
