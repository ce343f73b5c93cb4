//! `ctl resign`: moves leadership to a standby, by a handover request on its behalf.

mod choice;
mod outcome;

use std::{
    convert::Infallible,
    io::{self, Write as _},
    pin::pin,
    time::Duration,
};

use serde_json::json;

use self::{
    choice::{Choice, choose},
    outcome::{Outcome, after_withdrawal, judge},
};
use super::{
    access::{self, Client},
    interrupt::{Interrupt, Interrupts, suspend},
    pause::RETRY,
};
use crate::{
    core::{
        clock::{Clock as _, Instant},
        exit_code::Exit,
        kv::{self, Get, Range, StoreError},
        limits::QUESTION,
        names::LockName,
        start_error::StartError,
        text::escaped,
        timing::show,
    },
    election::{keys::Request, operator, view::View},
    etcd::{Endpoint, pages::read_lock, store::Store as _},
    settings::OneLock,
    system::clock::BootClock,
};

/// How long a handover may take before the operator is told that it waits.
const SILENCE: Duration = Duration::from_secs(1);
/// How often the lock is read without a change: a watch of an endpoint that hangs shows none.
const REFRESH: Duration = Duration::from_secs(5);

/// Makes a handover request, and waits until leadership has moved.
///
/// # Errors
/// If nobody can take over, the request is not served within `timeout`, etcd denies access, or it does not answer in time.
pub async fn resign(one: &OneLock, to: Option<&str>, timeout: Duration) -> Result<Exit, StartError> {
    let client = access::client(&one.etcd)?;
    let interrupts = Interrupts::block().map_err(StartError::no_room("the signal handler"))?;
    // A request that is being made is not interrupted, as nobody would know whether it exists.
    let made = access::within_limit(&client, make(&one.lock, &client, to)).await;
    let made =
        made.map_err(|error| access::unsure(&error, "`ctl show` shows whether the handover request was made"))?;
    let handover = made.map_err(|why| {
        let lock = escaped(one.lock.as_str());
        StartError::new(Exit::Refused, format!("could not move leadership of {lock}: {why}"))
    })?;
    let begun = handover.begun;
    let end = tokio::select! {
        outcome = handover.follow(&client) => Ok(outcome),
        signal = ended(&interrupts) => Err(End::Signal(signal)),
        () = BootClock.sleep_until(begun + timeout) => Err(End::Timeout(timeout)),
        never = handover.tell(begun + SILENCE) => match never {},
        never = client.keep_endpoints_current() => never,
    };
    match end {
        Ok((outcome, took)) => handover.conclude(&client, one, outcome, took, None).await,
        Err(end) => {
            let state = tokio::select! {
                state = handover.withdraw(&client) => state,
                // Another signal.
                _ = ended(&interrupts) => None,
            };
            let outcome = state.unwrap_or(Outcome::Unknown);
            handover.conclude(&client, one, outcome, BootClock.now().saturating_since(begun), Some(end)).await
        }
    }
}

/// Waits for a signal that ends the command.
async fn ended(interrupts: &Interrupts) -> u8 {
    loop {
        match interrupts.next().await {
            Interrupt::End(signal) => return signal,
            // If that fails, it goes on.
            Interrupt::Suspend => drop(suspend()),
            Interrupt::Redraw => {}
        }
    }
}

/// Why the command does not wait any longer.
enum End {
    Signal(u8),
    Timeout(Duration),
}

/// Makes the request, or finds the same request of another operator.
async fn make(lock: &LockName, client: &Client, to: Option<&str>) -> Result<Result<Handover, String>, StoreError> {
    let mut sent = None;
    loop {
        let view = read(lock, client, sent).await?;
        let choice = match choose(&view, to) {
            Ok(choice) => choice,
            Err(why) => return Ok(Err(why)),
        };
        let begun = BootClock.now();
        let made = |choice: Choice, revision| {
            let key = lock.request(choice.request);
            Ok(Ok(Handover { lock: lock.clone(), key, choice, revision, is_named: to.is_some(), begun }))
        };
        if let Some(revision) = view.request(choice.request).map(|key| key.mod_revision) {
            return made(choice, revision);
        }
        sent = Some(choice.request);
        let txn = operator::request(lock, &choice.holder, &choice.standby, choice.request);
        match client.commit(&txn).await {
            Ok(kv::Outcome::Then(revision)) => return made(choice, revision),
            // A key has changed since the read.
            Ok(_) => {}
            Err(denied @ StoreError::AccessDenied(_)) => return Err(denied),
            // The next read shows whether it was applied.
            Err(_) => BootClock.sleep(RETRY).await,
        }
    }
}

/// Reads the lock with the first requests, and with this one in any case.
async fn read(lock: &LockName, client: &Client, request: Option<Request>) -> Result<View, StoreError> {
    let mut also = lock.requests().map(Get::names).to_vec();
    also.extend(request.map(|request| Get { values: false, ..Get::key(lock.request(request)) }));
    let read = async |store: &Endpoint| read_lock(lock, &also, async |gets: &[Get]| store.read(gets).await).await;
    Ok(View::new(lock, client.hedged(read).await?))
}

