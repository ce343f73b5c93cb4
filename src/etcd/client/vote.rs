//! Which cluster is ours: the questions to all endpoints, and the look-up of their names.

use std::{collections::BTreeSet, pin::pin, rc::Rc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, LocalBoxFuture},
    stream::FuturesUnordered,
};

use super::{
    super::{
        membership,
        store::{Store, StoreError},
    },
    endpoints::Id,
    pauses::Pauses,
    state::EtcdClient,
};
use crate::core::{clock::Clock, timing::show};

/// Who was asked for its cluster, and whether it answered.
type Vote<S> = (Rc<S>, Result<(), StoreError>);

impl<S: Store, C: Clock> EtcdClient<S, C> {
    /// From one question to all endpoints which cluster they belong to, to the next.
    const ASK_AGAIN: Duration = Duration::from_secs(60);
    /// The same while they contradict each other, which has to be noticed when it gets worse.
    const ASK_AGAIN_IN_CONFLICT: Duration = Duration::from_secs(5);
    /// So many connections to the only endpoint are asked, as there may be several servers behind it.
    const CONNECTIONS: usize = 3;

    /// Forgets which cluster is ours: nothing of ours is there. It is decided anew by the next request.
    pub fn forget_cluster(&self) {
        self.membership.forget();
    }

