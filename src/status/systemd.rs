//! What systemd is told (`sd_notify(3)`): ready, a line of words, stopping, and the watchdog's sign of life.
//!
//! Best effort: a message that cannot be sent is dropped, and without `NOTIFY_SOCKET` there is nobody to tell.
//!
//! The crate `sd-notify` (0.5) cannot be used: it waits where the socket is full, which would hold up the election, it connects to
//! paths only, not to abstract sockets, and its EXTEND_TIMEOUT_USEC ends at 71 minutes, less than a long stop grace.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{Phase, Status};
use crate::{core::clock::Clock, settings::NotifyReady};

/// Tells systemd, if it started us, of every change, until the sender of `status` is dropped. `stop_limit` is how long the
/// program may take to end, whatever systemd allows by itself.
pub async fn run<C: Clock>(status: watch::Receiver<Status>, notify_ready: NotifyReady, stop_limit: Duration, clock: C) {
    match Notifier::new(|name| std::env::var_os(name), std::process::id()) {
        Some(Ok(notifier)) => notifier.run(status, Told::new(notify_ready, stop_limit), clock).await,
        Some(Err(error)) => tracing::warn!("systemd cannot be told anything: NOTIFY_SOCKET: {error}"),
        None => {}
    }
}

/// Whether systemd started us and wants to be told.
#[must_use]
pub fn is_told() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Without a sign of life for this long, systemd ends us.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// `None` if nobody wants to be told.
    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<io::Result<Self>> {
        let path = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        let open = || {
            let socket = UnixDatagram::unbound()?;
            // A systemd that does not read must not hold up the election.
            socket.set_nonblocking(true)?;
            Ok(Self { socket, address: address(&path)?, watchdog: watchdog(&variable, pid) })
        };
        Some(open())
    }

    async fn run<C: Clock>(self, mut status: watch::Receiver<Status>, mut told: Told, clock: C) {
        // Half of what systemd waits, as sd_watchdog_enabled(3) asks for.
        let period = self.watchdog.map(|watchdog| watchdog / 2);
        let mut next_sign = clock.now();
        // What a systemd that is busy had no room for. The status beats every second: it is tried again soon.
        let mut unsent = String::new();
        loop {
            let now = clock.now();
            let alive = {
                let status = status.borrow_and_update();
                add(&mut unsent, &told.news(&status));
                status.is_alive(now)
            };
            if self.send(&unsent) {
                unsent.clear();
            }
            let Some(period) = period else {
                if status.changed().await.is_err() {
                    break;
                }
                continue;
            };
            if now >= next_sign && alive && self.send("WATCHDOG=1\n") {
                next_sign = now + period;
            }
            // While there is no life to tell of, look again soon: it may come back before systemd's patience ends.
            let wake = if now >= next_sign { now + period / 8 } else { next_sign };
            if let Some(Err(_)) = clock.before(wake, status.changed()).await {
                break;
            }
        }
        add(&mut unsent, &told.stopping());
        self.send(&unsent);
    }

    /// False if there is no room for it now. Nothing could be done about another error, and the log would say it at every
    /// renewal.
    fn send(&self, message: &str) -> bool {
        message.is_empty()
            || !matches!(
                self.socket.send_to_addr(message.as_bytes(), &self.address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock
            )
    }
}

/// The latest words are all that counts; anything else is said once and must not be lost.
fn add(unsent: &mut String, news: &str) {
    if news.contains("STATUS=") {
        *unsent = unsent.lines().filter(|line| !line.starts_with("STATUS=")).map(|line| format!("{line}\n")).collect();
    }
    unsent.push_str(news);
}

/// What systemd has heard already, and what it is told.
struct Told {
    notify_ready: NotifyReady,
    stop_limit: Duration,
    ready: bool,
    stopping: bool,
    words: String,
}

impl Told {
    const fn new(notify_ready: NotifyReady, stop_limit: Duration) -> Self {
        Self { notify_ready, stop_limit, ready: false, stopping: false, words: String::new() }
    }

    /// The message that brings systemd up to date; empty if it is.
    fn news(&mut self, status: &Status) -> String {
        let ready = match self.notify_ready {
            NotifyReady::Started => !status.ending,
            // Not what comes after it, too: a lease is given back as well by one that never got into the queue.
            NotifyReady::Campaigning => !matches!(status.phase, Phase::Joining | Phase::Released),
            // Not the phase: a command that ends at once has passed through it before we look.
            NotifyReady::Elected => status.started,
        };
        let mut news = String::new();
        if ready && !self.ready {
            self.ready = true;
            news += "READY=1\n";
        }
        if status.ending {
            news += &self.stopping();
        }
        let words = status.words();
        if words != self.words {
            news += &format!("STATUS={words}\n");
            self.words = words;
        }
        news
    }

    /// How long it can take follows from our settings, so a unit need not repeat it: its own limit is for the case that
    /// nobody is left to ask.
    fn stopping(&mut self) -> String {
        if std::mem::replace(&mut self.stopping, true) {
            return String::new();
        }
        format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", self.stop_limit.as_micros())
    }
}

/// The socket: a path, or a name without one after an `@`.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract socket")),
    }
}

/// systemd's patience, if it waits for this process and not for another that handed its environment on.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<Duration> {
    let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
    if variable("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(pid.into()) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|microseconds| *microseconds > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests;
