//! `ctl show`: prints the holder of a lock and its queue, as a table or as JSON.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    access::{self, Client},
    healthcheck,
};
use crate::{
    core::{
        exit_code::Exit,
        kv::{Get, KeyValue, StoreError},
        names::LockName,
        start_error::StartError,
        text,
    },
    election::{keys::Request, pause::Pause, view::View},
    etcd::{Endpoint, pages::read_lock, store::Store as _},
    settings::{EtcdConfig, StatusEndpoint},
};

/// Prints the state of a lock to stdout.
///
/// # Errors
/// If etcd denies access or does not answer in time, or the output cannot be written.
pub async fn show(
    lock: &LockName,
    config: &EtcdConfig,
    status: Option<&StatusEndpoint>,
    json: bool,
) -> Result<Exit, StartError> {
    let client = access::client(config)?;
    // etcd knows nothing of an instance that is not in the queue.
    let instance = status.map(|endpoint| healthcheck::state(endpoint).unwrap_or_else(|why| why));
    let mut state = access::within_limit(&client, read(lock, &client)).await?;
    state.this_instance = instance;
    if json { super::print(&format_args!("{}\n", state.json())) } else { super::print(&state) }
}

/// Reads a lock and the time left of its holder's lease. Retries until etcd answers; returns an error only if it denies access.
pub(super) async fn read(lock: &LockName, client: &Client) -> Result<LockState, StoreError> {
    read_at(lock, client).await.map(|(state, _)| state)
}

/// Does the same, and returns the revision as well.
pub(super) async fn read_at(lock: &LockName, client: &Client) -> Result<(LockState, i64), StoreError> {
    let requests = lock.requests().map(Get::names);
    let read = async |store: &Endpoint| read_lock(lock, &requests, async |gets: &[Get]| store.read(gets).await).await;
    let view = View::new(lock, client.hedged(read).await?);
    let holders_ttl = ttl_left(view.holder.as_ref(), client).await?;
    let pauses_ttl = ttl_left(view.pause.as_ref(), client).await?;
    Ok((LockState::new(lock, &view, holders_ttl, pauses_ttl), view.revision))
}

/// Returns the time left of the lease of a key; `None` if it has none, or it has expired.
pub(super) async fn ttl_left(kv: Option<&KeyValue>, client: &Client) -> Result<Option<Duration>, StoreError> {
    match kv.and_then(|kv| kv.lease) {
        Some(lease) => client.hedged(async |store| store.time_to_live(lease).await).await,
        None => Ok(None),
    }
}

/// The state of a lock in etcd at one moment. The names of the fields are those of the JSON output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockState {
    /// The lock's name.
    pub lock: String,
    /// Its holder; `None` if the lock is free.
    pub holder: Option<Holder>,
    /// The pause; `None` if the lock is not paused.
    pub pause: Option<PauseState>,
    /// The standbys and other clients that wait, in the order of the queue, without the holder.
    pub queue: Vec<Waiting>,
    /// The identities of evicted holders, whose commands may still run.
    #[serde(rename = "ousted")]
    pub evicted: Vec<String>,
    /// The state of the instance on this host, if its status endpoint is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub this_instance: Option<String>,
}

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// The fencing token: the mod revision of the holder key.
    pub token: i64,
    /// Its lease in hexadecimal; `None` for a key without a lease, which no instance wrote.
    pub lease: Option<String>,
    /// The time left of its lease, in whole seconds in JSON; `None` if the lease has expired.
    #[serde(rename = "ttl_left_seconds", serialize_with = "seconds")]
    pub ttl_left: Option<Duration>,
    /// Its priority.
    pub priority: i32,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PauseState {
    /// What the operator wrote.
    #[serde(flatten)]
    pub pause: Pause,
    /// The time left of its lease, in whole seconds in JSON; `None` for a key without a lease, which never ends by itself.
    #[serde(rename = "ttl_left_seconds", serialize_with = "seconds")]
    pub ttl_left: Option<Duration>,
}

impl fmt::Display for PauseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ttl_left {
            Some(left) => write!(f, "paused for another {}s, {}", left.as_secs(), self.pause),
            None => write!(f, "paused without a lease, {}", self.pause),
        }
    }
}

/// An entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The number in the queue; the first standby is number 1.
    pub number: usize,
    /// Its identity; for an entry of another client its key, since the value can be anything.
    pub identity: String,
    /// Its lease in hexadecimal.
    pub lease: String,
    /// Whether it has made a handover request to the holder.
    pub forced: bool,
    /// Whether another etcd client created it, such as `etcdctl elect` or a client library.
    pub foreign: bool,
    /// Its priority.
    pub priority: i32,
}

