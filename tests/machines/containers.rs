//! The image, and the gatekeeper as PID 1 of containers.
//!
//! The instances are like those of a user: the program is copied into another image, and runs without capabilities on a
//! read-only file system.

mod wrapped;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use harness::{
    Behavior, Terminal, Timing, eventually,
    journal::{Life, now},
    scratch::Scratch,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    engine::{Blueprint, Machine, Network, base_image, build, docker, docker_command, label},
    etcd::Cluster,
    gated::{COMMAND, Gated, PROGRAM, program},
};

/// No capabilities, and a read-only file system.
const HARDENED: [&str; 6] =
    ["--user=65534:65534", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
/// The certificates' folder in an instance.
const CERTIFICATES: &str = "/certificates";
/// A command that runs until it is asked to stop, and ends with a code of its own then.
const ENDS_WITH_7: &str = "trap 'exit 7' TERM; echo running; while :; do sleep 0.1; done";
/// The limit for a guard that resumes from a frozen cgroup to kill its command.
const WAKE: Duration = Duration::from_millis(500);

/// The image as it ships.
fn image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| {
        let context = Scratch::new("image");
        let folder = context.path().join("this");
        fs::create_dir(&folder).expect("a folder");
        fs::copy(program(), folder.join("etcd-await-election")).expect("copying the program");
        let mut cp = Command::new("cp");
        let copied = cp.arg("-r").args([licences(), context.path().into()]).status().expect("copying the licences");
        assert!(copied.success(), "{}: run cargo xtask dist --binary", licences().display());
        let file = fs::read_to_string("packaging/container/Dockerfile").expect("the image's recipe");
        let arguments = ["TARGETARCH=this", "VERSION=1.2.3", "REVISION=abc"];
        build("image", context.path(), &file, &arguments)
    });
    &IMAGE
}

/// Returns the folder of the licenses, which `cargo xtask dist` puts beside the program.
fn licences() -> PathBuf {
    program().ancestors().nth(2).expect("where all that ships is").join("licences")
}

/// Builds the image of a user.
fn own_image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| {
        let context = Scratch::new("image");
        let file = format!(
            "FROM {}\nCOPY --from={} /etcd-await-election /usr/bin/\nENTRYPOINT [\"{PROGRAM}\"]\n\
             HEALTHCHECK --interval=1s --timeout=5s --retries=1 CMD [\"{PROGRAM}\", \"ctl\", \"healthcheck\"]\n",
            base_image(),
            image()
        );
        build("own", context.path(), &file, &[])
    });
    &IMAGE
}

/// The cluster that all these tests share, without faults.
struct Site {
    network: Arc<Network>,
    cluster: Cluster,
}

fn site() -> &'static Site {
    static SITE: LazyLock<Site> = LazyLock::new(|| {
        let network = Network::new();
        let cluster = Cluster::start(&network);
        // Readable for any user.
        let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("opening it");
        open(cluster.certificates(), 0o755);
        for file in fs::read_dir(cluster.certificates()).expect("the certificates") {
            open(&file.expect("a file").path(), 0o644);
        }
        Site { network, cluster }
    });
    &SITE
}

/// The lock and the journal of one test.
struct Election {
    lock: String,
    timing: Timing,
    gated: Gated,
}

impl Election {
    fn new(timing: Timing) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let lock = format!("containers/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { lock, timing, gated: Gated::new() }
    }

    /// An instance without a command.
    fn instance(&self, name: &str) -> Blueprint {
        let Site { network, cluster } = site();
        let Timing { lease, renew, retry, grace } = self.timing;
        let file = |name: &str| format!("{CERTIFICATES}/{name}");
        let settings = [
            ("LOCK_NAME", self.lock.clone()),
            ("IDENTITY", name.to_owned()),
            ("ENDPOINTS", cluster.endpoints()),
            ("CACERT", file("ca.crt")),
            ("CERT", file("client.crt")),
            ("KEY", file("client.key")),
            ("STATUS_ENDPOINT", ":8080".to_owned()),
            ("LEASE_DURATION", lease.to_string()),
            ("RENEW_DEADLINE", format!("{}ms", renew.as_millis())),
            ("RETRY_PERIOD", format!("{}ms", retry.as_millis())),
            ("STOP_GRACE", format!("{}ms", grace.as_millis())),
        ];
        let settings = settings.map(|(name, value)| format!("--env=ETCD_AWAIT_ELECTION_{name}={value}"));
        let blueprint = network.machine(name).image(own_image()).options(HARDENED).options(settings);
        blueprint.mount(cluster.certificates(), CERTIFICATES, "ro")
    }

