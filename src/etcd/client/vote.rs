//! The vote about which cluster to use: asks all endpoints for their cluster, and resolves their names.

use std::{collections::BTreeSet, pin::pin, rc::Rc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, LocalBoxFuture},
    stream::FuturesUnordered,
};

use super::{
    super::{membership, store::Store},
    endpoints::Id,
    pauses::Pauses,
    state::EtcdClient,
};
use crate::core::{clock::Clock, kv::StoreError, timing::show};

/// An endpoint that was asked for its cluster, and whether it answered.
type Vote<S> = (Rc<S>, Result<(), StoreError>);

impl<S: Store, C: Clock> EtcdClient<S, C> {
    /// The period of votes and of name resolution.
    const VOTE_PERIOD: Duration = Duration::from_secs(60);
    /// The period of votes while endpoints report different clusters.
    const VOTE_PERIOD_IN_CONFLICT: Duration = Duration::from_secs(5);
    /// The number of connections over which a single endpoint is asked, as there may be several servers behind it.
    const CONNECTIONS: usize = 3;

    /// Forgets which cluster to use. The caller must have no lease there. The next request decides again.
    pub fn forget_cluster(&self) {
        self.membership.forget();
    }

    /// Decides which cluster to use, without a time limit. Returns at once if that is decided already.
    ///
    /// # Errors
    /// If etcd denies access, or TLS verification fails for every endpoint.
    pub async fn decide(&self) -> Result<(), StoreError> {
        match self.membership.ours() {
            Some(_) => Ok(()),
            // Boxed, as it would make the future of every request larger.
            None => Box::pin(self.decide_by_vote()).await,
        }
    }

    async fn decide_by_vote(&self) -> Result<(), StoreError> {
        // The latest responses of the endpoints may be sufficient.
        self.membership.decide();
        let mut pauses = Pauses::default();
        while self.membership.ours().is_none() {
            self.resolve().await;
            let failures = self.vote().await;
            self.membership.decide();
            if self.membership.ours().is_none() {
                self.check_failures(&failures)?;
                self.clock.sleep(self.pause_after_failure(&mut pauses, false)).await;
            }
        }
        self.logged_votes.take();
        // The preferred endpoint may not answer, or belong to another cluster.
        let preferred = self.endpoints.after(*self.preferred.borrow(), 0).1;
        if !self.membership.includes(preferred.name()) {
            let endpoints = self.endpoints.all();
            let ours = endpoints.iter().find(|(_, store)| self.membership.includes(store.name()));
            ours.inspect(|(id, _)| self.prefer(*id));
        }
        Ok(())
    }

    /// Resolves all names and asks all endpoints for their cluster, once a minute. Resolves also when attempts fail, and asks also
    /// when endpoints have changed, and every few seconds while they report different clusters.
    pub async fn keep_endpoints_current(&self) -> ! {
        // Both at once, so that endpoints that do not answer do not delay the resolution.
        let (never, _) = future::join(self.keep_resolving(), self.keep_voting()).await;
        never
    }