impl LockState {
    fn new(lock: &LockName, view: &View, ttl_left: Option<Duration>, pauses_ttl: Option<Duration>) -> Self {
        let holder = view.holder.as_ref().map(|holder| Holder {
            identity: holder.identity(),
            token: holder.mod_revision,
            lease: holder.lease.map(|lease| lease.to_string()),
            ttl_left,
            priority: holder.lease.and_then(|lease| view.entry_of(lease)).map_or(0, |(_, entry)| entry.priority),
        });
        let holders_lease = view.holder.as_ref().and_then(|holder| holder.lease);
        let is_for_the_holder = |request: Request| match holders_lease {
            Some(lease) => request.is_for(lease),
            None => request.to.is_none(),
        };
        let has_request = |lease| {
            let mut requests = view.requests.iter().map(|entry| entry.request);
            requests.any(|request| request.lease == lease && is_for_the_holder(request))
        };
        let waiting = view.entries.iter().enumerate().filter(|(_, entry)| !view.is_led_by(entry.lease));
        let queue = waiting.map(|(index, entry)| Waiting {
            number: view.number(index),
            identity: entry.name(),
            lease: entry.lease.to_string(),
            forced: has_request(entry.lease),
            foreign: !entry.ours,
            priority: entry.priority,
        });
        let pause = view.pause.as_ref().map(|kv| PauseState {
            pause: Pause::read(&kv.value),
            // The key of a lease that has expired since exists as long as etcd has not revoked the lease.
            ttl_left: pauses_ttl.or_else(|| kv.lease.map(|_| Duration::ZERO)),
        });
        Self {
            lock: lock.to_string(),
            holder,
            pause,
            queue: queue.collect(),
            evicted: view.markers.iter().map(KeyValue::identity).collect(),
            this_instance: None,
        }
    }

    /// Returns one JSON object on one line. Later versions may add fields; they rename none.
    #[must_use]
    pub fn json(&self) -> String {
        text::escaped_json(&serde_json::to_string(self).unwrap_or_default()).into_owned()
    }
}

impl LockState {
    /// Returns the JSON object on one line, with the age of a state that could not be read again.
    pub(super) fn document(&self, stale: Option<Duration>) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(flatten)]
            state: &'a LockState,
            #[serde(serialize_with = "seconds")]
            stale_seconds: Option<Duration>,
        }
        let document = Document { state: self, stale_seconds: stale };
        text::escaped_json(&serde_json::to_string(&document).unwrap_or_default()).into_owned()
    }

    /// Returns the state after this time, if nothing has changed: the lease is not renewed.
    pub(super) fn later(&self, by: Duration) -> Self {
        let mut later = self.clone();
        later.times_left().for_each(|left| *left = left.saturating_sub(by));
        later
    }

    /// Returns what does not change by itself.
    pub(super) fn without_time(&self) -> Self {
        let mut state = self.clone();
        state.times_left().for_each(|left| *left = Duration::ZERO);
        state
    }

    fn times_left(&mut self) -> impl Iterator<Item = &mut Duration> {
        let holder = self.holder.iter_mut().map(|holder| &mut holder.ttl_left);
        holder.chain(self.pause.iter_mut().map(|pause| &mut pause.ttl_left)).flatten()
    }

    /// Returns the state on one line.
    pub(super) fn summary(&self) -> String {
        const MOST: usize = 20;
        let holder = self.holder.as_ref().map_or_else(
            || "nobody holds it".to_owned(),
            |holder| format!("held by {}, fencing token {}", holder.name(), holder.token),
        );
        let waiting = self.queue.iter().take(MOST).map(|waiting| {
            let identity = text::escaped(&waiting.identity);
            let note = waiting.note();
            if note.is_empty() { identity.into_owned() } else { format!("{identity} ({note})") }
        });
        let mut waiting = waiting.collect::<Vec<_>>().join(", ");
        if self.queue.len() > MOST {
            waiting += &format!(" and {} more", self.queue.len() - MOST);
        }
        let queue = if waiting.is_empty() { "nobody waits".to_owned() } else { format!("waiting: {waiting}") };
        let evicted = self.evicted.iter().map(|identity| format!("; evicted by force: {}", text::escaped(identity)));
        let pause = self.pause.as_ref().map_or_else(String::new, |pause| format!("; paused {}", pause.pause));
        format!("lock {}: {holder}; {queue}{}{pause}", text::escaped(&self.lock), evicted.collect::<String>())
    }

    /// Returns a table. Identities are cut as far as necessary for this number of columns, so that their notes are visible.
    pub(super) fn table(&self, columns: usize) -> String {
        // What is in a row beside the identity: number, lease, note and spaces.
        const OTHER_COLUMNS: usize = 48;
        const SHORTEST: usize = 8;
        let priorities = self.queue.iter().filter_map(|waiting| shown_priority(waiting.priority));
        let priority = priorities.map(|shown| shown.len() + ", ".len()).max().unwrap_or(0);
        let most = columns.saturating_sub(OTHER_COLUMNS + priority).max(SHORTEST);
        let mut shown = self.clone();
        let queue = shown.queue.iter_mut().map(|waiting| &mut waiting.identity);
        let holder = shown.holder.iter_mut().map(|holder| &mut holder.identity);
        for identity in queue.chain(holder) {
            // Escaped before it is cut, as escapes take room, and escaping is idempotent.
            *identity = text::shortened(&text::escaped(identity), most - 1).into_owned();
        }
        shown.to_string()
    }
}

