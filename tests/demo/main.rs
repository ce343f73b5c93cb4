//! `cargo xtask demo`: a three-member TLS cluster, four instances of a command, and what happens to their leaders.

mod stage;

use std::{
    env, fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use harness::{Cluster, Proxy, Timing, World, journal};

use self::stage::Stage;

/// Short enough to watch; the defaults are 15, 10 and 2 seconds.
const TIMING: Timing =
    Timing { lease: 6, renew: Duration::from_secs(4), retry: Duration::from_secs(1), grace: Duration::from_secs(3) };

fn main() -> ExitCode {
    // The command is this program, started again.
    if env::args().any(|argument| argument == "journaled") {
        harness::journaled::run();
        return ExitCode::SUCCESS;
    }
    println!(
        "One command, four instances, one leader. Lease {}s, renew deadline {}s, retry period {}s.\n",
        TIMING.lease,
        TIMING.renew.as_secs(),
        TIMING.retry.as_secs()
    );
    println!("Starting three members of etcd, with TLS …");
    let world = World::new(Cluster::shared(), Path::new(env!("CARGO_BIN_EXE_etcd-await-election")));
    let proxies: Vec<_> = world.cluster().members().iter().map(Proxy::of).collect();
    let notes = world.directory().join("hooks");
    let hangs = |name: &str| world.directory().join(format!("{name}-hangs"));
    let instance = |name: &str| {
        let check = format!("sh -c 'while test -e \"{}\"; do sleep 1; done'", hangs(name).display());
        let instance = world.candidate(name).timing(TIMING).set("CHECK", check);
        let instance = instance.set("CHECK_INTERVAL", "1s").set("CHECK_TIMEOUT", "500ms").set("CHECK_FAILURES", "2");
        ["ON_ELECTED", "ON_STOPPED"].into_iter().fold(instance, |instance, hook| {
            let note = format!("{name} runs {hook} (token $ETCD_AWAIT_ELECTION_FENCING_TOKEN)");
            instance.set(hook, format!("sh -c 'echo \"{note}\" >>{}'", notes.display()))
        })
    };
    let start = |name: &str| instance(name).start();
    let stage = Stage::new(&notes);

    stage.announce("three instances start: one becomes the leader, the others wait in the queue");
    let anna = start("anna");
    stage.follow(&anna);
    anna.leads();
    let bert = start("bert");
    stage.follow(&bert);
    bert.waits();
    let cleo = instance("cleo").via(&proxies).start();
    stage.follow(&cleo);
    cleo.waits();
    stage.pause();

    stage.announce("the leader's gatekeeper is KILLED: its guard stops the command and revokes the lease");
    anna.kill();
    bert.leads_within(TIMING.latest_failover());
    stage.pause();

    stage.announce("the new leader's gatekeeper is FROZEN: its guard is no longer fed, and stops the command in time");
    bert.pause();
    cleo.leads_within(TIMING.latest_failover());
    stage.pause();

    stage.announce("a supervisor restarts anna, and bert resumes: its command was stopped long before");
    let anna = start("anna");
    stage.follow(&anna);
    bert.resume();
    anna.waits();
    stage.pause();

    stage.announce("the leader is CUT OFF from the network: it cannot renew its lease, and stops its command in time");
    proxies.iter().for_each(Proxy::black_hole);
    anna.leads_within(TIMING.latest_failover());
    stage.pause();

    stage.announce("dora starts on a host that is NOT ELIGIBLE: it joins the queue only when the host is");
    proxies.iter().for_each(Proxy::heal);
    let ready = world.directory().join("dora-is-eligible");
    let dora = instance("dora").set("ELIGIBLE", format!("test -e '{}'", ready.display())).start();
    stage.follow(&dora);
    dora.logs("this host is not eligible");
    stage.pause();
    fs::write(&ready, "").expect("writing it");
    dora.waits();
    stage.pause();

    stage.announce("the check of the leader HANGS: anna stops its command, hands over and stays out");
    let sick = Instant::now();
    fs::write(hangs("anna"), "").expect("writing it");
    anna.logs("handed over to");
    println!(
        "           handed over {:.2} s after the first hang; at most 2 x 1 s + 0.5 s and the time to stop",
        sick.elapsed().as_secs_f64()
    );
    stage.pause();

    stage.announce("all instances receive SIGTERM");
    world.verdict();
    stage.close();

    let lives = world.journal().lives();
    println!(
        "\nThe timeline of the command, from its own records every few milliseconds:\n\n{}",
        stage::timeline(&lives)
    );
    let broken = journal::violations(&lives);
    if broken.is_empty() && !lives.is_empty() {
        println!("{} terms: none overlapped, and the fencing token only grew.", lives.len());
        return ExitCode::SUCCESS;
    }
    println!("THE GUARANTEE IS VIOLATED:\n  {}", broken.join("\n  "));
    ExitCode::FAILURE
}
