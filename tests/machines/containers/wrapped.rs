//! An image that is not built with the program: an init container copies it into a volume that the main container mounts.
//!
//! The words of the containers are those of the examples for Kubernetes, and an `emptyDir` is a folder that every user can write.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use harness::{Behavior, Timing, journal::now, scratch::Scratch};

use super::{Election, HARDENED, exit_code, image, output, site};
use crate::{
    engine::{Blueprint, Machine, base_image},
    gated::{COMMAND, Gated},
};

/// Mounted at the same place in all containers of the examples.
const SHARED: &str = "/shared";

/// Returns the first list of this name in an example, whose syntax is also that of JSON.
fn words(example: &str, key: &str) -> Vec<String> {
    let path = format!("packaging/container/{example}.yaml");
    let text = fs::read_to_string(&path).expect("an example");
    let list = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    serde_json::from_str(list.unwrap_or_else(|| panic!("{path} has no {key}"))).expect("a list of words")
}

/// A pod of an example: its identity, and its volume.
struct Pod<'a> {
    election: &'a Election,
    example: &'static str,
    name: &'static str,
    volume: Scratch,
}

impl<'a> Pod<'a> {
    fn new(election: &'a Election, example: &'static str, name: &'static str) -> Self {
        let volume = Scratch::new("volume");
        fs::set_permissions(volume.path(), Permissions::from_mode(0o777)).expect("a folder of ours");
        Self { election, example, name, volume }
    }

    /// Runs the init container that installs the program.
    #[track_caller]
    fn installs(&self) {
        let machine = site().network.machine("install").image(image()).options(HARDENED);
        let machine = machine.mount(self.volume.path(), SHARED, "rw").command(words(self.example, "args")).start();
        assert_eq!(exit_code(&machine, Timing::START), "0", "{}", output(&machine));
        assert!(output(&machine).ends_with("as /shared/etcd-await-election\n"), "{}", output(&machine));
    }

    /// A container of an image that does not contain the program. Its command is called `pod/role` in the journal.
    fn container(&self, role: &str, behavior: &Behavior) -> Blueprint {
        let variables = Gated::variables(&self.life(role), behavior);
        let variables = variables.lines().map(|line| format!("--env={line}")).collect::<Vec<_>>();
        let program = words(self.example, "command").swap_remove(0);
        let command = std::iter::once(program.as_str()).chain(COMMAND.split(' '));
        let container = self.election.instance(self.name).image(base_image()).options(variables).command(command);
        self.election.gated.install(container).mount(self.volume.path(), SHARED, "ro")
    }

    fn life(&self, role: &str) -> String {
        format!("{}/{role}", self.name)
    }

    /// Starts the main container, whose command runs until it is stopped.
    fn serves(&self) -> Machine {
        self.container("main", &Behavior::default()).start()
    }
}

#[test]
fn an_image_without_the_program_runs_under_the_copy_of_an_init_container() {
    let election = Election::new(Timing::LONG);
    let [a, b] = ["a", "b"].map(|name| Pod::new(&election, "kubernetes-wrap", name));
    a.installs();
    let leader = a.serves();
    let first = election.gated.runs_since(0, Timing::START, Some("a/main"));
    b.installs();
    let _standby = b.serves();
    election.takes_part(2);
    // Replaces the copy that is executed.
    a.installs();
    election.gated.runs_since(first.from, Timing::SWIFT, Some("a/main"));
    assert_eq!(fs::read_dir(a.volume.path()).expect("a folder").count(), 1, "only the copy is in the volume");
    let moment = now();
    leader.engine(&["stop", "-t", "30"]);
    assert_eq!(exit_code(&leader, Timing::SWIFT), "0");
    election.gated.runs_since(moment, Timing::SWIFT, Some("b/main"));
    election.gated.verdict(2);
}

/// The migration never runs beside the service, although they are different containers of several pods.
#[test]
fn an_init_container_and_the_main_container_take_one_lock_in_turn() {
    let election = Election::new(Timing::LONG);
    let [a, b] = ["a", "b"].map(|name| Pod::new(&election, "kubernetes-migrate", name));
    let migrates = |pod: &Pod| pod.container("migrate", &Behavior::exits(0, Duration::from_secs(1))).start();
    let ended = |pod: &Pod, migration: &Machine, limit| {
        assert_eq!(exit_code(migration, limit), "0", "{}", output(migration));
        let lives = election.gated.journal().lives();
        assert!(lives.iter().any(|life| life.name == pod.life("migrate") && life.ended), "{lives:?}");
    };
    a.installs();
    ended(&a, &migrates(&a), Timing::START);
    let moment = now();
    let service = a.serves();
    election.gated.runs_since(moment, Timing::START, Some("a/main"));
    b.installs();
    let migration = migrates(&b);
    election.takes_part(2);
    // It waits while the service of the other pod runs.
    let lives = election.gated.journal().lives();
    assert!(lives.iter().all(|life| life.name != b.life("migrate")), "{lives:?}");
    let moment = now();
    service.engine(&["stop", "-t", "30"]);
    election.gated.runs_since(moment, Timing::SWIFT, Some("b/migrate"));
    ended(&b, &migration, Timing::START);
    let moment = now();
    let _service = b.serves();
    election.gated.runs_since(moment, Timing::START, Some("b/main"));
    election.gated.verdict(4);
}