    /// An instance with the journaling command.
    fn journaled(&self, name: &str) -> Blueprint {
        let variables = Gated::variables(name, &Behavior::default());
        let variables = variables.lines().map(|line| format!("--env={line}")).collect::<Vec<_>>();
        self.gated.install(self.instance(name)).options(variables).command(COMMAND.split(' '))
    }

    /// Starts `a`, which leads, and the standbys; returns them with the process of its command.
    fn started<const N: usize>(
        &self,
        names: [&str; N],
        change: impl Fn(Blueprint) -> Blueprint,
    ) -> ([Machine; N], Life) {
        let mut life = None;
        let mut count = 0;
        let machines = names.map(|name| {
            let machine = change(self.journaled(name)).start();
            if life.is_none() {
                life = Some(self.gated.runs_since(0, Timing::START, Some(name)));
            }
            count += 1;
            self.takes_part(count);
            machine
        });
        (machines, life.expect("there is a first one"))
    }

    /// Waits until this many instances lead or wait.
    #[track_caller]
    fn takes_part(&self, count: usize) {
        let queue = format!("{}/~entry/", self.lock);
        eventually(Timing::START, &format!("{count} instances have joined"), || {
            let keys = site().cluster.etcdctl(0, &["get", "--prefix", "--keys-only", &queue])?;
            if keys.lines().filter(|line| line.starts_with(&queue)).count() == count { Ok(()) } else { Err(keys) }
        });
    }
}

/// Inspects a container.
#[track_caller]
fn inspect(machine: &Machine, what: &str) -> String {
    machine.engine(&["inspect", "--format", what]).trim().to_owned()
}

/// Waits until it has ended; returns its exit code.
#[track_caller]
fn exit_code(machine: &Machine, limit: Duration) -> String {
    eventually(limit, &format!("{} has ended", machine.name()), || {
        let state = inspect(machine, "{{.State.Status}} {{.State.ExitCode}}");
        state.strip_prefix("exited ").map(str::to_owned).ok_or_else(|| state.clone())
    })
}

/// Waits until the engine reports this health.
#[track_caller]
fn health(machine: &Machine, wanted: &str) {
    // The healthcheck runs once a second, and may take five.
    eventually(Timing::START, &format!("{} is {wanted}", machine.name()), || {
        let seen = inspect(machine, "{{.State.Health.Status}}");
        if seen == wanted { Ok(()) } else { Err(inspect(machine, "{{json .State.Health}}")) }
    });
}

/// Sends a signal to its PID 1 from outside.
#[track_caller]
fn signal_gatekeeper(machine: &Machine, signal: Signal) {
    let pid = inspect(machine, "{{.State.Pid}}").parse().expect("a process id");
    kill(Pid::from_raw(pid), signal).expect("it is there");
}

/// Returns its output.
#[track_caller]
fn output(machine: &Machine) -> String {
    machine.engine(&["logs"])
}

