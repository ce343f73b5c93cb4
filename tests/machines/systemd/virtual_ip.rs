//! A virtual IP that follows the leader, moved by the programs and with the files of docs/operations.md.
//!
//! Two hosts run a server that answers with the name of its host, and a client connects to the address.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use harness::{eventually, throughout};

use super::{ADMIN, PATIENCE, SHARED, host_of, status};
use crate::engine::{Machine, Suite};

/// A program that moves the address.
struct Mover {
    /// The suite whose package is used.
    suite: Suite,
    unit: &'static str,
    /// The file in the repository, and its path on a host.
    config: [&'static str; 2],
}

/// Of Debian 12.
const KEEPALIVED: Mover = Mover {
    suite: "bookworm",
    unit: "keepalived.service",
    config: ["keepalived.conf", "/etc/keepalived/keepalived.conf"],
};

/// The one of Debian 13 keeps the address while the gatekeeper is dead or frozen.
const VIP_MANAGER: Mover =
    Mover { suite: "forky", unit: "vip-manager.service", config: ["vip-manager.env", "/etc/default/vip-manager"] };

mod bookworm {
    #[test]
    fn keepalived_moves_a_virtual_ip_to_the_leader() {
        super::follows_the_leader(&super::KEEPALIVED);
    }
}

mod forky {
    #[test]
    fn vip_manager_moves_a_virtual_ip_to_the_leader() {
        super::follows_the_leader(&super::VIP_MANAGER);
    }
}

const INSTANCE: &str = "etcd-await-election@served.service";
/// The address in the documents.
const DOCUMENTED: &str = "192.0.2.100";
/// The server: answers each connection with the name of its host.
const SERVER: &str = "#!/usr/bin/perl\nuse IO::Socket::INET;\nuse Sys::Hostname;\n\
    my $server = IO::Socket::INET->new(LocalPort => 8000, Listen => 9, ReuseAddr => 1) or die;\n\
    while (my $client = $server->accept) { print $client hostname; close $client }\n";
/// A lost host is replaced soon.
const TIMING: &str = "ETCD_AWAIT_ELECTION_LEASE_DURATION=5\nETCD_AWAIT_ELECTION_RENEW_DEADLINE=3\n\
    ETCD_AWAIT_ELECTION_RETRY_PERIOD=1\n";
/// The limit for the address to move: a lease, two checks, and what VRRP waits for; all on a busy machine.
const MOVE: Duration = Duration::from_secs(20);

/// Longer than VRRP waits for another master.
const STANDBY: Duration = Duration::from_secs(5);

struct Site {
    mover: &'static Mover,
    address: String,
    client: Machine,
}

impl Site {
    /// Boots a host, and starts its instance and its mover.
    fn host(&self, name: &str) -> Machine {
        let Mover { suite, unit, config: [file, path] } = self.mover;
        let host = host_of(suite, name, INSTANCE).options(["--cap-add", "NET_ADMIN"]).boot();
        host.write("/usr/local/bin/serve", SERVER);
        let settings = format!(
            "COMMAND=/usr/local/bin/serve\nETCD_AWAIT_ELECTION_ENDPOINTS={}\nETCD_AWAIT_ELECTION_LOCK_NAME=virtual-ip/{suite}\n\
             ETCD_AWAIT_ELECTION_STATUS_ENDPOINT=127.0.0.1:8008\n{TIMING}",
            SHARED.1.endpoints()
        );
        host.write("/etc/etcd-await-election/served.env", &settings);
        // So that the faults last until the test ends them.
        host.write(&format!("{ADMIN}/{INSTANCE}.d/test.conf"), "[Service]\nWatchdogSec=0\nRestart=no");
        let documented = fs::read_to_string(shipped(file)).expect("a file that ships");
        assert!(documented.contains(DOCUMENTED), "{documented}");
        host.write(path, &documented.replace(DOCUMENTED, &self.address));
        host.must(&format!(
            "chmod 755 /usr/local/bin/serve && systemctl daemon-reload && systemctl start {INSTANCE} {unit}"
        ));
        host
    }

    /// Waits until a client reaches this host at the address, and the other host does not have it.
    #[track_caller]
    fn reaches(&self, host: &Machine, other: Option<&Machine>) {
        let begun = Instant::now();
        let ask = format!(
            "$s = IO::Socket::INET->new(PeerAddr => \"{}:8000\", Timeout => 1) or die $@; print <$s>",
            self.address
        );
        eventually(MOVE, &format!("{} answers at the address", host.name()), || {
            let answer = self.client.exec(&["perl", "-MIO::Socket::INET", "-e", &ask])?;
            if answer == host.name() { Ok(()) } else { Err(format!("{answer:?}: {}", self.seen(host))) }
        });
        eprintln!("{}: {} answered at the address after {:?}", self.mover.unit, host.name(), begun.elapsed());
        if let Some(other) = other {
            // It may lose the address after the other host has it, as each of them polls its own instance.
            eventually(MOVE, &format!("{} does not have the address", other.name()), || {
                if self.has_address(other)? { Err(self.seen(other)) } else { Ok(()) }
            });
        }
        assert_eq!(self.has_address(host), Ok(true));
    }

    fn has_address(&self, host: &Machine) -> Result<bool, String> {
        Ok(host
            .exec(&["ip", "-oneline", "address", "show", "dev", "eth0"])?
            .contains(&format!("inet {}/", self.address)))
    }

    fn seen(&self, host: &Machine) -> String {
        [INSTANCE, self.mover.unit].map(|unit| status(host, unit).unwrap_or_else(|error| error)).concat()
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/virtual-ip").join(name)
}

/// Starts the instance of this host again when it has ended, and waits until it is a standby.
#[track_caller]
fn joins(host: &Machine, leader: &str) {
    host.until(
        PATIENCE,
        &format!("! systemctl is-active --quiet {INSTANCE} || systemctl status {INSTANCE} | grep '{leader} leads'"),
    );
    host.must(&format!("systemctl start {INSTANCE}"));
    host.until(PATIENCE, &format!("systemctl status {INSTANCE} | grep '{leader} leads'"));
}

fn follows_the_leader(mover: &'static Mover) {
    let network = &SHARED.0;
    let client = network.machine("client").command(["sleep", "infinity"]);
    let site = Site { mover, address: network.free_ip(), client: client.start() };
    let a = site.host("a");
    site.reaches(&a, None);
    let b = site.host("b");
    joins(&b, "a");
    // Its healthy standby does not have the address.
    throughout(
        STANDBY,
        "b does not have the address",
        || {
            if site.has_address(&b)? { Err(site.seen(&b)) } else { Ok(()) }
        },
    );
    site.reaches(&a, Some(&b));
    // A handover, after which both instances are healthy.
    a.must(&format!("systemctl restart {INSTANCE}"));
    joins(&a, "b");
    site.reaches(&b, Some(&a));
    // A gatekeeper that accepts connections and does not answer.
    b.must(&format!("systemctl kill --kill-whom=main --signal=STOP {INSTANCE}"));
    site.reaches(&a, Some(&b));
    b.must(&format!("systemctl kill --kill-whom=main --signal=CONT {INSTANCE}"));
    joins(&b, "a");
    // A gatekeeper that is gone, so that nothing listens.
    a.must(&format!("systemctl kill --kill-whom=main --signal=KILL {INSTANCE}"));
    site.reaches(&b, Some(&a));
    joins(&a, "b");
    // A host that is lost.
    b.kill();
    site.reaches(&a, None);
}
