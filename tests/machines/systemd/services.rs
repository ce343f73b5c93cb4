//! Packaged services of the distribution, gated on two hosts by the drop-ins that ship.
//!
//! They write no journal, so the processes of both hosts are listed from outside many times a second.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use harness::{Timing, eventually, throughout};

use super::{ADMIN, PATIENCE, SHARED, after_its_lease, host_of, shipped, status};
use crate::engine::{Machine, Suite};

on_each_suite! {
    the_nginx_of_debian_is_reloaded_where_it_runs_and_the_gatekeeper_stays_the_main_process
    the_configuration_of_nginx_is_checked_where_nginx_starts
    the_postgres_of_debian_does_not_outlive_gatekeeper_and_guard
    the_cron_of_debian_runs_its_jobs_only_on_the_leading_host
    without_etcd_a_gated_service_delays_neither_a_boot_nor_dpkg
}

/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Of a unit that must not miss its watchdog for long.
const WATCHDOG: Duration = Duration::from_secs(4);

/// Whether a process belongs to a service, by its command line.
type Belongs = fn(&str) -> bool;

/// A service on two hosts.
struct Service {
    unit: String,
    belongs: Belongs,
    a: Machine,
    b: Machine,
    lookout: Lookout,
}

impl Service {
    /// Boots both hosts with a drop-in beside `gate.conf` in the folder of the unit, or of its template. The first leads, and the second waits.
    #[track_caller]
    fn gating(suite: Suite, folder: &str, dropin: &str, belongs: Belongs, more: &str) -> Self {
        let [a, b] = ["a", "b"].map(|name| {
            let files = ["gate.conf", dropin];
            let host = files.into_iter().fold(host_of(suite, name, folder), |host, file| {
                host.mount(&shipped(file), &format!("{ADMIN}/{folder}.d/{file}"), "ro")
            });
            host.boot()
        });
        let lookout = Lookout::start([&a, &b].map(namespace), belongs);
        let unit = folder.replace('@', &format!("@{}", cluster(&a)));
        let service = Self { unit: unit.clone(), belongs, a, b, lookout };
        let settings = format!("ETCD_AWAIT_ELECTION_ENDPOINTS={}", SHARED.1.endpoints());
        let name = unit.trim_end_matches(".service");
        for (host, words) in [(&service.a, format!("leader of {name}")), (&service.b, "a leads".to_owned())] {
            host.write(&format!("/etc/etcd-await-election/{name}.env"), &settings);
            host.write(&format!("{ADMIN}/{unit}.d/test.conf"), &format!("[Service]\n{more}"));
            host.must(&format!("systemctl daemon-reload && systemctl start {unit}"));
            service.says(host, &words);
        }
        service
    }

    /// Waits until `systemctl status` says these words.
    #[track_caller]
    fn says(&self, host: &Machine, words: &str) {
        eventually(PATIENCE, &format!("{} says {words:?}", host.name()), || {
            let said = status(host, &self.unit)?;
            if said.contains(words) && said.contains("(running)") { Ok(()) } else { Err(said) }
        });
    }

    /// Waits until this succeeds on a host.
    #[track_caller]
    fn answers(&self, host: &Machine, limit: Duration, ask: impl Fn(&Machine) -> bool) {
        eventually(limit, &format!("{} answers on {}", self.unit, host.name()), || {
            if ask(host) { Ok(()) } else { status(host, &self.unit).and_then(Err) }
        });
    }

    /// The command lines of the service's processes on a host.
    fn processes(&self, host: &Machine) -> Vec<(u32, String)> {
        processes(namespace(host), self.belongs)
    }

    fn property(&self, host: &Machine, name: &str) -> String {
        host.must(&format!("systemctl show --value --property={name} {}", self.unit)).trim().to_owned()
    }

    /// The main process, which must be the gatekeeper.
    #[track_caller]
    fn gatekeeper(&self, host: &Machine) -> String {
        let pid = self.property(host, "MainPID");
        let said = host.must(&format!("cat /proc/{pid}/comm"));
        assert_eq!(said.trim(), "etcd-await-elec", "{}: {} is the unit's main process", host.name(), pid);
        pid
    }

    /// Stops both, as the end of every test: none of its processes is left, and it never ran on both.
    #[track_caller]
    fn verdict(self) {
        for host in [&self.a, &self.b] {
            host.must(&format!("systemctl stop {}", self.unit));
            assert_eq!(self.property(host, "Result"), "success", "{}", host.name());
            let left = self.processes(host);
            assert!(left.is_empty(), "left on {}: {left:?}", host.name());
        }
        let overlap = self.lookout.stop();
        assert!(overlap.is_zero(), "{} ran on both hosts for {overlap:?}", self.unit);
    }
}

/// The instance of `postgresql@.service` for the cluster that the package makes.
pub(super) fn cluster(host: &Machine) -> String {
    host.must("pg_lsclusters --no-header | awk '{print $1 \"-\" $2}'").trim().to_owned()
}