#[test]
fn the_image_contains_only_the_static_program_and_its_licenses() {
    let alone = |words: &[&str]| {
        let mut all = vec!["run", "--rm", "--label", label(), "--read-only", "--cap-drop", "ALL", "--network", "none"];
        all.extend(words);
        docker(&all)
    };
    // The image has no other program, so it executes itself.
    let help =
        alone(&[image(), "/etcd-await-election", "--help"]).expect("is the program that PROGRAM_BIN names static?");
    assert!(help.contains("only while it holds leadership"), "{help}");
    let none = alone(&[image(), "sh"]).expect_err("there is no shell");
    assert!(none.contains("127") && none.contains("the command sh was not found"), "{none}");

    let about = |what: &str| docker(&["image", "inspect", "--format", what, image()]).expect("it was built");
    assert_eq!(about("{{.Config.User}}").trim(), "65534:65534");
    let size: u64 = about("{{.Size}}").trim().parse().expect("a number");
    let papers = fs::read_dir(licences()).expect("the licences").map(|file| file.expect("a file").path());
    let files = papers.chain([program()]).map(|file| fs::metadata(file).expect("a file").len());
    assert_eq!(size, files.sum::<u64>());
    let labels = about("{{json .Config.Labels}}");
    for label in ["\"version\":\"1.2.3\"", "\"revision\":\"abc\"", "\"licenses\":\"Apache-2.0\""] {
        assert!(labels.contains(&label.replacen('"', "\"org.opencontainers.image.", 1)), "{label}: {labels}");
    }

    // The image has no CAs, which the program reports instead of retrying for ever.
    let setting = |name: &str, value: &str| format!("--env=ETCD_AWAIT_ELECTION_{name}={value}");
    let (lock, endpoint) = (setting("LOCK_NAME", "l"), setting("ENDPOINTS", "https://127.0.0.1"));
    let limit = setting("ACQUIRE_TIMEOUT", "5");
    let refused =
        alone(&[&lock, &endpoint, &limit, image(), "/etcd-await-election"]).expect_err("it cannot verify anything");
    assert!(refused.contains("78") && refused.contains("ETCD_AWAIT_ELECTION_CACERT) must be set"), "{refused}");
}

#[test]
fn docker_stop_ends_the_command_gracefully_and_hands_over_at_once() {
    let election = Election::new(Timing::LONG);
    let ([a, _b, _c], first) = election.started(["a", "b", "c"], |blueprint| blueprint);
    let moment = now();
    a.engine(&["stop", "-t", "30"]);
    assert_eq!(exit_code(&a, Timing::SWIFT), "0");
    let first = election.gated.again(&first);
    assert!(first.asked.is_some() && first.ended, "{first:?}");
    // The lease had not expired: leadership was handed over.
    election.gated.runs_since(moment, Timing::SWIFT, Some("b"));
    election.gated.verdict(2);
}

#[test]
fn a_container_exits_with_the_exit_code_of_the_command() {
    let election = Election::new(Timing::LONG);
    let stopped = election.instance("a").command(["sh", "-c", ENDS_WITH_7]).start();
    eventually(Timing::START, "it runs", || output(&stopped).contains("running").then_some(()).ok_or_else(String::new));
    stopped.engine(&["stop", "-t", "30"]);
    assert_eq!(exit_code(&stopped, Timing::SWIFT), "7");
    let ended = election.instance("b").command(["sh", "-c", "exit 8"]).start();
    assert_eq!(exit_code(&ended, Timing::START), "8");
    // A standby is stopped like any other program.
    let (_leader, waiting) = {
        let leader = election.instance("c").command(["sleep", "1000"]).start();
        election.takes_part(1);
        let waiting = election.instance("d").command(["sleep", "1000"]).start();
        election.takes_part(2);
        (leader, waiting)
    };
    waiting.engine(&["stop", "-t", "30"]);
    assert_eq!(exit_code(&waiting, Timing::SWIFT), "143");
}

/// All processes of the container die with its PID 1, the guard too, so the lease has to expire.
#[test]
fn after_docker_kill_a_standby_leads_when_the_lease_has_expired() {
    let election = Election::new(Timing::SHORT);
    let ([a, _b, _c], _) = election.started(["a", "b", "c"], |blueprint| blueprint);
    let moment = now();
    a.kill();
    assert_eq!(exit_code(&a, Timing::SWIFT), "137");
    election.gated.runs_since(moment, election.timing.latest_failover(), Some("b"));
    election.gated.verdict(2);
}

#[test]
fn a_restarted_container_joins_again() {
    let election = Election::new(Timing::SHORT);
    let ([a, _b], _) = election.started(["a", "b"], |blueprint| blueprint.options(["--restart=always"]));
    let moment = now();
    signal_gatekeeper(&a, Signal::SIGKILL);
    // Either of the two may lead, as that depends on how fast the engine restarts the container.
    election.gated.runs_since(moment, election.timing.latest_failover() + Timing::START, None);
    election.takes_part(2);
    assert_eq!(inspect(&a, "{{.RestartCount}}"), "1");
    election.gated.verdict(2);
}

