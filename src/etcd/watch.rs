//! A watch of several ranges over one stream.

use std::rc::Rc;

use etcd_client::{Client, EventType, ResponseHeader, WatchOptions, WatchStream};
use futures_util::FutureExt as _;

use super::{convert::key_value, failure::translate};
use crate::{
    core::kv::{Change, Range, StoreError},
    etcd::{membership::Membership, store},
};

/// An open watch.
#[derive(Debug)]
pub struct Watch {
    url: String,
    membership: Rc<Membership>,
    stream: WatchStream,
    ranges: usize,
}

impl Watch {
    pub(super) async fn open(
        url: &str,
        membership: Rc<Membership>,
        client: &mut Client,
        ranges: &[Range],
        from: i64,
    ) -> Result<Self, StoreError> {
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
        Ok(Self { url: url.to_owned(), membership, stream, ranges: ranges.len() })
    }
}

impl store::Watch for Watch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let ended = |reason: &str| StoreError::Unavailable(format!("{}: watch ended: {reason}", self.url));
        let mut changes = Vec::new();
        let mut answer = self.stream.message().await;
        // Each range has its own responses, so the changes of one transaction arrive in several responses at once.
        for more in (0..self.ranges).rev() {
            let message = answer.map_err(|error| translate(&self.url, &error))?.ok_or_else(|| ended("by etcd"))?;
            // This connection may lead to another server than the one that was verified.
            if let Some(id) = message.header().map(ResponseHeader::cluster_id) {
                self.membership.record(&self.url, id);
                if !self.membership.includes(&self.url) {
                    return Err(ended(&format!("the endpoint belongs to another etcd cluster, {id:x}")));
                }
            }
            // If etcd cancels one range, the watch is incomplete.
            if message.canceled() || message.compact_revision() > 0 {
                return Err(ended(message.cancel_reason()));
            }
            changes.extend(message.events().iter().filter_map(|event| {
                let kv = event.kv()?;
                Some(match event.event_type() {
                    EventType::Put => Change::Put(key_value(kv.clone())),
                    EventType::Delete => Change::Deleted(kv.key().to_vec(), kv.mod_revision()),
                })
            }));
            if more == 0 {
                break;
            }
            let Some(next) = self.stream.message().now_or_never() else { break };
            answer = next;
        }
        Ok(changes)
    }
}