/// Watches two process namespaces for the same service.
struct Lookout {
    ended: Arc<AtomicBool>,
    overlap: JoinHandle<Duration>,
}

impl Lookout {
    fn start(hosts: [u64; 2], belongs: Belongs) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&ended);
        let overlap = thread::spawn(move || {
            let (mut overlap, mut since) = (Duration::ZERO, None);
            while !asked.load(Ordering::Relaxed) {
                let both = run_on_both(hosts, belongs);
                since = both.then(|| since.unwrap_or_else(Instant::now));
                overlap = overlap.max(since.map_or(Duration::ZERO, |since| since.elapsed().max(LOOK)));
                thread::sleep(LOOK);
            }
            overlap
        });
        Self { ended, overlap }
    }

    /// Returns the longest time for which it ran on both.
    fn stop(self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        self.overlap.join().expect("it only reads")
    }
}

/// Whether a process of the one host was there before and after processes of the other were seen.
fn run_on_both([one, other]: [u64; 2], belongs: Belongs) -> bool {
    let before = processes(one, belongs);
    !before.is_empty()
        && !processes(other, belongs).is_empty()
        && processes(one, belongs).iter().any(|(pid, _)| before.iter().any(|(same, _)| same == pid))
}

/// What the kernel calls the machine's process namespace.
fn namespace(host: &Machine) -> u64 {
    let pid = host.engine(&["inspect", "--format", "{{.State.Pid}}"]);
    fs::metadata(format!("/proc/{}/ns/pid", pid.trim())).expect("the machine runs").ino()
}

/// The processes of a namespace that belong to a service, by their ids outside of it.
fn processes(namespace: u64, belongs: Belongs) -> Vec<(u32, String)> {
    let found = fs::read_dir("/proc").expect("Linux has it").flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // That of a zombie is empty.
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_there = |file: &Path| fs::metadata(file).is_ok_and(|found| found.ino() == namespace);
        (belongs(&line) && is_there(&entry.path().join("ns/pid"))).then_some((pid, line))
    });
    found.collect()
}

/// Its unit has a `PIDFile=`, which must be ignored: otherwise a reload would make nginx the unit's main process
/// instead of the gatekeeper.
fn the_nginx_of_debian_is_reloaded_where_it_runs_and_the_gatekeeper_stays_the_main_process(suite: Suite) {
    let watchdog = format!("WatchdogSec={}", WATCHDOG.as_secs());
    let nginx = Service::gating(suite, "nginx.service", "nginx.conf", |line| line.starts_with("nginx: "), &watchdog);
    let listens = |host: &Machine| TcpStream::connect((host.ip(), 80)).is_ok();
    nginx.answers(&nginx.a, Timing::SWIFT, listens);
    let before = nginx.gatekeeper(&nginx.a);
    let workers = nginx.processes(&nginx.a);

    for host in [&nginx.a, &nginx.b] {
        host.must("systemctl reload nginx.service");
    }
    eventually(Timing::SWIFT, "nginx has other workers", || {
        let now = nginx.processes(&nginx.a);
        let same = now.iter().filter(|process| workers.contains(process)).count();
        if same == 1 && now.len() >= 2 { Ok(()) } else { Err(format!("{workers:?}, then {now:?}")) }
    });
    throughout(2 * WATCHDOG, "the gatekeeper is the main process", || {
        let (pid, restarts) = (nginx.property(&nginx.a, "MainPID"), nginx.property(&nginx.a, "NRestarts"));
        if pid == before && restarts == "0" { Ok(()) } else { Err(format!("{pid}, {restarts} restarts")) }
    });
    assert!(listens(&nginx.a) && !listens(&nginx.b));

    nginx.a.must("systemctl stop nginx.service");
    nginx.answers(&nginx.b, Timing::SWIFT, listens);
    nginx.verdict();
}

/// The unit checks it in `ExecStartPre=`, which would keep a standby from waiting. The drop-in has the check in `ON_ELECTED`.
fn the_configuration_of_nginx_is_checked_where_nginx_starts(suite: Suite) {
    let nginx = Service::gating(suite, "nginx.service", "nginx.conf", |line| line.starts_with("nginx: "), "");
    let listens = |host: &Machine| TcpStream::connect((host.ip(), 80)).is_ok();
    nginx.answers(&nginx.a, Timing::SWIFT, listens);
    nginx.b.must("echo nonsense >>/etc/nginx/nginx.conf && systemctl restart nginx.service");
    nginx.says(&nginx.b, "a leads");

    nginx.a.must("systemctl stop nginx.service");
    nginx.b.until(
        PATIENCE,
        "journalctl --unit=nginx.service | grep --quiet 'ON_ELECTED failed: it ended with exit code 1'",
    );
    assert!(!listens(&nginx.b) && nginx.processes(&nginx.b).is_empty());
    nginx.b.must("sed -i '$d' /etc/nginx/nginx.conf");
    nginx.answers(&nginx.b, PATIENCE, listens);
    nginx.verdict();
}

