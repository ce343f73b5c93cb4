//! The units that ship, on two hosts with systemd as their first process, gated by a cluster of three with TLS.
//!
//! After any fault of the leading host the command runs on the other one, and never on both.

mod services;
mod virtual_ip;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use harness::{
    Behavior, Timing, eventually,
    failover::{self, Fault},
    journal::{Life, now},
    throughout,
    wait::scaled,
};

use crate::{
    engine::{Blueprint, Machine, Network, Suite},
    etcd::Cluster,
    gated::{self, Gated},
};

on_each_suite! {
    a_stop_uses_the_stop_signal_of_the_command_and_hands_over
    on_a_stop_the_command_receives_only_its_stop_signal
    a_stop_may_take_as_long_as_the_stop_grace
    an_exec_stop_of_the_unit_is_used_and_may_fail
    a_stop_hands_over_at_once
    a_standby_takes_over_at_once_from_a_killed_guard
    a_standby_takes_over_from_a_killed_gatekeeper_long_before_its_lease_ends
    a_command_that_ignores_sigterm_delays_takeover_from_a_killed_gatekeeper_by_at_most_a_lease
    processes_left_by_gatekeeper_and_guard_have_exited_before_the_next_term
    a_standby_takes_over_from_a_frozen_gatekeeper_after_its_lease
    a_gatekeeper_that_stays_frozen_is_killed_by_the_watchdog
    a_reboot_hands_over_at_once_and_the_host_joins_again
    a_standby_takes_over_from_a_lost_host_after_its_lease
    a_host_paused_for_longer_than_its_lease_stops_its_command_when_it_resumes
    a_host_paused_for_less_than_the_renew_deadline_keeps_leadership
    a_host_that_is_cut_off_stops_its_command_before_the_next_one_starts
    a_unit_starts_and_stops_at_once_without_etcd
    the_redis_of_debian_runs_only_on_the_leading_host
    a_command_is_split_into_words_and_has_a_state_directory
    a_unit_with_invalid_settings_fails_and_is_not_restarted
    values_of_environment_files_are_those_of_the_test_table
    the_units_are_well_formed_and_hardened
}

/// What gates the journaling command.
const UNIT: &str = "etcd-await-election@journaled.service";
/// Its settings, and its command.
const SETTINGS: &str = "/etc/etcd-await-election/journaled.env";
/// In a machine: what an administrator writes.
const ADMIN: &str = "/etc/systemd/system";

/// The cluster that all tests share, and the network that everything is on.
static SHARED: LazyLock<(Arc<Network>, Cluster)> = LazyLock::new(|| {
    let network = Network::new();
    let cluster = Cluster::start(&network);
    (network, cluster)
});

/// What the units that ship are made for. Not shorter: two machines that boot leave little for a third on two cores.
const TIMING: Timing = Timing::LONG;

/// The limit for a unit to show its state.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the limit for the next host's command to start if the lease has to expire, with a reserve as the members of
/// etcd share the cores and the disk.
fn after_its_lease() -> Duration {
    TIMING.latest_failover() + Timing::SWIFT
}

/// A file that ships.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(name)
}

/// A host with the program, its units and what it needs for etcd; nothing is enabled yet.
fn host(suite: Suite, name: &str) -> Blueprint {
    let (network, cluster) = &*SHARED;
    let template = "etcd-await-election@.service";
    let mut host = network.machine(name).suite(suite).mount(&gated::program(), gated::PROGRAM, "ro").mount(
        &shipped(template),
        &format!("/usr/lib/systemd/system/{template}"),
        "ro",
    );
    for (file, name) in [("ca.crt", "ca.pem"), ("client.crt", "client.pem"), ("client.key", "client-key.pem")] {
        host = host.mount(&cluster.certificates().join(file), &format!("/etc/etcd-await-election/{name}"), "ro");
    }
    host
}

/// The same for `unit`, with the certificates as its credentials.
fn host_of(suite: Suite, name: &str, unit: &str) -> Blueprint {
    host(suite, name).mount(&shipped("credentials.conf"), &format!("{ADMIN}/{unit}.d/credentials.conf"), "ro")
}

