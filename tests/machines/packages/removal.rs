//! The package is removed from a host that leads, or replaced on it while etcd cannot be reached.

use std::{fs, path::Path, time::Duration};

use harness::{
    Timing, eventually,
    journal::{Life, now},
    throughout,
    wait::scaled,
};

use super::{A_WHILE, Host, JOB, PACKAGES, package};
use crate::engine::{Network, Suite};

on_each_suite! {
    installation_and_upgrade_do_not_stop_a_leader_without_etcd
    removal_from_the_leader_hands_over_and_names_the_units_that_need_the_program
    removal_without_etcd_does_not_wait_and_prints_nothing_where_no_unit_needs_the_program
}

/// The scripts of the deb and those of the rpm, which do the same.
fn installation_and_upgrade_do_not_stop_a_leader_without_etcd(suite: Suite) {
    let host = Host::boot(suite, &Network::new());
    // etcd is away for less than the renew deadline, so that the command could only be stopped by what is installed.
    let life = host.job(
        "ETCD_AWAIT_ELECTION_LEASE_DURATION=600\nETCD_AWAIT_ELECTION_RENEW_DEADLINE=500\n\
         ETCD_AWAIT_ELECTION_RETRY_PERIOD=2",
    );
    host.gate("nginx.service", "nginx.conf");
    let nginx = "ETCD_AWAIT_ELECTION_LEASE_DURATION=600\nETCD_AWAIT_ELECTION_RENEW_DEADLINE=500";
    host.machine.must(&format!("echo '{nginx}' >>/etc/etcd-await-election/nginx.env"));
    host.machine.must("systemctl start nginx.service");
    host.says("nginx.service", "leader of nginx");
    let pids = || [JOB, "nginx.service"].map(|unit| host.main_pid(unit));
    let before = pids();

    host.machine.must("systemctl kill --signal=STOP etcd.service");
    let same = |what: &str| {
        assert_eq!(pids(), before, "{what} restarted an instance");
        let now = host.gated.again(&life);
        assert!(now.asked.is_none() && !now.ended, "{what} stopped the command: {now:?}");
    };
    host.apt(&format!("install --reinstall {PACKAGES}/{}", package()));
    same("the installation");
    host.next_package();
    host.apt("install /tmp/next.deb");
    assert!(host.machine.must("dpkg-query --show etcd-await-election").contains("+next"), "it was not upgraded");
    same("the upgrade");
    // The newer package's first, and the older one's when it is replaced.
    for (name, left) in [("post", 2), ("preun", 1), ("postun", 1)] {
        let said = host.machine.must(&rpm_script(name, left));
        assert_eq!(said, "", "%{name} {left}");
        same(name);
    }
    let moment = now();
    host.machine.must("systemctl kill --signal=CONT etcd.service");
    host.says(JOB, "leader of");
    host.says("nginx.service", "leader of nginx");
    host.gated.runs_since(life.from, A_WHILE, Some("debian"));
    assert!(host.gated.again(&life).to > moment, "the command ended");
    same("the return of etcd");
}