/// Its unit has a `PIDFile=`, which must be ignored: otherwise the database would become the unit's main process when
/// gatekeeper and guard are killed, and run beside the next one.
fn the_postgres_of_debian_does_not_outlive_gatekeeper_and_guard(suite: Suite) {
    let belongs = |line: &str| line.starts_with("postgres: ") || line.contains("/bin/postgres ");
    let postgres = Service::gating(suite, "postgresql@.service", "postgresql.conf", belongs, "");
    let unit = &postgres.unit;
    let ready = |host: &Machine| host.exec(&["pg_isready", "--quiet"]).is_ok();
    postgres.answers(&postgres.a, PATIENCE, ready);
    postgres.gatekeeper(&postgres.a);
    for host in [&postgres.a, &postgres.b] {
        host.must(&format!("systemctl reload {unit}"));
        postgres.gatekeeper(host);
    }

    let killed = Instant::now();
    postgres.a.must("kill -KILL $(pgrep 'etcd-await-elec|await-guard')");
    eventually(after_its_lease(), "postgres is gone from a", || {
        let left = postgres.processes(&postgres.a);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    eprintln!("postgres, kill -9 of gatekeeper and guard: gone after {:?}", killed.elapsed());
    // On either host, as the killed instance is restarted before its lease has expired.
    let both = [(&postgres.a, &postgres.b), (&postgres.b, &postgres.a)];
    let (next, other) = eventually(after_its_lease(), "postgres answers on a host", || {
        both.into_iter().find(|(host, _)| ready(host)).ok_or_else(|| "on none".to_owned())
    });
    eprintln!("postgres, kill -9 of gatekeeper and guard: it answers on {} after {:?}", next.name(), killed.elapsed());
    postgres.says(other, &format!("{} leads", next.name()));

    // A fast shutdown, as with pg_ctlcluster stop.
    next.must(&format!("systemctl stop {unit}"));
    let state = next.must("/usr/lib/postgresql/*/bin/pg_controldata /var/lib/postgresql/*/main");
    let state = state.lines().find(|line| line.starts_with("Database cluster state:")).unwrap_or_default();
    assert!(state.ends_with("shut down"), "{state}");
    postgres.answers(other, PATIENCE, ready);
    postgres.verdict();
}

/// Its jobs, which outlive it, are stopped as well.
fn the_cron_of_debian_runs_its_jobs_only_on_the_leading_host(suite: Suite) {
    let belongs = |line: &str| line.starts_with("/usr/sbin/cron ") || line.starts_with("/bin/sleep 4321");
    let cron = Service::gating(suite, "cron.service", "cron.conf", belongs, "");
    // The first host's cron runs already.
    for host in [&cron.a, &cron.b] {
        host.write("/etc/cron.d/job", "@reboot root /bin/sleep 4321");
    }
    let runs_job = |host: &Machine| cron.processes(host).iter().any(|(_, line)| line.starts_with("/bin/sleep"));
    cron.a.must("systemctl restart cron.service");
    cron.answers(&cron.b, PATIENCE, runs_job);
    cron.says(&cron.a, "b leads");
    cron.b.must("systemctl stop cron.service");
    cron.answers(&cron.a, PATIENCE, |host| !cron.processes(host).is_empty());
    assert!(cron.processes(&cron.b).is_empty(), "its job runs on");
    cron.verdict();
}

/// While etcd does not answer, neither a boot nor the scripts of a package, which restart the service while dpkg holds
/// its lock, may wait.
fn without_etcd_a_gated_service_delays_neither_a_boot_nor_dpkg(suite: Suite) {
    let unit = "redis-server.service";
    let host = ["gate.conf", "redis-server.conf"].into_iter().fold(host_of(suite, "a", unit), |host, file| {
        host.mount(&shipped(file), &format!("{ADMIN}/{unit}.d/{file}"), "ro")
    });
    let host = host.boot();
    // An unused address of the network of the tests.
    let nobody = format!("ETCD_AWAIT_ELECTION_ENDPOINTS=https://{}:2379", SHARED.0.unused_ip());
    host.write("/etc/etcd-await-election/redis-server.env", &nobody);
    host.must(&format!("systemctl daemon-reload && systemctl enable --quiet {unit}"));
    host.reboot();
    let says = |words: &str| {
        eventually(PATIENCE, &format!("redis-server says {words:?}"), || {
            let said = status(&host, unit)?;
            if said.contains(words) && said.contains("active (running)") { Ok(()) } else { Err(said) }
        });
    };
    says("joining the election");
    let limit = PATIENCE.as_secs();
    // With the variable that dpkg sets for the scripts of a package, which they need since trixie.
    let reconfigure = "DPKG_ROOT= DEBIAN_FRONTEND=noninteractive timeout";
    host.must(&format!("{reconfigure} {limit} dpkg-reconfigure redis-server"));
    says("joining the election");
    host.must(&format!("timeout {limit} systemctl stop {unit}"));
    assert_eq!(host.must(&format!("systemctl show --value --property=Result {unit}")).trim(), "success");
}
