//! The election as one read of etcd shows it: who holds the lock, who waits in which order, who asks for it.

use super::{
    keys::{LeaseId, LockName},
    store::{KeyValue, Range, Snapshot, shown},
};

/// Everything below one lock at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The revision of the store.
    pub revision: i64,
    /// The holder key.
    pub holder: Option<KeyValue>,
    /// The queue, the head first.
    pub entries: Vec<Entry>,
    /// The requests for the lead, the oldest first.
    pub requests: Vec<KeyValue>,
    /// The markers of holders that were deleted by force.
    pub markers: Vec<KeyValue>,
}

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key, identity, revisions.
    pub kv: KeyValue,
    /// The lease it hangs on: whose it is.
    pub lease: LeaseId,
    /// Whether it is one of ours, or made by another client of etcd's elections.
    pub ours: bool,
}

impl Entry {
    /// Who it is: an identity of ours, or else the key, as other clients put anything into its value.
    #[must_use]
    pub fn name(&self) -> String {
        if self.ours { self.kv.identity() } else { shown(&self.kv.key) }
    }
}

/// Who gets the lead next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor<'a> {
    /// Its place.
    pub entry: &'a Entry,
    /// Its request, if it asked for the lead.
    pub request: Option<&'a KeyValue>,
}

impl View {
    /// What to read for a view of this lock. Not everything below its name: an application may keep its data there, and more of
    /// it than fits into one answer. For the same reason foreign entries are read without their values.
    #[must_use]
    pub fn ranges(lock: &LockName) -> Vec<Range> {
        let mut ranges = Self::queue(lock);
        ranges.extend([Range::Key(lock.holder()), Range::Prefix(lock.requests()), Range::Prefix(lock.markers())]);
        ranges
    }

    /// What to read for the queue alone.
    #[must_use]
    pub fn queue(lock: &LockName) -> Vec<Range> {
        let (from, to) = lock.foreign_entries();
        vec![Range::Prefix(lock.own_entries()), Range::Between(from, to)]
    }

    /// Sorts what was read. Keys that are none of this lock's are left out.
    #[must_use]
    pub fn new(lock: &LockName, snapshot: Snapshot) -> Self {
        let mut view =
            Self { revision: snapshot.revision, holder: None, entries: vec![], requests: vec![], markers: vec![] };
        let (holder, prefix) = (lock.holder(), lock.prefix());
        for kv in snapshot.keys {
            if kv.key == holder {
                view.holder = Some(kv);
            } else if let Some(name) = kv.key.strip_prefix(prefix.as_slice()) {
                match Kind::of(name, kv.lease) {
                    Kind::Entry { lease, ours } => view.entries.push(Entry { kv, lease, ours }),
                    Kind::Request => view.requests.push(kv),
                    Kind::Marker => view.markers.push(kv),
                    Kind::Foreign => {}
                }
            }
        }
        view.entries.sort_by(|a, b| (a.kv.create_revision, &a.kv.key).cmp(&(b.kv.create_revision, &b.kv.key)));
        // Ranges may overlap.
        view.entries.dedup_by(|a, b| a.kv.key == b.kv.key);
        view.requests.sort_by_key(|kv| kv.create_revision);
        view
    }

    /// All that was found.
    pub fn keys(&self) -> impl Iterator<Item = &KeyValue> {
        let entries = self.entries.iter().map(|entry| &entry.kv);
        self.holder.iter().chain(entries).chain(&self.requests).chain(&self.markers)
    }

    /// The entry that hangs on this lease, with its place in the queue: 0 is the head. By the lease and not by the name,
    /// since a place can be inherited.
    #[must_use]
    pub fn entry_of(&self, lease: LeaseId) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.lease == lease)
    }

    /// Whether head and holder both hang on this lease.
    #[must_use]
    pub fn is_led_by(&self, lease: LeaseId) -> bool {
        self.entries.first().is_some_and(|head| head.lease == lease) && self.holds(lease)
    }

    /// Whether the holder key hangs on this lease.
    #[must_use]
    pub fn holds(&self, lease: LeaseId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease == Some(lease))
    }

    /// The request of anybody but this lease.
    #[must_use]
    pub fn request_to(&self, lease: LeaseId) -> Option<&KeyValue> {
        self.requests.iter().find(|request| request.lease != Some(lease))
    }

    /// The request of this lease.
    #[must_use]
    pub fn request_of(&self, lease: LeaseId) -> Option<&KeyValue> {
        self.requests.iter().find(|request| request.lease == Some(lease))
    }

    /// The holder, if it has no place in the queue: the Go tool, or a key written by hand. It knows no requests.
    #[must_use]
    pub fn holder_without_entry(&self) -> Option<&KeyValue> {
        self.holder.as_ref().filter(|holder| holder.lease.is_none_or(|lease| self.entry_of(lease).is_none()))
    }

    /// Who is next in the queue after this lease. A copy of its own join that came late may have made it a second entry.
    #[must_use]
    pub fn next_of(&self, lease: LeaseId) -> Option<&Entry> {
        let (place, _) = self.entry_of(lease)?;
        self.entries[place..].iter().find(|entry| entry.lease != lease)
    }

    /// Who gets the lead from the holder with this lease: who asked first, else the next one, if it is one of ours.
    #[must_use]
    pub fn successor_of(&self, lease: LeaseId) -> Option<Successor<'_>> {
        let asked = self.requests.iter().filter(|request| request.lease != Some(lease)).find_map(|request| {
            let (_, entry) = self.entry_of(request.lease?)?;
            Some(Successor { entry, request: Some(request) })
        });
        let next = || Some(Successor { entry: self.next_of(lease)?, request: None });
        asked.or_else(next).filter(|successor| successor.entry.ours)
    }
}

