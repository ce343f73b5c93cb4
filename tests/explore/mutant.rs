//! Deliberate faults in the requests, the orders and the events of the real candidate. Each must be found.

use etcd_await_election::{
    core::{
        kv::{Change, Compare, Get, KeyValue, Op, Range, Snapshot, Txn},
        names::{LeaseId, LockName},
        timing::Timing,
    },
    election::{
        Candidate, keys,
        protocol::{Answer, Event, Reading, Request},
    },
    guard::{CommandEnd, Order, Program, Report},
};

use crate::explore::{sim::NOW, state::State, steps::Explorer};

/// A deliberate fault, each a plausible programming error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The lease is revoked when the main process of the command has ended, and not when its process tree has exited.
    ReleasesEarly,
    /// The deadlines count from the answer, and not from when the renewal was sent.
    CountsFromAnswer,
    /// The handover does not compare the holder key.
    HandOverWithoutHolder,
    /// It neither reads nor compares eviction markers.
    IgnoresMarkers,
    /// Joining a free lock does not compare eviction markers.
    JoinIgnoresMarkers,
    /// The claim does not compare eviction markers before it starts the command.
    ClaimIgnoresMarkers,
    /// The handover does not compare that no other etcd client is before the next standby.
    HandOverPastOthers,
    /// Joining writes the holder key even if it exists.
    JoinOverwrites,
    /// A leader obeys requests for another holder.
    ObeysRequestsToOthers,
    /// A leader obeys requests whose owner has no queue entry.
    ObeysWithoutEntry,
    /// Renewals feed the guard while a handover request exists.
    FeedsWhileRequested,
    /// The claim does not compare that there is no holder.
    ClaimOverwrites,
    /// The handover to the next standby that the leader knows does not compare that no other instance has a priority.
    HandOverPastPriorities,
    /// The handover to the highest priority that was read does not compare that no instance with a priority has joined since.
    HandOverPastNewPriorities,
    /// The claim does not compare that no other instance has a priority.
    ClaimIgnoresPriorities,
    /// The head of the queue does not read priorities before it starts its command.
    StartsPastPriorities,
    /// An instance takes its own priority for a higher one, and so requests leadership from its equals.
    FailsBackFromEquals,
    /// The renewals of a standby count from the answer, so it starts its command however old the latest one is.
    StartsOnStaleWait,
    /// Joining a free lock does not compare that there is no pause.
    JoinIgnoresPause,
    /// The claim does not compare that there is no pause.
    ClaimIgnoresPause,
    /// The claim that a read follows does not compare that there is no pause.
    ClaimByReadIgnoresPause,
    /// The handover does not compare that there is no pause.
    HandOverIgnoresPause,
    /// The eviction does not compare that there is no pause.
    EvictIgnoresPause,
    /// A leader obeys requests during a pause.
    ObeysWhilePaused,
    /// Leadership is handed over when the command has exited, and not when ON_STOPPED has.
    ReleasesBeforeOnStopped,
    /// ON_STOPPED is not killed at the kill deadline.
    SparesOnStopped,
    /// A leader whose check fails steps down although no standby can take over.
    StepsDownAlone,
    /// A leader whose check fails does not step down.
    IgnoresSickness,
    /// An instance campaigns although its host is not eligible.
    JoinsIneligible,
}

impl Mutant {
    pub(crate) const ALL: [Self; 29] = [
        Self::ReleasesEarly,
        Self::CountsFromAnswer,
        Self::HandOverWithoutHolder,
        Self::IgnoresMarkers,
        Self::JoinIgnoresMarkers,
        Self::ClaimIgnoresMarkers,
        Self::HandOverPastOthers,
        Self::JoinOverwrites,
        Self::ObeysRequestsToOthers,
        Self::ObeysWithoutEntry,
        Self::FeedsWhileRequested,
        Self::ClaimOverwrites,
        Self::StartsOnStaleWait,
        Self::HandOverPastPriorities,
        Self::HandOverPastNewPriorities,
        Self::ClaimIgnoresPriorities,
        Self::StartsPastPriorities,
        Self::FailsBackFromEquals,
        Self::JoinIgnoresPause,
        Self::ClaimIgnoresPause,
        Self::ClaimByReadIgnoresPause,
        Self::HandOverIgnoresPause,
        Self::EvictIgnoresPause,
        Self::ObeysWhilePaused,
        Self::ReleasesBeforeOnStopped,
        Self::SparesOnStopped,
        Self::StepsDownAlone,
        Self::IgnoresSickness,
        Self::JoinsIneligible,
    ];
}

