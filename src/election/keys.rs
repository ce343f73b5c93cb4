//! The keys in etcd: their names, and how the name and the lease of a key identify its owner.
//!
//! | key | value | meaning |
//! | --- | --- | --- |
//! | `L/~entry/<lease>` | identity | *queue entry*; `L/<lease>` is the entry of another etcd client |
//! | `L` | identity | the *holder key* |
//! | `L/~force/<lease>` | identity | a *handover request* to any leader |
//! | `L/~resign/<holder's lease>/<lease>` | identity | a handover request to this holder only |
//! | `L/~ousted/<lease>` | identity | an *eviction marker* on the lease of a holder that was deleted by force |
//! | `L/~priority/<lease>` | number | the *priority* of the owner of the lease, unless it is 0 |
//! | `L/~pause` | JSON | the *pause*, on a lease of its own: while it exists, no instance becomes leader |
//!
//! The names of this program's keys below `L` begin with `~`, and no segment of a lock name does. So keys of another lock or of
//! an application are never mistaken for them.

use crate::core::{
    kv::{Get, KeyValue, Range},
    names::{LeaseId, LockName},
};

const ENTRY: &str = "~entry/";
const FORCE: &str = "~force/";
const RESIGN: &str = "~resign/";
const MARKER: &str = "~ousted/";
const PRIORITY: &str = "~priority/";
const PAUSE: &str = "~pause";

/// The most hexadecimal digits of a lease ID.
const MAX_DIGITS: usize = 16;

/// The kind of a key below a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A queue entry.
    Entry {
        /// The lease of its owner.
        lease: LeaseId,
        /// Whether an instance of this program created it, and not another etcd client.
        ours: bool,
    },
    /// An eviction marker.
    Marker,
}

/// A handover request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The lease of the holder that it is addressed to; `None` for any leader.
    pub to: Option<LeaseId>,
    /// The lease of the candidate that made it.
    pub lease: LeaseId,
}

impl Request {
    /// Returns whether the holder with this lease must obey it. A request never applies to its own owner.
    #[must_use]
    pub fn is_for(&self, holder: LeaseId) -> bool {
        self.lease != holder && self.to.is_none_or(|to| to == holder)
    }
}

impl LockName {
    /// Returns the holder key: the name of the lock.
    #[must_use]
    pub fn holder(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }

    /// Returns the prefix of all keys except the holder key.
    #[must_use]
    pub fn prefix(&self) -> Vec<u8> {
        self.below("")
    }

    /// Returns the lock that a key belongs to, if its name is that of a queue entry of this program.
    #[must_use]
    pub fn of_entry(key: &[u8]) -> Option<Self> {
        let (lock, hex) = std::str::from_utf8(key).ok()?.split_once("/~entry/")?;
        LeaseId::from_hex(hex)?;
        lock.parse().ok()
    }

    /// Returns the ranges of all keys that can belong to the lock; other keys can be there as well.
    #[must_use]
    pub fn all_keys(&self) -> [Range; 3] {
        [Range::Key(self.holder()), Range::Prefix(self.below("~")), self.foreign_entries()]
    }

    /// Returns whether the name of a key is one of this program's below the lock.
    #[must_use]
    pub fn is_own_key(&self, key: &[u8]) -> bool {
        key.starts_with(&self.below("~"))
    }

    /// Returns the range of the queue entries of this program.
    #[must_use]
    pub fn own_entries(&self) -> Range {
        Range::Prefix(self.below(ENTRY))
    }

    /// Returns the range of the names that an entry of another etcd client can have: hexadecimal without leading zeros.
    #[must_use]
    pub fn foreign_entries(&self) -> Range {
        Range::Between(self.below("1"), self.below("g"))
    }

