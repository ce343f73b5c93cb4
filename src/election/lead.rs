//! Leading: feeds the guard while renewals confirm that this instance holds the lock, until the process tree has exited.

use std::{fmt, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};

use super::{
    candidate::{Demand, Election, Term},
    progress::Progress,
    view::View,
};
use crate::{
    core::names::{LeaseId, shown},
    etcd::{
        client::{Attempts, NEVER, Pauses},
        store::{Change, Get, KeyOnly, Range, Snapshot, Store, StoreError},
    },
};
use crate::{
    core::{
        clock::{Clock, Instant},
        timing::show,
    },
    guard::{CommandEnd, Guard, Order, Reason, Report},
};

/// How a term ended. The process tree has exited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ended by itself or after a shutdown request.
    Command(CommandEnd),
    /// Leadership was lost, and the command was stopped for that reason.
    Lost(Loss),
    /// The guard was lost, and the command was killed with it.
    GuardLost,
}

/// Why a leader steps down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No renewal was confirmed before the renew deadline.
    NotRenewed,
    /// The lease expired or was revoked.
    LeaseGone,
    /// The holder key was deleted, or rewritten with this identity.
    HolderChanged(Option<String>),
    /// The queue entry was deleted or rewritten.
    EntryChanged,
    /// The instance with this identity made a handover request. The exit code depends on all bytes of the identity.
    Requested(Vec<u8>),
    /// Most endpoints report another etcd cluster than the one with the lock.
    AnotherCluster,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRenewed => f.write_str("no renewal was confirmed within RENEW_DEADLINE"),
            Self::LeaseGone => f.write_str("the lease expired or was revoked"),
            Self::HolderChanged(None) => f.write_str("the holder key was deleted"),
            Self::HolderChanged(Some(by)) => write!(f, "the holder key was rewritten by {by:?}"),
            Self::EntryChanged => f.write_str("the queue entry was deleted or rewritten"),
            Self::Requested(by) => write!(f, "{:?} made a handover request", shown(by)),
            Self::AnotherCluster => f.write_str("most endpoints belong to another etcd cluster"),
        }
    }
}

impl<S: Store, C: Clock> Election<S, C> {
    /// The delay from the order to start the command to the first request of a term, so that requests do not delay the start on a
    /// machine with few processors.
    const DELAY_AFTER_START: Duration = Duration::from_millis(20);

    /// Orders the guard to run the command, and renews the lease until the process tree has exited. Forwards `signals`.
    ///
    /// Feeding and renewing go on while the command shuts down by itself or on request. After a loss the guard is not fed any
    /// more, so it kills the process tree within the TTL. The lease is renewed until the process tree has exited.
    pub async fn lead(&self, term: &Term, guard: &impl Guard, signals: impl Stream<Item = i32>) -> End {
        self.demand.set(Demand::None);
        self.etcd.set_urgent(true);
        let deadlines = self.timing.deadlines(term.renewed_at, term.ttl);
        guard.order(Order::Start { deadlines, token: term.token, lease: term.lease });
        self.report(Progress::Elected { token: term.token });
        let begin = self.clock().now() + Self::DELAY_AFTER_START;
        let mut renewals = pin!(self.renewals(term, begin));
        let mut observation = pin!(stream::once(async {
            self.clock().sleep_until(begin).await;
            self.observe(term).await
        }));
        let mut cluster_lost = pin!(stream::once(self.etcd.membership().is_lost()));
        let mut signals = pin!(signals);
        let mut driver = TermDriver { election: self, term, guard, lost: None, ended: None };
        loop {
            tokio::select! {
                biased;
                report = guard.report() => if let Some(end) = driver.on_report(report) {
                    self.led_lost_cluster.set(end == End::Lost(Loss::AnotherCluster));
                    return end;
                },
                Some(()) = cluster_lost.next() => driver.on_loss(Loss::AnotherCluster),
                Some(loss) = observation.next() => driver.on_loss(loss),
                Some(renewal) = renewals.next() => driver.on_renewal(renewal),
                Some(signal) = signals.next() => guard.order(Order::Signal(signal)),
            }
        }
    }

