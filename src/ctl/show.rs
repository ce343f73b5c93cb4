//! What `ctl show` prints: who holds the lock and who waits, as a small table or as JSON.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    core::{clock::Clock, exit_code::Exit, limits::QUESTION, names::LockName, start_error::StartError, text},
    election::{keys::Request, view::View},
    etcd::{
        self, Endpoint,
        client::{EtcdClient, RequestTimeouts},
        store::{Get, KeyValue, Store as _, StoreError},
    },
    settings::EtcdConfig,
    system::clock::BootClock,
};

/// Prints a lock.
///
/// # Errors
/// If etcd denies access or does not answer.
pub async fn show(lock: &LockName, config: &EtcdConfig, json: bool) -> Result<Exit, StartError> {
    let cluster = etcd::client_of(config, RequestTimeouts::default())
        .map_err(|error| StartError::new(Exit::Config, error.to_string()))?;
    let limit = BootClock.now() + QUESTION;
    let shown = match BootClock.before(limit, look(lock, &cluster)).await {
        Some(shown) => shown.map_err(|error| StartError::new(Exit::NoPermission, text::escaped(&error.to_string())))?,
        None if cluster.membership().ours().is_none() => {
            return Err(StartError::new(Exit::Unavailable, "could not decide which etcd cluster to ask"));
        }
        None => return Err(StartError::new(Exit::Unavailable, "etcd does not answer")),
    };
    if json {
        super::say(&format_args!("{}\n", shown.json()), &mut std::io::stdout());
    } else {
        super::say(&shown, &mut std::io::stdout());
    }
    Ok(Exit::Command(0))
}

/// Reads a lock, and the time its holder's lease has left.
///
/// # Errors
/// What only a person can mend.
async fn look<C: Clock>(lock: &LockName, cluster: &EtcdClient<Endpoint, C>) -> Result<Shown, StoreError> {
    let view = cluster
        .hedged(async |store| {
            View::read(lock, lock.requests().map(Get::names), async |gets: &[Get]| store.read(gets).await).await
        })
        .await?;
    let ttl_left = match view.holder.as_ref().and_then(|holder| holder.lease) {
        Some(lease) => cluster.hedged(async |store| store.time_to_live(lease).await).await?,
        None => None,
    };
    Ok(Shown::new(lock, &view, ttl_left))
}

/// A lock as etcd has it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The lock's name.
    pub lock: String,
    /// Who holds it.
    pub holder: Option<Holder>,
    /// Who waits, in the order of the queue; the holder is not among them.
    pub queue: Vec<Waiting>,
    /// Identities whose key was deleted by force and whose command may still run.
    pub ousted: Vec<String>,
}

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// The fencing token: the mod revision of the holder key.
    pub token: i64,
    /// Its lease in hexadecimal; none for a key that was written by hand.
    pub lease: Option<String>,
    /// The time left of its lease; none if etcd does not know the lease any more.
    #[serde(rename = "ttl_left_seconds", serialize_with = "seconds")]
    pub ttl_left: Option<Duration>,
}

/// One who waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The number in the queue; the first standby is number 1.
    pub number: usize,
    /// Its identity; of a foreign one its key, since its value is anything.
    pub identity: String,
    /// Its lease in hexadecimal.
    pub lease: String,
    /// Whether it asks for the lead.
    pub forced: bool,
    /// Whether it is not of this program: `etcdctl elect`, or a client library's election.
    pub foreign: bool,
}

impl Shown {
    fn new(lock: &LockName, view: &View, ttl_left: Option<Duration>) -> Self {
        let holder = view.holder.as_ref().map(|holder| Holder {
            identity: holder.identity(),
            token: holder.mod_revision,
            lease: holder.lease.map(|lease| lease.to_string()),
            ttl_left,
        });
        let holds = view.holder.as_ref().and_then(|holder| holder.lease);
        let is_for_the_holder = |request: Request| match holds {
            Some(holder) => request.is_for(holder),
            None => request.to.is_none(),
        };
        let asks = |lease| {
            let mut requests = view.requests.iter().map(|asking| asking.request);
            requests.any(|request| request.lease == lease && is_for_the_holder(request))
        };
        let waiting = view.entries.iter().enumerate().filter(|(_, entry)| !view.is_led_by(entry.lease));
        let queue = waiting.map(|(place, entry)| Waiting {
            number: view.number(place),
            identity: entry.name(),
            lease: entry.lease.to_string(),
            forced: asks(entry.lease),
            foreign: !entry.ours,
        });
        Self {
            lock: lock.to_string(),
            holder,
            queue: queue.collect(),
            ousted: view.markers.iter().map(KeyValue::identity).collect(),
        }
    }

