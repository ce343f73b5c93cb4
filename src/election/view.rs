//! The election at one revision: the holder, the queue in order, the handover requests.

use std::collections::BTreeMap;

use super::keys::{Kind, Request};
use crate::core::{
    kv::{KeyOnly, KeyValue, Snapshot},
    names::{LeaseId, LockName, shown},
};

/// The keys of one lock at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The revision of the store.
    pub revision: i64,
    /// The holder key.
    pub holder: Option<KeyValue>,
    /// The queue, the head first.
    pub entries: Vec<Entry>,
    /// The handover requests, the oldest first.
    pub requests: Vec<RequestKey>,
    /// The eviction markers.
    pub markers: Vec<KeyValue>,
    /// The keys of the priorities.
    pub priorities: Vec<KeyValue>,
    /// The pause.
    pub pause: Option<KeyValue>,
    /// All keys that were read without their values.
    pub names: Vec<KeyOnly>,
}

/// A queue entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The key; its value is the identity.
    pub kv: KeyValue,
    /// The lease of its owner.
    pub lease: LeaseId,
    /// Whether an instance of this program created it, and not another etcd client.
    pub ours: bool,
    /// The priority of its owner.
    pub priority: i32,
}

impl Entry {
    /// Returns how to name its owner: by the identity, or by the key where another client may have put anything into the value.
    #[must_use]
    pub fn name(&self) -> String {
        if self.ours { self.kv.identity() } else { shown(&self.kv.key) }
    }
}

/// A handover request that exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The key.
    pub name: KeyOnly,
    /// The request that the name of the key stands for.
    pub request: Request,
}

/// The instance that leadership is handed over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Successor<'a> {
    /// Its queue entry.
    pub entry: &'a Entry,
    /// Its handover request, if there is one.
    pub request: Option<&'a KeyOnly>,
}

impl View {
    /// Sorts the keys that were read by their kind. Ignores keys that do not belong to this lock.
    #[must_use]
    pub fn new(lock: &LockName, snapshot: Snapshot) -> Self {
        let Snapshot { revision, keys, names, .. } = snapshot;
        let requests = names.iter().filter_map(|name| {
            let request = lock.request_of(&name.key)?;
            Some(RequestKey { name: name.clone(), request })
        });
        let requests = requests.collect();
        let mut view = Self {
            revision,
            holder: None,
            entries: vec![],
            requests,
            markers: vec![],
            priorities: vec![],
            pause: None,
            names,
        };
        let priority_of = |kv: &KeyValue| lock.priority_of(kv);
        let (priorities, keys): (Vec<_>, _) = keys.into_iter().partition(|kv| priority_of(kv).is_some());
        let of_leases: BTreeMap<_, _> = priorities.iter().filter_map(priority_of).collect();
        view.priorities = priorities;
        let (holder, pause) = (lock.holder(), lock.pause());
        for kv in keys {
            if kv.key == holder {
                view.holder = Some(kv);
                continue;
            }
            if kv.key == pause {
                view.pause = Some(kv);
                continue;
            }
            match lock.kind(&kv.key, kv.lease) {
                Some(Kind::Entry { lease, ours }) => {
                    let priority = of_leases.get(&lease).copied().unwrap_or(0);
                    view.entries.push(Entry { kv, lease, ours, priority });
                }
                Some(Kind::Marker) => view.markers.push(kv),
                None => {}
            }
        }
        // Ranges may overlap.
        view.entries.sort_by(|a, b| (a.kv.create_revision, &a.kv.key).cmp(&(b.kv.create_revision, &b.kv.key)));
        view.entries.dedup_by(|a, b| a.kv.key == b.kv.key);
        view.requests.sort_by(|a, b| (a.name.create_revision, &a.name.key).cmp(&(b.name.create_revision, &b.name.key)));
        view.requests.dedup_by(|a, b| a.name.key == b.name.key);
        view
    }