    /// Renews every retry period from `begin` on, and yields when each confirmed renewal was sent, or why leadership is lost. A late
    /// response does not delay the next renewal. Continues after a loss, to keep the lease alive.
    fn renewals<'a>(&'a self, term: &'a Term, begin: Instant) -> impl Stream<Item = Result<Instant, Loss>> + 'a {
        let retry = self.timing.retry_period();
        let first = begin.max(term.renewed_at + retry);
        let attempts = self.etcd.repeat_every(retry, first, async |store: &S| {
            let gets = [self.term_keys(term), vec![self.next_entry(term)]].concat();
            self.renew_at(store, term.lease, async |store| self.read_term(store, term, &gets).await).await
        });
        let renewals = Renewals { attempts, last: first - retry, slowest: None, refusal: None };
        stream::unfold(renewals, async move |mut renewals| {
            let (sent, renewed) = self.next_renewal(&mut renewals).await;
            Some((self.confirm(term, sent, renewed), renewals))
        })
    }

    /// Waits for the next response to a renewal. Logs when renewals begin to be late, and when they are in time again.
    async fn next_renewal(&self, renewals: &mut Renewals<'_, S, C>) -> (Instant, Option<TermKeys>) {
        let retry = self.timing.retry_period();
        let mut late_at = Some(renewals.last + 2 * retry);
        loop {
            match self.clock().before(late_at.unwrap_or(NEVER), renewals.attempts.next()).await {
                Some(Ok((sent, renewed))) => {
                    let age = self.clock().now().saturating_since(renewals.last);
                    renewals.last = sent;
                    if late_at.is_none() {
                        renewals.slowest = renewals.slowest.max(Some(age));
                    } else if let Some(slowest) = renewals.slowest.take() {
                        let deadline = show(self.timing.renew_deadline());
                        tracing::info!(
                            "renewals are confirmed in time again; the longest gap was {slowest:.1?} of {deadline}"
                        );
                    }
                    return (sent, renewed);
                }
                // An operator may correct it before the deadline.
                Some(Err(refusal)) => {
                    if renewals.refusal.as_ref() != Some(&refusal) {
                        tracing::warn!(
                            "could not renew the lease: {refusal}; retrying until RENEW_DEADLINE has passed"
                        );
                        renewals.refusal = Some(refusal);
                    }
                }
                None => {
                    late_at = None;
                    self.report(Progress::RenewalLate);
                    if renewals.slowest.is_none() {
                        renewals.slowest = Some(Duration::ZERO);
                        tracing::warn!("renewals are slow: none was confirmed within {} after it was due", show(retry));
                    }
                }
            }
        }
    }

    /// Returns when the renewal was sent if it confirms the term, and otherwise the loss.
    fn confirm(&self, term: &Term, sent: Instant, renewed: Option<TermKeys>) -> Result<Instant, Loss> {
        let keys = renewed.ok_or(Loss::LeaseGone)?;
        self.check(term, &keys)?;
        let view = View::new(&self.lock, keys.snapshot);
        term.next.replace(view.next_of(term.lease).filter(|next| next.ours).cloned());
        Ok(sent)
    }

    /// Completes when a watch from the revision of the term on shows a loss. After a watch breaks, reads again and watches from
    /// that revision.
    async fn observe(&self, term: &Term) -> Loss {
        let mut known = Some(term.revision);
        let mut pauses = Pauses::default();
        loop {
            let begun = self.clock().now();
            match self.observe_from(term, known.take()).await {
                Ok(loss) => return loss,
                Err(failure) => {
                    tracing::debug!("watch: {failure}");
                    let now = self.clock().now();
                    if now > begun + self.timing.retry_period() {
                        pauses = Pauses::default();
                    }
                    self.clock().sleep(self.etcd.pause_after_failure(&mut pauses, false)).await;
                }
            }
        }
    }

