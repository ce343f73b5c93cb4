//! The requests of the candidate: sends them through the etcd client, and returns the answers.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _, stream};

use crate::{
    core::{
        clock::{Clock, Instant},
        kv::{Get, Range, Snapshot, StoreError},
        names::{LeaseId, LockName},
    },
    election::protocol::{Answer, Consistency, Reading, Request, RequestId},
    etcd::{
        client::{EtcdClient, Pauses},
        pages::read_lock,
        store::Store,
    },
};

type Answers<'a> = Pin<Box<dyn Stream<Item = Result<Answer, StoreError>> + 'a>>;

/// The requests in flight.
pub(super) struct Requests<'a, S, C> {
    etcd: &'a EtcdClient<S, C>,
    lock: Rc<LockName>,
    open: Vec<Open<'a>>,
    /// The pauses after failed transactions.
    pauses: Pauses,
    /// The pauses after watches that broke soon.
    watch_pauses: Pauses,
}

struct Open<'a> {
    id: RequestId,
    kind: Kind,
    begun: Instant,
    answers: Answers<'a>,
}

/// Which pauses follow failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Commit,
    Watch,
    Other,
}

impl<'a, S: Store, C: Clock> Requests<'a, S, C> {
    pub(super) fn new(etcd: &'a EtcdClient<S, C>, lock: LockName) -> Self {
        Self { etcd, lock: Rc::new(lock), open: Vec::new(), pauses: Pauses::default(), watch_pauses: Pauses::default() }
    }

    pub(super) fn send(&mut self, id: RequestId, request: Request) {
        let kind = match request {
            Request::Commit(_) => Kind::Commit,
            Request::Watch { .. } => Kind::Watch,
            _ => Kind::Other,
        };
        let answers = self.answers(request);
        self.open.push(Open { id, kind, begun: self.etcd.clock().now(), answers });
    }

    pub(super) fn cancel(&mut self, id: RequestId) {
        self.open.retain(|open| open.id != id);
    }

    /// Waits for the next answer to any request. The future can be dropped without losing an answer.
    pub(super) async fn next(&mut self) -> (RequestId, Answer) {
        let (open, answer) = poll_fn(|context| self.poll(context)).await;
        let (id, kind, begun) = (open.id, open.kind, open.begun);
        // To the end, so that a stream of changes delays no other answer.
        self.open.push(open);
        let answer = match answer {
            Ok(answer) => {
                if let Answer::Committed(_) = answer {
                    self.pauses = Pauses::default();
                }
                answer
            }
            Err(failure) => Answer::Failed { failure, retry_at: self.retry_at(kind, begun) },
        };
        (id, answer)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(Open<'a>, Result<Answer, StoreError>)> {
        let mut index = 0;
        while let Some(open) = self.open.get_mut(index) {
            match open.answers.poll_next_unpin(context) {
                Poll::Ready(Some(answer)) => return Poll::Ready((self.open.remove(index), answer)),
                // All its answers were returned.
                Poll::Ready(None) => drop(self.open.remove(index)),
                Poll::Pending => index += 1,
            }
        }
        Poll::Pending
    }

    /// Returns when to try again after a failure.
    fn retry_at(&mut self, kind: Kind, begun: Instant) -> Instant {
        let now = self.etcd.clock().now();
        let mut first = Pauses::default();
        let pauses = match kind {
            Kind::Commit => &mut self.pauses,
            Kind::Watch => {
                if now > begun + self.etcd.longest_pause() {
                    self.watch_pauses = Pauses::default();
                }
                &mut self.watch_pauses
            }
            Kind::Other => &mut first,
        };
        now + self.etcd.pause_after_failure(pauses, false)
    }

    /// Returns the answers to a request. It is sent when they are first polled.
    fn answers(&self, request: Request) -> Answers<'a> {
        let (etcd, lock) = (self.etcd, Rc::clone(&self.lock));
        match request {
            Request::Grant { lease, ttl } => once(async move {
                let (sent, granted) = etcd.grant(lease, ttl).await?;
                Ok(Answer::Granted { sent, ttl: granted.ttl })
            }),
            Request::Read(reading, consistency) => once(async move {
                let read = async |store: &S| read(store, &lock, &reading, consistency).await;
                etcd.hedged(read).await.map(Answer::Read)
            }),
            Request::Renew { lease, reading } => once(async move {
                let renew = async |store: &S| renew(store, &lock, lease, &reading, etcd.clock()).await;
                etcd.hedged(renew).await
            }),
            Request::KeepAlive(lease) => once(async move {
                etcd.hedged(async |store: &S| {
                    let sent = etcd.clock().now();
                    let is_alive = store.keep_alive(lease).await?;
                    Ok(if is_alive { Answer::KeptAlive { sent } } else { Answer::LeaseGone })
                })
                .await
            }),
            Request::RenewEvery { lease, gets, period, begin } => {
                let reading = Reading::Keys(gets);
                let renew = async move |store: &S| renew(store, &lock, lease, &reading, etcd.clock()).await;
                let attempts = etcd.repeat_every(period, begin, renew);
                Box::pin(stream::unfold(attempts, async |mut attempts| {
                    let answer = attempts.next().await.map(|(_, answer)| answer);
                    Some((answer, attempts))
                }))
            }
            Request::Commit(txn) => once(async move { etcd.commit(&txn).await.map(Answer::Committed) }),
            Request::Watch { ranges, from } => watch(etcd, ranges, from),
            Request::Revoke(lease) => once(async move { etcd.revoke(lease).await.map(Answer::Revoked) }),
        }
    }
}

fn once<'a>(answer: impl Future<Output = Result<Answer, StoreError>> + 'a) -> Answers<'a> {
    Box::pin(stream::once(answer))
}

async fn read<S: Store>(
    store: &S,
    lock: &LockName,
    reading: &Reading,
    consistency: Consistency,
) -> Result<Snapshot, StoreError> {
    let read = async |gets: &[Get]| match consistency {
        Consistency::Linearizable => store.read(gets).await,
        Consistency::Serializable => store.serializable_read(gets).await,
    };
    match reading {
        Reading::Keys(gets) => read(gets).await,
        Reading::Lock(also) => read_lock(lock, also, read).await,
    }
}

/// Reads, and then keeps the lease alive. The renewal counts from the instant before both.
async fn renew<S: Store>(
    store: &S,
    lock: &LockName,
    lease: LeaseId,
    reading: &Reading,
    clock: &impl Clock,
) -> Result<Answer, StoreError> {
    let sent = clock.now();
    let read = read(store, lock, reading, Consistency::Linearizable).await?;
    let is_alive = store.keep_alive(lease).await?;
    Ok(if is_alive { Answer::Renewed { sent, read } } else { Answer::LeaseGone })
}

/// Opens a watch, and returns its changes until it breaks.
fn watch<S: Store, C: Clock>(etcd: &EtcdClient<S, C>, ranges: Vec<Range>, from: i64) -> Answers<'_> {
    let opening = async move { etcd.watch(&ranges, from).await };
    Box::pin(stream::once(opening).flat_map(|opened| {
        match opened {
            Ok(watch) => stream::unfold(Some(watch), async |watch| {
                let mut watch = watch?;
                Some(match watch.next().await {
                    Ok(changes) => (Ok(Answer::Changes(changes)), Some(watch)),
                    // Another endpoint may allow what this one denies.
                    Err(failure) => (Err(StoreError::Unavailable(failure.to_string())), None),
                })
            })
            .left_stream(),
            Err(failure) => once(async { Err(failure) }).right_stream(),
        }
    }))
}
