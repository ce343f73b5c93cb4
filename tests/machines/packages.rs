//! The Debian package in the life of a machine: installed, at work, upgraded, removed, purged.

mod reload;
mod removal;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use harness::{
    Behavior, Timing, eventually,
    journal::{Life, now},
    wait::scaled,
};

use crate::{
    engine::{Machine, Network, Suite},
    gated::{self, Gated},
};

on_each_suite! {
    the_package_is_installed_upgraded_removed_and_purged
}

/// The folder with what was built, in the machine.
const PACKAGES: &str = "/packages";
const JOB: &str = "etcd-await-election@job.service";
const EXAMPLE: &str = "/etc/etcd-await-election/example.env";
const SETTINGS: &str = "/etc/etcd-await-election/job.env";
const SANDBOX: &str = "/etc/systemd/system/etcd-await-election@job.service.d/journal.conf";

/// The limit of operations of systemd and dpkg.
const A_WHILE: Duration = Duration::from_secs(30);

/// Every file and folder, except those that record installations and runs.
const EVERYTHING: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
    -o -path /journal -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/etcd \
    -o -path /var/lib/systemd \\) -prune -o -print | sort";

fn the_package_is_installed_upgraded_removed_and_purged(suite: Suite) {
    let host = Host::bare(suite, &Network::new());
    let Host { machine, gated } = &host;
    let before = machine.must(EVERYTHING);

    install(machine, &format!("{PACKAGES}/{}", package()));
    machine.must("test -s /usr/share/man/man1/etcd-await-election.1.gz");
    let version = machine.must("etcd-await-election --version");
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let units = machine.must("systemctl list-unit-files --no-legend 'etcd-await-election@*'");
    assert!(units.contains("etcd-await-election@.service"), "systemd does not know the unit: {units:?}");

    machine.must("systemctl start etcd.service");
    let first = host.job("");

    // An upgrade neither stops it nor changes the operator's configuration.
    machine.must(&format!("echo '# ours' >>{EXAMPLE}"));
    host.next_package();
    let pid = host.main_pid(JOB);
    install(machine, "/tmp/next.deb");
    assert!(machine.must("dpkg-query --show etcd-await-election").contains("+next"), "it was not upgraded");
    assert_eq!(machine.must(&format!("tail -n 1 {EXAMPLE}")).trim(), "# ours");
    assert_eq!(host.main_pid(JOB), pid, "the upgrade restarted the instance");
    let moment = now();
    gated.runs_since(first.from, scaled(A_WHILE), Some("debian"));
    assert!(gated.again(&first).asked.is_none(), "the upgrade asked the command to stop");
    assert!(gated.again(&first).to > moment - 1_000_000_000, "the upgrade ended the command");

    // The old program, whose file was replaced, still hands over.
    machine.must(&format!("systemctl restart {JOB}"));
    let second = gated.runs_since(moment, Timing::SWIFT, Some("debian"));
    assert!(gated.again(&first).ended, "the command was killed");

    machine.must("dpkg --remove etcd-await-election");
    assert!(gated.again(&second).ended, "the command runs on without the program");
    machine.must("! systemctl cat etcd-await-election@job.service");
    machine.must(&format!("test -e {EXAMPLE} -a ! -e /usr/bin/etcd-await-election"));

    machine.must("dpkg --purge etcd-await-election");
    machine.must(&format!("test ! -e {EXAMPLE}"));
    // The operator's, and the command's.
    machine.must(&format!("rm -r {SETTINGS} $(dirname {SANDBOX}) && rmdir /etc/etcd-await-election"));
    machine.must("rm -r /var/lib/etcd-await-election /var/lib/private/etcd-await-election");
    let left = machine.must(EVERYTHING);
    let left: Vec<_> = left.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    gated.verdict(2);
}

/// A machine with etcd, and with what `dist` has made.
struct Host {
    machine: Machine,
    gated: Gated,
}

impl Host {
    /// Without the package, and without etcd.
    fn bare(suite: Suite, network: &Arc<Network>) -> Self {
        let gated = Gated::new();
        let machine = gated.install(network.machine("debian").suite(suite).mount(&dist(), PACKAGES, "ro")).boot();
        Self { machine, gated }
    }

    /// With both.
    fn boot(suite: Suite, network: &Arc<Network>) -> Self {
        let host = Self::bare(suite, network);
        host.machine.must("systemctl start etcd.service");
        host.apt(&format!("install {PACKAGES}/{}", package()));
        host
    }