    /// Returns the entry that is attached to this lease, with its position in the queue: 0 is the head. The name does not decide,
    /// because an entry can be handed over.
    #[must_use]
    pub fn entry_of(&self, lease: LeaseId) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.lease == lease)
    }

    /// Returns the number of the standby at this position: the first standby is number 1, and the leader is not counted.
    #[must_use]
    pub fn number(&self, position: usize) -> usize {
        let is_led = self.entries.first().is_some_and(|head| self.holds(head.lease));
        if is_led { position } else { position + 1 }
    }

    /// Returns whether the head of the queue and the holder key are both attached to this lease.
    #[must_use]
    pub fn is_led_by(&self, lease: LeaseId) -> bool {
        self.entries.first().is_some_and(|head| head.lease == lease) && self.holds(lease)
    }

    /// Returns whether the holder key is attached to this lease.
    #[must_use]
    pub fn holds(&self, lease: LeaseId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease == Some(lease))
    }

    /// Returns the owner of the oldest request that the holder with this lease must obey. A request counts only while its owner
    /// has a queue entry, and not during a pause: leadership cannot be handed over to it otherwise.
    #[must_use]
    pub fn requester(&self, holder: LeaseId) -> Option<Successor<'_>> {
        if self.pause.is_some() {
            return None;
        }
        self.requests.iter().filter(|key| key.request.is_for(holder)).find_map(|key| {
            let (_, entry) = self.entry_of(key.request.lease).filter(|(_, entry)| entry.ours)?;
            Some(Successor { entry, request: Some(&key.name) })
        })
    }

    /// Returns the key of this request, if it exists.
    #[must_use]
    pub fn request(&self, request: Request) -> Option<&KeyOnly> {
        self.requests.iter().find(|key| key.request == request).map(|key| &key.name)
    }

    /// Returns the holder key if its owner has no queue entry: the Go tool wrote it, or a person by hand. Such a holder does not
    /// react to handover requests.
    #[must_use]
    pub fn holder_without_entry(&self) -> Option<&KeyValue> {
        self.holder.as_ref().filter(|holder| holder.lease.is_none_or(|lease| self.entry_of(lease).is_none()))
    }

    /// Returns the next entry of another lease in the queue. A join that was applied twice may have created two entries of one lease.
    #[must_use]
    pub fn next_of(&self, lease: LeaseId) -> Option<&Entry> {
        let (position, _) = self.entry_of(lease)?;
        self.entries[position..].iter().find(|entry| entry.lease != lease)
    }

    /// Returns the standby with the highest priority behind the entry of this lease, the oldest of these. Leadership never passes an
    /// entry of another client without a request.
    #[must_use]
    pub fn preferred_to(&self, lease: LeaseId) -> Option<&Entry> {
        let (position, _) = self.entry_of(lease)?;
        let others = self.entries[position..].iter().filter(|entry| entry.lease != lease);
        // Of equal ones `max_by_key` returns the last.
        others.take_while(|entry| entry.ours).collect::<Vec<_>>().into_iter().rev().max_by_key(|entry| entry.priority)
    }

    /// Returns the instance that the holder with this lease hands over to: the one that made the oldest request, else the standby
    /// with the highest priority.
    #[must_use]
    pub fn successor_of(&self, lease: LeaseId) -> Option<Successor<'_>> {
        let preferred = || Some(Successor { entry: self.preferred_to(lease)?, request: None });
        self.requester(lease).or_else(preferred)
    }

    /// Returns the leader that the instance with this entry must replace if it fails back: one with a lower priority, while no standby has
    /// a higher one.
    #[must_use]
    pub fn leader_below(&self, own: &Entry) -> Option<&Entry> {
        let is_higher = |entry: &&Entry| entry.ours && entry.priority > own.priority;
        let leader = self.entries.first().filter(|head| head.ours && self.is_led_by(head.lease))?;
        (leader.priority < own.priority && !self.entries.iter().any(|entry| is_higher(&entry))).then_some(leader)
    }

    /// Returns whether there is a priority of another lease. Leadership is not simply handed to the next in the queue then.
    #[must_use]
    pub fn has_priorities_beside(&self, lease: LeaseId, lock: &LockName) -> bool {
        let others = lock.priorities_beside(lease);
        self.priorities.iter().any(|kv| others.iter().any(|range| range.contains(&kv.key)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn kv(key: &str, value: &str, create: i64, lease: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: create,
            mod_revision: create,
            lease: (lease != 0).then_some(LeaseId(lease)),
        }
    }

    fn view(keys: Vec<KeyValue>) -> View {
        // Both with and without values, as requests are read by name only.
        let names = keys.iter().cloned().map(KeyOnly::from).collect();
        View::new(&"a".parse().expect("a name"), Snapshot { revision: 99, keys, names, cut: vec![] })
    }

    #[test]
    fn the_oldest_entry_is_the_head_whatever_its_name() {
        let view = view(vec![
            kv("a/~entry/ff", "late", 7, 0xff),
            kv("a/~entry/aa", "successor", 3, 0xbb),
            kv("a", "successor", 9, 0xbb),
        ]);
        assert_eq!(view.entries[0].kv.identity(), "successor");
        assert!(view.is_led_by(LeaseId(0xbb)));
        assert!(!view.is_led_by(LeaseId(0xaa)));
        assert_eq!(view.entry_of(LeaseId(0xff)).expect("an entry").0, 1);
    }

    #[test]
    fn an_entry_of_another_client_counts_if_its_suffix_is_its_lease() {
        let view =
            view(vec![kv("a/c0", "theirs", 1, 0xc0), kv("a/c1", "no entry", 2, 0xc2), kv("a/c3", "no lease", 3, 0)]);
        assert_eq!(view.entries.len(), 1);
        assert!(!view.entries[0].ours);
    }

    #[test]
    fn keys_of_a_lock_below_a_lock_are_ignored() {
        let below = vec![
            kv("a/01", "x", 1, 5),
            kv("a/b/~entry/5", "x", 1, 5),
            kv("a/b/~force/5", "x", 1, 5),
            kv("a/05", "", 1, 5),
        ];
        let view = view(below);
        assert_eq!((view.holder, view.entries.len(), view.requests.len()), (None, 0, 0));
    }

    #[test]
    fn a_priority_is_that_of_the_lease_of_an_entry() {
        let mut keys = keys_of_three();
        // The head was handed over by an earlier leader with lease 9.
        keys[0] = kv("a/~entry/9", "leader", 1, 1);
        keys.extend([kv("a/~priority/1", "5", 1, 1), kv("a/~priority/3", "-5", 3, 3)]);
        // Without an entry, of an earlier leader, and on another lease.
        keys.extend([kv("a/~priority/8", "8", 8, 8), kv("a/~priority/9", "9", 9, 9), kv("a/~priority/2", "2", 2, 8)]);
        let priorities: Vec<_> = view(keys).entries.iter().map(|entry| entry.priority).collect();
        assert_eq!(priorities, [5, 0, -5]);
    }

    fn keys_of_three() -> Vec<KeyValue> {
        vec![
            kv("a/~entry/1", "leader", 1, 1),
            kv("a/~entry/2", "next", 2, 2),
            kv("a/~entry/3", "requester", 3, 3),
            kv("a", "leader", 1, 1),
        ]
    }

    #[test]
    fn the_first_standby_is_number_1_whether_or_not_the_head_leads() {
        let led = view(keys_of_three());
        assert_eq!((led.number(1), led.number(2)), (1, 2));
        let free = view(keys_of_three().into_iter().take(3).collect());
        assert_eq!((free.number(0), free.number(1)), (1, 2));
        let beside_go = view(vec![kv("a", "go", 1, 9), kv("a/~entry/1", "ours", 2, 1)]);
        assert_eq!(beside_go.number(0), 1);
    }

    #[test]
    fn the_successor_is_the_first_requester_else_the_next_instance() {
        let mut keys = keys_of_three();
        let next = view(keys.clone());
        assert_eq!(next.successor_of(LeaseId(1)).expect("a successor").entry.lease, LeaseId(2));
        keys.extend([kv("a/~force/3", "requester", 4, 3), kv("a/~force/9", "has no entry", 2, 9)]);
        let requested = view(keys);
        let successor = requested.successor_of(LeaseId(1)).expect("a successor");
        assert_eq!((successor.entry.lease, successor.request.is_some()), (LeaseId(3), true));
        // A request counts only for the holder that it is addressed to, and only while its owner has an entry.
        let mut to_another = keys_of_three();
        to_another.extend([kv("a/~resign/8/3", "", 4, 3), kv("a/~force/9", "", 2, 9)]);
        let to_another = view(to_another);
        assert_eq!(to_another.requester(LeaseId(1)), None);
        assert_eq!(to_another.requester(LeaseId(8)).expect("a requester").entry.lease, LeaseId(3));
        let foreign =
            view(vec![kv("a/~entry/1", "leader", 1, 1), kv("a/2", "theirs", 2, 2), kv("a/~entry/3", "ours", 3, 3)]);
        assert_eq!(foreign.successor_of(LeaseId(1)), None);
        assert_eq!(foreign.successor_of(LeaseId(3)), None);
    }

    #[test]
    fn the_successor_is_the_highest_priority_before_an_entry_of_another_client() {
        let priority = |lease: i64, priority: &str| kv(&format!("a/~priority/{lease}"), priority, lease, lease);
        let successor = |also: Vec<KeyValue>| {
            let view = view([keys_of_three(), vec![kv("a/~entry/4", "last", 5, 4)], also].concat());
            view.successor_of(LeaseId(1)).map(|successor| successor.entry.lease.0)
        };
        for (also, expected) in [
            (vec![], 2),
            (vec![priority(3, "1")], 3),
            (vec![priority(3, "1"), priority(4, "2")], 4),
            (vec![priority(3, "1"), priority(4, "1")], 3),
            (vec![priority(2, "-1")], 3),
            (vec![priority(2, "-1"), priority(3, "-2"), priority(4, "-3")], 2),
            // The leader's own does not count.
            (vec![priority(1, "9"), priority(2, "1"), priority(4, "7")], 4),
            (vec![priority(3, "high"), priority(2, "-1")], 3),
            (vec![priority(4, "2"), kv("a/~force/3", "requester", 5, 3)], 3),
        ] {
            assert_eq!(successor(also.clone()), Some(expected), "{also:?}");
        }
        let foreign = kv("a/33", "theirs", 4, 0x33);
        assert_eq!(successor(vec![priority(3, "1"), priority(4, "2"), foreign]), Some(3));
        let foreign = kv("a/22", "theirs", 2, 0x22);
        let keys = [vec![kv("a/~entry/1", "leader", 1, 1), foreign], keys_of_three().split_off(2)].concat();
        assert_eq!(view([keys, vec![priority(3, "1")]].concat()).successor_of(LeaseId(1)), None);
    }

    #[test]
    fn the_go_tool_and_a_key_written_by_hand_are_holders_without_an_entry() {
        assert!(view(vec![kv("a", "go", 1, 7)]).holder_without_entry().is_some());
        assert!(view(vec![kv("a", "hand", 1, 0), kv("a/~entry/7", "x", 2, 7)]).holder_without_entry().is_some());
        assert!(view(vec![kv("a", "ours", 1, 7), kv("a/~entry/7", "ours", 1, 7)]).holder_without_entry().is_none());
    }

    proptest! {
        /// Whatever keys exist below the lock, every entry of this program is found by its lease, and no other client's entry
        /// is a successor.
        #[test]
        fn other_keys_below_the_lock_are_ignored(
            found in vec(("(a|a/|a/0|a/~entry/|a/~force/|a/~resign/|a/~ousted/|b)?[0-9a-f/~]{0,8}", any::<Vec<u8>>(), 1i64..50, 0i64..300), 0..20),
            leases in proptest::collection::btree_set(1i64..i64::MAX, 0..5),
        ) {
            let lock: LockName = "a".parse().expect("a name");
            let mut keys: Vec<_> = found.into_iter().map(|(key, value, revision, lease)| {
                KeyValue { value, ..kv(&key, "", revision, lease) }
            }).collect();
            for (number, &lease) in leases.iter().enumerate() {
                let key = String::from_utf8(lock.entry(LeaseId(lease))).expect("text");
                keys.push(kv(&key, "ours", 100 + i64::try_from(number).expect("few"), lease));
            }
            let view = view(keys);
            prop_assert!(view.entries.is_sorted_by_key(|entry| entry.kv.create_revision));
            prop_assert!(view.entries.iter().all(|entry| entry.kv.lease == Some(entry.lease)));
            for &lease in &leases {
                prop_assert!(view.entry_of(LeaseId(lease)).is_some_and(|(_, entry)| entry.ours));
            }
            for entry in &view.entries {
                if let Some(successor) = view.successor_of(entry.lease) {
                    prop_assert!(successor.entry.ours);
                }
            }
        }
    }
}
