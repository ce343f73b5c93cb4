//! A watch of several ranges on one stream.

use etcd_client::{Client, EventType, WatchOptions, WatchStream};

use super::{endpoint::key_value, failure::translate};
use crate::election::store::{self, Change, Range, StoreError};

/// The stream, and what is needed to name it.
#[derive(Debug)]
pub struct Watch {
    url: String,
    stream: WatchStream,
}

impl Watch {
    pub(super) async fn open(url: &str, client: &mut Client, ranges: &[Range], from: i64) -> Result<Self, StoreError> {
        let failed = |error| translate(url, &error);
        let mut requests = ranges.iter().map(|range| {
            let options = WatchOptions::new().with_start_revision(from);
            match range {
                Range::Key(key) => (key, options),
                Range::Prefix(prefix) => (prefix, options.with_prefix()),
                Range::Between(from, to) => (from, options.with_range(to.clone())),
            }
        });
        let Some((key, options)) = requests.next() else {
            return Err(StoreError::Unavailable(format!("{url}: nothing to watch")));
        };
        let mut stream = client.watch(key.clone(), Some(options)).await.map_err(failed)?;
        for (key, options) in requests {
            stream.watch(key.clone(), Some(options)).await.map_err(failed)?;
        }
        Ok(Self { url: url.to_owned(), stream })
    }
}

impl store::Watch for Watch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let ended = |reason: &str| StoreError::Unavailable(format!("{}: watch ended: {reason}", self.url));
        let answer = self.stream.message().await.map_err(|error| translate(&self.url, &error))?;
        let answer = answer.ok_or_else(|| ended("by etcd"))?;
        // One of the ranges being cancelled is enough to know nothing any more.
        if answer.canceled() || answer.compact_revision() > 0 {
            return Err(ended(answer.cancel_reason()));
        }
        let changes = answer.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            Some(match event.event_type() {
                EventType::Put => Change::Put(key_value(kv.clone())),
                EventType::Delete => Change::Deleted(kv.key().to_vec(), kv.mod_revision()),
            })
        });
        Ok(changes.collect())
    }
}
