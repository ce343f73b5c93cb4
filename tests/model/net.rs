//! The network between machines and members, with its faults: each machine has its own link to each member, and each
//! member its own state. Messages in flight arrive whether or not the sender still waits.

use std::{
    cell::{Ref, RefCell, RefMut},
    collections::BTreeMap,
    rc::{Rc, Weak},
};

use etcd_await_election::core::{
    kv::{Range, StoreError},
    names::LeaseId,
};

use crate::{
    etcd::Etcd,
    sim::{MS, SECOND, Sim, Time},
    watch::Stream,
};

/// One direction of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The percentage of lost messages.
    pub(crate) lost: u64,
    /// The shortest and the longest delay.
    pub(crate) delay: (Time, Time),
}

impl Way {
    pub(crate) const GOOD: Self = Self { lost: 0, delay: (MS / 5, 2 * MS) };
    pub(crate) const CUT: Self = Self { lost: 100, ..Self::GOOD };
    pub(crate) const SLOW: Self = Self { lost: 0, delay: (300 * MS, 2_800 * MS) };
    pub(crate) const BAD: Self = Self { lost: 30, delay: (MS, 800 * MS) };
}

/// Both directions between a machine and a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) there: Way,
    pub(crate) back: Way,
}

impl Link {
    pub(crate) const GOOD: Self = Self { there: Way::GOOD, back: Way::GOOD };
}

/// The state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    Up,
    /// Its port is closed.
    Dead,
    /// It reads requests when it resumes.
    Frozen,
    /// It is isolated from the others. An old server may still answer keepalives.
    CutOff {
        stale: bool,
    },
}

/// A request that reached a member: applied, or answered with an error.
pub(crate) type Request = Box<dyn FnOnce(&Net, Result<(), StoreError>)>;

/// Whether an isolated member can answer a request.
pub(crate) type Alone = fn(&Net, usize) -> bool;

/// Everything between the candidates and etcd, and etcd.
#[derive(Clone)]
pub(crate) struct Net(Rc<Inner>);

struct Inner {
    sim: Sim,
    etcd: RefCell<Etcd>,
    state: RefCell<State>,
    streams: RefCell<Vec<Weak<Stream>>>,
}

struct State {
    members: Vec<Member>,
    /// Requests that wait until a member resumes.
    waiting: Vec<Vec<Request>>,
    links: BTreeMap<(usize, usize), Link>,
    /// The lag of a member behind the others.
    lag: Vec<Time>,
    quorum: bool,
    /// Old servers confirm renewals of revoked leases.
    stale_keepalives: bool,
    /// Whether a member was the raft leader when it was frozen or cut off.
    led: Vec<bool>,
    /// The time until which a former raft leader does not know of the new one, unless it contacts the others before.
    unaware: Vec<Time>,
}

impl Net {
    pub(crate) fn new(sim: Sim, members: usize) -> Self {
        let state = State {
            members: vec![Member::Up; members],
            waiting: (0..members).map(|_| Vec::new()).collect(),
            links: BTreeMap::new(),
            lag: vec![0; members],
            quorum: true,
            stale_keepalives: false,
            led: vec![false; members],
            unaware: vec![0; members],
        };
        let net = Self(Rc::new(Inner {
            sim,
            etcd: RefCell::new(Etcd::new()),
            state: RefCell::new(state),
            streams: RefCell::default(),
        }));
        net.lessor();
        net
    }

    pub(crate) fn sim(&self) -> &Sim {
        &self.0.sim
    }

    pub(crate) fn members(&self) -> usize {
        self.0.state.borrow().members.len()
    }