impl fmt::Display for LockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lock {}", text::escaped(&self.lock))?;
        match &self.holder {
            None => writeln!(f, "nobody holds it")?,
            Some(holder) => {
                let ttl = match (&holder.lease, holder.ttl_left) {
                    (None, _) => "no lease: the key was not written by an instance".to_owned(),
                    (Some(lease), None) => format!("lease {lease}, which has expired"),
                    (Some(lease), Some(left)) => format!("lease {lease}, {}s left", left.as_secs()),
                };
                writeln!(f, "held by {}, fencing token {}, {ttl}", holder.name(), holder.token)?;
            }
        }
        if let Some(pause) = &self.pause {
            writeln!(f, "{pause}")?;
        }
        for identity in &self.evicted {
            writeln!(f, "evicted by force, its command may still run: {}", text::escaped(identity))?;
        }
        if self.queue.is_empty() {
            writeln!(f, "nobody waits")?
        } else {
            self.write_queue(f)?
        }
        self.this_instance.iter().try_for_each(|state| writeln!(f, "\nthis instance: {state}"))
    }
}

impl LockState {
    fn write_queue(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.queue.iter().map(|waiting| text::escaped(&waiting.identity)).collect();
        let name = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("IDENTITY".len());
        let lease = self.queue.iter().map(|waiting| waiting.lease.len()).max().unwrap_or(0).max("LEASE".len());
        writeln!(f, "\n{:>4}  {:name$}  {:lease$}  NOTE", "NEXT", "IDENTITY", "LEASE")?;
        for (waiting, identity) in self.queue.iter().zip(&names) {
            let note = waiting.note();
            let row = format!("{:>4}  {identity:name$}  {:lease$}  {note}", waiting.number, waiting.lease);
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }
}

impl Holder {
    fn name(&self) -> String {
        let priority = shown_priority(self.priority).map(|shown| format!(", {shown}")).unwrap_or_default();
        format!("{}{priority}", text::escaped(&self.identity))
    }
}

impl Waiting {
    fn note(&self) -> String {
        let what = match (self.forced, self.foreign) {
            (true, _) => Some("requests a handover".to_owned()),
            (_, true) => Some("another etcd client".to_owned()),
            _ => None,
        };
        [shown_priority(self.priority), what].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Returns how to show a priority that is set.
fn shown_priority(priority: i32) -> Option<String> {
    (priority != 0).then(|| format!("priority {priority}"))
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{kv::Snapshot, names::LeaseId};

    fn state() -> LockState {
        LockState {
            lock: "db".into(),
            holder: Some(Holder {
                identity: "node-1".into(),
                token: 42,
                lease: Some("7b1d".into()),
                ttl_left: Some(Duration::from_millis(12_900)),
                priority: 0,
            }),
            queue: vec![
                Waiting {
                    number: 1,
                    identity: "node-2".into(),
                    lease: "7b20".into(),
                    forced: true,
                    foreign: false,
                    priority: 0,
                },
                Waiting {
                    number: 2,
                    identity: "a\u{1b}[2J".into(),
                    lease: "9".into(),
                    forced: false,
                    foreign: false,
                    priority: -1,
                },
                Waiting {
                    number: 3,
                    identity: "x".into(),
                    lease: "a".into(),
                    forced: false,
                    foreign: true,
                    priority: 0,
                },
            ],
            evicted: vec!["old".into()],
            pause: Some(PauseState {
                pause: Pause::read(br#"{"until":1795619045,"by":"root@a","reason":"disk"}"#),
                ttl_left: Some(Duration::from_secs(60)),
            }),
            this_instance: None,
        }
    }

    #[test]
    fn the_table() {
        let expected = "lock db\n\
             held by node-1, fencing token 42, lease 7b1d, 12s left\n\
             paused for another 60s, until Wed, 25 Nov 2026 15:04:05 GMT by root@a: disk\n\
             evicted by force, its command may still run: old\n\
             \n\
             NEXT  IDENTITY    LEASE  NOTE\n\
             \x20  1  node-2      7b20   requests a handover\n\
             \x20  2  a\\u{1b}[2J  9      priority -1\n\
             \x20  3  x           a      another etcd client\n";
        assert_eq!(state().to_string(), expected);
    }

    #[test]
    fn in_80_columns_a_long_identity_is_cut_and_its_note_is_visible() {
        let mut state = state();
        state.holder.as_mut().expect("a holder").identity = "h".repeat(300);
        state.queue[0].identity = "\u{1b}".repeat(300);
        let table = state.table(80);
        assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
        let row = table.lines().find(|line| line.ends_with("requests a handover")).expect("a row");
        assert!(row.chars().count() <= 80 && row.contains('…') && !row.contains('\u{1b}'), "{row}");
        assert!(state.table(20).contains("requests a handover"));
    }

    #[test]
    fn one_line_has_all_that_changes_except_the_time() {
        let state = state();
        let expected = "lock db: held by node-1, fencing token 42; waiting: node-2 (requests a handover), a\\u{1b}[2J \
             (priority -1), x (another etcd client); evicted by force: old; \
             paused until Wed, 25 Nov 2026 15:04:05 GMT by root@a: disk";
        assert_eq!(state.summary(), expected);
        assert_eq!(state.without_time(), state.later(Duration::from_secs(3)).without_time());
        let json: serde_json::Value =
            serde_json::from_str(&state.later(Duration::from_secs(2)).document(Some(Duration::from_secs(2))))
                .expect("JSON");
        assert_eq!((&json["holder"]["ttl_left_seconds"], &json["stale_seconds"]), (&10.into(), &2.into()));
        let mut many = state;
        many.queue = vec![many.queue[0].clone(); 500];
        assert!(many.summary().contains(" and 480 more"));
    }

    #[test]
    fn priorities_are_shown_where_they_are_set() {
        let mut state = state();
        state.holder.as_mut().expect("a holder").priority = 10;
        state.queue[0].priority = 7;
        let shown = state.to_string();
        assert!(shown.contains("held by node-1, priority 10, fencing token 42"), "{shown}");
        assert!(shown.contains("7b20   priority 7, requests a handover\n"), "{shown}");
    }

    #[test]
    fn only_a_pause_key_without_a_lease_is_shown_as_such() {
        let lock: LockName = "db".parse().expect("a name");
        let shown = |lease| {
            let pause = KeyValue { key: lock.pause(), value: b"{}".into(), create_revision: 1, mod_revision: 1, lease };
            let view = View::new(&lock, Snapshot { revision: 1, keys: vec![pause], ..Snapshot::default() });
            LockState::new(&lock, &view, None, None).to_string()
        };
        assert!(shown(None).contains("paused without a lease"), "{}", shown(None));
        assert!(shown(Some(LeaseId(7))).contains("paused for another 0s"), "{}", shown(Some(LeaseId(7))));
    }

    #[test]
    fn a_free_lock() {
        let free = LockState {
            lock: "db".into(),
            holder: None,
            queue: vec![],
            evicted: vec![],
            pause: None,
            this_instance: None,
        };
        assert_eq!(free.to_string(), "lock db\nnobody holds it\nnobody waits\n");
        let seen = LockState { this_instance: Some("not in the queue".into()), ..free };
        assert!(seen.to_string().ends_with("nobody waits\n\nthis instance: not in the queue\n"));
        assert!(seen.json().contains("\"this_instance\":\"not in the queue\""));
    }

    #[test]
    fn a_holder_whose_lease_has_expired_or_that_has_none() {
        let mut state = state();
        let holder = state.holder.as_mut().expect("a holder");
        holder.ttl_left = None;
        assert!(holder.lease.is_some() && state.to_string().contains("lease 7b1d, which has expired"));
        state.holder.as_mut().expect("a holder").lease = None;
        assert!(state.to_string().contains("no lease"));
    }

    #[test]
    fn the_json() {
        let json: serde_json::Value = serde_json::from_str(&state().json()).expect("JSON");
        assert_eq!(json["holder"]["ttl_left_seconds"], 12);
        assert_eq!(json["holder"]["token"], 42);
        assert_eq!(json["queue"][0]["forced"], true);
        assert_eq!(json["queue"][2]["foreign"], true);
        assert_eq!(json["ousted"][0], "old");
        assert_eq!((&json["holder"]["priority"], &json["queue"][1]["priority"]), (&0.into(), &(-1).into()));
        assert_eq!((&json["pause"]["ttl_left_seconds"], &json["pause"]["reason"]), (&60.into(), &"disk".into()));
    }
}
