//! The oracle's verdict, with what is beyond the promise counted apart.

use std::{collections::BTreeSet, time::Duration};

use harness::journal::{self, Life};

use super::fleet;

/// What the journal says so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// In what the promise was broken.
    pub(crate) broken: Vec<String>,
    /// In what it would have been, but for somebody who did what it does not cover.
    pub(crate) beyond: Vec<String>,
}

impl Verdict {
    /// `victims` are the tokens of the terms to which that was done.
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

/// Everything with one token: a command and all that it forked.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) token: i64,
    /// Whose it was: the place in the fleet.
    pub(crate) instance: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// When it was asked to stop.
    pub(crate) asked: Option<u64>,
}

/// All terms, in the order in which they began.
pub(crate) fn terms(lives: &[Life]) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    for life in lives {
        // What a command forked is never far from it.
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

/// The times in which more than one term ran.
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

/// From the end of each term to the beginning of the next, shortest first.
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
