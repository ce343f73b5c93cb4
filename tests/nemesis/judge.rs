//! The oracle's verdict, with violations beyond the limits of the guarantee counted separately.

use std::{collections::BTreeSet, time::Duration};

use harness::journal::{self, Life};

use super::fleet;

/// The verdict on the journal so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Violations of the guarantee.
    pub(crate) broken: Vec<String>,
    /// Violations after faults that the guarantee does not cover.
    pub(crate) beyond: Vec<String>,
}

impl Verdict {
    /// Judges the journal; `victims` are the tokens of the terms with faults that the guarantee does not cover.
    pub(crate) fn of(lives: &[Life], victims: &BTreeSet<i64>) -> Self {
        let all = journal::violations(lives);
        if victims.is_empty() {
            return Self { broken: all, beyond: Vec::new() };
        }
        let is_victim = |life: &Life| victims.contains(&life.token);
        let pids: BTreeSet<i32> = lives.iter().filter(|life| is_victim(life)).map(|life| life.pid).collect();
        let mut others: Vec<Life> = lives.iter().filter(|life| !is_victim(life)).cloned().collect();
        others.iter_mut().for_each(|life| life.saw.retain(|pid| !pids.contains(pid)));
        let broken = journal::violations(&others);
        let beyond = all.into_iter().filter(|line| !broken.contains(line)).collect();
        Self { broken, beyond }
    }
}

/// Every process with one token: a command and its descendants.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) token: i64,
    /// The slot of its instance.
    pub(crate) instance: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// When it received a stop signal.
    pub(crate) asked: Option<u64>,
}

/// Returns all terms, in the order of their starts.
pub(crate) fn terms(lives: &[Life]) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    for life in lives {
        // Descendants of a command start soon after it.
        if let Some(term) = terms.iter_mut().rev().take(8).find(|term| term.token == life.token) {
            term.from = term.from.min(life.from);
            term.to = term.to.max(life.to);
            term.asked = [term.asked, life.asked].into_iter().flatten().min();
        } else {
            let instance = fleet::place(&life.name);
            terms.push(Term { token: life.token, instance, from: life.from, to: life.to, asked: life.asked });
        }
    }
    terms.sort_by_key(|term| term.from);
    terms
}

/// Returns the times in which more than one term ran.
pub(crate) fn overlaps(terms: &[Term]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut until = 0;
    for term in terms {
        if term.from <= until {
            found.push((term.from, until.min(term.to)));
        }
        until = until.max(term.to);
    }
    found
}

/// Returns the times from the end of each term to the start of the next, shortest first.
pub(crate) fn gaps(terms: &[Term]) -> Vec<(Duration, u64)> {
    let mut until = None;
    let mut gaps = Vec::new();
    for term in terms {
        if let Some(until) = until {
            gaps.push((Duration::from_nanos(term.from.saturating_sub(until)), until));
        }
        until = until.max(Some(term.to));
    }
    gaps.sort();
    gaps
}