/// Returns the events that the candidate handles instead of one.
pub(crate) fn events(mutant: Option<Mutant>, leads: bool, event: Event) -> Vec<Event> {
    match event {
        Event::Report(Report::Ended(end)) if mutant == Some(Mutant::ReleasesEarly) => {
            vec![event, Event::Report(Report::TreeExited(end))]
        }
        Event::Report(Report::Starting(Program::OnStopped)) if mutant == Some(Mutant::ReleasesBeforeOnStopped) => {
            vec![event, Event::Report(Report::TreeExited(CommandEnd::Exited(0)))]
        }
        Event::Answer(id, answer) if mutant == Some(Mutant::StartsOnStaleWait) && !leads => {
            vec![Event::Answer(
                id,
                match answer {
                    Answer::Granted { ttl, .. } => Answer::Granted { sent: NOW, ttl },
                    Answer::Renewed { read, .. } => Answer::Renewed { sent: NOW, read },
                    Answer::KeptAlive { .. } => Answer::KeptAlive { sent: NOW },
                    answer => answer,
                },
            )]
        }
        Event::Healthy(false) if mutant == Some(Mutant::IgnoresSickness) => vec![],
        Event::Eligible(false) if mutant == Some(Mutant::JoinsIneligible) => vec![Event::Eligible(true)],
        event => vec![event],
    }
}

/// Returns the order that the guard receives instead.
pub(crate) fn order(mutant: Option<Mutant>, timing: &Timing, order: Order) -> Order {
    let counted = timing.deadlines(NOW, timing.lease());
    match order {
        Order::Feed(_) if mutant == Some(Mutant::CountsFromAnswer) => Order::Feed(counted),
        order => order,
    }
}

/// Returns the request that is sent instead.
pub(crate) fn request(mutant: Option<Mutant>, lock: &LockName, request: Request) -> Request {
    match (mutant, request) {
        (Some(mutant), Request::Commit(txn)) => Request::Commit(transaction(mutant, lock, txn)),
        (_, request) => request,
    }
}

fn transaction(mutant: Mutant, lock: &LockName, mut txn: Txn) -> Txn {
    let holder = lock.holder();
    let is_about_priorities = |compare: &Compare| {
        let prefix = format!("{lock}/~priority/");
        matches!(compare, Compare::Absent(Range::Prefix(from) | Range::Between(from, _)) if from.starts_with(prefix.as_bytes()))
    };
    let puts = |txn: &Txn| txn.then.iter().filter(|op| matches!(op, Op::Put(..))).count();
    let puts_holder = txn.then.iter().any(|op| matches!(op, Op::Put(key, ..) if *key == holder));
    let takes_a_free_lock = txn.otherwise.is_some();
    let joins = takes_a_free_lock && puts(&txn) >= 2;
    let claims = takes_a_free_lock && !joins;
    let hands_over = !takes_a_free_lock && puts_holder && puts(&txn) == 2;
    let evicts = txn.then.contains(&Op::Delete(holder.clone()));
    let ignore_pause = |txn: &mut Txn| txn.when.retain(|it| *it != Compare::Absent(Range::Key(lock.pause())));
    match mutant {
        Mutant::HandOverWithoutHolder if hands_over => {
            txn.when.retain(|compare| !matches!(compare, Compare::Unchanged(key, _) if *key == holder));
        }
        Mutant::IgnoresMarkers if hands_over => {
            txn.when.retain(|compare| *compare != Compare::Absent(lock.markers()));
        }
        Mutant::JoinIgnoresMarkers if joins => txn.when.retain(|compare| *compare != Compare::Absent(lock.markers())),
        Mutant::ClaimIgnoresMarkers if claims => txn.when.retain(|compare| *compare != Compare::Absent(lock.markers())),
        Mutant::JoinIgnoresPause if joins => ignore_pause(&mut txn),
        Mutant::ClaimIgnoresPause if claims => ignore_pause(&mut txn),
        Mutant::ClaimByReadIgnoresPause if claims => txn.otherwise.iter_mut().for_each(|by_read| ignore_pause(by_read)),
        Mutant::HandOverIgnoresPause if hands_over => ignore_pause(&mut txn),
        Mutant::EvictIgnoresPause if evicts => ignore_pause(&mut txn),
        Mutant::HandOverPastOthers if hands_over => {
            txn.when.retain(|compare| !matches!(compare, Compare::Older(range, _) if *range == lock.foreign_entries()));
        }
        Mutant::HandOverPastPriorities if hands_over => txn.when.retain(|compare| !is_about_priorities(compare)),
        Mutant::HandOverPastNewPriorities if hands_over => {
            txn.when.retain(|compare| !matches!(compare, Compare::Older(range, _) if *range == lock.priorities()));
        }
        Mutant::ClaimIgnoresPriorities if claims => txn.when.retain(|compare| !is_about_priorities(compare)),
        Mutant::JoinOverwrites if joins => txn.when.clear(),
        Mutant::ClaimOverwrites if claims => {
            txn.when.retain(|compare| *compare != Compare::Absent(Range::Key(holder.clone())));
        }
        _ => {}
    }
    txn
}