    /// Watches from the known revision, or from that of a new read, until the watch shows a loss or breaks.
    async fn observe_from(&self, term: &Term, known: Option<i64>) -> Result<Loss, StoreError> {
        let known = match known {
            Some(revision) => revision,
            None => {
                let gets = self.term_keys(term);
                let keys = self.etcd.hedged(async |store| self.read_term(store, term, &gets).await).await?;
                if let Err(loss) = self.check(term, &keys) {
                    return Ok(loss);
                }
                keys.snapshot.revision
            }
        };
        let mut ranges = vec![Range::Key(self.lock.holder()), Range::Key(term.entry.key.clone())];
        ranges.extend(self.lock.requests_to(term.lease));
        let mut watch = self.etcd.watch(&ranges, known + 1).await?;
        loop {
            for change in watch.next().await? {
                if let Err(loss) = self.check_change(term, &change) {
                    return Ok(loss);
                }
                if let Change::Put(kv) = change {
                    let names = [KeyOnly::from(kv)];
                    let requester =
                        self.etcd.hedged(async |store| self.read_requester(store, term, &names).await).await?;
                    if let Some(requester) = requester {
                        return Ok(Loss::Requested(requester));
                    }
                }
            }
        }
    }

    /// Returns the read of the next entry of this program: of the one that the last renewal saw, as new entries come after it, or
    /// else of the first one after the leader's own.
    fn next_entry(&self, term: &Term) -> Get {
        match &*term.next.borrow() {
            Some(next) => Get::key(next.kv.key.clone()),
            None => Get::next_after(self.lock.own_entries(), term.entry.create_revision),
        }
    }

    /// Returns the reads of the holder key, the own entry and the requests.
    fn term_keys(&self, term: &Term) -> Vec<Get> {
        let mut gets = vec![Get::key(self.lock.holder()), Get::key(term.entry.key.clone())];
        gets.extend(self.lock.requests_to(term.lease).map(Get::names));
        gets
    }

    /// Checks that the keys that were read still confirm the term.
    fn check(&self, term: &Term, keys: &TermKeys) -> Result<(), Loss> {
        let find = |key: &[u8]| keys.snapshot.keys.iter().find(|kv| kv.key == key);
        match find(&self.lock.holder()) {
            None => return Err(Loss::HolderChanged(None)),
            Some(holder) if holder.mod_revision != term.token => {
                return Err(Loss::HolderChanged(Some(holder.identity())));
            }
            Some(_) => {}
        }
        if find(&term.entry.key).is_none_or(|entry| entry.mod_revision != term.entry.mod_revision) {
            return Err(Loss::EntryChanged);
        }
        match &keys.requester {
            Some(requester) => Err(Loss::Requested(requester.clone())),
            None => Ok(()),
        }
    }

    /// Does the same for one change after the term's revision.
    fn check_change(&self, term: &Term, change: &Change) -> Result<(), Loss> {
        match change {
            Change::Put(kv) if kv.key == self.lock.holder() && kv.mod_revision != term.token => {
                Err(Loss::HolderChanged(Some(kv.identity())))
            }
            Change::Put(kv) if kv.key == term.entry.key && kv.mod_revision != term.entry.mod_revision => {
                Err(Loss::EntryChanged)
            }
            Change::Deleted(key, _) if *key == self.lock.holder() => Err(Loss::HolderChanged(None)),
            Change::Deleted(key, _) if *key == term.entry.key => Err(Loss::EntryChanged),
            Change::Put(_) | Change::Deleted(..) => Ok(()),
        }
    }

    /// Reads these keys of a term, and the requester if one of the requests among them counts.
    async fn read_term(&self, store: &S, term: &Term, gets: &[Get]) -> Result<TermKeys, StoreError> {
        let snapshot = store.read(gets).await?;
        let requester = self.read_requester(store, term, &snapshot.names).await?;
        Ok(TermKeys { snapshot, requester })
    }

