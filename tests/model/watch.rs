//! Watches: each range of a stream has its own position in the history, is notified late, and can break or be
//! compacted.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Poll, Waker},
};

use etcd_await_election::{
    core::kv::{Change, Range, StoreError},
    etcd::store,
};

use crate::net::Net;

/// The server's side of a watch, and the events that have arrived.
pub(crate) struct Stream {
    machine: usize,
    member: usize,
    watched: Vec<Watched>,
    broken: Cell<bool>,
    arrived: RefCell<VecDeque<Result<Vec<Change>, StoreError>>>,
    waker: RefCell<Option<Waker>>,
}

struct Watched {
    range: Range,
    /// The next revision to notify.
    next: Cell<i64>,
    /// Whether a notification is in flight.
    underway: Cell<bool>,
}

impl Stream {
    pub(crate) fn open(net: &Net, machine: usize, member: usize, ranges: &[Range], from: i64) -> Rc<Self> {
        let watched =
            |range: &Range| Watched { range: range.clone(), next: Cell::new(from), underway: Cell::default() };
        let stream = Rc::new(Self {
            machine,
            member,
            watched: ranges.iter().map(watched).collect(),
            broken: Cell::default(),
            arrived: RefCell::default(),
            waker: RefCell::default(),
        });
        net.add_stream(&stream);
        stream.changed(net);
        stream
    }

    pub(crate) const fn member(&self) -> usize {
        self.member
    }

    pub(crate) fn is_between(&self, machine: Option<usize>, member: usize) -> bool {
        self.member == member && machine.is_none_or(|machine| machine == self.machine)
    }

    /// Sends pending events.
    pub(crate) fn changed(self: &Rc<Self>, net: &Net) {
        let mut news = Vec::new();
        for (n, watched) in self.watched.iter().enumerate() {
            if watched.underway.get() || self.broken.get() {
                continue;
            }
            let etcd = net.etcd();
            if watched.next.get() <= etcd.compacted {
                drop(etcd);
                self.break_off(net, "mvcc: required revision has been compacted");
                return;
            }
            if etcd.changes(&watched.range, watched.next.get()).is_empty() {
                watched.next.set(watched.next.get().max(etcd.revision + 1));
            } else {
                watched.underway.set(true);
                news.push(n);
            }
        }
        // Usually one message has room for all.
        if net.sim().chance(70) {
            self.send(net, news);
        } else {
            news.into_iter().for_each(|n| self.send(net, vec![n]));
        }
    }

    /// Sends the events of these ranges, which arrive together.
    fn send(self: &Rc<Self>, net: &Net, news: Vec<usize>) {
        let way = net.way_back(self.machine, self.member);
        let delay = net.lag(self.member) + net.sim().between(way.delay.0, way.delay.1);
        let (stream, net) = (Rc::downgrade(self), net.clone());
        net.sim().clone().after(delay, move || {
            if let Some(stream) = stream.upgrade() {
                news.into_iter().for_each(|n| stream.tell(&net, n));
            }
        });
    }

    /// Sends the events of one range since its last notification. If that is impossible, it is retried after the faults
    /// end.
    fn tell(self: &Rc<Self>, net: &Net, n: usize) {
        let watched = &self.watched[n];
        watched.underway.set(false);
        if self.broken.get() || !net.can_tell(self.machine, self.member) {
            return;
        }
        let etcd = net.etcd();
        if watched.next.get() <= etcd.compacted {
            drop(etcd);
            return self.break_off(net, "mvcc: required revision has been compacted");
        }
        let changes = etcd.changes(&watched.range, watched.next.get());
        watched.next.set(etcd.revision + 1);
        self.push(Ok(changes));
    }

    pub(crate) fn break_off(&self, net: &Net, why: &str) {
        if !self.broken.replace(true) {
            net.sim().log(|| format!("       watch of machine {} at m{}: {why}", self.machine, self.member));
            self.push(Err(StoreError::Unavailable(format!("m{}: {why}", self.member))));
        }
    }

    fn push(&self, news: Result<Vec<Change>, StoreError>) {
        self.arrived.borrow_mut().push_back(news);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The client's side of a watch.
pub(crate) struct Watch(pub(crate) Rc<Stream>);

impl store::Watch for Watch {
    /// The events that have arrived.
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        std::future::poll_fn(|context| {
            let mut arrived = self.0.arrived.borrow_mut();
            if arrived.is_empty() {
                *self.0.waker.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            let news: Result<Vec<Vec<Change>>, StoreError> = arrived.drain(..).collect();
            Poll::Ready(news.map(|changes| changes.concat()))
        })
        .await
    }
}
