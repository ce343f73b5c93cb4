//! The election at one revision: the holder, the queue in its order, the handover requests.
//!
//! Other clients can keep more keys below the name of the lock than fit into one answer. So the queue is read in pages, and
//! the keys of other clients are read without their values.

use super::keys::{Kind, Request};
use crate::{
    core::names::{LeaseId, LockName, shown},
    etcd::store::{Get, KeyOnly, KeyValue, Range, Snapshot, StoreError},
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
    /// The handover requests, the oldest first, without their values.
    pub requests: Vec<Asking>,
    /// The eviction markers.
    pub markers: Vec<KeyValue>,
    /// All keys that were read without their values.
    pub names: Vec<KeyOnly>,
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

/// A handover request and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Its key.
    pub name: KeyOnly,
    /// Its owner, and whom it is for.
    pub request: Request,
}

/// The instance that becomes the next leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor<'a> {
    /// Its queue entry.
    pub entry: &'a Entry,
    /// Its handover request, if there is one.
    pub request: Option<&'a KeyOnly>,
}

impl View {
    /// Reads the holder, the markers, the whole queue and `also`, all at one revision.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn read(
        lock: &LockName,
        also: impl IntoIterator<Item = Get>,
        read: impl AsyncFn(&[Get]) -> Result<Snapshot, StoreError>,
    ) -> Result<Self, StoreError> {
        let mut gets = vec![
            Get::page(lock.own_entries(), true),
            Get::page(lock.foreign_entries(), false),
            Get::key(lock.holder()),
            Get::names(lock.markers()),
        ];
        gets.extend(also);
        let mut all = read(&gets).await?;
        let mut cut = std::mem::take(&mut all.cut);
        loop {
            gets =
                cut.into_iter().filter_map(|(n, last)| Self::next_page(lock, &gets[n], &last, all.revision)).collect();
            if gets.is_empty() {
                break;
            }
            let page = read(&gets).await?;
            all.keys.extend(page.keys);
            all.names.extend(page.names);
            cut = page.cut;
        }
        // The few that could count are read once more, with their leases.
        let unknown = all.names.iter().filter(|name| lock.needs_lease(&name.key));
        let unknown: Vec<_> =
            unknown.map(|name| Get { at: Some(all.revision), ..Get::key(name.key.clone()) }).collect();
        for some in unknown.chunks(Get::FEW) {
            all.keys.extend(read(some).await?.keys);
        }
        Ok(Self::new(lock, all))
    }

    /// Returns the next page after a page of the queue that ends with this key; `None` for reads that are no pages.
    fn next_page(lock: &LockName, page: &Get, last: &[u8], revision: i64) -> Option<Get> {
        let next = if page.values { Some([last, b"\0"].concat()) } else { lock.next_foreign_entry(last) };
        let end = match &page.range {
            Range::Prefix(prefix) if usize::from(page.limit) > Get::FEW => end_of(prefix),
            Range::Between(_, to) => to.clone(),
            Range::Prefix(_) | Range::Key(_) => return None,
        };
        let range = Range::Between(next.filter(|next| *next < end)?, end);
        Some(Get { range, at: Some(revision), ..page.clone() })
    }

    /// Sorts what was read. Keys that are none of this lock's are left out.
    #[must_use]
    pub fn new(lock: &LockName, snapshot: Snapshot) -> Self {
        let Snapshot { revision, keys, names, .. } = snapshot;
        let requests = names.iter().filter_map(|name| {
            let request = lock.request_of(&name.key)?;
            Some(Asking { name: name.clone(), request })
        });
        let requests = requests.collect();
        let mut view = Self { revision, holder: None, entries: vec![], requests, markers: vec![], names };
        let holder = lock.holder();
        for kv in keys {
            if kv.key == holder {
                view.holder = Some(kv);
                continue;
            }
            match lock.kind(&kv.key, kv.lease) {
                Some(Kind::Entry { lease, ours }) => view.entries.push(Entry { kv, lease, ours }),
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

    /// The entry that hangs on this lease, with its place in the queue: 0 is the head. By the lease and not by the name,
    /// since a place can be inherited.
    #[must_use]
    pub fn entry_of(&self, lease: LeaseId) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.lease == lease)
    }

    /// Returns the number of the standby at this place: the first standby is number 1, and the leader is not counted.
    #[must_use]
    pub fn number(&self, place: usize) -> usize {
        let is_led = self.entries.first().is_some_and(|head| self.holds(head.lease));
        if is_led { place } else { place + 1 }
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

    /// Returns the owner of the oldest request that the holder with this lease must obey. A request counts only while its owner
    /// has a queue entry: without one it cannot be handed anything.
    #[must_use]
    pub fn asking(&self, holder: LeaseId) -> Option<Successor<'_>> {
        self.requests.iter().filter(|asking| asking.request.is_for(holder)).find_map(|asking| {
            let (_, entry) = self.entry_of(asking.request.lease).filter(|(_, entry)| entry.ours)?;
            Some(Successor { entry, request: Some(&asking.name) })
        })
    }

    /// Returns the key of this request, if it exists.
    #[must_use]
    pub fn request(&self, request: Request) -> Option<&KeyOnly> {
        self.requests.iter().find(|asking| asking.request == request).map(|asking| &asking.name)
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
        let next = || Some(Successor { entry: self.next_of(lease).filter(|next| next.ours)?, request: None });
        self.asking(lease).or_else(next)
    }
}

