//! Lead: feed the guard while every renewal confirms that the lock is ours, until nothing of the command is left.

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
        timing::{Deadlines, show},
    },
    guard::{CommandEnd, Guard, Order, Reason, Report},
};

/// How a term ended. Nothing of the command is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ended, by itself or because it was asked to from outside.
    Command(CommandEnd),
    /// Leadership was lost, and the command was ended for that.
    Lost(Loss),
    /// The guard was lost, and the command was ended with it.
    GuardLost,
}

/// Why a leader steps down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No renewal was confirmed until the renew deadline.
    NotRenewed,
    /// The lease ran out or was revoked.
    LeaseGone,
    /// The holder key was deleted or rewritten; by whom, if that is known.
    HolderChanged(Option<String>),
    /// Our place in the queue was deleted or rewritten.
    EntryChanged,
    /// Another instance made a handover request. All bytes of its identity, as it decides about the exit code.
    Requested(Vec<u8>),
    /// The endpoints report another etcd cluster than the one that holds the lock.
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
    /// From the order to start the command to the first request of a term: what this program and etcd have to do for it must
    /// not be in the way of the start, on a machine that has few processors.
    const ROOM_FOR_THE_START: Duration = Duration::from_millis(20);

    /// Has the guard run the command for this term, and renews until nothing of it is left. `signals` are forwarded.
    ///
    /// Feeding and renewing go on while the command shuts down on its own or on request. After a loss the guard is fed no
    /// more, so the tree is dead within the TTL; but the lease is kept alive until it really is, however long that takes.
    pub async fn lead(&self, term: &Term, guard: &impl Guard, signals: impl Stream<Item = i32>) -> End {
        self.demand.set(Demand::None);
        self.etcd.set_urgent(true);
        let deadlines = self.timing.deadlines(term.renewed_at, term.ttl);
        guard.order(Order::Start { deadlines, token: term.token, lease: term.lease });
        self.tell(Progress::Elected { token: term.token });
        let begin = self.clock().now() + Self::ROOM_FOR_THE_START;
        let mut renewals = pin!(self.renewals(term, begin));
        let mut observation = pin!(stream::once(async {
            self.clock().sleep_until(begin).await;
            self.observe(term).await
        }));
        let mut cluster_lost = pin!(stream::once(self.etcd.membership().is_lost()));
        let mut signals = pin!(signals);
        let mut lead = Lead { election: self, term, guard, lost: None, ended: None };
        loop {
            tokio::select! {
                biased;
                report = guard.report() => if let Some(end) = lead.on_report(report) {
                    self.led_the_lost.set(end == End::Lost(Loss::AnotherCluster));
                    return end;
                },
                Some(()) = cluster_lost.next() => lead.on_loss(Loss::AnotherCluster),
                Some(loss) = observation.next() => lead.on_loss(loss),
                Some(renewal) = renewals.next() => lead.on_renewal(renewal),
                Some(signal) = signals.next() => guard.order(Order::Signal(signal)),
            }
        }
    }

    /// Every retry period a renewal, not before `begin`: when it was sent, or what it found. One that is late does not hold up the
    /// next. Goes on after a loss, to keep the lease alive.
    fn renewals<'a>(&'a self, term: &'a Term, begin: Instant) -> impl Stream<Item = Result<Instant, Loss>> + 'a {
        let retry = self.timing.retry_period();
        let asked = self.etcd.repeat_every(retry, begin.max(term.renewed_at + retry), async |store: &S| {
            let gets = [self.term_keys(term), vec![self.next_entry(term)]].concat();
            self.renew_at(store, term.lease, async |store| self.see(store, term, &gets).await).await
        });
        let renewals =
            Renewals { asked, last: begin.max(term.renewed_at + retry) - retry, slowest: None, refusal: None };
        stream::unfold(renewals, async move |mut renewals| {
            let (sent, renewed) = self.next_renewal(&mut renewals).await;
            Some((self.confirm(term, sent, renewed), renewals))
        })
    }

    /// The next answer to a renewal, with a line in the log when they begin to be late, and one when that is over.
    async fn next_renewal(&self, renewals: &mut Renewals<'_, S, C>) -> (Instant, Option<Seen>) {
        let retry = self.timing.retry_period();
        let mut late_at = Some(renewals.last + 2 * retry);
        loop {
            match self.clock().before(late_at.unwrap_or(NEVER), renewals.asked.next()).await {
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
                // A person has to mend it, and may do so before the deadline.
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
                    self.tell(Progress::RenewalLate);
                    if renewals.slowest.is_none() {
                        renewals.slowest = Some(Duration::ZERO);
                        tracing::warn!("renewals are slow: none was confirmed within {} after it was due", show(retry));
                    }
                }
            }
        }
    }

    /// What a renewal confirms or refutes.
    fn confirm(&self, term: &Term, sent: Instant, renewed: Option<Seen>) -> Result<Instant, Loss> {
        let seen = renewed.ok_or(Loss::LeaseGone)?;
        self.judge(term, &seen)?;
        let view = View::new(&self.lock, seen.snapshot);
        term.next.replace(view.next_of(term.lease).filter(|next| next.ours).cloned());
        Ok(sent)
    }

    /// Completes when a watch from the revision of the term on sees a loss. A watch that breaks says nothing: read again,
    /// and watch from there.
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

    /// Watches from the revision that is known, or else from a fresh read, until it sees a loss or breaks.
    async fn observe_from(&self, term: &Term, known: Option<i64>) -> Result<Loss, StoreError> {
        let known = match known {
            Some(revision) => revision,
            None => {
                let gets = self.term_keys(term);
                let seen = self.etcd.hedged(async |store| self.see(store, term, &gets).await).await?;
                if let Err(loss) = self.judge(term, &seen) {
                    return Ok(loss);
                }
                seen.snapshot.revision
            }
        };
        let mut ranges = vec![Range::Key(self.lock.holder()), Range::Key(term.entry.key.clone())];
        ranges.extend(self.lock.requests_to(term.lease));
        let mut watch = self.etcd.watch(&ranges, known + 1).await?;
        loop {
            for change in watch.next().await? {
                if let Err(loss) = self.judge_change(term, &change) {
                    return Ok(loss);
                }
                if let Change::Put(kv) = change {
                    let names = [KeyOnly::from(kv)];
                    let asked_by = self.etcd.hedged(async |store| self.asked_by(store, term, &names).await).await?;
                    if let Some(by) = asked_by {
                        return Ok(Loss::Requested(by));
                    }
                }
            }
        }
    }

    /// Returns the key of the successor that the last renewal saw, as new entries come after it; else the first entry of ours after
    /// our own.
    fn next_entry(&self, term: &Term) -> Get {
        match &*term.next.borrow() {
            Some(next) => Get::key(next.kv.key.clone()),
            None => Get::next_after(self.lock.own_entries(), term.entry.create_revision),
        }
    }

    /// Holder, own entry, requests.
    fn term_keys(&self, term: &Term) -> Vec<Get> {
        let mut gets = vec![Get::key(self.lock.holder()), Get::key(term.entry.key.clone())];
        gets.extend(self.lock.requests_to(term.lease).map(Get::names));
        gets
    }

    /// Whether what was read leaves the term as it is.
    fn judge(&self, term: &Term, seen: &Seen) -> Result<(), Loss> {
        let find = |key: &[u8]| seen.snapshot.keys.iter().find(|kv| kv.key == key);
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
        match &seen.asked_by {
            Some(by) => Err(Loss::Requested(by.clone())),
            None => Ok(()),
        }
    }

    /// The same for one change after the term's revision.
    fn judge_change(&self, term: &Term, change: &Change) -> Result<(), Loss> {
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

    /// Reads these keys of a term, and whether one of the requests among them counts.
    async fn see(&self, store: &S, term: &Term, gets: &[Get]) -> Result<Seen, StoreError> {
        let snapshot = store.read(gets).await?;
        let asked_by = self.asked_by(store, term, &snapshot.names).await?;
        Ok(Seen { snapshot, asked_by })
    }

    /// Returns the identity of the owner of the oldest request that counts. A request counts only while its owner has a queue
    /// entry, which costs another read where there is a request.
    async fn asked_by(&self, store: &S, term: &Term, names: &[KeyOnly]) -> Result<Option<Vec<u8>>, StoreError> {
        let asking = names.iter().filter_map(|name| {
            let request = self.lock.request_of(&name.key).filter(|request| request.is_for(term.lease))?;
            Some((name.create_revision, request.lease))
        });
        let mut asking: Vec<(i64, LeaseId)> = asking.collect();
        if asking.is_empty() {
            return Ok(None);
        }
        asking.sort_unstable();
        asking.truncate(Get::FEW);
        let entries: Vec<_> = asking.iter().map(|(_, lease)| Get::key(self.lock.entry(*lease))).collect();
        let view = View::new(&self.lock, store.read(&entries).await?);
        let owner = asking.iter().find_map(|(_, lease)| view.entry_of(*lease));
        Ok(owner.map(|(_, entry)| entry.kv.value.clone()))
    }
}

