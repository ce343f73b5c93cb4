//! `ctl pause`: keeps instances from becoming leader for some time. A running command goes on.

use std::{env, time::Duration};

use nix::unistd::{User, gethostname, getuid};
use serde_json::json;

use super::{
    access::{self, Client},
    show::ttl_left,
};
use crate::{
    core::{
        clock::Clock as _,
        exit_code::Exit,
        kv::{Get, KeyValue, Outcome, StoreError},
        names::{LeaseId, LockName, shown},
        start_error::StartError,
        text::escaped,
        timing::show,
    },
    election::{operator, pause::Pause},
    etcd::store::Store as _,
    settings::OneLock,
    system::clock::{BootClock, time_of_day},
};

/// The pause before another attempt after a transaction whose outcome is unknown.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// Pauses a lock, or extends a pause.
///
/// # Errors
/// If the lock is already paused for longer, etcd denies access, or it does not answer in time.
pub async fn pause(
    OneLock { lock, etcd, json }: &OneLock,
    length: Duration,
    reason: Option<String>,
) -> Result<Exit, StartError> {
    let client = access::client(etcd)?;
    let pause = Pause::new(time_of_day().as_secs(), length, operator_name(), reason);
    let lease = client.new_lease();
    let make = async {
        let made = make(lock, &client, &pause, length, lease).await;
        if !matches!(made, Ok(Ok(_))) {
            // Otherwise it would exist as long as the pause.
            let _ = client.revoke(lease).await;
        }
        made
    };
    let made = access::within_limit(&client, make).await;
    let made = made.map_err(|error| access::unsure(&error, "`ctl show` shows whether the lock is paused"))?;
    let Made { previous, leader } = match made {
        Ok(made) => made,
        Err(Longer { pause, left }) => {
            let left = left.map_or_else(String::new, |left| format!(" for another {}", show(left)));
            let lock = escaped(lock.as_str());
            let why =
                format!("could not pause {lock}: it is already paused{left}, {pause}; end that with ctl resume first");
            return Err(StartError::new(Exit::Refused, why));
        }
    };
    let leader = leader.as_deref();
    if *json {
        let document = json!({
            "lock": lock.as_str(), "pause": pause, "ttl_left_seconds": length.as_secs(), "replaced": previous, "leader": leader,
        });
        return super::print_json(&document);
    }
    let effect = match leader {
        Some(leader) => format!("{} goes on, and no other instance takes over", escaped(leader)),
        None => "no instance takes the lock".to_owned(),
    };
    let replaced = previous.map_or_else(String::new, |previous| format!("; it replaces the pause {previous}"));
    super::print(&format_args!("paused {} {pause}; {effect}{replaced}\n", escaped(lock.as_str())))
}

/// A pause that was made.
struct Made {
    previous: Option<Pause>,
    /// The identity of the leader.
    leader: Option<String>,
}

/// A pause that lasts longer than the new one.
struct Longer {
    pause: Pause,
    /// `None` for a key without a lease, which an operator wrote with another program.
    left: Option<Duration>,
}

/// Another operator may need what he asked for, so a pause is never made shorter.
async fn make(
    lock: &LockName,
    client: &Client,
    pause: &Pause,
    length: Duration,
    lease: LeaseId,
) -> Result<Result<Made, Longer>, StoreError> {
    let gets = [lock.pause(), lock.holder()].map(Get::key);
    let mut previous: Option<KeyValue> = None;
    client.grant(lease, length).await?;
    loop {
        let mut read = client.hedged(async |store| store.read(&gets).await).await?.keys;
        let leader = read.iter().find(|kv| kv.key == lock.holder()).map(KeyValue::identity);
        let present = read.iter().position(|kv| kv.key == lock.pause()).map(|index| read.swap_remove(index));
        if present.as_ref().is_some_and(|kv| kv.lease == Some(lease)) {
            // The previous attempt was applied.
            break Ok(Ok(Made { previous: replaced(previous, client).await, leader }));
        }
        if let Some(kv) = &present {
            // A lease that has expired since the read does not count.
            let left = ttl_left(Some(kv), client).await?.or_else(|| kv.lease.map(|_| Duration::ZERO));
            if left.is_none_or(|left| left > length) {
                break Ok(Err(Longer { pause: Pause::read(&kv.value), left }));
            }
        }
        previous = present;
        let txn = operator::pause(lock, previous.as_ref(), pause.value(), lease);
        match client.commit(&txn).await {
            // Another operator may replace it from now on.
            Ok(Outcome::Then(_)) => break Ok(Ok(Made { previous: replaced(previous, client).await, leader })),
            // The next read shows what has changed, or whether it was applied.
            Ok(_) => {}
            Err(denied @ StoreError::AccessDenied(_)) => return Err(denied),
            Err(_) => BootClock.sleep(RETRY).await,
        }
    }
}

/// Revokes the lease of a pause that was replaced or ended, and returns that pause.
pub(super) async fn replaced(previous: Option<KeyValue>, client: &Client) -> Option<Pause> {
    let kv = previous?;
    if let Some(lease) = kv.lease {
        // It can have other keys, which this user may not delete. It expires in any case.
        let _ = client.revoke(lease).await;
    }
    Some(Pause::read(&kv.value))
}

/// Returns who runs this: `USER@HOST`, with the user who has called sudo.
fn operator_name() -> String {
    let uid = getuid();
    let user = env::var("SUDO_USER").ok().filter(|user| uid.is_root() && !user.is_empty());
    let user = user.or_else(|| User::from_uid(uid).ok().flatten().map(|user| user.name));
    let host = gethostname().unwrap_or_default();
    shown(format!("{}@{}", user.unwrap_or_else(|| uid.to_string()), host.to_string_lossy()).as_bytes())
}