    /// Returns the first name after `key` that an entry of another etcd client can have. Keys between the two, such as
    /// `L/config/…` of an application, need not be read.
    #[must_use]
    pub fn next_foreign_entry(&self, key: &[u8]) -> Option<Vec<u8>> {
        let prefix = self.prefix();
        let name = key.strip_prefix(prefix.as_slice())?;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let digits = name.iter().take(MAX_DIGITS).take_while(|byte| is_digit(byte)).count();
        let mut next = name[..digits].to_vec();
        match name.get(digits) {
            // Longer names with these digits follow.
            None if digits < MAX_DIGITS => next.push(b'0'),
            Some(byte) if digits < MAX_DIGITS && *byte < b'0' => next.push(b'0'),
            Some(byte) if digits < MAX_DIGITS && *byte > b'9' && *byte < b'a' => next.push(b'a'),
            _ => loop {
                match next.pop()? {
                    b'f' => {}
                    b'9' => break next.push(b'a'),
                    digit => break next.push(digit + 1),
                }
            },
        }
        Some([prefix, next].concat())
    }

    /// Returns the key of the queue entry that a candidate creates for its lease.
    #[must_use]
    pub fn entry(&self, lease: LeaseId) -> Vec<u8> {
        self.below(&format!("{ENTRY}{lease}"))
    }

    /// Returns the key of a request.
    #[must_use]
    pub fn request(&self, request: Request) -> Vec<u8> {
        let lease = request.lease;
        match request.to {
            Some(to) => self.below(&format!("{RESIGN}{to}/{lease}")),
            None => self.below(&format!("{FORCE}{lease}")),
        }
    }

    /// Returns the ranges of the requests that the holder with this lease must obey.
    #[must_use]
    pub fn requests_to(&self, holder: LeaseId) -> [Range; 2] {
        [FORCE.to_owned(), format!("{RESIGN}{holder}/")].map(|name| Range::Prefix(self.below(&name)))
    }

    /// Returns the ranges of all requests.
    #[must_use]
    pub fn requests(&self) -> [Range; 2] {
        [FORCE, RESIGN].map(|name| Range::Prefix(self.below(name)))
    }

    /// Returns the key of the eviction marker for the lease of an evicted holder.
    #[must_use]
    pub fn marker(&self, lease: LeaseId) -> Vec<u8> {
        self.below(&format!("{MARKER}{lease}"))
    }

    /// Returns the range of the eviction markers.
    #[must_use]
    pub fn markers(&self) -> Range {
        Range::Prefix(self.below(MARKER))
    }

    /// Returns the key of the priority of the owner of this lease.
    #[must_use]
    pub fn priority(&self, lease: LeaseId) -> Vec<u8> {
        self.below(&format!("{PRIORITY}{lease}"))
    }

    /// Returns the range of the priorities.
    #[must_use]
    pub fn priorities(&self) -> Range {
        Range::Prefix(self.below(PRIORITY))
    }

    /// Returns the ranges of the priorities of all others.
    #[must_use]
    pub fn priorities_beside(&self, lease: LeaseId) -> [Range; 2] {
        let own = self.priority(lease);
        let after = [&own[..], b"\0"].concat();
        // The byte after the slash.
        [Range::Between(self.below(PRIORITY), own), Range::Between(after, self.below("~priority0"))]
    }

    /// Returns the owner and the priority that a key stands for. A value that this version cannot read is a priority of 0.
    #[must_use]
    pub fn priority_of(&self, kv: &KeyValue) -> Option<(LeaseId, i32)> {
        let lease = LeaseId::from_hex(self.name(&kv.key)?.strip_prefix(PRIORITY)?)?;
        let value = std::str::from_utf8(&kv.value).ok().and_then(|value| value.parse().ok());
        (kv.lease == Some(lease)).then_some((lease, value.unwrap_or(0)))
    }

    /// Returns the key of the pause.
    #[must_use]
    pub fn pause(&self) -> Vec<u8> {
        self.below(PAUSE)
    }

    /// Returns the reads of the holder key, the markers, the priorities, the pause and the first pages of the queue. The keys of other
    /// clients are read without their values.
    #[must_use]
    pub fn first_reads(&self) -> [Get; 6] {
        [
            Get::page(self.own_entries(), true),
            Get::page(self.foreign_entries(), false),
            Get::key(self.holder()),
            Get::names(self.markers()),
            Get::page(self.priorities(), true),
            Get::key(self.pause()),
        ]
    }