    /// Runs `apt-get`; returns its output with that of the package scripts.
    #[track_caller]
    fn apt(&self, words: &str) -> String {
        // Without package lists, as no mirror can be reached and the package has no dependencies.
        let words = format!("-o Dpkg::Options::=--force-confold --yes --quiet --allow-downgrades {words}");
        // dpkg writes to a terminal that apt makes.
        self.machine.must(&format!("DEBIAN_FRONTEND=noninteractive apt-get {words} 2>&1")).replace('\r', "")
    }

    /// Makes `/tmp/next.deb`, a newer version of the package.
    #[track_caller]
    fn next_package(&self) {
        self.machine.must(&format!("dpkg-deb --raw-extract {PACKAGES}/{} /tmp/next", package()));
        self.machine.must("sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control");
        self.machine.must(&format!("echo '# theirs' >>/tmp/next{EXAMPLE}"));
        self.machine.must("dpkg-deb --root-owner-group --build /tmp/next /tmp/next.deb");
    }

    /// Starts an instance as the example says, with a command and an etcd that are there; its command.
    #[track_caller]
    fn job(&self, more: &str) -> Life {
        let machine = &self.machine;
        machine.must(&format!("sed -E '/^(COMMAND|ETCD_AWAIT_ELECTION_ENDPOINTS)=/d' {EXAMPLE} >{SETTINGS}"));
        let journaled = Gated::variables("debian", &Behavior::default());
        let ours =
            format!("COMMAND={}\nETCD_AWAIT_ELECTION_ENDPOINTS=127.0.0.1:2379\n{journaled}{more}", gated::COMMAND);
        machine.must(&format!("cat >>{SETTINGS} <<'END-OF-FILE'\n{ours}\nEND-OF-FILE"));
        machine.write(SANDBOX, "[Service]\nReadWritePaths=/journal");
        machine.must("systemctl daemon-reload");
        let moment = now();
        machine.must(&format!("systemctl start {JOB}"));
        self.gated.runs_since(moment, scaled(A_WHILE), Some("debian"))
    }

    /// Gates a unit by its drop-in that ships, as the README says.
    #[track_caller]
    fn gate(&self, unit: &str, dropin: &str) {
        let examples = "/usr/share/doc/etcd-await-election/examples";
        let folder = format!("/etc/systemd/system/{unit}.d");
        let files = format!("{examples}/gate.conf {examples}/{dropin}");
        self.machine.must(&format!("install -D --mode=644 --target-directory={folder} {files}"));
        self.settings(unit.trim_end_matches(".service"));
        self.machine.must("systemctl daemon-reload");
    }

    /// Writes the settings of a gated unit.
    #[track_caller]
    fn settings(&self, name: &str) {
        let settings = "ETCD_AWAIT_ELECTION_ENDPOINTS=127.0.0.1:2379";
        self.machine.write(&format!("/etc/etcd-await-election/{name}.env"), settings);
    }

    /// Starts an instance named `other` in the unit of that name, which leads this lock.
    #[track_caller]
    fn another_leads(&self, lock: &str) {
        let flags = format!("--endpoints=127.0.0.1:2379 --lock-name={lock} --identity=other --notify-ready=elected");
        // It returns when its command runs.
        self.machine.must(&format!(
            "systemd-run --quiet --unit=other --service-type=notify \
             /usr/bin/etcd-await-election {flags} -- /bin/sleep infinity"
        ));
    }

    /// Waits until `systemctl status` of a running unit has these words.
    #[track_caller]
    fn says(&self, unit: &str, words: &str) {
        eventually(A_WHILE, &format!("{unit} says {words:?}"), || {
            let line = format!("systemctl status --no-pager --lines=0 --full {unit} || true");
            let said = self.machine.exec(&["sh", "-c", &line])?;
            if said.contains(words) && said.contains("active (running)") { Ok(()) } else { Err(said) }
        });
    }

    /// The process of the gatekeeper.
    #[track_caller]
    fn main_pid(&self, unit: &str) -> String {
        self.machine.must(&format!("systemctl show --value --property=MainPID {unit}")).trim().to_owned()
    }

    /// The names of all keys of a lock.
    #[track_caller]
    fn keys(&self, lock: &str) -> String {
        self.machine.must(&format!("ETCDCTL_API=3 etcdctl get --prefix --keys-only {lock}")).trim().to_owned()
    }
}

fn install(machine: &Machine, package: &str) {
    machine.must(&format!("DEBIAN_FRONTEND=noninteractive dpkg --install --force-confdef --force-confold {package}"));
}

/// What `cargo xtask dist` makes.
fn dist() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder").join("dist")
}

/// The package for this machine.
fn package() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let names = fs::read_dir(dist()).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names = names.filter_map(|name| name.into_string().ok());
    let found = names.find(|name| name.ends_with(&format!("_{arch}.deb")));
    found.unwrap_or_else(|| panic!("no package for {arch} in {}: cargo xtask dist", dist().display()))
}
