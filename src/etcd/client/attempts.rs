//! Hedged attempts at one request. The first response counts from when its own attempt was sent.
//!
//! An attempt stays in flight until its response would be useless. Without a response within the hedge delay the request is sent to
//! the next endpoint as well, and after all endpoints over new connections: an open connection may lead to a dead member, and there
//! may be several members behind one address.

use std::{collections::BTreeMap, pin::Pin, rc::Rc, task::Poll, time::Duration};

use super::{super::store::Store, pauses::Pauses, state::EtcdClient, timeouts::NEVER};
use crate::core::{
    clock::{Clock, Instant},
    kv::StoreError,
    timing::show,
};

type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + 'a>>;
type Ask<'a, S, T> = Box<dyn Fn(Rc<S>) -> Asked<'a, T> + 'a>;

/// A response, and the endpoint and connection that it came from.
pub(super) struct Answer<S, T> {
    pub(super) value: T,
    /// When the attempt began; its request was not sent before.
    pub(super) sent: Instant,
    pub(super) index: usize,
    pub(super) store: Rc<S>,
}

/// The attempts at one request, which may be periodic.
pub(crate) struct Attempts<'a, S, C, T> {
    client: &'a EtcdClient<S, C>,
    ask: Ask<'a, S, T>,
    /// The period of the request, whether or not responses are outstanding.
    period: Option<Duration>,
    in_flight: Vec<Attempt<'a, S, T>>,
    /// When the next endpoint, or the next new connection, is tried.
    next_at: Instant,
    /// When the periodic request is due at the preferred endpoint.
    due_at: Instant,
    /// The number of endpoints and connections tried since the last response.
    tried: usize,
    /// The endpoint that was preferred when the first of them was tried.
    first: usize,
    /// The latest failure of each endpoint since the last response.
    failed: BTreeMap<usize, StoreError>,
    pauses: Pauses,
    /// When the latest response came.
    answered_at: Instant,
    /// Whether to stop when every endpoint has failed.
    one_pass: bool,
}

struct Attempt<'a, S, T> {
    index: usize,
    store: Rc<S>,
    sent: Instant,
    asked: Asked<'a, T>,
}

impl<'a, S: Store + 'a, C: Clock, T: 'a> Attempts<'a, S, C, T> {
    /// The limit for new connections in flight beside one attempt per endpoint.
    const MAX_NEW_CONNECTIONS: usize = 8;
    /// The limit for periodic requests within one attempt limit.
    const MAX_PERIODS: u32 = 16;

    /// Sends one request now.
    pub(super) fn once(client: &'a EtcdClient<S, C>, ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a) -> Self {
        Self { next_at: client.clock.now(), ..Self::idle(client, ask, None) }
    }

    /// Sends one request now, and stops when every endpoint has failed; it goes on while etcd has no leader, as it soon has one.
    pub(super) fn one_pass(client: &'a EtcdClient<S, C>, ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a) -> Self {
        Self { one_pass: true, ..Self::once(client, ask) }
    }

    /// Sends the request every `period` from `begin` on, whether or not responses are outstanding.
    pub(super) fn every(
        client: &'a EtcdClient<S, C>,
        period: Duration,
        begin: Instant,
        ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a,
    ) -> Self {
        let period = period.max(client.timeouts.attempt_limit / Self::MAX_PERIODS);
        Self { due_at: begin, ..Self::idle(client, ask, Some(period)) }
    }

