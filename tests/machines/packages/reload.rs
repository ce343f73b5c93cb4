//! `systemctl reload` of a gated service: it reaches the service on the leader, and starts and signals nothing on a standby.

use std::time::Duration;

use harness::{Timing, eventually, throughout};

use super::{A_WHILE, Host};
use crate::engine::{Network, Suite};

on_each_suite! {
    a_reload_reaches_nginx_on_the_leader_and_changes_nothing_on_a_standby
    a_reload_of_all_postgres_clusters_ignores_a_stale_pid_file
    an_exec_reload_that_starts_the_service_is_not_run
}

/// How long a standby is watched after a reload that starts nothing.
const A_MOMENT: Duration = Duration::from_secs(1);

/// The processes of a name, each with its start: a process id can be used again.
fn processes(host: &Host, name: &str) -> Vec<String> {
    let listed = host.machine.must(&format!("ps --no-headers -o pid=,lstart= -C {name} || true"));
    listed.lines().map(|line| line.trim().to_owned()).collect()
}

fn a_reload_reaches_nginx_on_the_leader_and_changes_nothing_on_a_standby(suite: Suite) {
    let host = Host::boot(suite, &Network::new());
    let unit = "nginx.service";
    host.gate(unit, "nginx.conf");
    host.another_leads("nginx");
    host.machine.must(&format!("systemctl start {unit}"));
    host.says(unit, "other leads");
    let (own, other) = (host.main_pid(unit), host.main_pid("other.service"));

    // On a standby no process starts or ends.
    host.machine.must(&format!("systemctl reload {unit}"));
    throughout(A_MOMENT, "nothing runs on a standby", || match processes(&host, "nginx").as_slice() {
        [] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    // An invalid configuration of a standby is reported before it leads.
    let broken = "/etc/nginx/conf.d/broken.conf";
    host.machine.write(broken, "no_such_directive on;");
    host.machine.must(&format!("! systemctl reload {unit}"));
    host.machine.must(&format!("rm {broken}"));
    host.says(unit, "other leads");
    assert_eq!((host.main_pid(unit), host.main_pid("other.service")), (own.clone(), other));

    host.machine.must("systemctl stop other.service");
    let started = eventually(A_WHILE, "nginx runs with a worker", || {
        let found = processes(&host, "nginx");
        if found.len() >= 2 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    host.machine.must(&format!("systemctl reload {unit}"));
    let reloaded = eventually(Timing::SWIFT, "nginx has other workers and the same master", || {
        let now = processes(&host, "nginx");
        let same = now.iter().filter(|process| started.contains(process)).count();
        if same == 1 && now.len() == started.len() { Ok(now) } else { Err(format!("{started:?}, then {now:?}")) }
    });
    // As without a gate the error is reported and the old configuration is kept.
    host.machine.write(broken, "no_such_directive on;");
    host.machine.must(&format!("! systemctl reload {unit}"));
    throughout(A_MOMENT, "nginx runs on", || {
        let now = processes(&host, "nginx");
        if now == reloaded { Ok(()) } else { Err(format!("{reloaded:?}, then {now:?}")) }
    });
    assert_eq!(host.main_pid(unit), own);
}

/// Debian's `systemctl reload postgresql` reloads all clusters.
fn a_reload_of_all_postgres_clusters_ignores_a_stale_pid_file(suite: Suite) {
    let host = Host::boot(suite, &Network::new());
    host.gate("postgresql@.service", "postgresql.conf");
    let name = host.machine.must("pg_lsclusters --no-header | awk '{print $1 \"-\" $2}'");
    let name = format!("postgresql@{}", name.trim());
    host.settings(&name);
    host.another_leads(&name);
    let unit = format!("{name}.service");
    host.machine.must(&format!("systemctl start postgresql.service {unit}"));
    host.says(&unit, "other leads");

    // The data directory is on storage that follows the leader, and so is the file with the leader's process id.
    let data = host.machine.must("pg_lsclusters --no-header | awk '{print $6}'");
    let data = data.trim();
    host.machine.must("systemd-run --quiet --unit=bystander --uid=postgres /bin/sleep infinity");
    let pid = host.main_pid("bystander.service");
    host.machine.write(
        &format!("{data}/postmaster.pid"),
        &format!("{pid}\n{data}\n0\n5432\n/var/run/postgresql\n*\n 0 0\nready"),
    );
    host.machine.must(&format!("chown postgres: {data}/postmaster.pid"));
    host.machine.must("systemctl reload postgresql.service");
    throughout(A_MOMENT, "no other process is signaled", || {
        host.machine.exec(&["systemctl", "is-active", "bystander.service"]).map(drop)
    });
    host.machine.must(&format!("rm {data}/postmaster.pid"));

    host.machine.must("systemctl stop other.service");
    host.machine.until(A_WHILE, "pg_isready --quiet");
    host.machine.must("systemctl reload postgresql.service");
    let received = format!("journalctl --unit={unit} --no-pager | grep --quiet 'received SIGHUP'");
    host.machine.until(Timing::SWIFT, &received);
    host.machine.must("pg_isready --quiet");
}

/// What `apachectl graceful` does: it starts the server if it does not run.
fn an_exec_reload_that_starts_the_service_is_not_run(suite: Suite) {
    let host = Host::boot(suite, &Network::new());
    let unit = "starter.service";
    let reload = "ExecReload=/bin/sh -c 'setsid --fork /bin/sleep 4321'";
    host.machine
        .write(&format!("/usr/lib/systemd/system/{unit}"), &format!("[Service]\nExecStart=/bin/sleep 4321\n{reload}"));
    host.gate(unit, "redis-server.conf");
    host.machine.must(&format!("rm /etc/systemd/system/{unit}.d/redis-server.conf"));
    let own = "[Service]\nExecStart=\nExecStart=/usr/bin/etcd-await-election -- /bin/sleep 4321";
    host.machine.write(&format!("/etc/systemd/system/{unit}.d/starter.conf"), own);
    host.machine.must("systemctl daemon-reload");
    host.another_leads("starter");
    host.machine.must(&format!("systemctl start {unit}"));
    host.says(unit, "other leads");

    let said = host.machine.exec(&["systemctl", "reload", unit]).expect_err("it has no reload");
    assert!(said.contains("not applicable"), "{said}");
    assert_eq!(host.machine.must("pgrep --full --list-full '^/bin/sleep 4321' || true"), "");
    host.says(unit, "other leads");
}
