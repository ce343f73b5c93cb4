//! Other versions of etcd to test against: those of the other Debian suites, unpacked below `target/`.
//!
//! Nothing of another suite is ever installed: its packages are found with package lists of their own, downloaded and
//! unpacked in a folder, where etcd, being a Go program, runs as it is. Anywhere but on Debian there is only the etcd on
//! PATH.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools;

/// The suites whose etcd is tested against: 3.4 with its old leases, 3.5 before and after what 3.5.28 changed about logins.
const SUITES: [&str; 3] = ["bookworm", "trixie", "forky"];

/// One etcd to test against.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// What to call it.
    pub(crate) name: String,
    /// The folder with `etcd` and `etcdctl`; none for those on PATH.
    pub(crate) folder: Option<PathBuf>,
}

/// What `--etcd` names: `path`, `all`, `others` (all but `path`), or suites with commas between them. What is not there
/// yet is fetched.
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
            suite if SUITES.contains(&suite) => etcds.push(of_suite(suite)?),
            _ => return Err(format!("--etcd {name}: must be path, all, others, or of {}", SUITES.join(", "))),
        }
    }
    Ok(etcds)
}

fn on_path() -> Etcd {
    Etcd { name: "the etcd on PATH".to_owned(), folder: None }
}

/// Those of the suites that this machine is not; none, with a word about it, where it is no Debian.
fn others() -> Result<Vec<Etcd>, String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if value(&release, "ID") != Some("debian") || !tools::on_path("apt-get") {
        eprintln!("this is not Debian: only the etcd on PATH is tested, none of {}", SUITES.join(", "));
        return Ok(Vec::new());
    }
    let own = value(&release, "VERSION_CODENAME");
    SUITES.iter().filter(|suite| own != Some(suite)).map(|suite| of_suite(suite)).collect()
}

fn of_suite(suite: &str) -> Result<Etcd, String> {
    let folder = tools::unpacked_in(&format!("etcd-{suite}"));
    let etcd = Etcd { name: format!("the etcd of {suite}"), folder: Some(folder.join("usr/bin")) };
    if ["etcd", "etcdctl"].iter().all(|program| folder.join("usr/bin").join(program).is_file()) {
        return Ok(etcd);
    }
    let apt = Apt::new(suite)?;
    tools::run(apt.get().args(["update", "-qq"]))?;
    for package in ["etcd-server", "etcd-client"] {
        tools::unpack(apt.get(), package, &folder)?;
    }
    Ok(etcd)
}

/// `apt-get` for another suite, with lists and caches of its own: the machine's stay as they are.
struct Apt {
    home: PathBuf,
}

impl Apt {
    fn new(suite: &str) -> Result<Self, String> {
        let home = tools::unpacked_in(&format!("apt-{suite}"));
        let failed = |error: std::io::Error| format!("{}: {error}", home.display());
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(folder)).map_err(failed)?;
        }
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let source = format!("deb [signed-by={keyring}] {} {suite} main\n", mirror()?);
        fs::write(home.join("sources.list"), source).map_err(failed)?;
        Ok(Self { home })
    }

    fn get(&self) -> Command {
        let mut apt = Command::new("apt-get");
        let mut option = |name: &str, value: &Path| {
            apt.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::Etc::sourcelist", &self.home.join("sources.list"));
        option("Dir::Etc::sourceparts", Path::new("/dev/null"));
        option("Dir::State::lists", &self.home.join("lists"));
        option("Dir::Cache", &self.home.join("cache"));
        // As root apt would hand the folders to a user that cannot reach a checkout in somebody's home.
        option("APT::Sandbox::User", Path::new("root"));
        apt
    }
}

/// Where this machine gets its packages from.
fn mirror() -> Result<String, String> {
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let text = sources.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    // `URIs: URL …` in the one, `deb [options] URL suite …` in the other.
    let address = text
        .lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://"));
    address.map(str::to_owned).ok_or_else(|| format!("no source of packages in {}", sources.join(" or ")))
}

/// A value of `/etc/os-release`.
fn value<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches('"'))
}
