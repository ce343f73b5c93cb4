//! The environment of the command.

use std::{collections::BTreeMap, fs};

use harness::{Behavior, Cluster, World, eventually};

use crate::shared_world;

/// Lets a candidate lead and returns the environment of its command.
fn environment(world: &World, setup: harness::Setup) -> BTreeMap<String, String> {
    let path = world.directory().join("environment");
    let candidate = setup.behavior(Behavior { environment: Some(path.clone()), ..Behavior::default() }).start();
    candidate.leads();
    let text = eventually(harness::Timing::START, "the environment is written", || {
        fs::read_to_string(&path).map_err(|error| error.to_string())
    });
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn the_command_receives_its_token_lease_and_key() {
    let world = shared_world();
    let given = environment(&world, world.candidate("a"));
    let holder = world.holder();
    let get = |name: &str| given.get(name).cloned().unwrap_or_else(|| panic!("no {name} in {given:?}"));
    assert_eq!(get("ETCD_AWAIT_ELECTION_FENCING_TOKEN"), holder.mod_revision.to_string());
    assert_eq!(get("ETCD_AWAIT_ELECTION_LEASE_ID"), format!("{:x}", holder.lease));
    let keys: Vec<String> = world.keys().expect("etcd answers").into_iter().map(|key| key.name).collect();
    assert!(keys.contains(&get("ETCD_AWAIT_ELECTION_LEADER_KEY")), "{keys:?}");
    assert!(keys.contains(&get("ETCD_LOCK_KEY")), "{keys:?}");
    get("ETCD_LOCK_REV").parse::<i64>().expect("a revision");
    world.verdict();
}

/// Under `etcdctl lock` inherited values take precedence, so that a command in a nested lock receives those of the
/// outer lock.
#[test]
fn the_program_overrides_inherited_values() {
    let world = shared_world();
    let mut setup = world.candidate("a");
    for name in ["FENCING_TOKEN", "LEASE_ID", "LEADER_KEY"] {
        setup = setup.variable(&format!("ETCD_AWAIT_ELECTION_{name}"), "inherited");
    }
    let given =
        environment(&world, setup.variable("ETCD_LOCK_KEY", "inherited").variable("ETCD_LOCK_REV", "inherited"));
    assert!(given.values().all(|value| value != "inherited"), "{given:?}");
    world.verdict();
}

#[test]
fn the_command_inherits_other_variables_but_not_the_notify_socket() {
    let world = shared_world();
    let setup = world
        .candidate("a")
        .variable("NOTIFY_SOCKET", world.directory().join("notify"))
        .variable("WATCHDOG_USEC", "60000000")
        .variable("UNRELATED", "kept");
    let given = environment(&world, setup);
    assert_eq!(given.get("UNRELATED").map(String::as_str), Some("kept"));
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        assert!(!given.contains_key(name), "{given:?}");
    }
    world.verdict();
}

#[test]
fn the_command_gets_no_password() {
    let world = crate::world_on(Cluster::builder().size(1).plain().auth("app", "secret-password").create());
    let given = environment(&world, world.candidate("a"));
    assert!(given.values().all(|value| !value.contains("secret-password")), "{given:?}");
    world.verdict();
}
