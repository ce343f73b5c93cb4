//! Reads all keys of a lock.
//!
//! Other clients can keep more keys below the name of the lock than fit into one response. So the queue is read in pages, and
//! the keys of other clients are read without their values.

use crate::core::{
    kv::{Get, Range, Snapshot, StoreError},
    names::LockName,
};

/// Reads the holder key, the markers, the whole queue and `also`, all at one revision.
///
/// # Errors
/// Those of `read`.
pub(crate) async fn read_lock(
    lock: &LockName,
    also: &[Get],
    read: impl AsyncFn(&[Get]) -> Result<Snapshot, StoreError>,
) -> Result<Snapshot, StoreError> {
    let mut gets = [&lock.first_reads(), also].concat();
    let mut all = read(&gets).await?;
    let mut cut = std::mem::take(&mut all.cut);
    loop {
        gets = cut.into_iter().filter_map(|(n, last)| next_page(lock, &gets[n], &last, all.revision)).collect();
        if gets.is_empty() {
            break;
        }
        let page = read(&gets).await?;
        all.keys.extend(page.keys);
        all.names.extend(page.names);
        cut = page.cut;
    }
    // The few keys that can be entries or markers are read again, with their leases.
    let candidates = all.names.iter().filter(|name| lock.needs_lease(&name.key));
    let candidates: Vec<_> =
        candidates.map(|name| Get { at: Some(all.revision), ..Get::key(name.key.clone()) }).collect();
    for gets in candidates.chunks(Get::FEW) {
        all.keys.extend(read(gets).await?.keys);
    }
    Ok(all)
}

/// Returns the page after a page of the queue that ends with this key; `None` if there is none.
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

    use super::*;
    use crate::{
        core::{
            kv::{KeyOnly, KeyValue},
            names::LeaseId,
        },
        election::view::View,
    };

    fn kv(key: &str, create: i64, lease: i64) -> KeyValue {
        let (key, value, lease) = (key.into(), b"data".to_vec(), Some(LeaseId(lease)));
        KeyValue { key, value, create_revision: create, mod_revision: create, lease }
    }

    /// Answers as etcd does, with at most `page` keys per range.
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

    /// Keys such as `a/config/…` of an application are skipped in one step.
    #[tokio::test]
    async fn the_queue_is_read_in_pages_and_other_keys_are_skipped() {
        let mut keys = vec![kv("a/~entry/1", 1, 1), kv("a/~entry/2", 2, 2), kv("a/~entry/3", 3, 3), kv("a", 1, 1)];
        for number in 0..1000 {
            keys.push(kv(&format!("a/config/{number}"), 5, 5));
            keys.push(kv(&format!("a/~force/{number}"), 5, 5));
        }
        keys.extend([kv("a/b", 4, 0xb), kv("a/d", 9, 0xd), kv("a/f", 9, 0xf)]);
        for page in [1, 2, 3, 10] {
            let reads = Cell::new(0);
            let lock = "a".parse().expect("a name");
            let all = read_lock(&lock, &[], async |gets: &[Get]| read(&keys, gets, page, &reads).await).await;
            let view = View::new(&lock, all.expect("it is read"));
            let leases: Vec<_> = view.entries.iter().map(|entry| entry.lease.0).collect();
            assert_eq!((leases, view.holder.is_some()), (vec![1, 2, 3, 0xb, 0xd, 0xf], true), "{page}");
            assert!(reads.get() <= 9, "{} reads with pages of {page}", reads.get());
        }
    }
}