/// A standby takes over at once, as at any stop. Units of the operator are named, and run until they are stopped.
fn removal_from_the_leader_hands_over_and_names_the_units_that_need_the_program(suite: Suite) {
    let host = Host::boot(suite, &Network::new());
    let life = host.job("");
    host.machine.must(&format!("systemctl enable --quiet {JOB}"));
    host.gate("nginx.service", "nginx.conf");
    host.machine.must("systemctl start nginx.service");
    host.says("nginx.service", "leader of nginx");
    let pid = host.main_pid("nginx.service");
    // One that does not run, and is written over two lines; one that only waits for an instance, and comments.
    let unit = "[Service]\nExecStart= \\\n  -/usr/bin/etcd-await-election -- /bin/true";
    host.machine.write("/run/systemd/system/nightly.service", unit);
    let unit = "[Unit]\nAfter=etcd-await-election@job.service\n[Service]\n#ExecStart=/usr/bin/etcd-await-election\n\
        ExecStart=/usr/local/bin/etcd-await-election\nEnvironmentFile=/etc/etcd-await-election/x.env";
    host.machine.write("/etc/systemd/system/innocent.service", unit);
    let expected = [
        "nginx.service (running): /etc/systemd/system/nginx.service.d/nginx.conf",
        "nightly.service (not running): /run/systemd/system/nightly.service",
        &format!("stay enabled, and start again when the package is installed again and the host boots:\n  {JOB}"),
        &format!("stopping these instances, which hand over: {JOB}"),
    ];
    let named = |said: &str| {
        for line in expected {
            assert!(said.contains(line), "it does not say {line:?}:\n{said}");
        }
        for line in ["innocent", "gate.conf\n", "example"] {
            assert!(!said.contains(line), "it says {line:?}:\n{said}");
        }
    };
    // The rpm says the same, and of an upgrade nothing.
    let mut rpm = rpm_script("preun", 0);
    rpm = rpm.replace("systemctl stop", "echo systemctl stop");
    named(&host.machine.must(&rpm));

    let moment = now();
    let said = host.apt("remove etcd-await-election");
    eprintln!("{said}");
    named(&said);
    let ended = host.gated.again(&life);
    assert!(ended.ended && ended.asked.is_some_and(|asked| asked > moment), "{ended:?}");
    assert_eq!(host.keys("job"), "", "the lock was not given back");

    // The gated service is nginx's own: it leads on, also when its gatekeeper is killed, which then gives the lock back.
    assert_eq!(host.main_pid("nginx.service"), pid);
    host.says("nginx.service", "leader of nginx");
    host.machine.must(&format!("kill -KILL {pid}"));
    eventually(Timing::SWIFT, "the lock is given back", || {
        let keys = host.keys("nginx");
        if keys.is_empty() { Ok(()) } else { Err(keys) }
    });
    host.machine.until(A_WHILE, "journalctl --unit=nginx.service --no-pager | grep --quiet 203/EXEC");
    throughout(Duration::from_secs(3), "nginx is not started without the lock", || {
        let found = host.machine.must("pgrep --list-full nginx: || true");
        if found.is_empty() { Ok(()) } else { Err(found) }
    });
    // As it says; and with the package everything is there again.
    host.apt(&format!("install {PACKAGES}/{}", package()));
    host.says("nginx.service", "leader of nginx");
    host.machine.must("systemctl disable --quiet --now nginx.service");
    host.gated.verdict(1);
}

/// Nothing is printed if no unit needs the program, and a removal does not wait for an etcd that does not answer.
fn removal_without_etcd_does_not_wait_and_prints_nothing_where_no_unit_needs_the_program(suite: Suite) {
    let host = Host::boot(suite, &Network::new());
    let life: Life = host.job("");
    host.machine.must("systemctl kill --signal=STOP etcd.service");
    let begun = now();
    let said = host.apt("remove etcd-await-election");
    let took = Duration::from_nanos(now() - begun);
    eprintln!("removed from the leader without etcd after {took:?}");
    assert!(host.gated.again(&life).ended, "the command runs on");
    assert!(!said.contains("warning"), "{said}");
    // The longest end of an instance whose command ends at once, with the time that apt takes.
    assert!(took < scaled(A_WHILE), "{took:?}");
}

/// A scriptlet of the rpm's spec, as a line for a shell: as rpmbuild reads it, and with what rpm passes to it.
fn rpm_script(name: &str, packages_left: u8) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let read = |file: &str| fs::read_to_string(root.join(file)).expect("a file of the project");
    let spec = read("rpm/etcd-await-election.spec");
    let (_, script) = spec.split_once(&format!("\n%{name}\n")).expect("the spec has it");
    let script = script.replace("%(cat \"%{removal}\")", &read("removal.sh"));
    let script = script.split("\n%").next().unwrap_or_default();
    format!("set -- {packages_left}\nset +e\nexec 2>&1\n{script}")
}
