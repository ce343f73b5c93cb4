//! One question to several endpoints: attempts join each other, and the first answer counts from when its own request was sent.
//!
//! An attempt stays in flight until its answer would be of no use: one that is late is better than one that was thrown away.
//! What is not answered soon is sent to the next endpoint as well, and when all have been asked, over new connections: the
//! standing one may lead to a member that is gone, and behind one address there may be several members.

use std::{collections::BTreeMap, pin::Pin, rc::Rc, task::Poll, time::Duration};

use super::{
    super::store::{Store, StoreError},
    pauses::Pauses,
    state::EtcdClient,
    timeouts::NEVER,
};
use crate::core::{
    clock::{Clock, Instant},
    timing::show,
};

type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + 'a>>;
type Ask<'a, S, T> = Box<dyn Fn(Rc<S>) -> Asked<'a, T> + 'a>;

/// An answer, and what it came by.
pub(super) struct Answer<S, T> {
    pub(super) value: T,
    /// When the attempt began; its request was sent no earlier.
    pub(super) sent: Instant,
    pub(super) index: usize,
    pub(super) store: Rc<S>,
}

/// The attempts at one question.
pub(crate) struct Attempts<'a, S, C, T> {
    client: &'a EtcdClient<S, C>,
    ask: Ask<'a, S, T>,
    /// How often the question is asked again while answers are outstanding, and after each answer.
    period: Option<Duration>,
    in_flight: Vec<Attempt<'a, S, T>>,
    /// When the next endpoint, or the next new connection, is tried.
    next_at: Instant,
    /// When the question is asked again, at the preferred endpoint.
    due_at: Instant,
    /// How many endpoints and connections were tried since the last answer.
    tried: usize,
    /// The endpoint that was preferred when the first of them was tried.
    first: usize,
    /// The latest failure of each endpoint since the last answer.
    failed: BTreeMap<usize, StoreError>,
    pauses: Pauses,
    /// When the latest answer came.
    answered_at: Instant,
    /// Whether it is over when every endpoint has failed.
    one_pass: bool,
}

struct Attempt<'a, S, T> {
    index: usize,
    store: Rc<S>,
    sent: Instant,
    asked: Asked<'a, T>,
}

impl<'a, S: Store + 'a, C: Clock, T: 'a> Attempts<'a, S, C, T> {
    /// More than this many new connections in flight beside one attempt per endpoint tell nothing new.
    const MOST_AGAIN: usize = 8;
    /// The question is asked at most so often while the first answer to it may still be of use.
    const MOST_PERIODS: u32 = 16;

    /// One answer is wanted, now.
    pub(super) fn once(client: &'a EtcdClient<S, C>, ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a) -> Self {
        Self { next_at: client.clock.now(), ..Self::idle(client, ask, None) }
    }

    /// The same, unless every endpoint fails. Where there is no leader just now, a request fails at once, and may work at once.
    pub(super) fn one_pass(client: &'a EtcdClient<S, C>, ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a) -> Self {
        Self { one_pass: true, ..Self::once(client, ask) }
    }