    /// Decides which cluster is ours, however long that takes. Returns at once if it is decided.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn decide(&self) -> Result<(), StoreError> {
        match self.membership.ours() {
            Some(_) => Ok(()),
            // Boxed, as it is part of every request's future and seldom needed.
            None => Box::pin(self.decide_by_vote()).await,
        }
    }

    async fn decide_by_vote(&self) -> Result<(), StoreError> {
        // The last answers of all endpoints are as good as new ones.
        self.membership.decide();
        let mut pauses = Pauses::default();
        while self.membership.ours().is_none() {
            self.resolve().await;
            let failures = self.vote().await;
            self.membership.decide();
            if self.membership.ours().is_none() {
                self.undecided_finally(&failures)?;
                self.clock.sleep(self.pause_after_failure(&mut pauses, false)).await;
            }
        }
        self.undecided.take();
        // What was asked last may still be silent, or of another cluster.
        let preferred = self.endpoints.after(*self.preferred.borrow(), 0).1;
        if !self.membership.includes(preferred.name()) {
            let endpoints = self.endpoints.all();
            let ours = endpoints.iter().find(|(_, store)| self.membership.includes(store.name()));
            ours.inspect(|(id, _)| self.prefer(*id));
        }
        Ok(())
    }

    /// Looks all names up again, and asks all endpoints which cluster they belong to: once a minute; the former also when
    /// attempts fail, the latter when there are other endpoints, and every few seconds while there is a conflict.
    pub async fn keep_asking(&self) -> ! {
        // Who does not answer must not keep new addresses from being found.
        let (never, _) = future::join(self.keep_resolving(), self.keep_voting()).await;
        never
    }

    async fn keep_resolving(&self) -> ! {
        let mut resolve_at = self.clock.now() + Duration::from_secs(1);
        loop {
            tokio::select! {
                biased;
                () = self.clock.sleep_until(resolve_at) => {}
                () = self.trouble.notified() => {}
            }
            // Until then whoever decides does it.
            if self.membership.ours().is_some() {
                if self.resolve().await {
                    self.others.notify_one();
                }
                if self.clock.now() >= resolve_at {
                    resolve_at = self.clock.now() + Self::ASK_AGAIN;
                }
            } else {
                resolve_at = resolve_at.max(self.clock.now() + Duration::from_secs(1));
            }
            self.clock.sleep(self.timeouts.pause).await;
        }
    }

    async fn keep_voting(&self) -> ! {
        let mut ask_at = self.clock.now() + Duration::from_secs(1);
        loop {
            let in_conflict_at = self.clock.now() + Self::ASK_AGAIN_IN_CONFLICT;
            let others = tokio::select! {
                biased;
                () = self.others.notified() => true,
                () = self.clock.sleep_until(ask_at.min(in_conflict_at)) => false,
            };
            // Until then whoever decides does it.
            if self.membership.ours().is_none() {
                ask_at = ask_at.max(self.clock.now() + Duration::from_secs(1));
            } else if others || self.membership.in_conflict() || self.clock.now() >= ask_at {
                self.ask_again().await;
                ask_at = self.clock.now() + Self::ASK_AGAIN;
            }
        }
    }

    /// Asks all endpoints which cluster they belong to. If that decides without those that have left DNS, only those of them
    /// are kept that are still of our cluster.
    async fn ask_again(&self) {
        let mut answered = BTreeSet::new();
        let mut asked = self.ask_all();
        while let Some((store, answer)) = asked.next().await {
            answer.is_ok().then(|| answered.insert(store.name().to_owned()));
        }
        let is_ours = |store: &S| answered.contains(store.name()) && self.membership.includes(store.name());
        let present = self.endpoints.present();
        if 2 * present.iter().filter(|store| is_ours(store)).count() > present.len() {
            self.endpoints.retain_left(is_ours);
            self.set_voters();
        }
    }

    /// Looks all names up. What a name stood for before is kept while it cannot be looked up. Returns whether other endpoints
    /// vote now.
    async fn resolve(&self) -> bool {
        let limit = self.clock.now() + 4 * self.timeouts.hedge_delay;
        let names = self.endpoints.names().iter().enumerate();
        let mut lookups: FuturesUnordered<_> =
            names.map(async |(n, name)| (n, self.clock.before(limit, name.resolve()).await)).collect();
        let before = self.endpoints.present();
        while let Some((name, found)) = lookups.next().await {
            match found {
                Some(Ok(found)) => self.endpoints.resolved(name, found),
                Some(Err(failure)) => tracing::debug!("{failure}"),
                None => {}
            }
        }
        self.endpoints.retain_left(|store| self.membership.keeps(store.name()));
        self.set_voters();
        let present = self.endpoints.present();
        let names = |stores: &[Rc<S>]| stores.iter().map(|store| store.name().to_owned()).collect::<BTreeSet<_>>();
        names(&before) != names(&present)
    }

    fn set_voters(&self) {
        let way = |store: &Rc<S>| Some((store.name().to_owned(), store.way()?));
        self.membership.set_ways(self.endpoints().iter().filter_map(way));
        self.membership.set_endpoints(self.endpoints().iter().map(|store| store.name()));
        let preferred = *self.preferred.borrow();
        self.prefer(self.endpoints.after(preferred, 0).0);
    }

    /// Asks all endpoints until no answer that is missing can change the result.
    async fn vote(&self) -> Vec<StoreError> {
        let endpoints = self.endpoints();
        let mut missing: BTreeSet<&str> = endpoints.iter().map(|store| store.name()).collect();
        let mut failures = Vec::new();
        let mut asked = self.ask_all();
        if self.membership.rests_on_one() {
            let more = (1..Self::CONNECTIONS).flat_map(|_| self.endpoints.all());
            asked.extend(more.map(|(id, store)| self.ask_within_limit(id, Rc::new(store.again())).boxed_local()));
        }
        let mut slow = pin!(self.clock.sleep(self.silence()));
        let mut told = false;
        loop {
            let (store, answer) = tokio::select! {
                biased;
                next = asked.next() => match next {
                    Some(answer) => answer,
                    None => break,
                },
                () = slow.as_mut(), if !told => {
                    told = true;
                    let silent = missing.iter().map(|name| format!("{name}: no answer within {}", show(self.silence())));
                    self.tell_undecided(&failures.iter().map(ToString::to_string).chain(silent).collect::<Vec<_>>());
                    continue;
                }
            };
            missing.remove(store.name());
            failures.extend(answer.err());
            if self.membership.is_certain(&missing) {
                break;
            }
        }
        failures
    }

    /// Asks all endpoints at once which cluster they belong to.
    fn ask_all(&self) -> FuturesUnordered<LocalBoxFuture<'_, Vote<S>>> {
        self.endpoints.all().into_iter().map(|(id, store)| self.ask_within_limit(id, store).boxed_local()).collect()
    }

    async fn ask_within_limit(&self, id: Id, store: Rc<S>) -> Vote<S> {
        let limit = self.clock.now() + self.timeouts.attempt_limit;
        let answer = self.clock.before(limit, self.ask_one(id, &store)).await;
        let answer = answer.unwrap_or_else(|| {
            self.give_up_connection(id, &store);
            let limit = show(self.timeouts.attempt_limit);
            Err(StoreError::Unavailable(format!("{}: no answer within {limit}", store.name())))
        });
        let answer = answer.map(|cluster| self.membership.heard(store.name(), cluster));
        (store, answer)
    }

    /// Asks one endpoint for its cluster; over new connections as well if there is no answer, since behind one address there may
    /// be several members.
    async fn ask_one(&self, id: Id, store: &Rc<S>) -> Result<u64, StoreError> {
        let ask = async |store: Rc<S>| (store.cluster_id().await, store);
        let mut asked: FuturesUnordered<_> = [ask(Rc::clone(store))].into_iter().collect();
        let mut patience = self.timeouts.hedge_delay;
        loop {
            tokio::select! {
                biased;
                Some((answer, store)) = asked.next() => match answer {
                    Ok(cluster) => {
                        self.keep(id, &store);
                        return Ok(cluster);
                    }
                    Err(failure) => {
                        tracing::debug!(endpoint = store.name(), "{failure}");
                        self.give_up_connection(id, &store);
                        if asked.is_empty() {
                            return Err(failure);
                        }
                    }
                },
                () = self.clock.sleep(patience) => {
                    patience *= 2;
                    asked.push(ask(Rc::new(store.again())));
                }
            }
        }
    }

    /// Whether it makes sense to go on after all endpoints have answered or failed.
    fn undecided_finally(&self, failures: &[StoreError]) -> Result<(), StoreError> {
        if self.membership.summary().is_empty() {
            return self.all_failed(failures.to_vec());
        }
        self.known.set(true);
        self.tell_undecided(&failures.iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(())
    }

    /// One line when the votes do not suffice, and when they have changed; not one per try.
    fn tell_undecided(&self, reasons: &[String]) {
        let summary = self.membership.summary();
        if summary.is_empty() {
            return self.tell_silence(reasons);
        }
        if self.undecided.borrow().as_ref() != Some(&summary) {
            let colon = if reasons.is_empty() { "" } else { ": " };
            tracing::warn!(
                "could not decide which etcd cluster to use: {summary}; more than half of {} must report the same cluster, a \
                 single endpoint over several connections; list all members in ETCD_AWAIT_ELECTION_ENDPOINTS or set \
                 ETCD_AWAIT_ELECTION_CLUSTER_ID; retrying at least every {}{colon}{}",
                membership::endpoints(self.len()),
                show(self.timeouts.pause),
                reasons.join("; ")
            );
            self.undecided.replace(Some(summary));
        }
    }
}