/// What a key below the lock is.
enum Kind {
    Entry { lease: LeaseId, ours: bool },
    Request,
    Marker,
    Foreign,
}

impl Kind {
    /// By the name below `L/`. Whatever has no lease is nobody's: it would stand for ever.
    fn of(name: &[u8], lease: Option<LeaseId>) -> Self {
        let Some(lease) = lease else { return Self::Foreign };
        if let Some(hex) = name.strip_prefix(b"~force/") {
            return if hex == lease.to_string().as_bytes() { Self::Request } else { Self::Foreign };
        }
        if let Some(hex) = name.strip_prefix(b"~ousted/") {
            return if hex == lease.to_string().as_bytes() { Self::Marker } else { Self::Foreign };
        }
        match name.strip_prefix(b"0") {
            // Ours; the name can be that of an earlier leader, whose place was inherited.
            Some(hex) if is_lease(hex) => Self::Entry { lease, ours: true },
            // etcd's own clients never hand a place on.
            None if name == lease.to_string().as_bytes() => Self::Entry { lease, ours: false },
            _ => Self::Foreign,
        }
    }
}

/// Whether these bytes are a lease id as we write it: lower-case hexadecimal without leading zeros, at most 63 bits.
fn is_lease(hex: &[u8]) -> bool {
    !hex.is_empty()
        && hex.len() <= 16
        && hex[0] != b'0'
        && hex.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
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
        View::new(&"a".parse().expect("a name"), Snapshot { revision: 99, keys })
    }

    #[test]
    fn the_oldest_entry_is_the_head_whatever_its_name() {
        let view = view(vec![kv("a/0ff", "late", 7, 0xff), kv("a/0aa", "heir", 3, 0xbb), kv("a", "heir", 9, 0xbb)]);
        assert_eq!(view.entries[0].kv.identity(), "heir");
        assert!(view.is_led_by(LeaseId(0xbb)));
        assert!(!view.is_led_by(LeaseId(0xaa)));
        assert_eq!(view.entry_of(LeaseId(0xff)).expect("an entry").0, 1);
    }

    #[test]
    fn a_foreign_entry_counts_if_its_suffix_is_its_lease() {
        let view =
            view(vec![kv("a/c0", "theirs", 1, 0xc0), kv("a/c1", "no entry", 2, 0xc2), kv("a/c3", "no lease", 3, 0)]);
        assert_eq!(view.entries.len(), 1);
        assert!(!view.entries[0].ours);
    }

    #[test]
    fn a_lock_is_not_confused_by_a_lock_below_it() {
        let below =
            vec![kv("a/b", "x", 1, 5), kv("a/b/05", "x", 1, 5), kv("a/b/~force/5", "x", 1, 5), kv("a/00", "", 1, 5)];
        let view = view(below);
        assert_eq!((view.holder, view.entries.len(), view.requests.len()), (None, 0, 0));
    }

    #[test]
    fn the_lead_goes_to_whoever_asked_first_else_to_the_next_of_ours() {
        let mut keys = vec![
            kv("a/01", "leader", 1, 1),
            kv("a/02", "next", 2, 2),
            kv("a/03", "asks", 3, 3),
            kv("a", "leader", 1, 1),
        ];
        let next = view(keys.clone());
        assert_eq!(next.successor_of(LeaseId(1)).expect("a successor").entry.lease, LeaseId(2));
        keys.extend([kv("a/~force/3", "asks", 4, 3), kv("a/~force/9", "has no place", 2, 9)]);
        let asked = view(keys);
        let successor = asked.successor_of(LeaseId(1)).expect("a successor");
        assert_eq!((successor.entry.lease, successor.request.is_some()), (LeaseId(3), true));
        let foreign = view(vec![kv("a/01", "leader", 1, 1), kv("a/2", "theirs", 2, 2), kv("a/03", "ours", 3, 3)]);
        assert_eq!(foreign.successor_of(LeaseId(1)), None);
        assert_eq!(foreign.successor_of(LeaseId(3)), None);
    }

    #[test]
    fn a_holder_without_a_place_is_the_go_tool_or_written_by_hand() {
        assert!(view(vec![kv("a", "go", 1, 7)]).holder_without_entry().is_some());
        assert!(view(vec![kv("a", "hand", 1, 0), kv("a/07", "x", 2, 7)]).holder_without_entry().is_some());
        assert!(view(vec![kv("a", "ours", 1, 7), kv("a/07", "ours", 1, 7)]).holder_without_entry().is_none());
    }

    proptest! {
        /// Whatever is found below the lock: only what we or etcd's own clients write there counts, and every entry of ours is
        /// found again by its lease.
        #[test]
        fn nonsense_below_the_lock_is_nobodys(
            found in vec(("(a|a/|a/0|a/~force/|a/~ousted/|b)?[0-9a-f/~]{0,8}", any::<Vec<u8>>(), 1i64..50, 0i64..300), 0..20),
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
