//! `ctl show` and `ctl healthcheck`: operator commands that only read.

use harness::{Candidate, Cluster, End, Proxy, Setup, Timing, World, eventually};

use crate::{shared_world, world_on};

fn asking(world: &World, flags: &[&str]) -> Setup {
    flags.iter().fold(world.candidate("asking"), Setup::flag).unset("STATUS_ENDPOINT").command::<&str>([])
}

#[test]
fn show_lists_the_leader_and_the_standbys_in_queue_order() {
    let world = shared_world();
    let a = world.candidate("alpha").start();
    let token = a.leads();
    let b = world.candidate("beta").start();
    b.waits();
    let c = world.candidate("gamma").start();
    c.waits();

    let (end, asking_text) = asking(&world, &["ctl", "show"]).run();
    assert_eq!(end, End::Code(0), "{}", asking_text.stderr());
    let (end, asking_json) = asking(&world, &["ctl", "show", "--json"]).run();
    assert_eq!(end, End::Code(0), "{}", asking_json.stderr());
    let json: serde_json::Value = serde_json::from_str(&asking_json.stdout()).expect("JSON");
    assert!(json.is_object());

    for text in [asking_text.stdout(), asking_json.stdout()] {
        let place = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in {text}"));
        assert!(text.contains(&token.to_string()), "{text}");
        assert!(place("alpha") < place("beta") && place("beta") < place("gamma"), "{text}");
    }
    // `ctl show` does not join the election.
    let entries = world.keys().expect("etcd answers");
    assert!(entries.iter().all(|key| key.value != "asking"), "{entries:?}");
    world.verdict();
}

/// The first standby has position 1 in every output.
#[test]
fn the_first_standby_has_position_1_everywhere() {
    let world = shared_world();
    let a = world.candidate("alpha").start();
    a.leads();
    let standbys: Vec<_> = ["beta", "gamma"]
        .into_iter()
        .map(|name| {
            let standby = world.candidate(name).start();
            standby.waits();
            standby
        })
        .collect();
    let (_, asking) = asking(&world, &["ctl", "show", "--json"]).run();
    let shown: serde_json::Value = serde_json::from_str(&asking.stdout()).expect("JSON");
    for (place, standby) in standbys.iter().enumerate() {
        let number = place + 1;
        assert_eq!(
            (&shown["queue"][place]["identity"], &shown["queue"][place]["number"]),
            (&standby.name().into(), &number.into())
        );
        eventually(Timing::START, &format!("{} is number {number}", standby.name()), || {
            let answer = standby.http("GET", "/").map_err(|error| error.to_string())?.body;
            let json: serde_json::Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
            let metrics = standby.http("GET", "/metrics").map_err(|error| error.to_string())?.body;
            let told = json["queue_number"] == number
                && metrics.contains(&format!("etcd_await_election_queue_number {number}\n"))
                && standby.stderr().contains(&format!("joined as number {number} in the queue"));
            if told { Ok(()) } else { Err(format!("{answer} {}", standby.stderr())) }
        });
    }
    world.verdict();
}

/// The text of an application's key is not taken for that of a lock, and a name in JSON is the name.
#[test]
fn list_prints_each_lock_below_a_prefix_with_its_leader_and_ends_quietly_if_nobody_reads() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    let prefix = format!("{}-list/", world.lock());
    let evil = format!("{prefix}b\u{1b}[2J");
    etcdctl.must(&["put", &format!("{prefix}application/1"), "\u{1b}[2J"]);
    // Each world has one lock at a time.
    let other = shared_world();
    let on = |world: &World, name: &str, lock: &str| world.candidate(name).set("LOCK_NAME", lock).start();
    let first = on(&world, "alpha", &format!("{prefix}a"));
    first.leads();
    let second = on(&world, "beta", &format!("{prefix}a"));
    second.waits();
    let third = on(&other, "gamma", &evil);
    third.leads();
    let list = |more: &[&str]| {
        let flags = [&["ctl", "list", "--prefix", &prefix], more].concat();
        let (end, asking) = asking(&world, &flags).unset("LOCK_NAME").run();
        assert_eq!(end, End::Code(0), "{}", asking.stderr());
        asking.stdout()
    };
    let text = list(&[]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let token = first.leads().to_string();
    assert_eq!(rows[1], [&token, "1", "0", "alpha", &format!("{prefix}a")], "{text}");
    assert!(rows.len() == 3 && rows[2][4].ends_with("b\\u{1b}[2J"), "{text}");
    let locks: Vec<serde_json::Value> =
        list(&["--json"]).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&locks[0]["queue"][0]["identity"], &locks[1]["lock"]), (&"beta".into(), &evil.into()));

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let (end, asking) = asking(&world, &["ctl", "list"]).stdout(writer).run();
    assert_eq!(end, End::Code(0));
    assert!(!asking.stderr().contains("panic"), "{}", asking.stderr());
    etcdctl.must(&["del", &format!("{prefix}application/1")]);
    world.verdict();
    other.verdict();
}