    /// An answer is wanted every `period`, from `begin` on, whether or not those before have come.
    pub(super) fn every(
        client: &'a EtcdClient<S, C>,
        period: Duration,
        begin: Instant,
        ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a,
    ) -> Self {
        let period = period.max(client.timeouts.attempt_limit / Self::MOST_PERIODS);
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

    /// When the request of the next answer was sent, and the answer, however long that takes. Can be dropped and called again.
    ///
    /// # Errors
    /// What only a person can mend. Whoever calls again tries again, after a pause.
    pub(crate) async fn next(&mut self) -> Result<(Instant, T), StoreError> {
        self.next_answer().await.map(|answer| (answer.sent, answer.value))
    }

    /// The same, with what the answer came by.
    pub(super) async fn next_answer(&mut self) -> Result<Answer<S, T>, StoreError> {
        loop {
            let now = self.client.clock.now();
            self.give_up(now)?;
            if now >= self.due_at {
                self.ask_again(now);
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
                    self.client.tell_silence(&self.reasons());
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

    /// Drops the attempts whose answers would be of no use any more.
    fn give_up(&mut self, now: Instant) -> Result<(), StoreError> {
        let limit = self.client.timeouts.attempt_limit;
        while let Some(old) = self.in_flight.iter().position(|attempt| attempt.sent + limit <= now) {
            let attempt = self.in_flight.remove(old);
            let failure = StoreError::Unavailable(self.no_answer(&attempt));
            self.failed(&attempt, failure)?;
        }
        Ok(())
    }

    /// At the preferred endpoint, over its standing connection.
    fn ask_again(&mut self, now: Instant) {
        let index = self.client.preferred_index();
        if self.in_flight.is_empty() {
            (self.first, self.tried) = (index, 1);
            self.next_at = now + self.client.timeouts.hedge_delay;
        }
        let (index, store) = self.client.endpoints.after(index, 0);
        self.launch(index, store, now, true);
    }

    /// At the next endpoint, or over the next new connection.
    fn try_next(&mut self, now: Instant) {
        let (endpoints, timeouts) = (self.client.len(), &self.client.timeouts);
        if self.tried == 0 {
            self.first = self.client.preferred_index();
        }
        let again = (self.tried + 1).saturating_sub(endpoints);
        // Behind a single address, which member a connection leads to may be chance.
        let longest = match endpoints {
            1 => 2 * timeouts.hedge_delay,
            _ => timeouts.pause.max(timeouts.attempt_limit / Self::MOST_PERIODS).max(timeouts.hedge_delay),
        };
        let hedge_delay = timeouts.hedge_delay * 2_u32.saturating_pow(u32::try_from(again).unwrap_or(u32::MAX).min(16));
        self.next_at = now + hedge_delay.min(longest);
        if self.in_flight.len() >= endpoints + Self::MOST_AGAIN {
            return;
        }
        if self.tried > 0 {
            self.client.trouble.notify_one();
        }
        let (index, mut store) = self.client.endpoints.after(self.first, self.tried);
        let again = self.tried >= endpoints && self.in_flight.iter().any(|attempt| Rc::ptr_eq(&attempt.store, &store));
        if again {
            store = Rc::new(store.again());
        }
        self.tried += 1;
        self.launch(index, store, now, !again);
    }

    fn launch(&mut self, index: usize, store: Rc<S>, now: Instant, standing: bool) {
        // A new connection may need longer than all that is asked over the standing ones.
        if let Some(period) = self.period.filter(|_| standing) {
            self.due_at = now + period;
        }
        let asked = (self.ask)(Rc::clone(&store));
        self.in_flight.push(Attempt { index, store, sent: now, asked });
    }

    /// What is older than an answer is of no use any more; what is newer is.
    fn answered(&mut self, attempt: Attempt<'a, S, T>, value: T) -> Answer<S, T> {
        let Attempt { index, store, sent, .. } = attempt;
        let (now, preferred) = (self.client.clock.now(), self.client.preferred_index());
        // Answers that are late everywhere are no reason to go from one endpoint to the other and back.
        let is_beaten = |attempt: &Attempt<'_, S, T>| attempt.index == preferred && attempt.sent <= sent;
        if self.failed.contains_key(&preferred) || self.in_flight.iter().any(is_beaten) {
            self.client.prefer(index);
        }
        self.client.keep(index, &store);
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
        self.client.give_up_connection(attempt.index, &attempt.store);
        let leaderless = matches!(failure, StoreError::NoLeader(_));
        self.failed.insert(attempt.index, failure);
        if self.tried < self.client.len() {
            // Whoever is next need not wait for the hedge delay.
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

    /// What each endpoint has to say, if only by its silence.
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

/// The first attempt that has ended, with its result.
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