    /// One JSON object on one line, for programs. Fields are added over time, never renamed.
    #[must_use]
    pub fn json(&self) -> String {
        text::escaped_json(&serde_json::to_string(self).unwrap_or_default()).into_owned()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lock {}", text::escaped(&self.lock))?;
        match &self.holder {
            None => writeln!(f, "nobody holds it")?,
            Some(holder) => {
                let ttl = match (&holder.lease, holder.ttl_left) {
                    (None, _) => "without a lease: it was not written by an instance".to_owned(),
                    (Some(lease), None) => format!("lease {lease}, which has run out"),
                    (Some(lease), Some(left)) => format!("lease {lease}, {}s left", left.as_secs()),
                };
                writeln!(f, "held by {}, fencing token {}, {ttl}", text::escaped(&holder.identity), holder.token)?;
            }
        }
        for identity in &self.ousted {
            writeln!(f, "evicted by force, its command may still run: {}", text::escaped(identity))?;
        }
        if self.queue.is_empty() {
            return writeln!(f, "nobody waits");
        }
        let names: Vec<_> = self.queue.iter().map(|waiting| text::escaped(&waiting.identity)).collect();
        let name = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("IDENTITY".len());
        let lease = self.queue.iter().map(|waiting| waiting.lease.len()).max().unwrap_or(0).max("LEASE".len());
        writeln!(f, "\n{:>4}  {:name$}  {:lease$}  NOTE", "NEXT", "IDENTITY", "LEASE")?;
        for (waiting, identity) in self.queue.iter().zip(&names) {
            let note = match (waiting.forced, waiting.foreign) {
                (true, _) => "asks for the lead",
                (_, true) => "another program's election",
                _ => "",
            };
            let row = format!("{:>4}  {identity:name$}  {:lease$}  {note}", waiting.number, waiting.lease);
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        Shown {
            lock: "db".into(),
            holder: Some(Holder {
                identity: "node-1".into(),
                token: 42,
                lease: Some("7b1d".into()),
                ttl_left: Some(Duration::from_millis(12_900)),
            }),
            queue: vec![
                Waiting { number: 1, identity: "node-2".into(), lease: "7b20".into(), forced: true, foreign: false },
                Waiting { number: 2, identity: "a\u{1b}[2J".into(), lease: "9".into(), forced: false, foreign: false },
                Waiting { number: 3, identity: "x".into(), lease: "a".into(), forced: false, foreign: true },
            ],
            ousted: vec!["old".into()],
        }
    }

    #[test]
    fn for_people() {
        let expected = "lock db\n\
             held by node-1, fencing token 42, lease 7b1d, 12s left\n\
             evicted by force, its command may still run: old\n\
             \n\
             NEXT  IDENTITY    LEASE  NOTE\n\
             \x20  1  node-2      7b20   asks for the lead\n\
             \x20  2  a\\u{1b}[2J  9\n\
             \x20  3  x           a      another program's election\n";
        assert_eq!(shown().to_string(), expected);
    }

    #[test]
    fn nobody() {
        let nobody = Shown { lock: "db".into(), holder: None, queue: vec![], ousted: vec![] };
        assert_eq!(nobody.to_string(), "lock db\nnobody holds it\nnobody waits\n");
    }

    #[test]
    fn a_holder_with_a_dead_lease_or_none() {
        let mut shown = shown();
        let holder = shown.holder.as_mut().expect("a holder");
        holder.ttl_left = None;
        assert!(holder.lease.is_some() && shown.to_string().contains("lease 7b1d, which has run out"));
        shown.holder.as_mut().expect("a holder").lease = None;
        assert!(shown.to_string().contains("without a lease"));
    }

    #[test]
    fn for_programs() {
        let json: serde_json::Value = serde_json::from_str(&shown().json()).expect("JSON");
        assert_eq!(json["holder"]["ttl_left_seconds"], 12);
        assert_eq!(json["holder"]["token"], 42);
        assert_eq!(json["queue"][0]["forced"], true);
        assert_eq!(json["queue"][2]["foreign"], true);
        assert_eq!(json["ousted"][0], "old");
    }
}