#[test]
fn show_succeeds_for_a_free_lock() {
    let world = shared_world();
    let (end, asking) = asking(&world, &["ctl", "show", "--json"]).run();
    assert_eq!(end, End::Code(0), "{}", asking.stderr());
    serde_json::from_str::<serde_json::Value>(&asking.stdout()).expect("JSON");
    world.verdict();
}

/// Runs the healthcheck of an instance.
fn healthcheck(world: &World, of: &Candidate) -> End {
    let setup = world.candidate("asking").bare().set("STATUS_ENDPOINT", of.status_address().to_string());
    setup.flag("ctl").flag("healthcheck").command::<&str>([]).run().0
}

#[test]
fn healthcheck_exits_with_0_for_leader_and_standby_and_1_without_an_instance() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    assert_eq!(healthcheck(&world, &a), End::Code(0));
    assert_eq!(healthcheck(&world, &b), End::Code(0));
    b.terminate();
    b.wait_exit(Timing::SWIFT);
    assert_eq!(healthcheck(&world, &b), End::Code(1));
    world.verdict();
}

/// Restarting a container would not help while etcd does not answer.
#[test]
fn healthcheck_exits_with_0_while_etcd_does_not_answer() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let a = world.candidate("a").timing(Timing::SHORT).set("ON_LOSS", "campaign").start();
    a.leads();
    world.cluster().member(0).pause();
    eventually(Timing::SHORT.lease() + Timing::SWIFT, "the leader has noticed", || match a.code("/leader") {
        503 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(healthcheck(&world, &a), End::Code(0));
    world.cluster().member(0).resume();
    world.verdict();
}

/// Any user with permissions on the lock can write control characters, bidirectional overrides and line feeds.
#[test]
fn text_from_etcd_is_escaped_wherever_it_is_shown() {
    let world = shared_world();
    let evil = "evil\n<0>x\u{1b}[2J\u{9b}2J\u{202e}\u{2028}\u{200b}";
    let etcdctl = world.cluster().etcdctl();
    etcdctl.must(&["put", world.lock(), evil]);
    let standby = world.candidate("standby").start();
    standby.waits();
    let in_json = world.candidate("in json").set("LOG_FORMAT", "json").start();
    in_json.waits();
    eventually(Timing::SWIFT, "it says who leads", || match in_json.stderr() {
        log if log.contains("evil") => Ok(()),
        log => Err(log),
    });
    for line in in_json.stderr().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    let word = eventually(Timing::SWIFT, "the holder is known", || {
        let answer = standby.http("GET", "/").map_err(|error| error.to_string())?;
        if answer.json()["leader"] == evil { Ok(answer.body) } else { Err(answer.body) }
    });
    let (_, shown) = world.candidate("show").flag("ctl").flag("show").command::<&str>([]).run();
    let (_, json) = world.candidate("json").flag("ctl").flag("show").flag("--json").command::<&str>([]).run();
    let parsed: serde_json::Value = serde_json::from_str(&json.stdout()).expect("JSON");
    assert_eq!(parsed["holder"]["identity"], evil);
    let (_, checked) = world
        .candidate("checked")
        .flag("ctl")
        .flag("healthcheck")
        .set("STATUS_ENDPOINT", standby.status_address().to_string())
        .command::<&str>([])
        .run();
    assert!(checked.stdout().contains("evil"), "{} {}", checked.stdout(), checked.stderr());
    let probe = standby.http("GET", "/healthz").expect("an answer").body;
    for text in [word, shown.stdout(), json.stdout(), checked.stdout(), probe, standby.stderr(), in_json.stderr()] {
        assert!(text.contains("evil"), "{text}");
        let acts = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2028}\u{200b}".contains(c);
        assert!(!text.chars().any(acts), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("<0>")), "{text:?}");
    }
    etcdctl.must(&["del", world.lock()]);
    world.verdict();
}

/// A script must not take an empty file for a free lock.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let world = shared_world();
    let leader = world.candidate("leader").start();
    leader.leads();
    for flags in [&["ctl", "show"][..], &["ctl", "show", "--watch"], &["ctl", "list", "--json"], &["--version"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
        let (end, asking) = asking(&world, flags).stdout(full).run();
        assert_eq!(end, End::Code(74), "{flags:?} {}", asking.stderr());
        assert!(asking.stderr().contains("could not write to stdout: No space left on device"), "{}", asking.stderr());
    }
    world.verdict();
}

/// Only where endpoints answer is it a question of the cluster.
#[test]
fn show_says_that_no_endpoint_answers() {
    let world = shared_world();
    let proxy = Proxy::of(world.cluster().member(0));
    proxy.refuse();
    let (end, asking) = asking(&world, &["ctl", "show"]).via([&proxy]).run();
    assert_eq!(end, End::Code(69));
    assert!(asking.stderr().ends_with("etcd does not answer; check --endpoints\n"), "{}", asking.stderr());
    world.verdict();
}
