//! `ctl show --watch`: shows a lock until it is interrupted, and follows its changes by a watch.
//!
//! The state is read again after each change, and every few seconds for the time left of the lease. That also shows in time that
//! etcd does not answer, as a watch without changes does not.

use std::{cell::RefCell, io, pin::pin, time::Duration};

use super::{
    access::{self, Client},
    interrupt::{Interrupt, Interrupts, suspend},
    printed,
    screen::Screen,
    show::{LockState, read_at},
};
use crate::{
    core::{
        clock::{Clock as _, Instant},
        exit_code::Exit,
        kv::{Change, StoreError},
        limits::QUESTION,
        names::LockName,
        start_error::StartError,
        text::escaped,
    },
    settings::EtcdConfig,
    system::clock::BootClock,
};

/// How often the state is read without a change.
const REFRESH: Duration = Duration::from_secs(5);
/// How long etcd may take to answer before the state is shown as stale.
const SLOW: Duration = Duration::from_secs(3);
/// The time from a change until the state is read: several changes at once are one.
const SETTLE: Duration = Duration::from_millis(100);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows a lock until a signal ends the command or nobody reads its output.
///
/// # Errors
/// If etcd denies access or does not answer in time at the beginning: later, that is shown, and it goes on. If the output cannot be
/// written.
pub async fn watch(lock: &LockName, config: &EtcdConfig, json: bool) -> Result<Exit, StartError> {
    let client = access::client(config)?;
    let interrupts = Interrupts::block().map_err(StartError::no_room("the signal handler"))?;
    let first = async { access::within_limit(&client, read_at(lock, &client)).await };
    let (state, revision) = tokio::select! {
        first = first => first?,
        exit = ended(&interrupts, None) => return Ok(exit),
    };
    let output = Output { screen: Screen::of_stdout(json), json, latest: RefCell::new(Latest::new(state)) };
    let error = tokio::select! {
        exit = ended(&interrupts, Some(&output)) => return Ok(exit),
        Err(error) = follow(lock, &client, revision, &output) => error,
        Err(error) = tick(&output) => error,
        never = client.keep_endpoints_current() => never,
    };
    // The message is for the terminal as it was.
    drop(output);
    printed(Err(error))
}

/// Waits for a signal that ends the command, and returns the exit code for it.
async fn ended(interrupts: &Interrupts, output: Option<&Output>) -> Exit {
    loop {
        let interrupt = interrupts.next().await;
        if let Interrupt::End(signal) = interrupt {
            return Exit::Signal(signal);
        }
        if matches!(interrupt, Interrupt::Suspend) {
            output.inspect(|output| output.screen.leave());
            // If that fails, it goes on.
            let _ = suspend();
        }
        if output.is_some_and(|output| output.redraw().is_err()) {
            return Exit::Command(0);
        }
    }
}

/// Counts the time left down on a terminal, and ends if nobody reads a stream any more.
async fn tick(output: &Output) -> io::Result<std::convert::Infallible> {
    loop {
        BootClock.sleep(Duration::from_secs(1)).await;
        output.redraw()?;
        Screen::check_reader()?;
    }
}

async fn follow(
    lock: &LockName,
    client: &Client,
    mut revision: i64,
    output: &Output,
) -> io::Result<std::convert::Infallible> {
    output.show().await?;
    loop {
        let pause = tokio::select! {
            result = changed(lock, client, revision) => if result.is_ok() { SETTLE } else { PAUSE },
            () = BootClock.sleep(REFRESH) => Duration::ZERO,
        };
        BootClock.sleep(pause).await;
        loop {
            let mut answer = pin!(read_at(lock, client));
            let (slow, limit) = (BootClock.now() + SLOW, BootClock.now() + QUESTION);
            let in_time = BootClock.before(slow, answer.as_mut()).await;
            let answer = if in_time.is_some() {
                in_time
            } else {
                output.stale("etcd does not answer").await?;
                BootClock.before(limit, answer).await
            };
            match answer {
                Some(Ok((state, at))) => {
                    revision = at;
                    output.fresh(state).await?;
                    break;
                }
                Some(Err(denied)) => {
                    output.stale(&access::denied(&denied).to_string()).await?;
                    BootClock.sleep(PAUSE).await;
                }
                // Another cluster may be there now. This command has no lease that it could lose.
                None => client.forget_cluster(),
            }
        }
    }
}

/// Waits for a change of the lock after a revision. Returns also if the watch ends, for example because etcd has compacted that
/// revision.
async fn changed(lock: &LockName, client: &Client, revision: i64) -> Result<(), StoreError> {
    let mut watch = client.watch(&lock.all_keys(), revision + 1).await?;
    let holder = lock.holder();
    let is_ours =
        |change: &Change| change.key() == holder || lock.is_own_key(change.key()) || lock.needs_lease(change.key());
    while !watch.next().await?.iter().any(is_ours) {}
    Ok(())
}

/// What is shown, and where.
struct Output {
    screen: Screen,
    json: bool,
    latest: RefCell<Latest>,
}

/// The latest state.
struct Latest {
    state: LockState,
    /// When it was read.
    at: Instant,
    /// Why it could not be read again.
    stale: Option<String>,
    /// What a stream has printed last, without what changes by itself.
    printed: Option<(LockState, Option<String>)>,
}

impl Latest {
    fn new(state: LockState) -> Self {
        Self { state, at: BootClock.now(), stale: None, printed: None }
    }

    fn age(&self) -> Duration {
        BootClock.now().saturating_since(self.at)
    }

    /// Returns since when and why the state could not be read again.
    fn stale(&self) -> Option<String> {
        self.stale.as_ref().map(|why| format!("stale for {}s: {}", self.age().as_secs(), escaped(why)))
    }

    /// Returns a line about the state, unless a stream has printed it already.
    fn news(&mut self, json: bool) -> Option<String> {
        let unchanging = (self.state.without_time(), self.stale.clone());
        if self.printed.as_ref() == Some(&unchanging) {
            return None;
        }
        self.printed = Some(unchanging);
        let state = self.state.later(self.age());
        Some(match (json, self.stale()) {
            (true, stale) => state.document(stale.map(|_| self.age())),
            (false, None) => state.summary(),
            (false, Some(stale)) => format!("{stale}; before that: {}", state.summary()),
        })
    }
}

impl Output {
    async fn fresh(&self, state: LockState) -> io::Result<()> {
        let printed = self.latest.borrow_mut().printed.take();
        self.latest.replace(Latest { printed, ..Latest::new(state) });
        self.show().await
    }

    async fn stale(&self, why: &str) -> io::Result<()> {
        self.latest.borrow_mut().stale = Some(why.to_owned());
        self.show().await
    }

    /// Draws the terminal, or prints to a stream what has changed.
    async fn show(&self) -> io::Result<()> {
        let line = self.latest.borrow_mut().news(self.json);
        match (&self.screen, line) {
            (Screen::Terminal { .. }, _) => self.redraw(),
            (Screen::Stream, Some(line)) => Screen::line(line).await,
            (Screen::Stream, None) => Ok(()),
        }
    }

    /// Draws the terminal again; a stream has nothing to repeat.
    fn redraw(&self) -> io::Result<()> {
        let latest = self.latest.borrow();
        let stale = latest.stale().map_or_else(String::new, |stale| stale + "\n");
        self.screen.draw(|columns| format!("{stale}{}", latest.state.later(latest.age()).table(columns)))
    }
}