/// This is a limit of the guarantee: a machine that stops as a whole, and resumes later.
#[test]
fn a_paused_container_is_replaced_and_its_command_is_killed_as_soon_as_it_resumes() {
    let election = Election::new(Timing::SHORT);
    let ([a, _b], first) = election.started(["a", "b"], |blueprint| blueprint);
    let moment = now();
    a.pause();
    let second = election.gated.runs_since(moment, election.timing.latest_failover(), Some("b"));
    let frozen = election.gated.again(&first);
    assert!(frozen.to < second.from, "the second began before the first stood still:\n{frozen:?}\n{second:?}");
    let woken = now();
    a.engine(&["unpause"]);
    // The exit code depends on whether the guard or the gatekeeper resumes first.
    let code = exit_code(&a, Timing::SWIFT);
    assert!(["79", "70"].contains(&code.as_str()), "{code}");
    let first = election.gated.again(&first);
    let late = Duration::from_nanos(first.to.saturating_sub(woken));
    assert!(late < harness::wait::scaled(WAKE), "it lived for {late:?} after it woke");
    assert!(!first.ended, "it was killed and not asked");
    // A storage can refuse its writes by the token.
    assert!(second.token > first.token, "{first:?}\n{second:?}");
}

#[test]
fn a_pause_shorter_than_the_renew_deadline_does_not_disturb_the_leader() {
    let election = Election::new(Timing::LONG);
    let ([a, _b], first) = election.started(["a", "b"], |blueprint| blueprint);
    a.pause();
    let frozen = election.gated.again(&first).to;
    a.engine(&["unpause"]);
    eventually(Timing::SWIFT, "the command goes on", || {
        let life = election.gated.again(&first);
        if life.to > frozen && life.asked.is_none() { Ok(()) } else { Err(format!("{life:?}")) }
    });
    health(&a, "healthy");
    election.gated.verdict(1);
    assert_eq!(election.gated.journal().lives().len(), 1);
}

#[test]
fn an_isolated_leader_stops_before_a_standby_starts_and_rejoins_with_the_network() {
    let election = Election::new(Timing::SHORT);
    let campaigning = "--env=ETCD_AWAIT_ELECTION_ON_LOSS=campaign";
    let ([a, _b, _c], first) = election.started(["a", "b", "c"], |blueprint| blueprint.options([campaigning]));
    let moment = now();
    a.cut_off();
    election.gated.runs_since(moment, election.timing.latest_failover(), Some("b"));
    let lived = Duration::from_nanos(election.gated.again(&first).to.saturating_sub(moment));
    // The engine takes a moment to disconnect it.
    assert!(lived < election.timing.latest_death() + WAKE, "it lived for {lived:?} without the network");
    a.rejoin();
    election.takes_part(3);
    health(&a, "healthy");
    election.gated.verdict(2);
}

#[test]
fn the_container_engine_reports_the_health_of_each_instance() {
    let election = Election::new(Timing::SHORT);
    let ([a, b], _) = election.started(["a", "b"], |blueprint| blueprint);
    health(&a, "healthy");
    health(&b, "healthy");
    let moment = now();
    signal_gatekeeper(&a, Signal::SIGSTOP);
    health(&a, "unhealthy");
    election.gated.runs_since(moment, election.timing.latest_failover(), Some("b"));
    signal_gatekeeper(&a, Signal::SIGCONT);
    assert_eq!(exit_code(&a, Timing::SWIFT), "79");
    health(&b, "healthy");
    election.gated.verdict(2);
}

#[test]
fn orphans_are_reaped() {
    let election = Election::new(Timing::LONG);
    // Orphans of the command are adopted by the guard, and those of other processes of the container by PID 1.
    let orphans = "for i in 1 2 3; do sh -c 'sleep 0.3 & echo left'; done";
    let a = election.instance("a").command(["sh", "-c", &format!("{orphans}; exec sleep 1000")]).start();
    eventually(Timing::START, "the command leaves orphans", || {
        let said = output(&a);
        if said.matches("left").count() == 3 { Ok(()) } else { Err(said) }
    });
    assert_eq!(a.must(orphans).matches("left").count(), 3);
    eventually(Timing::SWIFT, "only gatekeeper, log writer, guard and command are left", || {
        let processes = a.exec(&["ps", "-e", "-o", "stat=,comm="])?;
        // And the process that looks.
        if processes.lines().count() == 5 && !processes.contains('Z') { Ok(()) } else { Err(processes) }
    });
}