/// Returns the changes that the candidate sees instead.
pub(crate) fn changes(mutant: Option<Mutant>, lock: &LockName, mut changes: Vec<Change>) -> Vec<Change> {
    if mutant == Some(Mutant::FeedsWhileRequested) {
        changes.retain(|change| !lock.requests().iter().any(|range| range.contains(change.key())));
    }
    changes
}

impl Explorer {
    /// Returns what an instance reads instead.
    pub(crate) fn mutant_reading(&self, state: &State, n: usize, reading: &Reading) -> Reading {
        let Some(own) = state.instance(n).lease().filter(|_| self.setup.mutant == Some(Mutant::ObeysRequestsToOthers))
        else {
            return reading.clone();
        };
        let [_, to_one] = self.lock().requests();
        let [_, to_own] = self.lock().requests_to(own);
        let widened = |gets: &[Get]| -> Vec<Get> {
            let widen = |get: &Get| Get {
                range: if get.range == to_own { to_one.clone() } else { get.range.clone() },
                ..get.clone()
            };
            gets.iter().map(widen).collect()
        };
        match reading {
            Reading::Keys(gets) => Reading::Keys(widened(gets)),
            Reading::Lock(gets) => Reading::Lock(widened(gets)),
        }
    }

    /// Changes what an instance has read.
    pub(crate) fn mutate_snapshot(&self, state: &State, n: usize, reading: &Reading, snapshot: &mut Snapshot) {
        let (Some(mutant), Some(own)) = (self.setup.mutant, state.instance(n).lease()) else { return };
        let lock = self.lock();
        match mutant {
            Mutant::StartsPastPriorities if !state.instance(n).candidate().is_some_and(Candidate::leads) => {
                snapshot.keys.retain(|kv| !lock.priorities().contains(&kv.key));
            }
            Mutant::FailsBackFromEquals => {
                let own = lock.priority(own);
                snapshot.keys.iter_mut().filter(|kv| kv.key == own).for_each(|kv| kv.value = b"9".to_vec());
            }
            Mutant::ObeysWhilePaused => {
                let leads = state.etcd.get(&lock.holder()).is_some_and(|kv| kv.lease == Some(own));
                snapshot.keys.retain(|kv| !leads || kv.key != lock.pause());
            }
            Mutant::IgnoresMarkers => snapshot.keys.retain(|kv| !lock.markers().contains(&kv.key)),
            Mutant::FeedsWhileRequested => {
                let own = lock.request(keys::Request { to: None, lease: own });
                let hidden = |key: &[u8]| key != own && lock.requests().iter().any(|range| range.contains(key));
                snapshot.names.retain(|name| !hidden(&name.key));
            }
            Mutant::ObeysRequestsToOthers => {
                for name in &mut snapshot.names {
                    if let Some(request) = lock.request_of(&name.key).filter(|request| request.lease != own) {
                        name.key = lock.request(keys::Request { to: request.to.map(|_| own), ..request });
                    }
                }
            }
            Mutant::StepsDownAlone => {
                let Reading::Keys(gets) = reading else { return };
                if gets.iter().any(|get| get.range == lock.own_entries()) {
                    let (lease, revision) = (LeaseId(0xabc), snapshot.revision);
                    snapshot.keys.push(KeyValue {
                        key: lock.entry(lease),
                        value: b"made up".to_vec(),
                        create_revision: revision,
                        mod_revision: revision,
                        lease: Some(lease),
                    });
                }
            }
            Mutant::ObeysWithoutEntry => {
                let Reading::Keys(gets) = reading else { return };
                for get in gets {
                    let Range::Key(key) = &get.range else { continue };
                    let name = String::from_utf8_lossy(key);
                    let hex = name.rsplit_once("/~entry/").and_then(|(_, hex)| i64::from_str_radix(hex, 16).ok());
                    let Some(lease) = hex.map(LeaseId).filter(|lease| *lease != own) else { continue };
                    if !snapshot.keys.iter().any(|kv| kv.key == *key) {
                        let (key, revision) = (key.clone(), snapshot.revision);
                        let value = b"made up".to_vec();
                        let made_up = KeyValue {
                            key,
                            value,
                            create_revision: revision,
                            mod_revision: revision,
                            lease: Some(lease),
                        };
                        snapshot.keys.push(made_up);
                    }
                }
            }
            _ => {}
        }
    }
}