    async fn keep_resolving(&self) -> ! {
        let mut resolve_at = self.clock.now() + Duration::from_secs(1);
        loop {
            tokio::select! {
                biased;
                () = self.clock.sleep_until(resolve_at) => {}
                () = self.slow_or_failed.notified() => {}
            }
            // Before that, the request that decides resolves the names.
            if self.membership.ours().is_some() {
                if self.resolve().await {
                    self.endpoints_changed.notify_one();
                }
                if self.clock.now() >= resolve_at {
                    resolve_at = self.clock.now() + Self::VOTE_PERIOD;
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
            let in_conflict_at = self.clock.now() + Self::VOTE_PERIOD_IN_CONFLICT;
            let have_changed = tokio::select! {
                biased;
                () = self.endpoints_changed.notified() => true,
                () = self.clock.sleep_until(ask_at.min(in_conflict_at)) => false,
            };
            // Before that, the request that decides asks the endpoints.
            if self.membership.ours().is_none() {
                ask_at = ask_at.max(self.clock.now() + Duration::from_secs(1));
            } else if have_changed || self.membership.in_conflict() || self.clock.now() >= ask_at {
                self.vote_again().await;
                ask_at = self.clock.now() + Self::VOTE_PERIOD;
            }
        }
    }

    /// Asks all endpoints for their cluster. If the votes suffice without the endpoints that DNS has removed, keeps only those of the
    /// removed ones that still belong to the cluster in use.
    async fn vote_again(&self) {
        let mut answered = BTreeSet::new();
        let mut asked = self.ask(self.endpoints.all());
        while let Some((store, answer)) = asked.next().await {
            answer.is_ok().then(|| answered.insert(store.name().to_owned()));
        }
        let is_ours = |store: &S| answered.contains(store.name()) && self.membership.includes(store.name());
        let present = self.endpoints.present();
        if 2 * present.iter().filter(|store| is_ours(store)).count() > present.len() {
            self.endpoints.retain_departed(is_ours);
            self.set_voters();
        }
    }

    /// Resolves all names. A name that cannot be resolved keeps its addresses. Returns whether the endpoints have changed.
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
        self.endpoints.retain_departed(|store| self.membership.keeps_vote(store.name()));
        self.set_voters();
        let present = self.endpoints.present();
        let names = |stores: &[Rc<S>]| stores.iter().map(|store| store.name().to_owned()).collect::<BTreeSet<_>>();
        names(&before) != names(&present)
    }

    fn set_voters(&self) {
        let family = |store: &Rc<S>| Some((store.name().to_owned(), store.address_family()?));
        self.membership.set_address_families(self.endpoints().iter().filter_map(family));
        self.membership.set_endpoints(self.endpoints().iter().map(|store| store.name()));
        let preferred = *self.preferred.borrow();
        self.prefer(self.endpoints.after(preferred, 0).0);
    }

    /// Asks endpoints for their cluster, until no outstanding response can change the result. Returns the failures.
    ///
    /// Asks the others only if the first ones cannot decide alone, as each connection costs a TLS handshake.
    async fn vote(&self) -> Vec<StoreError> {
        let endpoints = self.endpoints();
        let mut missing: BTreeSet<&str> = endpoints.iter().map(|store| store.name()).collect();
        let mut failures = Vec::new();
        let mut first = self.endpoints.all();
        let mut others = first.split_off(first.len() / 2 + 1);
        let mut asked = self.ask(first);
        if self.membership.has_single_voter() {
            let more = (1..Self::CONNECTIONS).flat_map(|_| self.endpoints.all());
            asked.extend(
                more.map(|(id, store)| self.ask_within_limit(id, Rc::new(store.new_connection())).boxed_local()),
            );
        }
        let mut late = pin!(self.clock.sleep(self.timeouts.hedge_delay));
        let mut slow = pin!(self.clock.sleep(self.silence()));
        let mut logged = false;
        loop {
            let (store, answer) = tokio::select! {
                biased;
                next = asked.next() => match next {
                    Some(answer) => answer,
                    None if others.is_empty() => break,
                    None => {
                        asked = self.ask(std::mem::take(&mut others));
                        continue;
                    }
                },
                () = late.as_mut(), if !others.is_empty() => {
                    asked.extend(self.ask(std::mem::take(&mut others)));
                    continue;
                }
                () = slow.as_mut(), if !logged => {
                    logged = true;
                    let silent = missing.iter().map(|name| format!("{name}: no answer within {}", show(self.silence())));
                    self.log_undecided(&failures.iter().map(ToString::to_string).chain(silent).collect::<Vec<_>>());
                    continue;
                }
            };
            missing.remove(store.name());
            if let Err(failure) = answer {
                failures.push(failure);
                asked.extend(self.ask(std::mem::take(&mut others)));
            }
            if self.membership.is_certain(&missing) {
                break;
            }
        }
        failures
    }

    /// Asks these endpoints at once for their cluster.
    fn ask(&self, endpoints: Vec<(Id, Rc<S>)>) -> FuturesUnordered<LocalBoxFuture<'_, Vote<S>>> {
        endpoints.into_iter().map(|(id, store)| self.ask_within_limit(id, store).boxed_local()).collect()
    }

    async fn ask_within_limit(&self, id: Id, store: Rc<S>) -> Vote<S> {
        let limit = self.clock.now() + self.timeouts.attempt_limit;
        let answer = self.clock.before(limit, self.ask_one(id, &store)).await;
        let answer = answer.unwrap_or_else(|| {
            self.replace_connection(id, &store);
            let limit = show(self.timeouts.attempt_limit);
            Err(StoreError::Unavailable(format!("{}: no answer within {limit}", store.name())))
        });
        let answer = answer.map(|cluster| self.membership.record(store.name(), cluster));
        (store, answer)
    }

    /// Asks one endpoint for its cluster. Without a response it asks over new connections as well, as there may be several members
    /// behind one address.
    async fn ask_one(&self, id: Id, store: &Rc<S>) -> Result<u64, StoreError> {
        let ask = async |store: Rc<S>| (store.cluster_id().await, store);
        let mut asked: FuturesUnordered<_> = [ask(Rc::clone(store))].into_iter().collect();
        let mut delay = self.timeouts.hedge_delay;
        loop {
            tokio::select! {
                biased;
                Some((answer, store)) = asked.next() => match answer {
                    Ok(cluster) => {
                        self.keep_connection(id, &store);
                        return Ok(cluster);
                    }
                    Err(failure) => {
                        tracing::debug!(endpoint = store.name(), "{failure}");
                        self.replace_connection(id, &store);
                        if asked.is_empty() {
                            return Err(failure);
                        }
                    }
                },
                () = self.clock.sleep(delay) => {
                    delay *= 2;
                    asked.push(ask(Rc::new(store.new_connection())));
                }
            }
        }
    }

    /// Returns an error if the failures are final, after all endpoints have answered or failed.
    fn check_failures(&self, failures: &[StoreError]) -> Result<(), StoreError> {
        if self.membership.summary().is_empty() {
            return self.all_failed(failures.to_vec());
        }
        self.has_answered.set(true);
        self.log_undecided(&failures.iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(())
    }

    /// Logs one line when the votes do not suffice, and when they have changed.
    fn log_undecided(&self, reasons: &[String]) {
        let summary = self.membership.summary();
        if summary.is_empty() {
            return self.log_silence(reasons);
        }
        if self.logged_votes.borrow().as_ref() != Some(&summary) {
            let colon = if reasons.is_empty() { "" } else { ": " };
            tracing::warn!(
                "could not decide which etcd cluster to use: {summary}; more than half of {} must report the same cluster, a \
                 single endpoint over several connections; list all members in ETCD_AWAIT_ELECTION_ENDPOINTS or set \
                 ETCD_AWAIT_ELECTION_CLUSTER_ID; retrying at least every {}{colon}{}",
                membership::endpoints(self.len()),
                show(self.timeouts.pause),
                reasons.join("; ")
            );
            self.logged_votes.replace(Some(summary));
        }
    }
}
