//! The Debian package in the life of a machine: installed, at work, upgraded, removed, purged.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{Behaviour, Timing, journal::now, wait::scaled};

use crate::{
    engine::{Machine, Network},
    gated::{self, Gated},
};

/// The folder with what was built, in the machine.
const PACKAGES: &str = "/packages";
const UNIT: &str = "etcd-await-election@job.service";
const EXAMPLE: &str = "/etc/etcd-await-election/example.env";
const SETTINGS: &str = "/etc/etcd-await-election/job.env";
const SANDBOX: &str = "/etc/systemd/system/etcd-await-election@job.service.d/journal.conf";

/// How long systemd and dpkg may take for what they do.
const A_WHILE: Duration = Duration::from_secs(30);

/// Every file and folder, but those in which a machine notes that something was installed or run.
const EVERYTHING: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
    -o -path /journal -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/etcd \
    -o -path /var/lib/systemd \\) -prune -o -print | sort";

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let network = Network::new();
    let gated = Gated::new();
    let machine = gated.install(network.machine("debian").mount(&dist(), PACKAGES, "ro")).boot();
    let before = machine.must(EVERYTHING);

    install(&machine, &format!("{PACKAGES}/{}", package()));
    machine.must("test -s /usr/share/man/man1/etcd-await-election.1.gz");
    let version = machine.must("etcd-await-election --version");
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let units = machine.must("systemctl list-unit-files --no-legend 'etcd-await-election@*'");
    assert!(units.contains("etcd-await-election@.service"), "systemd does not know the unit: {units:?}");

    // As the example says, with a command and an etcd that are there.
    machine.must("systemctl start etcd.service");
    machine.must(&format!("sed -E '/^(COMMAND|ETCD_AWAIT_ELECTION_ENDPOINTS)=/d' {EXAMPLE} >{SETTINGS}"));
    let journaled = Gated::variables("debian", &Behaviour::default());
    let ours = format!("COMMAND={}\nETCD_AWAIT_ELECTION_ENDPOINTS=127.0.0.1:2379\n{journaled}", gated::COMMAND);
    machine.must(&format!("cat >>{SETTINGS} <<'END-OF-FILE'\n{ours}END-OF-FILE"));
    machine.write(SANDBOX, "[Service]\nReadWritePaths=/journal");
    machine.must("systemctl daemon-reload");
    let moment = now();
    machine.must(&format!("systemctl start {UNIT}"));
    let first = gated.runs_since(moment, scaled(A_WHILE), Some("debian"));

    // Through an upgrade it runs on, and what the operator wrote stays.
    machine.must(&format!("echo '# ours' >>{EXAMPLE}"));
    machine.must(&format!("dpkg-deb --raw-extract {PACKAGES}/{} /tmp/next", package()));
    machine.must("sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control");
    machine.must(&format!("echo '# theirs' >>/tmp/next{EXAMPLE}"));
    machine.must("dpkg-deb --root-owner-group --build /tmp/next /tmp/next.deb");
    let main_pid = || machine.must(&format!("systemctl show --property=MainPID {UNIT}"));
    let pid = main_pid();
    install(&machine, "/tmp/next.deb");
    assert!(machine.must("dpkg-query --show etcd-await-election").contains("+next"), "it was not upgraded");
    assert_eq!(machine.must(&format!("tail -n 1 {EXAMPLE}")).trim(), "# ours");
    assert_eq!(main_pid(), pid, "the upgrade restarted the instance");
    let moment = now();
    gated.runs_since(first.from, scaled(A_WHILE), Some("debian"));
    assert!(gated.again(&first).asked.is_none(), "the upgrade asked the command to stop");
    assert!(gated.again(&first).to > moment - 1_000_000_000, "the upgrade ended the command");

    // And the old program, whose file is gone, still hands over: the new one need not wait for a lease.
    machine.must(&format!("systemctl restart {UNIT}"));
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