/// Two hosts for one lock, and the journal of what ran on them.
struct Hosts {
    suite: Suite,
    lock: String,
    gated: Gated,
    a: Machine,
    b: Machine,
}

impl Hosts {
    /// Boots both. The first leads, and the second waits.
    #[track_caller]
    fn gating(suite: Suite, lock: &str, behavior: &Behavior, more: &str) -> Self {
        let gated = Gated::new();
        let [a, b] = ["a", "b"].map(|name| gated.install(host_of(suite, name, UNIT)).boot());
        let hosts = Self { suite, lock: format!("systemd/{lock}"), gated, a, b };
        for host in [&hosts.a, &hosts.b] {
            host.write(SETTINGS, &hosts.settings(host, behavior, more));
            host.write(
                &format!("{ADMIN}/{UNIT}.d/journal.conf"),
                &format!("[Service]\nReadWritePaths={}", gated::FOLDER),
            );
            let begun = now();
            host.must(&format!("systemctl daemon-reload && systemctl enable --quiet --now {UNIT}"));
            if host.name() == "a" {
                hosts.gated.runs_since(begun, PATIENCE, Some("a"));
            }
        }
        hosts.says(&hosts.a, "leader of");
        hosts.says(&hosts.b, "a leads");
        hosts
    }

    fn settings(&self, host: &Machine, behavior: &Behavior, more: &str) -> String {
        format!(
            "COMMAND=\"{}\"\n{}ETCD_AWAIT_ELECTION_ENDPOINTS={}\nETCD_AWAIT_ELECTION_LOCK_NAME={}\n{more}",
            gated::COMMAND,
            Gated::variables(host.name(), behavior),
            SHARED.1.endpoints(),
            self.lock,
        )
    }

    /// Waits until `systemctl status` says these words.
    #[track_caller]
    fn says(&self, host: &Machine, words: &str) {
        eventually(PATIENCE, &format!("{} says {words:?}", host.name()), || {
            let said = status(host, UNIT)?;
            if said.contains(words) && said.contains("(running)") { Ok(()) } else { Err(said) }
        });
    }

    /// Runs an operator command as root on the first host.
    #[track_caller]
    fn ctl(&self, verb: &str, flags: &str) {
        let folder = "/etc/etcd-await-election";
        let tls = format!("--cacert {folder}/ca.pem --cert {folder}/client.pem --key {folder}/client-key.pem");
        self.a.must(&format!("{} ctl {verb} --env-file {SETTINGS} {flags} {tls}", gated::PROGRAM));
    }

    /// The command that runs on the first host.
    fn on_a(&self) -> Life {
        self.gated.runs_since(0, PATIENCE, Some("a"))
    }

    /// Waits until the second host's command runs, and tells how long after `fault` it began.
    #[track_caller]
    fn moves_to_b(&self, fault: u64, what: &str, limit: Duration) -> Duration {
        let life = self.gated.runs_since(fault, limit, Some("b"));
        let took = Duration::from_nanos(life.from - fault);
        eprintln!("{what}: the next host's command began after {took:?}");
        assert!(took <= scaled(limit), "{took:?}");
        took
    }

    /// The same for a fault of the table in the documents.
    #[track_caller]
    fn fails_over_to_b(&self, since: u64, fault: Fault) {
        let took = self.moves_to_b(since, fault.name(), fault.bounds(TIMING).end);
        self.record(fault, took);
    }

    /// Records how long it took until the next command began.
    #[track_caller]
    fn record(&self, fault: Fault, took: Duration) {
        let bounds = fault.bounds(TIMING);
        assert!(took >= bounds.start, "{fault:?}: the next command began after {took:?}, its lease lasts longer");
        let version = self.b.must("dpkg-query --show --showformat='${Version}' systemd");
        failover::record(self.suite, version.trim(), fault, took);
    }

    /// Ends the test: stops both, and checks that no process of the command runs and that the guarantee was satisfied.
    #[track_caller]
    fn verdict(&self, terms: usize) {
        for host in [&self.a, &self.b] {
            host.must(&format!("systemctl stop {UNIT}"));
            nothing_left(host);
        }
        self.gated.verdict(terms);
    }
}

