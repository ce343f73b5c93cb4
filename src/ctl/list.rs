//! `ctl list`: prints the locks below a prefix, one on each line.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{
    access::{self, Client},
    show::{LockState, read},
};
use crate::{
    core::{
        exit_code::Exit,
        kv::{Get, Range},
        names::LockName,
        start_error::StartError,
        text::escaped,
    },
    etcd::store::Store as _,
    settings::EtcdConfig,
};

/// Prints the locks whose names begin with `prefix`.
///
/// # Errors
/// If etcd denies access or does not answer in time, or the output cannot be written.
pub async fn list(prefix: &str, config: &EtcdConfig, json: bool) -> Result<Exit, StartError> {
    let client = access::client(config)?;
    let locks = find(prefix, &client).await?;
    let stdout = &mut io::stdout().lock();
    if !json && let Err(error) = writeln!(stdout, "{}", Row::HEADER) {
        return super::printed(Err(error));
    }
    for lock in &locks {
        let state = access::within_limit(&client, read(lock, &client)).await?;
        let line = if json { state.json() } else { Row::of(&state).to_string() };
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            return super::printed(Err(error));
        }
    }
    super::printed(stdout.flush())
}

/// Returns the locks that have a queue entry of this program, in the order of their names. The keys are read page by page, without
/// their values; what changes meanwhile may be missed.
async fn find(prefix: &str, client: &Client) -> Result<BTreeSet<LockName>, StartError> {
    let mut locks = BTreeSet::new();
    let mut from = prefix.as_bytes().to_vec();
    if from.is_empty() {
        from.push(0);
    }
    loop {
        let range = Range::Between(from, end_of(prefix.as_bytes()));
        let get = Get { limit: 5000, ..Get::names(range) };
        let page = client.hedged(async |store| store.read(std::slice::from_ref(&get)).await);
        let page = access::within_limit(client, page).await?;
        locks.extend(page.names.iter().filter_map(|name| LockName::of_entry(&name.key)));
        match page.cut.into_iter().next() {
            Some((_, last)) => from = [last.as_slice(), b"\0"].concat(),
            None => return Ok(locks),
        }
    }
}

/// Returns the end of the range of a prefix. A zero byte stands for the end of all keys.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A line of the table. The name is last, as it has any length.
struct Row {
    token: String,
    standbys: usize,
    others: usize,
    leader: String,
    lock: String,
}

impl Row {
    const HEADER: &str = "     TOKEN  STANDBYS  OTHERS  LEADER                LOCK";

    fn of(state: &LockState) -> Self {
        let others = state.queue.iter().filter(|waiting| waiting.foreign).count();
        let holder = state.holder.as_ref();
        Self {
            token: holder.map_or_else(|| "-".to_owned(), |holder| holder.token.to_string()),
            standbys: state.queue.len() - others,
            others,
            leader: holder.map_or_else(|| "-".into(), |holder| escaped(&holder.identity).into_owned()),
            lock: escaped(&state.lock).into_owned(),
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token, standbys, others, leader, lock } = self;
        write!(f, "{token:>10}  {standbys:>8}  {others:>6}  {leader:20}  {lock}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_prefix_ends_before_the_next_one() {
        for (prefix, end) in
            [(&b"a"[..], &b"b"[..]), (b"jobs/", b"jobs0"), (b"", b"\0"), (b"a\xff", b"b"), (b"\xff", b"\0")]
        {
            assert_eq!(end_of(prefix), end);
        }
    }
}