/// What a read of a term's keys shows.
struct Seen {
    snapshot: Snapshot,
    /// The identity of the instance that made a handover request, if one counts.
    asked_by: Option<Vec<u8>>,
}

/// The renewals of one term.
struct Renewals<'a, S, C> {
    asked: Attempts<'a, S, C, Option<Seen>>,
    /// When the latest one that was confirmed was sent.
    last: Instant,
    /// How old the latest confirmation was at most since renewals began to be slow; `None` if they are not.
    slowest: Option<Duration>,
    /// What etcd was last said to refuse.
    refusal: Option<StoreError>,
}

/// What happens to a term, one event at a time.
struct Lead<'a, S, C, G> {
    election: &'a Election<S, C>,
    term: &'a Term,
    guard: &'a G,
    lost: Option<Loss>,
    ended: Option<CommandEnd>,
}

impl<S: Store, C: Clock, G: Guard> Lead<'_, S, C, G> {
    fn on_renewal(&mut self, renewal: Result<Instant, Loss>) {
        match renewal {
            Ok(sent) if self.lost.is_none() => {
                self.guard.order(Order::Feed(self.election.timing.deadlines(sent, self.term.ttl)));
                self.election.tell(Progress::RenewalConfirmed { sent });
            }
            // The lease was kept alive until the tree is gone; the command's term is over all the same.
            Ok(_) => {}
            Err(loss) => self.on_loss(loss),
        }
    }

    fn on_loss(&mut self, loss: Loss) {
        if self.lost.is_some() {
            return;
        }
        tracing::warn!("stepping down: {loss}");
        // It may be somebody else's turn.
        self.term.next.take();
        self.guard.order(Order::Stop);
        self.election.tell(Progress::Lost);
        self.lost = Some(loss);
    }

    fn on_report(&mut self, report: Report) -> Option<End> {
        match report {
            Report::Started(pid) => {
                tracing::info!(pid, "command started");
                self.election.tell(Progress::Started);
            }
            Report::Fed(deadlines) => self.fed(deadlines),
            Report::Ending(Reason::RenewDeadline | Reason::KillDeadline) => self.on_loss(Loss::NotRenewed),
            Report::Ending(Reason::StopGrace) => {
                tracing::warn!("the command did not exit within STOP_GRACE: killing its process tree")
            }
            Report::Ending(Reason::GatekeeperGone) => {}
            Report::Ended(end) => {
                if self.lost.is_none() {
                    self.ended = Some(end);
                    // One that could not be started is tried again.
                    self.election.tell(Progress::Ended { again: end == CommandEnd::NotStarted });
                }
                tracing::info!("the command {end}");
            }
            Report::Gone(end) => {
                self.election.tell(Progress::Exited);
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

    fn fed(&self, deadlines: Deadlines) {
        self.election.tell(Progress::Fed(deadlines));
    }
}