    pub(crate) fn etcd(&self) -> Ref<'_, Etcd> {
        self.0.etcd.borrow()
    }

    pub(crate) fn has_quorum(&self) -> bool {
        self.0.state.borrow().quorum
    }

    /// Changes the state of etcd, and notifies all watches.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut RefMut<'_, Etcd>) -> T) -> T {
        let mut etcd = self.0.etcd.borrow_mut();
        let before = etcd.revision;
        let result = change(&mut etcd);
        let changed = etcd.revision != before;
        if changed {
            let all = [Range::Prefix(Vec::new())];
            for change in all.iter().flat_map(|all| etcd.changes(all, before + 1)) {
                self.0.sim.log(|| format!("       etcd: {}", crate::oracle::show(&change)));
            }
        }
        drop(etcd);
        if changed {
            self.each_stream(|stream| stream.changed(self));
        }
        result
    }

    pub(crate) fn new_lease(&self) -> LeaseId {
        LeaseId(i64::try_from(self.0.sim.between(1, 1 << 62)).expect("62 bits"))
    }

    /// Every half second the raft leader revokes expired leases.
    fn lessor(&self) {
        let net = self.clone();
        self.0.sim.after(SECOND / 2 - self.0.sim.between(0, 50 * MS), move || {
            if net.has_quorum() {
                let expired = net.etcd().expired(net.0.sim.now());
                for lease in expired {
                    net.0.sim.log(|| format!("       etcd: lease {lease} expired"));
                    net.change(|etcd| etcd.revoke(lease));
                }
            }
            net.lessor();
        });
    }

    pub(crate) fn set_stale_keepalives(&self, stale: bool) {
        self.0.state.borrow_mut().stale_keepalives = stale;
    }

    /// Returns whether this member confirms a renewal without contacting the others.
    pub(crate) fn answers_stale(&self, member: usize) -> bool {
        let state = self.0.state.borrow();
        match state.members[member] {
            Member::Up => state.stale_keepalives,
            Member::CutOff { stale } => stale,
            Member::Dead | Member::Frozen => false,
        }
    }

    /// Returns whether this member answers a keepalive as if it were still the raft leader.
    pub(crate) fn is_unaware(&self, member: usize) -> bool {
        let alone = !self.has_quorum() || self.member(member) != Member::Up;
        alone || self.0.sim.now() < self.0.state.borrow().unaware[member]
    }

    /// Notes that it has contacted the others.
    pub(crate) fn is_told(&self, member: usize) {
        self.0.state.borrow_mut().unaware[member] = 0;
    }

    pub(crate) fn set_lag(&self, member: usize, lag: Time) {
        self.0.state.borrow_mut().lag[member] = lag;
    }

    pub(crate) fn lag(&self, member: usize) -> Time {
        self.0.state.borrow().lag[member]
    }

    pub(crate) fn set_member(&self, member: usize, to: Member) {
        self.0.state.borrow_mut().members[member] = to;
        let led = match to {
            Member::CutOff { stale: true } => true,
            Member::Frozen | Member::CutOff { stale: false } => self.members() > 1 && self.0.sim.chance(50),
            Member::Up | Member::Dead => false,
        };
        if led {
            // The others elect another raft leader, which restarts every lease.
            self.0.etcd.borrow_mut().leader_changed(self.0.sim.now());
        }
        let has_led = std::mem::replace(&mut self.0.state.borrow_mut().led[member], led);
        if to == Member::Up && has_led {
            self.0.state.borrow_mut().unaware[member] = self.0.sim.now() + self.0.sim.between(0, 3 * SECOND);
        }
        self.healed(None, member);
        if to == Member::Up && self.has_quorum() {
            self.serve_waiting(member);
        }
    }

    pub(crate) fn lose_quorum(&self) {
        self.0.state.borrow_mut().quorum = false;
    }

    /// The members elect a raft leader again.
    pub(crate) fn regain_quorum(&self) {
        if self.has_quorum() {
            return;
        }
        self.0.state.borrow_mut().quorum = true;
        self.0.etcd.borrow_mut().leader_changed(self.0.sim.now());
        for member in 0..self.members() {
            self.healed(None, member);
            if self.member(member) == Member::Up {
                self.serve_waiting(member);
            }
        }
    }

    fn serve_waiting(&self, member: usize) {
        let waiting = std::mem::take(&mut self.0.state.borrow_mut().waiting[member]);
        for request in waiting {
            request(self, Ok(()));
        }
    }

    fn member(&self, member: usize) -> Member {
        self.0.state.borrow().members[member]
    }

    pub(crate) fn set_link(&self, machine: usize, member: usize, link: Link) {
        self.0.state.borrow_mut().links.insert((machine, member), link);
        self.healed(Some(machine), member);
    }

    fn link(&self, machine: usize, member: usize) -> Link {
        self.0.state.borrow().links.get(&(machine, member)).copied().unwrap_or(Link::GOOD)
    }

    /// Sends a request to a member: it may be lost or late.
    pub(crate) fn send(&self, machine: usize, member: usize, alone: Alone, request: Request) {
        let net = self.clone();
        self.travel(self.link(machine, member).there, move || net.arrive(member, alone, request));
    }

    /// Sends a response.
    pub(crate) fn answer(&self, machine: usize, member: usize, answer: impl FnOnce() + 'static) {
        self.travel(self.link(machine, member).back, answer);
    }

    fn travel(&self, way: Way, arrive: impl FnOnce() + 'static) {
        if !self.0.sim.chance(way.lost) {
            self.0.sim.after(self.0.sim.between(way.delay.0, way.delay.1), arrive);
        }
    }

    fn arrive(&self, member: usize, alone: Alone, request: Request) {
        let failed = |why: &str| Err(StoreError::Unavailable(format!("m{member}: {why}")));
        match self.member(member) {
            Member::Dead => request(self, failed("connection refused")),
            Member::Frozen => self.0.state.borrow_mut().waiting[member].push(request),
            Member::Up if self.has_quorum() => request(self, Ok(())),
            Member::Up | Member::CutOff { .. } if alone(self, member) => request(self, Ok(())),
            // Waits for the others until they can be reached, or until etcd's own limit.
            Member::Up | Member::CutOff { stale: false } if self.0.sim.chance(50) => {
                self.0.state.borrow_mut().waiting[member].push(request);
            }
            Member::Up | Member::CutOff { .. } => {
                let (net, limit) = (self.clone(), self.0.sim.between(0, 7 * SECOND));
                let failure = failed("etcdserver: request timed out");
                self.0.sim.after(limit, move || request(&net, failure));
            }
        }
    }

    /// Returns whether a watch can be notified now.
    pub(crate) fn can_tell(&self, machine: usize, member: usize) -> bool {
        let up = matches!(self.member(member), Member::Up) && self.has_quorum();
        up && self.link(machine, member).back.lost < 100
    }

    pub(crate) fn way_back(&self, machine: usize, member: usize) -> Way {
        self.link(machine, member).back
    }

    pub(crate) fn add_stream(&self, stream: &Rc<Stream>) {
        self.0.streams.borrow_mut().push(Rc::downgrade(stream));
    }

    fn each_stream(&self, tell: impl Fn(&Rc<Stream>)) {
        self.0.streams.borrow_mut().retain(|stream| stream.strong_count() > 0);
        let streams: Vec<_> = self.0.streams.borrow().iter().filter_map(Weak::upgrade).collect();
        streams.iter().for_each(tell);
    }

    /// After a change between a machine (or all) and a member its streams continue or break.
    fn healed(&self, machine: Option<usize>, member: usize) {
        self.each_stream(|stream| {
            if stream.is_between(machine, member) {
                if self.0.sim.chance(50) {
                    stream.break_off(self, "connection reset");
                } else {
                    stream.changed(self);
                }
            }
        });
    }

    /// Breaks a watch without a visible reason.
    pub(crate) fn break_streams(&self, machine: usize) {
        self.each_stream(|stream| {
            if stream.is_between(Some(machine), stream.member()) {
                stream.break_off(self, "stream reset");
            }
        });
    }

    /// Compacts all history; watches that lag behind cannot continue.
    pub(crate) fn compact(&self) {
        let mut etcd = self.0.etcd.borrow_mut();
        etcd.compacted = etcd.revision;
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.0.state.borrow_mut().stale_keepalives = false;
        self.0.state.borrow_mut().links.clear();
        self.regain_quorum();
        for member in 0..self.members() {
            self.set_lag(member, 0);
            self.set_member(member, Member::Up);
            self.is_told(member);
        }
    }

    pub(crate) fn end(&self) {
        for waiting in &mut self.0.state.borrow_mut().waiting {
            waiting.clear();
        }
    }
}