/// `systemctl status` of a unit, in any state.
fn status(host: &Machine, unit: &str) -> Result<String, String> {
    host.exec(&["sh", "-c", &format!("systemctl status --no-pager --lines=0 --full {unit} || true")])
}

/// No process of the unit is on this host.
#[track_caller]
fn nothing_left(host: &Machine) {
    let found = host.must("pgrep --list-full 'await-|journaled' || true");
    assert_eq!(found, "", "processes are left on {}", host.name());
}

/// A signal to the unit's main process, the gatekeeper.
fn signal_gatekeeper(host: &Machine, signal: &str) -> u64 {
    let sent = now();
    host.must(&format!("systemctl kill --kill-whom=main --signal={signal} {UNIT}"));
    sent
}

/// The command receives only its stop signal, and has time to stop.
fn a_stop_uses_the_stop_signal_of_the_command_and_hands_over(suite: Suite) {
    let slow = Behavior { daemon: true, ..Behavior::slow(Duration::from_secs(2)) };
    let hosts = Hosts::gating(suite, "stop", &slow, "");
    let life = hosts.on_a();
    hosts.ctl("pause", "--for 1h");
    for host in [&hosts.a, &hosts.b] {
        hosts.says(host, "; paused until ");
    }
    hosts.ctl("resume", "");
    let fault = now();
    hosts.a.must(&format!("systemctl stop {UNIT}"));
    hosts.moves_to_b(fault, "stop", slow.slow_stop + Timing::SWIFT);
    let life = hosts.gated.again(&life);
    assert!(life.ended && life.asked.is_some(), "{life:?}");
    assert_eq!(hosts.a.must(&format!("systemctl show --value --property=Result {UNIT}")).trim(), "success");
    hosts.says(&hosts.b, "leader of");
    hosts.verdict(2);
}

/// SIGTERM of systemd does not reach the command, which it would end; the configured signal does not end it.
fn on_a_stop_the_command_receives_only_its_stop_signal(suite: Suite) {
    let more = "ETCD_AWAIT_ELECTION_STOP_SIGNAL=WINCH\nETCD_AWAIT_ELECTION_STOP_GRACE=1";
    let hosts = Hosts::gating(suite, "signal", &Behavior::default(), more);
    let life = hosts.on_a();
    hosts.a.must(&format!("systemctl stop {UNIT}"));
    let life = hosts.gated.again(&life);
    assert!(!life.ended && life.asked.is_none(), "{life:?}");
    hosts.gated.runs_since(life.to, Timing::SWIFT, Some("b"));
    hosts.verdict(2);
}

/// The time limit of the unit is shorter, so the gatekeeper extends it.
fn a_stop_may_take_as_long_as_the_stop_grace(suite: Suite) {
    let limit = Duration::from_secs(12);
    let slow = Behavior::slow(limit + Duration::from_secs(2));
    let hosts = Hosts::gating(suite, "grace", &slow, "ETCD_AWAIT_ELECTION_STOP_GRACE=30");
    let own = hosts.a.must(&format!("systemctl show --value --property=TimeoutStopUSec {UNIT}"));
    assert_eq!(own.trim(), format!("{}s", limit.as_secs()));
    let life = hosts.on_a();
    hosts.a.must(&format!("systemctl stop {UNIT}"));
    let life = hosts.gated.again(&life);
    assert!(life.ended, "it was killed too early: {life:?}");
    assert!(Duration::from_nanos(life.to - life.asked.expect("it was asked")) > limit, "{life:?}");
    hosts.verdict(2);
}

