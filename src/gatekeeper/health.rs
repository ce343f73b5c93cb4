//! The checks: asks whether the command works while it runs, and whether this host may lead while it does not.
//!
//! This is a task of its own that only sends events to the candidate. No renewal, no deadline and no stop waits for a check.

use std::time::Duration;

use tokio::sync::{mpsc::UnboundedSender, watch};

use super::lifecycle::{Lifecycle, Subject};
use crate::{
    core::clock::{Clock, Instant},
    election::protocol::Event,
    probe::Prober,
    settings::{Checks, Probe},
};

/// Sends probes and tells the candidate what changes, until the instance ends.
pub(super) async fn watch<C: Clock>(
    checks: Checks,
    mut prober: Prober<C>,
    mut lifecycle: watch::Receiver<Lifecycle>,
    clock: C,
    events: UnboundedSender<Event>,
) {
    loop {
        let subject = lifecycle.borrow_and_update().subject();
        let check = async {
            match (subject, &checks.command, &checks.host) {
                (Some(Subject::Command(_)), Some(probe), _) => {
                    let follow = Follow { checks: &checks, probe, of_host: false };
                    follow.check(&mut prober, &clock, Event::Healthy, &events).await;
                }
                (Some(Subject::Host), _, Some(probe)) => {
                    let follow = Follow { checks: &checks, probe, of_host: true };
                    follow.check(&mut prober, &clock, Event::Eligible, &events).await;
                }
                _ => {}
            }
            std::future::pending().await
        };
        tokio::select! {
            changed = lifecycle.wait_for(|lifecycle| lifecycle.subject() != subject) => if changed.is_err() { return },
            () = check => unreachable!("it never ends"),
        }
    }
}

/// The check of one subject.
struct Follow<'a> {
    checks: &'a Checks,
    probe: &'a Probe,
    of_host: bool,
}

impl Follow<'_> {
    async fn check<C: Clock>(
        &self,
        prober: &mut Prober<C>,
        clock: &C,
        event: impl Fn(bool) -> Event,
        events: &UnboundedSender<Event>,
    ) {
        let Self { checks, probe, of_host } = *self;
        // The first answer of a host counts, as it is not in the queue.
        let counts_from = if of_host { Instant::from_boot(Duration::ZERO) } else { clock.now() + checks.start };
        let mut judge = Judge::new(if of_host { 1 } else { checks.failures }, checks.failures, counts_from);
        loop {
            let due = clock.now() + checks.interval;
            let outcome = prober.send(probe, usize::from(of_host)).await;
            if matches!(probe, Probe::Command(_)) && prober.is_lost() {
                // That says nothing about the command or the host.
                tracing::error!(
                    "the process that runs check commands has exited: nothing is checked; restart this instance"
                );
                return std::future::pending().await;
            }
            let judged = judge.judge(outcome.is_ok(), clock.now());
            self.log(&judged, outcome.err().unwrap_or_default());
            if let Some(verdict) = judged.verdict
                && events.send(event(verdict)).is_err()
            {
                return;
            }
            clock.sleep_until(due).await;
        }
    }

    /// Logs one line for each change.
    fn log(&self, judged: &Judged, cause: String) {
        let Self { probe, of_host, .. } = self;
        match (of_host, judged.verdict, judged.changed) {
            (false, Some(false), _) => {
                let failures = self.checks.failures;
                tracing::warn!("the command is sick: {probe} failed {failures} times in a row: {cause}");
            }
            (false, _, Some(false)) => tracing::warn!("the check of the command failed: {probe}: {cause}"),
            (false, _, Some(true)) => tracing::info!("the check of the command succeeds: {probe}"),
            (true, Some(false), _) => tracing::warn!("this host is not eligible: {probe}: {cause}"),
            (true, Some(true), _) => tracing::info!("this host is eligible: {probe} succeeds"),
            (true, _, Some(false)) => {
                tracing::warn!("the check whether this host is eligible failed: {probe}: {cause}")
            }
            (true, _, Some(true)) => tracing::info!("the check whether this host is eligible succeeds: {probe}"),
            (_, _, None) => {}
        }
    }
}

/// Counts failures in a row.
#[derive(Debug)]
struct Judge {
    /// How many have to follow each other.
    limit: u32,
    /// The limit after the first verdict.
    limit_afterwards: u32,
    failures: u32,
    /// Failures before this do not count unless there was a success.
    counts_from: Instant,
    has_succeeded: bool,
    latest: Option<bool>,
    verdict: Option<bool>,
}

/// What an answer changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    /// Whether it differs from the answer before it.
    changed: Option<bool>,
    /// The verdict, if it is another one.
    verdict: Option<bool>,
}

impl Judge {
    const fn new(limit: u32, limit_afterwards: u32, counts_from: Instant) -> Self {
        let (failures, has_succeeded, latest, verdict) = (0, false, None, None);
        Self { limit, limit_afterwards, failures, counts_from, has_succeeded, latest, verdict }
    }

    fn judge(&mut self, succeeded: bool, now: Instant) -> Judged {
        let changed = (self.latest.replace(succeeded) != Some(succeeded)).then_some(succeeded);
        self.has_succeeded |= succeeded;
        let counts = self.has_succeeded || now >= self.counts_from;
        self.failures = if succeeded || !counts { 0 } else { self.failures.saturating_add(1) };
        let verdict = if succeeded { Some(true) } else { (self.failures >= self.limit).then_some(false) };
        let verdict = verdict.filter(|verdict| self.verdict != Some(*verdict));
        if verdict.is_some() {
            self.verdict = verdict;
            self.limit = self.limit_afterwards;
        }
        Judged { changed, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    /// Returns the verdicts, with the number of the answer that each follows: one answer per second, `-` for a failure.
    fn verdicts(mut judge: Judge, answers: &str) -> Vec<(usize, bool)> {
        let judged =
            answers.chars().enumerate().map(|(n, answer)| (n, judge.judge(answer == '+', at(n as u64)).verdict));
        judged.filter_map(|(n, verdict)| Some((n, verdict?))).collect()
    }

    #[test]
    fn a_command_is_sick_after_failures_in_a_row() {
        let command = || Judge::new(3, 3, at(10));
        assert_eq!(verdicts(command(), "+--+--+---"), [(0, true), (9, false)]);
        assert_eq!(verdicts(command(), "+---+---"), [(0, true), (3, false), (4, true), (7, false)]);
        // It may take its time to start, but not for ever.
        assert_eq!(verdicts(command(), "----------+---"), [(10, true), (13, false)]);
        assert_eq!(verdicts(command(), "---------------"), [(12, false)]);
        // It has started when it has succeeded once.
        assert_eq!(verdicts(command(), "+---"), [(0, true), (3, false)]);
    }

    #[test]
    fn the_first_answer_about_a_host_counts() {
        let host = || Judge::new(1, 3, at(0));
        assert_eq!(verdicts(host(), "+--+---+"), [(0, true), (6, false), (7, true)]);
        assert_eq!(verdicts(host(), "--+---"), [(0, false), (2, true), (5, false)]);
    }

    #[test]
    fn one_line_for_each_change() {
        let mut judge = Judge::new(2, 2, at(0));
        let changed = "++--++".chars().map(|answer| judge.judge(answer == '+', at(0)).changed).collect::<Vec<_>>();
        assert_eq!(changed, [Some(true), None, Some(false), None, Some(true), None]);
    }
}