    /// Returns the identity of the owner of the oldest request that counts. A request counts only while its owner has a queue
    /// entry, which costs another read where there is a request.
    async fn read_requester(&self, store: &S, term: &Term, names: &[KeyOnly]) -> Result<Option<Vec<u8>>, StoreError> {
        let requests = names.iter().filter_map(|name| {
            let request = self.lock.request_of(&name.key).filter(|request| request.is_for(term.lease))?;
            Some((name.create_revision, request.lease))
        });
        let mut requests: Vec<(i64, LeaseId)> = requests.collect();
        if requests.is_empty() {
            return Ok(None);
        }
        requests.sort_unstable();
        requests.truncate(Get::FEW);
        let entries: Vec<_> = requests.iter().map(|(_, lease)| Get::key(self.lock.entry(*lease))).collect();
        let view = View::new(&self.lock, store.read(&entries).await?);
        let owner = requests.iter().find_map(|(_, lease)| view.entry_of(*lease));
        Ok(owner.map(|(_, entry)| entry.kv.value.clone()))
    }
}

/// The keys of a term, as they were read.
struct TermKeys {
    snapshot: Snapshot,
    /// The identity of the instance that made a handover request, if one counts.
    requester: Option<Vec<u8>>,
}

/// The renewals of one term.
struct Renewals<'a, S, C> {
    attempts: Attempts<'a, S, C, Option<TermKeys>>,
    /// When the latest confirmed renewal was sent.
    last: Instant,
    /// The longest time without a renewal since renewals began to be slow; `None` if they are not slow.
    slowest: Option<Duration>,
    /// The denial that was logged last.
    refusal: Option<StoreError>,
}

/// Handles the events of a term.
struct TermDriver<'a, S, C, G> {
    election: &'a Election<S, C>,
    term: &'a Term,
    guard: &'a G,
    lost: Option<Loss>,
    ended: Option<CommandEnd>,
}

impl<S: Store, C: Clock, G: Guard> TermDriver<'_, S, C, G> {
    fn on_renewal(&mut self, renewal: Result<Instant, Loss>) {
        match renewal {
            Ok(sent) if self.lost.is_none() => {
                self.guard.order(Order::Feed(self.election.timing.deadlines(sent, self.term.ttl)));
                self.election.report(Progress::RenewalConfirmed { sent });
            }
            // After a loss the lease is only kept alive until the process tree has exited.
            Ok(_) => {}
            Err(loss) => self.on_loss(loss),
        }
    }

    fn on_loss(&mut self, loss: Loss) {
        if self.lost.is_some() {
            return;
        }
        tracing::warn!("stepping down: {loss}");
        // The loss may be a request of another instance, which comes before the next in the queue.
        self.term.next.take();
        self.guard.order(Order::Stop);
        self.election.report(Progress::Lost);
        self.lost = Some(loss);
    }

    fn on_report(&mut self, report: Report) -> Option<End> {
        match report {
            Report::Started(pid) => {
                tracing::info!(pid, "command started");
                self.election.report(Progress::Started);
            }
            Report::Fed(deadlines) => self.election.report(Progress::Fed(deadlines)),
            Report::Ending(Reason::RenewDeadline | Reason::KillDeadline) => self.on_loss(Loss::NotRenewed),
            Report::Ending(Reason::StopGrace) => {
                tracing::warn!("the command did not exit within STOP_GRACE: killing its process tree")
            }
            Report::Ending(Reason::GatekeeperGone) => {}
            Report::Ended(end) => {
                if self.lost.is_none() {
                    self.ended = Some(end);
                    // A command that could not be started is tried again in another term.
                    self.election.report(Progress::Ended { again: end == CommandEnd::NotStarted });
                }
                tracing::info!("the command {end}");
            }
            Report::TreeExited(end) => {
                self.election.report(Progress::Exited);
                return Some(match self.lost.take() {
                    Some(loss) if self.ended.is_none() => End::Lost(loss),
                    _ => End::Command(self.ended.unwrap_or(end)),
                });
            }
            Report::GuardLost => {
                tracing::error!("the guard exited or did not answer in time: the command was killed");
                return Some(End::GuardLost);
            }
        }
        None
    }
}
