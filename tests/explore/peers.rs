//! Peers that share the lock: the Go tool of version 0.2, and another etcd client. Neither has faults.

use etcd_await_election::core::{
    kv::{Compare, Op, Outcome, Range, Txn},
    names::LeaseId,
};

use crate::explore::{
    sim::{SECOND, STORE_NOW},
    state::State,
    steps::{Explorer, LOCK},
    store,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Peers {
    pub(crate) go: Go,
    pub(crate) foreign: Foreign,
    /// The number of their leases.
    leases: u8,
}

/// The Go tool: it creates the holder key, without a queue entry, runs its command, and revokes its lease at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Go {
    #[default]
    Away,
    Runs(LeaseId),
    /// Its command has ended, and its lease exists.
    Ended(LeaseId),
}

/// `etcdctl elect`: it leads when no older key exists below the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Foreign {
    #[default]
    Away,
    Waits(LeaseId),
    Runs(LeaseId),
}

/// A step of a peer. None is urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// The command of the Go tool ends, by itself or because it has lost the holder key.
    GoEnds,
    /// It revokes its lease.
    GoReleases,
    /// The command of the other client starts.
    ForeignStarts,
    /// It ends, or leaves the queue.
    ForeignLeaves,
}

impl Peers {
    pub(crate) const fn has_command(&self) -> bool {
        matches!(self.go, Go::Runs(_)) || matches!(self.foreign, Foreign::Runs(_))
    }
}

impl Explorer {
    pub(crate) fn peer_steps(&self, state: &State) -> impl Iterator<Item = Peer> {
        let go = match state.peers.go {
            Go::Away => None,
            Go::Runs(_) => Some(Peer::GoEnds),
            Go::Ended(_) => Some(Peer::GoReleases),
        };
        let leads = |lease: LeaseId| {
            let prefix = format!("{LOCK}/");
            let below = || state.etcd.keys().filter(|kv| kv.key.starts_with(prefix.as_bytes()));
            let place = below().find(|kv| kv.key == entry(lease)).map(|kv| kv.create_revision);
            place.is_some_and(|place| below().all(|kv| kv.create_revision >= place))
        };
        let foreign = match state.peers.foreign {
            Foreign::Away => [None, None],
            Foreign::Waits(lease) if leads(lease) => [Some(Peer::ForeignStarts), Some(Peer::ForeignLeaves)],
            Foreign::Waits(_) | Foreign::Runs(_) => [Some(Peer::ForeignLeaves), None],
        };
        go.into_iter().chain(foreign.into_iter().flatten())
    }

    pub(crate) fn peer_step(&self, state: &mut State, step: Peer) {
        match (step, state.peers.go, state.peers.foreign) {
            (Peer::GoEnds, Go::Runs(lease), _) => state.peers.go = Go::Ended(lease),
            (Peer::GoReleases, Go::Ended(lease), _) => {
                state.peers.go = Go::Away;
                self.revoke(state, lease);
            }
            (Peer::ForeignStarts, _, Foreign::Waits(lease)) => {
                state.peers.foreign = Foreign::Runs(lease);
                self.judge_peer(state);
            }
            (Peer::ForeignLeaves, _, Foreign::Waits(lease) | Foreign::Runs(lease)) => {
                state.peers.foreign = Foreign::Away;
                self.revoke(state, lease);
            }
            _ => {}
        }
    }

    /// The Go tool takes the lock; with force it deletes the holder key before.
    pub(crate) fn go_starts(&self, state: &mut State, force: bool) {
        if force {
            state.deposed = state.etcd.revision;
            let deposed: Vec<_> = state.instances().map(|(n, _)| n).collect();
            for n in deposed {
                self.update(state, n, |instance| instance.fate.deposed |= instance.command.runs());
            }
            let delete = Txn { when: vec![], then: vec![Op::Delete(LOCK.into())], otherwise: None };
            let _ = state.etcd.change(|etcd| etcd.commit(&delete));
        }
        let lease = self.peer_lease(state);
        let put = Txn {
            when: vec![Compare::Absent(Range::Key(LOCK.into()))],
            then: vec![Op::Put(LOCK.into(), "go".into(), lease)],
            otherwise: None,
        };
        if let Ok(Outcome::Then(_)) = state.etcd.change(|etcd| etcd.commit(&put)) {
            state.peers.go = Go::Runs(lease);
            self.judge_peer(state);
        }
        self.changed(state);
    }

    pub(crate) fn foreign_joins(&self, state: &mut State) {
        let lease = self.peer_lease(state);
        let put = Txn { when: vec![], then: vec![Op::Put(entry(lease), "other".into(), lease)], otherwise: None };
        let _ = state.etcd.change(|etcd| etcd.commit(&put));
        state.peers.foreign = Foreign::Waits(lease);
        self.changed(state);
    }

    fn peer_lease(&self, state: &mut State) -> LeaseId {
        state.peers.leases += 1;
        let lease = LeaseId(0x900 + i64::from(state.peers.leases));
        state.etcd.change(|etcd| {
            etcd.grant(lease, 3 * SECOND, STORE_NOW);
            store::keep(etcd, lease);
        });
        lease
    }
}

fn entry(lease: LeaseId) -> Vec<u8> {
    format!("{LOCK}/{lease}").into_bytes()
}
