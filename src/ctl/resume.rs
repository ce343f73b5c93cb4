//! `ctl resume`: ends a pause.

use serde_json::json;

use super::{
    access::{self, Client},
    pause::{RETRY, replaced},
};
use crate::{
    core::{
        clock::Clock as _,
        exit_code::Exit,
        kv::{Get, KeyValue, Outcome, StoreError},
        names::LockName,
        start_error::StartError,
        text::escaped,
    },
    election::{operator, pause::Pause},
    etcd::store::Store as _,
    settings::OneLock,
    system::clock::BootClock,
};

/// Ends the pause of a lock. Succeeds also if it is not paused.
///
/// # Errors
/// If etcd denies access or does not answer in time.
pub async fn resume(OneLock { lock, etcd, json }: &OneLock) -> Result<Exit, StartError> {
    let client = access::client(etcd)?;
    let ended = access::within_limit(&client, end(lock, &client)).await?;
    if *json {
        return super::print_json(&json!({ "lock": lock.as_str(), "resumed": ended.is_some(), "pause": ended }));
    }
    let lock = escaped(lock.as_str());
    let line = match ended {
        Some(pause) => format!("resumed {lock}: it was paused {pause}"),
        None => format!("{lock} is not paused"),
    };
    super::print(&format_args!("{line}\n"))
}

async fn end(lock: &LockName, client: &Client) -> Result<Option<Pause>, StoreError> {
    let get = Get::key(lock.pause());
    let mut last: Option<KeyValue> = None;
    loop {
        let mut read = client.hedged(async |store| store.read(std::slice::from_ref(&get)).await).await?;
        let Some(kv) = read.keys.pop() else { return Ok(replaced(last, client).await) };
        let txn = operator::delete(&kv.key, kv.mod_revision);
        last = Some(kv);
        match client.commit(&txn).await {
            // Another operator may pause it again from now on.
            Ok(Outcome::Then(_)) => return Ok(replaced(last, client).await),
            Ok(_) => {}
            Err(denied @ StoreError::AccessDenied(_)) => return Err(denied),
            Err(_) => BootClock.sleep(RETRY).await,
        }
    }
}