#[test]
fn the_command_can_use_and_be_interrupted_by_the_terminal() {
    let election = Election::new(Timing::LONG);
    let command = "trap 'echo interrupted; exit 3' INT; echo foreground $(ps -o pgid=,tpgid= -p $$); \
                   while :; do sleep 0.1; done";
    let a = election.instance("a").options(["--tty", "--interactive"]).command(["sh", "-c", command]).start();
    eventually(Timing::START, "the command is in the foreground", || {
        let said = output(&a);
        let groups =
            said.lines().find_map(|line| line.trim().strip_prefix("foreground ")).ok_or_else(|| said.clone())?;
        let (group, foreground) = groups.split_once(' ').ok_or_else(|| said.clone())?;
        if group.trim() == foreground.trim() { Ok(()) } else { Err(said.clone()) }
    });
    let terminal = Terminal::open();
    let mut person = docker_command();
    let [input, out, error] = [(); 3].map(|()| Stdio::from(terminal.slave()));
    let mut person = person.args(["attach", a.id()]).stdin(input).stdout(out).stderr(error).spawn().expect("docker");
    eventually(Timing::SWIFT, "Control-C ends the command", || {
        // The engine may not be attached yet.
        terminal.press("\x03");
        let state = inspect(&a, "{{.State.Status}}");
        if state == "exited" { Ok(()) } else { Err(state) }
    });
    let _ = person.wait();
    assert_eq!(exit_code(&a, Timing::SWIFT), "3");
    assert!(output(&a).contains("interrupted"));
}

/// `/leader` and the proxy of the example for Kubernetes, whose names Docker can resolve as well.
#[test]
fn the_proxy_of_the_example_forwards_to_the_leader() {
    let example = fs::read_to_string("packaging/container/kubernetes-service.yaml").expect("the example");
    let begin = "  haproxy.cfg: |\n";
    let config = example.split_once(begin).expect("a configuration").1;
    let config: String = config.split("---").next().expect("its end").replace("\n    ", "\n").trim_start().to_owned();
    let scratch = Scratch::new("proxy");
    fs::write(scratch.path().join("haproxy.cfg"), config).expect("writing the configuration");
    let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("opening it");
    open(scratch.path(), 0o755);
    open(&scratch.path().join("haproxy.cfg"), 0o644);

    let election = Election::new(Timing::LONG);
    let serve = "$s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9, ReuseAddr => 1) or die; \
                 while ($c = $s->accept) { print $c $ENV{HOSTNAME}; close $c }";
    let [a, _b, _c] = ["a", "b", "c"].map(|name| {
        let alias = "--network-alias=my-service-pods.default.svc.cluster.local";
        let command = ["perl", "-MIO::Socket::INET", "-e", serve];
        let machine = election.instance(name).options([alias]).command(command).start();
        // One after the other, so that the leader is known.
        health(&machine, "healthy");
        machine
    });
    let command = ["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"];
    let proxy = site().network.machine("proxy").options(HARDENED).mount(scratch.path(), "/etc/haproxy", "ro");
    let proxy = proxy.command(command).start();

    // More often than there are instances, so that a round robin would fail.
    let ask =
        "for (1 .. 4) { $s = IO::Socket::INET->new(PeerAddr => \"127.0.0.1:8000\", Timeout => 2) or die; print <$s> }";
    let leads = |name: &str| {
        eventually(Timing::START, &format!("the proxy goes to {name}"), || {
            let answers = proxy.exec(&["perl", "-MIO::Socket::INET", "-e", ask])?;
            if answers == name.repeat(4) { Ok(()) } else { Err(answers) }
        });
    };
    leads("a");
    a.engine(&["stop", "-t", "30"]);
    leads("b");
}