    /// Returns the kind of a key by its name and its lease; `None` for all that is neither entry nor marker. A key without a lease
    /// does not count, because it never expires.
    #[must_use]
    pub fn kind(&self, key: &[u8], lease: Option<LeaseId>) -> Option<Kind> {
        let lease = lease?;
        let name = self.name(key)?;
        let its_own = |hex| (LeaseId::from_hex(hex) == Some(lease)).then_some(());
        if let Some(hex) = name.strip_prefix(ENTRY) {
            // The name can have the lease of an earlier leader, which handed its entry over.
            LeaseId::from_hex(hex).map(|_| Kind::Entry { lease, ours: true })
        } else if let Some(hex) = name.strip_prefix(MARKER) {
            its_own(hex).map(|()| Kind::Marker)
        } else {
            // Other etcd clients never hand an entry over.
            its_own(name).map(|()| Kind::Entry { lease, ours: false })
        }
    }

    /// Returns whether the kind of a key depends on its lease: by its name it can be a marker, or an entry of another client.
    #[must_use]
    pub fn needs_lease(&self, key: &[u8]) -> bool {
        let name = self.name(key);
        name.is_some_and(|name| LeaseId::from_hex(name.strip_prefix(MARKER).unwrap_or(name)).is_some())
    }

    /// Returns the handover request that the name of a key stands for. It counts only while its owner has a queue entry.
    #[must_use]
    pub fn request_of(&self, key: &[u8]) -> Option<Request> {
        let name = self.name(key)?;
        let (to, hex) = match name.strip_prefix(FORCE) {
            Some(hex) => (None, hex),
            None => {
                let (to, hex) = name.strip_prefix(RESIGN)?.split_once('/')?;
                (Some(LeaseId::from_hex(to)?), hex)
            }
        };
        Some(Request { to, lease: LeaseId::from_hex(hex)? })
    }

