//! Notifies systemd (`sd_notify(3)`): READY, STATUS, STOPPING and the watchdog.
//!
//! The crate `sd-notify` (0.5) cannot be used: it blocks while the socket is full, which would delay the election; it does not
//! support abstract sockets; and its EXTEND_TIMEOUT_USEC is at most 71 minutes, less than a long STOP_GRACE.

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

/// Notifies systemd of every change until the sender of `status` is dropped; returns at once without `NOTIFY_SOCKET`.
/// `stop_limit` is the time that the program may take to stop, which systemd is asked for.
pub async fn run<C: Clock>(status: watch::Receiver<Status>, notify_ready: NotifyReady, stop_limit: Duration, clock: C) {
    match Notifier::new(|name| std::env::var_os(name), std::process::id()) {
        Some(Ok(notifier)) => notifier.run(status, Notified::new(notify_ready, stop_limit), clock).await,
        Some(Err(error)) => tracing::warn!("could not notify systemd: NOTIFY_SOCKET: {error}"),
        None => {}
    }
}

/// Returns whether the environment has a `NOTIFY_SOCKET`, as it has under systemd with `Type=notify`.
#[must_use]
pub fn has_notify_socket() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    /// The watchdog's timeout: systemd ends this process if it gets no `WATCHDOG=1` for this long.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Returns `None` without a `NOTIFY_SOCKET`.
    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<io::Result<Self>> {
        let path = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        let open = || {
            let socket = UnixDatagram::unbound()?;
            // The election must not be delayed while systemd does not read.
            socket.set_nonblocking(true)?;
            Ok(Self { socket, address: address(&path)?, watchdog: watchdog(&variable, pid) })
        };
        Some(open())
    }

    async fn run<C: Clock>(self, mut status: watch::Receiver<Status>, mut notified: Notified, clock: C) {
        // Half of the timeout, as sd_watchdog_enabled(3) recommends.
        let period = self.watchdog.map(|watchdog| watchdog / 2);
        let mut next_ping = clock.now();
        // Text for which the socket had no room. It is sent again with the next change of the status, within a second.
        let mut unsent = String::new();
        loop {
            let now = clock.now();
            let alive = {
                let status = status.borrow_and_update();
                append(&mut unsent, &notified.update(&status));
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
            if now >= next_ping && alive && self.send("WATCHDOG=1\n") {
                next_ping = now + period;
            }
            // While this instance is not alive it is checked often: it can recover before the timeout.
            let wake = if now >= next_ping { now + period / 8 } else { next_ping };
            if let Some(Err(_)) = clock.before(wake, status.changed()).await {
                break;
            }
        }
        append(&mut unsent, &notified.stopping());
        self.send(&unsent);
    }

    /// Returns false if the socket has no room now. Other errors are ignored: nothing can be done about them, and they would be
    /// logged at every renewal.
    fn send(&self, message: &str) -> bool {
        message.is_empty()
            || !matches!(
                self.socket.send_to_addr(message.as_bytes(), &self.address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock
            )
    }
}

/// Appends an update. A new STATUS replaces an unsent one; all other lines are sent once and must not be lost.
fn append(unsent: &mut String, update: &str) {
    if update.contains("STATUS=") {
        *unsent = unsent.lines().filter(|line| !line.starts_with("STATUS=")).map(|line| format!("{line}\n")).collect();
    }
    unsent.push_str(update);
}

/// What systemd has been notified of.
struct Notified {
    notify_ready: NotifyReady,
    stop_limit: Duration,
    ready: bool,
    stopping: bool,
    summary: String,
}

impl Notified {
    const fn new(notify_ready: NotifyReady, stop_limit: Duration) -> Self {
        Self { notify_ready, stop_limit, ready: false, stopping: false, summary: String::new() }
    }

    /// Returns the message for what has changed since the last call; empty if nothing has.
    fn update(&mut self, status: &Status) -> String {
        let ready = match self.notify_ready {
            NotifyReady::Started => !status.ending,
            // Also not after Released: an instance that never joined the queue revokes its lease, too.
            // A host that is not eligible must not delay the boot.
            NotifyReady::Campaigning => {
                status.eligible == Some(false) || !matches!(status.phase, Phase::Joining | Phase::Released)
            }
            // Not the phase Running: a command that exits at once can leave it before the status is read.
            NotifyReady::Elected => status.started,
        };
        let mut update = String::new();
        if ready && !self.ready {
            self.ready = true;
            update += "READY=1\n";
        }
        if status.ending {
            update += &self.stopping();
        }
        let summary = status.summary();
        if summary != self.summary {
            update += &format!("STATUS={summary}\n");
            self.summary = summary;
        }
        update
    }

    /// Returns STOPPING with the time limit that follows from the settings, so that units need not repeat it. `TimeoutStopSec=`
    /// then counts only if both the gatekeeper and the guard have been killed.
    fn stopping(&mut self) -> String {
        if std::mem::replace(&mut self.stopping, true) {
            return String::new();
        }
        format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", self.stop_limit.as_micros())
    }
}

/// Returns the address of a socket that is given as a path, or as `@` and an abstract name.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither an absolute path nor an abstract socket")),
    }
}

/// Returns the watchdog's timeout, if it is meant for this process and not for an ancestor that passed on its environment.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<Duration> {
    let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
    if variable("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(pid.into()) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|microseconds| *microseconds > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests;