/// A request that was made.
struct Handover {
    lock: LockName,
    choice: Choice,
    key: Vec<u8>,
    /// The revision of the request.
    revision: i64,
    /// Whether the standby was named.
    is_named: bool,
    /// When the request was sent.
    begun: Instant,
}

impl Handover {
    fn from(&self) -> String {
        escaped(&self.choice.holder.identity()).into_owned()
    }

    fn standby(&self) -> String {
        escaped(&self.choice.standby.kv.identity()).into_owned()
    }

    /// Waits for the outcome, however often the connection breaks. Returns it with the time that it took.
    async fn follow(&self, client: &Client) -> (Outcome, Duration) {
        let mut seen = BootClock.now();
        loop {
            let mut revision = self.revision;
            // etcd may deny access for some time; the timeout is the end.
            if let Ok(view) = read(&self.lock, client, Some(self.choice.request)).await {
                if let Some(outcome) = judge(&view, &self.choice) {
                    return (outcome, seen.saturating_since(self.begun));
                }
                revision = view.revision;
            }
            let refresh = BootClock.now() + REFRESH;
            match BootClock.before(refresh, self.changed(client, revision)).await {
                Some(Ok(())) | None => {}
                Some(Err(_)) => BootClock.sleep(RETRY).await,
            }
            seen = BootClock.now();
        }
    }

    async fn changed(&self, client: &Client, revision: i64) -> Result<(), StoreError> {
        let keys = [self.lock.holder(), self.key.clone(), self.choice.standby.kv.key.clone(), self.lock.pause()];
        let mut watch = client.watch(&keys.map(Range::Key), revision + 1).await?;
        while watch.next().await?.is_empty() {}
        Ok(())
    }

    /// Tells that it waits.
    async fn tell(&self, at: Instant) -> Infallible {
        BootClock.sleep_until(at).await;
        // A closed stream is no reason to fail.
        let _ = writeln!(io::stderr(), "waiting until {} has stopped its command and hands over", self.from());
        std::future::pending().await
    }

    /// Deletes the request, and returns what the lock is like then; `None` if etcd does not answer.
    async fn withdraw(&self, client: &Client) -> Option<Outcome> {
        let withdrawn = async {
            loop {
                let answer = client.commit(&operator::delete(&self.key, self.revision)).await;
                if let Ok(view) = read(&self.lock, client, Some(self.choice.request)).await
                    && answer.is_ok()
                {
                    break after_withdrawal(&view, &self.choice);
                }
                BootClock.sleep(RETRY).await;
            }
        };
        let withdrawn = pin!(withdrawn);
        BootClock.before(BootClock.now() + QUESTION, withdrawn).await
    }

    /// Prints the outcome.
    async fn conclude(
        &self,
        client: &Client,
        one: &OneLock,
        outcome: Outcome,
        took: Duration,
        end: Option<End>,
    ) -> Result<Exit, StartError> {
        if end.is_none() && !matches!(outcome, Outcome::Led { by_standby: true, .. }) {
            // What is left of the request would be obeyed after the pause, or stay as long as the standby.
            let _ = self.withdraw(client).await;
        }
        let (from, standby) = (self.from(), self.standby());
        let why = match outcome {
            Outcome::Led { identity, token, by_standby: true } => {
                return self.succeed(one, "handed over", &identity, token, took);
            }
            // An older request was served, or the leader was lost.
            Outcome::Led { identity, token, .. } if !self.is_named && identity != self.choice.holder.identity() => {
                return self.succeed(one, "leadership moved", &identity, token, took);
            }
            Outcome::Led { identity, .. } => format!("{} leads now, and not {standby}", escaped(&identity)),
            Outcome::Free => format!("{from} does not lead any more, and nobody leads yet"),
            Outcome::Paused => format!("the lock was paused, and {from} leads; end the pause with ctl resume"),
            Outcome::Gone => format!("{standby} has left the queue, and {from} leads"),
            Outcome::Withdrawn => format!("somebody has deleted the request, and {from} leads"),
            Outcome::Leads => format!(
                "the request is withdrawn, and {from} leads; if it has begun to stop its command, it still hands over"
            ),
            Outcome::Unknown => format!(
                "etcd does not answer; the request may remain, and {from} obeys it as long as the lease of {standby} exists"
            ),
        };
        let lock = escaped(self.lock.as_str());
        let (exit, reason) = match end {
            Some(End::Signal(signal)) => (Exit::Signal(signal), "interrupted: ".to_owned()),
            Some(End::Timeout(timeout)) => (Exit::NotHandedOver, format!("no handover within {}: ", show(timeout))),
            None => (Exit::NotHandedOver, String::new()),
        };
        Err(StartError::new(exit, format!("could not move leadership of {lock} to {standby}: {reason}{why}")))
    }

    fn succeed(
        &self,
        one: &OneLock,
        what: &str,
        identity: &str,
        token: i64,
        took: Duration,
    ) -> Result<Exit, StartError> {
        let from = self.choice.holder.identity();
        if one.json {
            return super::print_json(&json!({
                "lock": self.lock.as_str(), "from": from, "to": identity, "token": token,
                "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }));
        }
        super::print(&format_args!(
            "{what} from {} to {} in {} ms, token {token}\n",
            escaped(&from),
            escaped(identity),
            took.as_millis()
        ))
    }
}
