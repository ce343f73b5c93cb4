//! `--show` and `--healthcheck`: questions that the program answers.

use harness::{Candidate, Cluster, End, Setup, Timing, World, eventually};

use crate::{shared_world, world_on};

fn asking(world: &World, flags: &[&str]) -> Setup {
    flags.iter().fold(world.candidate("asking"), Setup::flag).unset("STATUS_ENDPOINT").command::<&str>([])
}

#[test]
fn show_tells_who_leads_and_who_waits_in_which_order() {
    let world = shared_world();
    let a = world.candidate("alpha").start();
    let token = a.leads();
    let b = world.candidate("beta").start();
    b.waits();
    let c = world.candidate("gamma").start();
    c.waits();

    let (end, asking_text) = asking(&world, &["--show"]).run();
    assert_eq!(end, End::Code(0), "{}", asking_text.stderr());
    let (end, asking_json) = asking(&world, &["--show", "--json"]).run();
    assert_eq!(end, End::Code(0), "{}", asking_json.stderr());
    let json: serde_json::Value = serde_json::from_str(&asking_json.stdout()).expect("JSON");
    assert!(json.is_object());

    for text in [asking_text.stdout(), asking_json.stdout()] {
        let place = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in {text}"));
        assert!(text.contains(&token.to_string()), "{text}");
        assert!(place("alpha") < place("beta") && place("beta") < place("gamma"), "{text}");
    }
    // Asking is not taking part.
    let entries = world.keys().expect("etcd answers");
    assert!(entries.iter().all(|key| key.value != "asking"), "{entries:?}");
    world.verdict();
}

#[test]
fn show_of_a_lock_that_nobody_holds_is_an_answer_too() {
    let world = shared_world();
    let (end, asking) = asking(&world, &["--show", "--json"]).run();
    assert_eq!(end, End::Code(0), "{}", asking.stderr());
    serde_json::from_str::<serde_json::Value>(&asking.stdout()).expect("JSON");
    world.verdict();
}

/// The healthcheck of an instance, from beside it.
fn healthcheck(world: &World, of: &Candidate) -> End {
    let setup = world.candidate("asking").bare().set("STATUS_ENDPOINT", of.status_address().to_string());
    setup.flag("--healthcheck").command::<&str>([]).run().0
}

#[test]
fn healthcheck_is_0_for_leader_and_standby_and_1_when_nobody_answers() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let b = world.candidate("b").start();
    b.waits();
    assert_eq!(healthcheck(&world, &a), End::Code(0));
    assert_eq!(healthcheck(&world, &b), End::Code(0));
    b.terminate();
    b.wait_exit(Timing::SWIFT);
    assert_eq!(healthcheck(&world, &b), End::Code(1));
    world.verdict();
}

/// An image's health is not etcd's: restarting it would mend nothing.
#[test]
fn healthcheck_is_0_while_etcd_is_dark() {
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