/// The ExecStop of an existing service fails on a standby, where it has nothing to stop.
fn an_exec_stop_of_the_unit_is_used_and_may_fail(suite: Suite) {
    let hosts = Hosts::gating(suite, "own", &Behavior::default(), "ETCD_AWAIT_ELECTION_STOP_SIGNAL=WINCH");
    for host in [&hosts.a, &hosts.b] {
        // By a name that no other process has; with the "+" of the template unit's comment, without which it finds none.
        let stop = "[Service]\nExecStop=+/bin/sh -c 'exec kill -TERM $$(pgrep --exact journaled)'";
        host.write(&format!("{ADMIN}/{UNIT}.d/stop.conf"), stop);
        host.must("systemctl daemon-reload");
    }
    let life = hosts.on_a();
    let begun = now();
    hosts.b.must(&format!("systemctl stop {UNIT}"));
    nothing_left(&hosts.b);
    hosts.a.must(&format!("systemctl stop {UNIT}"));
    let took = Duration::from_nanos(now() - begun);
    assert!(took <= scaled(Timing::SWIFT), "{took:?}");
    assert!(hosts.gated.again(&life).ended, "it was not asked to stop");
    hosts.verdict(1);
}

fn a_stop_hands_over_at_once(suite: Suite) {
    let hosts = Hosts::gating(suite, "swift", &Behavior::default(), "");
    let fault = now();
    hosts.a.must(&format!("systemctl stop {UNIT}"));
    hosts.fails_over_to_b(fault, Fault::Stop);
    hosts.verdict(2);
}