    fn idle(
        client: &'a EtcdClient<S, C>,
        ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a,
        period: Option<Duration>,
    ) -> Self {
        let ask = Rc::new(ask);
        let ask = move |store: Rc<S>| -> Asked<'a, T> {
            let ask = Rc::clone(&ask);
            Box::pin(async move { ask(&store).await })
        };
        Self {
            client,
            ask: Box::new(ask),
            period,
            in_flight: Vec::new(),
            next_at: NEVER,
            due_at: NEVER,
            tried: 0,
            first: 0,
            failed: BTreeMap::new(),
            pauses: Pauses::default(),
            answered_at: Instant::from_boot(Duration::ZERO),
            one_pass: false,
        }
    }

    /// Waits for the next response without a time limit. Returns when its request was sent, and the response. The future can be
    /// dropped and the method called again.
    ///
    /// # Errors
    /// If etcd denies access, TLS verification fails for every endpoint, or [`one_pass`](Self::one_pass) has failed. The next call
    /// tries again, after a pause.
    pub(crate) async fn next(&mut self) -> Result<(Instant, T), StoreError> {
        self.next_answer().await.map(|answer| (answer.sent, answer.value))
    }

    /// Does the same, and returns the endpoint and connection as well.
    pub(super) async fn next_answer(&mut self) -> Result<Answer<S, T>, StoreError> {
        loop {
            let now = self.client.clock.now();
            self.drop_expired(now)?;
            if now >= self.due_at {
                self.repeat(now);
            } else if now >= self.next_at {
                self.try_next(now);
            }
            let mut wake = self.next_at.min(self.due_at);
            if let Some(oldest) = self.in_flight.iter().map(|attempt| attempt.sent).min() {
                wake = wake.min(oldest + self.client.timeouts.attempt_limit);
                let silent_at = oldest.max(self.answered_at) + self.client.silence();
                if now < silent_at {
                    wake = wake.min(silent_at);
                } else {
                    self.client.log_silence(&self.reasons());
                }
            }
            let (clock, in_flight) = (&self.client.clock, &mut self.in_flight);
            tokio::select! {
                biased;
                (attempt, result) = first_of(in_flight) => match result {
                    Ok(value) => return Ok(self.answered(attempt, value)),
                    Err(failure) => self.failed(&attempt, failure)?,
                },
                () = clock.sleep_until(wake) => {}
            }
        }
    }

    /// Drops the attempts whose responses would be useless by now.
    fn drop_expired(&mut self, now: Instant) -> Result<(), StoreError> {
        let limit = self.client.timeouts.attempt_limit;
        while let Some(old) = self.in_flight.iter().position(|attempt| attempt.sent + limit <= now) {
            let attempt = self.in_flight.remove(old);
            let failure = StoreError::Unavailable(self.no_answer(&attempt));
            self.failed(&attempt, failure)?;
        }
        Ok(())
    }

    /// Sends the request to the preferred endpoint, over its open connection.
    fn repeat(&mut self, now: Instant) {
        let index = self.client.preferred_index();
        if self.in_flight.is_empty() {
            (self.first, self.tried) = (index, 1);
            self.next_at = now + self.client.timeouts.hedge_delay;
        }
        let (index, store) = self.client.endpoints.after(index, 0);
        self.launch(index, store, now, true);
    }

    /// Sends the request to the next endpoint, or over the next new connection.
    fn try_next(&mut self, now: Instant) {
        let (endpoints, timeouts) = (self.client.len(), &self.client.timeouts);
        if self.tried == 0 {
            self.first = self.client.preferred_index();
        }
        let again = (self.tried + 1).saturating_sub(endpoints);
        // With a single address, a new connection may lead to another member.
        let longest = match endpoints {
            1 => 2 * timeouts.hedge_delay,
            _ => timeouts.pause.max(timeouts.attempt_limit / Self::MAX_PERIODS).max(timeouts.hedge_delay),
        };
        let hedge_delay = timeouts.hedge_delay * 2_u32.saturating_pow(u32::try_from(again).unwrap_or(u32::MAX).min(16));
        self.next_at = now + hedge_delay.min(longest);
        if self.in_flight.len() >= endpoints + Self::MAX_NEW_CONNECTIONS {
            return;
        }
        if self.tried > 0 {
            self.client.slow_or_failed.notify_one();
        }
        let (index, mut store) = self.client.endpoints.after(self.first, self.tried);
        let is_new = self.tried >= endpoints && self.in_flight.iter().any(|attempt| Rc::ptr_eq(&attempt.store, &store));
        if is_new {
            store = Rc::new(store.new_connection());
        }
        self.tried += 1;
        self.launch(index, store, now, !is_new);
    }

    fn launch(&mut self, index: usize, store: Rc<S>, now: Instant, is_open: bool) {
        // A request over a new connection takes longer, so it does not replace a periodic one.
        if let Some(period) = self.period.filter(|_| is_open) {
            self.due_at = now + period;
        }
        let asked = (self.ask)(Rc::clone(&store));
        self.in_flight.push(Attempt { index, store, sent: now, asked });
    }

    /// Drops the attempts that were sent before the one with the response, and keeps the newer ones.
    fn answered(&mut self, attempt: Attempt<'a, S, T>, value: T) -> Answer<S, T> {
        let Attempt { index, store, sent, .. } = attempt;
        let (now, preferred) = (self.client.clock.now(), self.client.preferred_index());
        // Slow responses of all endpoints do not change the preferred one.
        let is_beaten = |attempt: &Attempt<'_, S, T>| attempt.index == preferred && attempt.sent <= sent;
        if self.failed.contains_key(&preferred) || self.in_flight.iter().any(is_beaten) {
            self.client.prefer(index);
        }
        self.client.keep_connection(index, &store);
        self.client.answered(now.saturating_since(sent));
        self.in_flight.retain(|attempt| attempt.sent > sent);
        self.failed.clear();
        self.pauses = Pauses::default();
        (self.first, self.tried) = (self.client.preferred_index(), 1);
        self.next_at = if self.in_flight.is_empty() { NEVER } else { now + self.client.timeouts.hedge_delay };
        self.answered_at = now;
        Answer { value, sent, index, store }
    }

    fn failed(&mut self, attempt: &Attempt<'a, S, T>, failure: StoreError) -> Result<(), StoreError> {
        let now = self.client.clock.now();
        tracing::debug!(endpoint = attempt.store.name(), "{failure}");
        self.client.replace_connection(attempt.index, &attempt.store);
        let leaderless = matches!(failure, StoreError::NoLeader(_));
        self.failed.insert(attempt.index, failure);
        if self.tried < self.client.len() {
            // Without waiting for the hedge delay.
            self.next_at = now;
            return Ok(());
        }
        let pause = self.client.pause_after_failure(&mut self.pauses, leaderless);
        self.next_at = self.next_at.min(now + pause);
        let over = self.in_flight.is_empty();
        let refused = self.failed.values().filter(|failure| matches!(failure, StoreError::AccessDenied(_))).count();
        let no_leader = self.failed.values().any(|failure| matches!(failure, StoreError::NoLeader(_)));
        let verdict = if over && self.one_pass && 2 * refused <= self.client.len() && !no_leader {
            Err(StoreError::Unavailable(self.reasons().join("; ")))
        } else if 2 * refused > self.client.len() || over {
            self.client.all_failed(self.failed.values().cloned().collect())
        } else {
            Ok(())
        };
        if over || verdict.is_err() {
            self.failed.clear();
            self.tried = 0;
            self.next_at = now + pause;
            if self.period.is_some() {
                self.due_at = NEVER;
            }
        }
        verdict
    }

    /// Returns the failure of each endpoint, or that it has not answered.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<_> = self.failed.values().map(ToString::to_string).collect();
        for attempt in &self.in_flight {
            if !self.failed.contains_key(&attempt.index) {
                reasons.push(self.no_answer(attempt));
            }
        }
        reasons
    }

    fn no_answer(&self, attempt: &Attempt<'a, S, T>) -> String {
        format!("{}: no answer within {}", attempt.store.name(), show(self.client.silence()))
    }
}

/// Waits for the first attempt that ends. Removes it, and returns it with its result.
async fn first_of<'a, S, T>(attempts: &mut Vec<Attempt<'a, S, T>>) -> (Attempt<'a, S, T>, Result<T, StoreError>) {
    std::future::poll_fn(|context| {
        for index in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[index].asked.as_mut().poll(context) {
                return Poll::Ready((attempts.remove(index), result));
            }
        }
        Poll::Pending
    })
    .await
}
