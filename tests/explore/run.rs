//! Checks all states that the real election and the real guard can reach within a budget of faults.
//!
//! Real are the candidate, the switch and the liveness of the guard. Everything else is modeled: etcd, the network, the processes,
//! the command and the peers. docs/design.md says what this model holds, and what it does not.

pub(crate) mod budget;
mod checker;
#[path = "../model/etcd.rs"]
#[expect(dead_code, reason = "the random model uses all of it")]
mod etcd;
mod faults;
mod gatekeeper;
mod guard;
mod instance;
mod liveness;
mod mutant;
mod network;
mod passing;
mod peers;
mod properties;
pub(crate) mod setups;
mod shared;
mod sim;
mod state;
mod steps;
mod store;
mod story;
mod tidy;

use std::{
    fmt,
    time::{Duration, Instant},
};

use etcd_await_election::election::Candidate;
use stateright::{Checker as _, HasDiscoveries, Model as _};

use shared::Shared;
use steps::Explorer;

pub(crate) use self::{mutant::Mutant, state::Setup};

/// The result of an exploration.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) states: usize,
    steps: usize,
    depth: usize,
    /// The starts beside another command because of faults beyond the limits of the guarantee.
    beyond: usize,
    /// The different candidates in all states that were explored so far.
    candidates: usize,
    time: Duration,
    /// The shortest run in which something is wrong.
    pub(crate) found: Option<Found>,
}

/// A run in which something is wrong.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) steps: usize,
    pub(crate) story: String,
}

/// Explores until a property does not hold, or all states are known. `say` receives a line every ten seconds.
pub(crate) fn explore(setup: &Setup, threads: usize, say: impl Fn(&str)) -> Outcome {
    let begin = Instant::now();
    let explorer = Explorer::new(setup.clone());
    let checker = explorer.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs();
    let mut next = Duration::from_secs(10);
    while !checker.is_done() {
        std::thread::sleep(Duration::from_millis(50));
        if begin.elapsed() > next {
            next += Duration::from_secs(10);
            let seconds = begin.elapsed().as_secs();
            say(&format!("  {seconds} s: {} states, depth {}", checker.unique_state_count(), checker.max_depth()));
        }
    }
    let checker = checker.join();
    let found = checker.discoveries().into_iter().next().map(|(property, path)| {
        let steps = path.into_actions();
        let story = story::write(checker.model(), property, &steps);
        Found { steps: steps.len(), story }
    });
    Outcome {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        beyond: checker.model().beyond(),
        candidates: Shared::<Candidate>::count(),
        time: begin.elapsed(),
        found,
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, beyond, candidates, time, found } = self;
        write!(
            f,
            "{states} states ({candidates} candidates so far), {steps} steps, depth {depth}, {:.1} s",
            time.as_secs_f64()
        )?;
        if *beyond > 0 {
            write!(f, "; {beyond} starts beside another command, beyond the guarantee")?;
        }
        if let Some(found) = found {
            write!(f, "; found after {} steps", found.steps)?;
        }
        Ok(())
    }
}