/// The gatekeeper ends the processes that the guard leaves.
fn a_standby_takes_over_at_once_from_a_killed_guard(suite: Suite) {
    let hosts = Hosts::gating(suite, "guard", &Behavior { daemon: true, ..Behavior::default() }, "");
    let fault = now();
    hosts.a.must("kill -KILL $(pgrep await-guard)");
    hosts.fails_over_to_b(fault, Fault::GuardKilled);
    // It joins again by itself.
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

/// systemd gives the guard time to revoke the lease, for which the next host would otherwise wait.
fn a_standby_takes_over_from_a_killed_gatekeeper_long_before_its_lease_ends(suite: Suite) {
    let hosts = Hosts::gating(suite, "kill", &Behavior::default(), "");
    let life = hosts.on_a();
    let fault = signal_gatekeeper(&hosts.a, "KILL");
    hosts.fails_over_to_b(fault, Fault::GatekeeperKilled);
    let life = hosts.gated.again(&life);
    assert!(life.ended, "it was killed too early: {life:?}");
    // It joins again by itself.
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

/// The command ignores SIGTERM, so the guard has to kill it.
fn a_command_that_ignores_sigterm_delays_takeover_from_a_killed_gatekeeper_by_at_most_a_lease(suite: Suite) {
    let stubborn = Behavior { daemon: true, children: 1, ..Behavior::stubborn() };
    let hosts = Hosts::gating(suite, "stubborn", &stubborn, "");
    let fault = signal_gatekeeper(&hosts.a, "KILL");
    hosts.moves_to_b(fault, "kill -9, stubborn", after_its_lease());
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

/// Gatekeeper and guard are killed, and the command has daemonized: systemd kills it before the lease expires.
fn processes_left_by_gatekeeper_and_guard_have_exited_before_the_next_term(suite: Suite) {
    let hosts = Hosts::gating(suite, "both", &Behavior { daemon: true, ..Behavior::stubborn() }, "");
    let fault = now();
    hosts.a.must("kill -KILL $(pgrep 'etcd-await-elec|await-guard')");
    // On either host, as the killed instance is restarted.
    let life = hosts.gated.runs_since(fault, after_its_lease(), None);
    let took = Duration::from_nanos(life.from - fault);
    eprintln!("kill -9 of both: the next command began after {took:?}");
    hosts.record(Fault::BothKilled, took);
    hosts.verdict(2);
}

fn a_standby_takes_over_from_a_frozen_gatekeeper_after_its_lease(suite: Suite) {
    let hosts = Hosts::gating(suite, "freeze", &Behavior::default(), "");
    let fault = signal_gatekeeper(&hosts.a, "STOP");
    hosts.fails_over_to_b(fault, Fault::GatekeeperFrozen);
    hosts.says(&hosts.b, "leader of");
    // systemd resumes it before it stops it.
    hosts.a.must(&format!("systemctl stop {UNIT}"));
    hosts.verdict(2);
}

/// The watchdog expires, and systemd restarts the unit.
fn a_gatekeeper_that_stays_frozen_is_killed_by_the_watchdog(suite: Suite) {
    let hosts = Hosts::gating(suite, "watchdog", &Behavior::default(), "");
    signal_gatekeeper(&hosts.a, "STOP");
    let restarted = format!("journalctl --unit={UNIT} --boot --no-pager | grep --quiet 'Watchdog timeout'");
    hosts.a.until(2 * TIMING.lease() + PATIENCE, &restarted);
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

fn a_reboot_hands_over_at_once_and_the_host_joins_again(suite: Suite) {
    let hosts = Hosts::gating(suite, "reboot", &Behavior::default(), "");
    let fault = now();
    hosts.a.reboot();
    hosts.fails_over_to_b(fault, Fault::Reboot);
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

fn a_standby_takes_over_from_a_lost_host_after_its_lease(suite: Suite) {
    let hosts = Hosts::gating(suite, "power", &Behavior::stubborn(), "");
    let fault = now();
    hosts.a.kill();
    hosts.fails_over_to_b(fault, Fault::PowerLost);
    hosts.a.engine(&["start"]);
    hosts.a.booted();
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

/// A host that stops as a whole and resumes later is a limit of the guarantee: its command runs until the guard has
/// read the clock, with an older token.
fn a_host_paused_for_longer_than_its_lease_stops_its_command_when_it_resumes(suite: Suite) {
    let hosts = Hosts::gating(suite, "pause", &Behavior::stubborn(), "");
    let life = hosts.on_a();
    let fault = now();
    hosts.a.pause();
    hosts.moves_to_b(fault, "docker pause", after_its_lease());
    let next = hosts.gated.runs_since(fault, Timing::SWIFT, Some("b"));
    let woken = now();
    hosts.a.engine(&["unpause"]);
    hosts.says(&hosts.a, "b leads");
    let life = hosts.gated.again(&life);
    let late = Duration::from_nanos(life.to.saturating_sub(woken));
    eprintln!("docker unpause: the stale command's last record came after {late:?}");
    assert!(late <= scaled(Duration::from_secs(1)), "{late:?}");
    assert!(next.token > life.token, "{next:?} {life:?}");
    for host in [&hosts.a, &hosts.b] {
        host.must(&format!("systemctl stop {UNIT}"));
        nothing_left(host);
    }
}

/// Shorter than the renew deadline.
fn a_host_paused_for_less_than_the_renew_deadline_keeps_leadership(suite: Suite) {
    let hosts = Hosts::gating(suite, "moment", &Behavior::default(), "");
    let life = hosts.on_a();
    hosts.a.pause();
    throughout(TIMING.retry, "b waits", || {
        let lives = hosts.gated.journal().lives();
        if lives.iter().any(|life| life.name == "b") { Err(format!("{lives:?}")) } else { Ok(()) }
    });
    hosts.a.engine(&["unpause"]);
    throughout(TIMING.lease(), "a leads", || {
        let life = hosts.gated.again(&life);
        if life.asked.is_none() && !life.ended { Ok(()) } else { Err(format!("{life:?}")) }
    });
    hosts.verdict(1);
}

fn a_host_that_is_cut_off_stops_its_command_before_the_next_one_starts(suite: Suite) {
    let hosts = Hosts::gating(suite, "cut", &Behavior::default(), "");
    let life = hosts.on_a();
    let fault = now();
    hosts.a.cut_off();
    hosts.fails_over_to_b(fault, Fault::NetworkCut);
    assert!(hosts.gated.again(&life).asked.is_some(), "it was not asked to stop");
    hosts.a.rejoin();
    hosts.says(&hosts.a, "b leads");
    hosts.verdict(2);
}

/// Before it has joined there is no command to stop.
fn a_unit_starts_and_stops_at_once_without_etcd(suite: Suite) {
    let hosts = Hosts::gating(suite, "dark", &Behavior::default(), "");
    hosts.b.must(&format!("systemctl stop {UNIT}"));
    hosts.b.cut_off();
    // A boot, or an upgrade of a package, waits for this.
    hosts.b.must(&format!("timeout 10 systemctl start {UNIT}"));
    hosts.b.until(PATIENCE, &format!("systemctl status --no-pager {UNIT} | grep --quiet 'joining the election'"));
    let begun = now();
    hosts.b.must(&format!("systemctl stop {UNIT}"));
    let took = Duration::from_nanos(now() - begun);
    eprintln!("stop before it has joined: {took:?}");
    assert!(took <= scaled(Timing::SWIFT), "{took:?}");
    nothing_left(&hosts.b);
    hosts.b.rejoin();
    hosts.b.must(&format!("systemctl start {UNIT}"));
    hosts.says(&hosts.b, "a leads");
    hosts.verdict(1);
}

/// A packaged service of the distribution, with the drop-ins that ship: two files beside its unit.
fn the_redis_of_debian_runs_only_on_the_leading_host(suite: Suite) {
    let unit = "redis-server.service";
    let [a, b] = ["a", "b"].map(|name| {
        let host = host_of(suite, name, unit);
        ["gate.conf", "redis-server.conf"]
            .into_iter()
            .fold(host, |host, file| host.mount(&shipped(file), &format!("{ADMIN}/{unit}.d/{file}"), "ro"))
            .boot()
    });
    let answers = |host: &Machine| host.exec(&["redis-cli", "ping"]).is_ok_and(|answer| answer.trim() == "PONG");
    let says = |host: &Machine, words: &str| {
        eventually(PATIENCE, &format!("{} says {words:?}", host.name()), || {
            let said = status(host, unit)?;
            if said.contains(words) { Ok(()) } else { Err(said) }
        });
    };
    let answers_soon = |host: &Machine, other: &Machine| {
        eventually(Timing::SWIFT, &format!("redis answers on {}", host.name()), || {
            if answers(host) { Ok(()) } else { status(host, unit).and_then(Err) }
        });
        // Not before, as the other one must have ended when this one answers.
        assert!(!answers(other), "redis answers on both");
    };
    let settings = format!("ETCD_AWAIT_ELECTION_ENDPOINTS={}", SHARED.1.endpoints());
    for (host, words) in [(&a, "leader of redis-server"), (&b, "a leads")] {
        host.write("/etc/etcd-await-election/redis-server.env", &settings);
        host.must(&format!("systemctl enable --quiet --now {unit}"));
        says(host, words);
    }
    answers_soon(&a, &b);

    a.must(&format!("systemctl stop {unit}"));
    answers_soon(&b, &a);
    assert_eq!(a.must(&format!("systemctl show --value --property=Result {unit}")).trim(), "success");
    a.must(&format!("systemctl start {unit}"));
    says(&a, "b leads");

    let fault = now();
    b.must(&format!("systemctl kill --kill-whom=main --signal=KILL {unit}"));
    answers_soon(&a, &b);
    eprintln!("redis, kill -9: it answers on the next host after {:?}", Duration::from_nanos(now() - fault));
    says(&b, "a leads");
}

/// As the example says it, with quotes inside; and in the folder that the unit gives it.
fn a_command_is_split_into_words_and_has_a_state_directory(suite: Suite) {
    let unit = "etcd-await-election@words.service";
    let host = host_of(suite, "a", "etcd-await-election@.service").boot();
    let settings =
        format!("COMMAND=/usr/bin/touch \"two words\" one\nETCD_AWAIT_ELECTION_ENDPOINTS={}", SHARED.1.endpoints());
    host.write("/etc/etcd-await-election/words.env", &settings);
    host.must(&format!("systemctl start {unit}"));
    host.until(PATIENCE, "test \"$(ls /var/lib/etcd-await-election/words | tr '\\n' ,)\" = 'one,two words,'");
    // It exits, and is restarted more often than the five times that systemd allows by default.
    host.until(PATIENCE, &format!("test $(systemctl show --value --property=NRestarts {unit}) -ge 6"));
    // One look at a time decides, because the state changes between two.
    host.until(
        PATIENCE,
        &format!(
            "systemctl show --value --property=ActiveState {unit} | grep --extended-regexp '^(active|activating)$'"
        ),
    );
}

/// A restart each second would hide the error.
fn a_unit_with_invalid_settings_fails_and_is_not_restarted(suite: Suite) {
    let unit = "etcd-await-election@wrong.service";
    let host = host_of(suite, "a", "etcd-await-election@.service").boot();
    let settings = "COMMAND=/bin/true\nETCD_AWAIT_ELECTION_ENDPOINTS=e\nETCD_AWAIT_ELECTION_LEASE_DURATION=long";
    host.write("/etc/etcd-await-election/wrong.env", settings);
    host.must(&format!("systemctl start --no-block {unit}"));
    host.until(PATIENCE, &format!("systemctl is-failed {unit}"));
    let show = |property: &str| host.must(&format!("systemctl show --value --property={property} {unit}"));
    assert_eq!((show("ExecMainStatus").trim(), show("NRestarts").trim()), ("64", "0"));
}

/// The table of the tests of this program's own parser, which operator commands use.
fn values_of_environment_files_are_those_of_the_test_table(suite: Suite) {
    let cases: Vec<(String, Option<String>)> =
        serde_json::from_str(include_str!("../environment_file.json")).expect("a table");
    let host = host(suite, "a").boot();
    let octal = |text: &str| text.bytes().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let write = cases.iter().enumerate();
    let write = write.map(|(number, (text, _))| format!("printf '{}' >/run/environment-{number:03}\n", octal(text)));
    host.must(&write.collect::<String>());
    let read = "for file in /run/environment-*; do systemd-run --quiet --wait --pipe --property=EnvironmentFile=$file \
        printenv --null A | od --address-radix=n --format=x1 --output-duplicates | tr -d ' \\n'; echo; done";
    // In hexadecimal, with the zero byte at its end; nothing for a variable that is not set.
    let hex = |value: &String| value.bytes().chain([0]).map(|byte| format!("{byte:02x}")).collect::<String>();
    let read = host.must(read);
    assert_eq!(read.lines().count(), cases.len(), "{read}");
    for ((text, expected), read) in cases.iter().zip(read.lines()) {
        assert_eq!(read, expected.as_ref().map(hex).unwrap_or_default(), "{text:?}");
    }
}

/// systemd reports no problems of the shipped units, and rates them as hardened.
fn the_units_are_well_formed_and_hardened(suite: Suite) {
    let gated = [
        ("redis-server.service", "redis-server.conf"),
        ("nginx.service", "nginx.conf"),
        ("postgresql@.service", "postgresql.conf"),
        ("cron.service", "cron.conf"),
    ];
    let host = gated.into_iter().fold(host_of(suite, "a", UNIT), |host, (unit, own)| {
        ["gate.conf", own, "credentials.conf"]
            .into_iter()
            .fold(host, |host, file| host.mount(&shipped(file), &format!("{ADMIN}/{unit}.d/{file}"), "ro"))
    });
    let host = host.boot();
    let cluster = services::cluster(&host);
    for unit in gated.into_iter().map(|(unit, _)| unit).chain([UNIT]) {
        let unit = unit.replace("@.", &format!("@{cluster}."));
        // Its exit code is 0 for unknown names and bad values, too.
        let said = host.must(&format!("systemd-analyze verify --man=no {unit} 2>&1"));
        assert_eq!(said, "", "{unit}");
        // A drop-in of `gate.conf` takes back what would replace the gatekeeper as the main process.
        let pid_file = host.must(&format!("systemctl show --value --property=PIDFile {unit}"));
        assert_eq!(pid_file.trim(), "", "{unit}");
    }
    // Of 100, in tenths of the figure that it prints.
    let exposure = host.must(&format!("systemd-analyze security --no-pager --threshold=12 {UNIT} | tail -n 1"));
    eprintln!("{exposure}");
    host.must(&format!("systemd-analyze security --no-pager --threshold=12 {UNIT} >/dev/null"));
}