    /// Returns the name of a key below `L/`.
    fn name<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key.strip_prefix(self.prefix().as_slice())?).ok()
    }

    fn below(&self, name: &str) -> Vec<u8> {
        format!("{self}/{name}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock() -> LockName {
        "a".parse().expect("a name")
    }

    #[test]
    fn name_and_lease_decide_the_kind_of_a_key() {
        let kind = |key: &str, lease: i64| lock().kind(key.as_bytes(), (lease != 0).then_some(LeaseId(lease)));
        let entry = |lease, ours| Some(Kind::Entry { lease: LeaseId(lease), ours });
        for (key, lease, expected) in [
            ("a/~entry/1f", 0x1f, entry(0x1f, true)),
            ("a/~entry/1f", 5, entry(5, true)),
            ("a/~entry/1f", 0, None),
            ("a/~entry/01f", 0x1f, None),
            ("a/~entry/1f/x", 0x1f, None),
            ("a/~entry/+1f", 0x1f, None),
            ("a/~force/1f", 0x1f, None),
            ("a/~resign/7/1f", 0x1f, None),
            ("a/~ousted/1f", 0x1f, Some(Kind::Marker)),
            ("a/~ousted/1f", 5, None),
            ("a/1f", 0x1f, entry(0x1f, false)),
            ("a/1f", 5, None),
            // Keys of other locks and of applications.
            ("a/01", 1, None),
            ("a/01/~entry/5", 5, None),
            ("a/1f/~force/5", 5, None),
            ("b/~entry/1", 1, None),
            ("a", 1, None),
        ] {
            assert_eq!(kind(key, lease), expected, "{key} on {lease:x}");
        }
    }

    #[test]
    fn an_entry_names_its_lock() {
        for (key, expected) in [
            (&b"a/~entry/1f"[..], Some("a")),
            (b"/a//b/~entry/1", Some("/a//b")),
            (b"a/~entry/01", None),
            (b"a/~entry/1/~entry/2", None),
            (b"a/~b/~entry/1", None),
            (b"/~entry/1", None),
            (b"a/~force/1", None),
            (b"\xff/~entry/1", None),
        ] {
            assert_eq!(LockName::of_entry(key).map(|lock| lock.to_string()).as_deref(), expected, "{key:?}");
        }
    }

    #[test]
    fn the_name_of_a_key_decides_whether_it_is_a_request() {
        let request = |to: Option<i64>, lease| Some(Request { to: to.map(LeaseId), lease: LeaseId(lease) });
        for (key, expected) in [
            ("a/~force/1f", request(None, 0x1f)),
            ("a/~resign/7/1f", request(Some(7), 0x1f)),
            ("a/~force/01f", None),
            ("a/~force/", None),
            ("a/~force/1f/2", None),
            ("a/~resign/07/1f", None),
            ("a/~resign/1f", None),
            ("a/b/~force/1f", None),
            ("a/1f", None),
        ] {
            assert_eq!(lock().request_of(key.as_bytes()), expected, "{key}");
        }
        let needs_lease = |key: &str| lock().needs_lease(key.as_bytes());
        assert!(["a/1f", "a/~ousted/1f"].into_iter().all(needs_lease));
        assert!(!["a/01f", "a/x", "a/~force/1f", "a/~ousted/x", "a"].into_iter().any(needs_lease));
    }

    #[test]
    fn a_priority_counts_on_the_lease_of_its_name_and_is_0_if_it_cannot_be_read() {
        let priority = |key: &str, lease: i64, value: &[u8]| {
            let (key, value, lease) = (key.into(), value.to_vec(), Some(LeaseId(lease)));
            lock().priority_of(&KeyValue { key, value, create_revision: 1, mod_revision: 1, lease })
        };
        let of_1f = |value| priority("a/~priority/1f", 0x1f, value).expect("a priority").1;
        for (value, expected) in [
            (&b"7"[..], 7),
            (b"-7", -7),
            (b"2147483647", i32::MAX),
            (b"-2147483648", i32::MIN),
            (b"9223372036854775808", 0),
            (b"", 0),
            (b"7 ", 0),
            (b"\xff", 0),
        ] {
            assert_eq!(of_1f(value), expected, "{value:?}");
        }
        for (key, lease) in
            [("a/~priority/1f", 5), ("a/~priority/01f", 0x1f), ("a/~priority/", 1), ("a/b/~priority/1", 1)]
        {
            assert_eq!(priority(key, lease, b"7"), None, "{key}");
        }
    }

    #[test]
    fn the_priorities_of_others_are_all_except_the_own_one() {
        for (own, other, is_among) in [(5, 5, false), (5, 0x5a, true), (0x5a, 5, true), (5, 0xf, true), (5, 1, true)] {
            let key = lock().priority(LeaseId(other));
            let mut ranges = lock().priorities_beside(LeaseId(own)).into_iter();
            assert_eq!(ranges.any(|range| range.contains(&key)), is_among, "{own:x} {other:x}");
            assert!(lock().priorities().contains(&key));
        }
    }

    #[test]
    fn a_request_is_for_one_holder_or_for_all_except_its_owner() {
        let request = |to: Option<i64>| Request { to: to.map(LeaseId), lease: LeaseId(1) };
        assert!(request(None).is_for(LeaseId(2)) && request(Some(2)).is_for(LeaseId(2)));
        assert!(!request(Some(3)).is_for(LeaseId(2)));
        assert!(!request(None).is_for(LeaseId(1)) && !request(Some(1)).is_for(LeaseId(1)));
    }

    #[test]
    fn names_that_cannot_be_entries_are_skipped() {
        let lock = lock();
        for (key, next) in [
            ("a/config/x", Some("a/d")),
            ("a/bak", Some("a/bb")),
            ("a/1", Some("a/10")),
            ("a/1/x", Some("a/10")),
            ("a/1A", Some("a/1a")),
            ("a/9z", Some("a/a")),
            ("a/ffffffffffffffff", None),
            ("a/fz", None),
            ("a/7fffffffffffffff0", Some("a/8")),
        ] {
            assert_eq!(lock.next_foreign_entry(key.as_bytes()), next.map(|next| next.as_bytes().to_vec()), "{key}");
        }
    }

    proptest! {
        /// No possible entry lies between a key and the name where reading continues, and reading makes progress.
        #[test]
        fn no_entry_is_skipped(name in "[0-9a-gA/.]{1,20}", lease in 1i64..) {
            let lock = lock();
            let key = lock.below(&name);
            let entry = lock.below(&LeaseId(lease).to_string());
            match lock.next_foreign_entry(&key) {
                Some(next) => prop_assert!(next > key && (entry <= key || next <= entry)),
                None => prop_assert!(entry <= key),
            }
        }
    }
}
