//! Small explorations, and the proof that they find each mutant. `cargo xtask explore` runs the large ones.

#[path = "run.rs"]
mod explore;

use std::io::{Write as _, stderr};

use explore::{Mutant, setups};

/// Writes to the terminal, although the output of a test that succeeds is hidden.
fn say(line: &str) {
    let _ = writeln!(stderr(), "explore: {line}");
}

#[test]
fn all_states_within_small_budgets_are_in_order() {
    for (name, setup) in setups::small() {
        let outcome = explore::explore(&setup, 2, say);
        say(&format!("{name}: {outcome}"));
        if let Some(found) = &outcome.found {
            panic!("{name}: {outcome}\n{}", found.story);
        }
    }
}

#[test]
fn each_mutant_is_found() {
    for mutant in Mutant::ALL {
        let outcome = explore::explore(&setups::of_mutant(mutant), 1, say);
        say(&format!("{mutant:?}: {outcome}"));
        assert!(outcome.found.is_some(), "{mutant:?} was not found: {outcome}");
    }
}