/// Returns the end of the range of a prefix that ends with a slash.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
        // Read in both ways, so that a request is known by its name and all else by its lease.
        let names = keys.iter().cloned().map(KeyOnly::from).collect();
        View::new(&"a".parse().expect("a name"), Snapshot { revision: 99, keys, names, cut: vec![] })
    }

    #[test]
    fn the_oldest_entry_is_the_head_whatever_its_name() {
        let view = view(vec![
            kv("a/~entry/ff", "late", 7, 0xff),
            kv("a/~entry/aa", "heir", 3, 0xbb),
            kv("a", "heir", 9, 0xbb),
        ]);
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
        let below = vec![
            kv("a/01", "x", 1, 5),
            kv("a/b/~entry/5", "x", 1, 5),
            kv("a/b/~force/5", "x", 1, 5),
            kv("a/05", "", 1, 5),
        ];
        let view = view(below);
        assert_eq!((view.holder, view.entries.len(), view.requests.len()), (None, 0, 0));
    }

    fn keys_of_three() -> Vec<KeyValue> {
        vec![
            kv("a/~entry/1", "leader", 1, 1),
            kv("a/~entry/2", "next", 2, 2),
            kv("a/~entry/3", "asks", 3, 3),
            kv("a", "leader", 1, 1),
        ]
    }

    #[test]
    fn whoever_leads_is_no_standby_and_the_next_is_number_1() {
        let led = view(keys_of_three());
        assert_eq!((led.number(1), led.number(2)), (1, 2));
        let free = view(keys_of_three().into_iter().take(3).collect());
        assert_eq!((free.number(0), free.number(1)), (1, 2));
        let beside_go = view(vec![kv("a", "go", 1, 9), kv("a/~entry/1", "ours", 2, 1)]);
        assert_eq!(beside_go.number(0), 1);
    }

    /// Answers as etcd would, with at most `page` keys per range.
    async fn read(keys: &[KeyValue], gets: &[Get], page: usize, reads: &Cell<usize>) -> Result<Snapshot, StoreError> {
        reads.set(reads.get() + 1);
        let mut snapshot = Snapshot { revision: 99, ..Snapshot::default() };
        for (n, get) in gets.iter().enumerate() {
            assert_eq!(get.at, (reads.get() > 1).then_some(99), "all pages are of one revision");
            let mut found: Vec<_> = keys.iter().filter(|kv| get.range.contains(&kv.key)).cloned().collect();
            found.sort_by(|a, b| a.key.cmp(&b.key));
            let most = page.min(get.limit.into());
            snapshot.cut.extend(found.get(most).map(|_| (n, found[most - 1].key.clone())));
            let found = found.into_iter().take(most);
            if get.values { snapshot.keys.extend(found) } else { snapshot.names.extend(found.map(KeyOnly::from)) }
        }
        Ok(snapshot)
    }

    /// An application's `a/config/…` is skipped in one step.
    #[tokio::test]
    async fn the_queue_is_read_in_pages_and_what_is_no_entry_is_skipped() {
        let mut keys = keys_of_three();
        for number in 0..1000 {
            keys.push(kv(&format!("a/config/{number}"), "data", 5, 5));
            keys.push(kv(&format!("a/~force/{number}"), "", 5, 5));
        }
        keys.extend([kv("a/b", "theirs", 4, 0xb), kv("a/d", "theirs", 9, 0xd), kv("a/f", "theirs", 9, 0xf)]);
        for page in [1, 2, 3, 10] {
            let reads = Cell::new(0);
            let lock = "a".parse().expect("a name");
            let view = View::read(&lock, [], async |gets: &[Get]| read(&keys, gets, page, &reads).await).await;
            let view = view.expect("it is read");
            let leases: Vec<_> = view.entries.iter().map(|entry| entry.lease.0).collect();
            assert_eq!((leases, view.holder.is_some()), (vec![1, 2, 3, 0xb, 0xd, 0xf], true), "{page}");
            assert!(reads.get() <= 9, "{} reads with pages of {page}", reads.get());
        }
    }

    #[test]
    fn the_lead_goes_to_whoever_asked_first_else_to_the_next_of_ours() {
        let mut keys = keys_of_three();
        let next = view(keys.clone());
        assert_eq!(next.successor_of(LeaseId(1)).expect("a successor").entry.lease, LeaseId(2));
        keys.extend([kv("a/~force/3", "asks", 4, 3), kv("a/~force/9", "has no place", 2, 9)]);
        let asked = view(keys);
        let successor = asked.successor_of(LeaseId(1)).expect("a successor");
        assert_eq!((successor.entry.lease, successor.request.is_some()), (LeaseId(3), true));
        // A request counts for its holder only, and only while its owner has an entry.
        let mut to_another = keys_of_three();
        to_another.extend([kv("a/~resign/8/3", "", 4, 3), kv("a/~force/9", "", 2, 9)]);
        let to_another = view(to_another);
        assert_eq!(to_another.asking(LeaseId(1)), None);
        assert_eq!(to_another.asking(LeaseId(8)).expect("it asks").entry.lease, LeaseId(3));
        let foreign =
            view(vec![kv("a/~entry/1", "leader", 1, 1), kv("a/2", "theirs", 2, 2), kv("a/~entry/3", "ours", 3, 3)]);
        assert_eq!(foreign.successor_of(LeaseId(1)), None);
        assert_eq!(foreign.successor_of(LeaseId(3)), None);
    }

    #[test]
    fn a_holder_without_a_place_is_the_go_tool_or_written_by_hand() {
        assert!(view(vec![kv("a", "go", 1, 7)]).holder_without_entry().is_some());
        assert!(view(vec![kv("a", "hand", 1, 0), kv("a/~entry/7", "x", 2, 7)]).holder_without_entry().is_some());
        assert!(view(vec![kv("a", "ours", 1, 7), kv("a/~entry/7", "ours", 1, 7)]).holder_without_entry().is_none());
    }

    proptest! {
        /// Whatever is found below the lock: only what we or etcd's own clients write there counts, and every entry of ours is
        /// found again by its lease.
        #[test]
        fn nonsense_below_the_lock_is_nobodys(
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
