//! One run of the gatekeeper: campaigns, leads and hands over; with ON_LOSS=campaign, again after a loss.

use std::{cell::Cell, io::IsTerminal as _, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt as _};
use nix::sys::signal::{self, Signal};
use tokio::sync::watch;

use super::lifecycle::{Instance, Lifecycle};
use crate::{
    core::{
        clock::Clock,
        exit_code::Exit,
        names::shown,
        timing::{Timing, show},
    },
    election::{
        Election,
        lead::{End, Loss},
    },
    etcd::store::{Store, StoreError},
    guard::{CommandEnd, Guard, Order, Report},
    settings::{ElectionConfig, OnLoss},
};

/// The period of the heartbeat that the status shows.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Takes part in the election, orders the guard to run the command while this instance leads, and hands over. Returns when the
/// process tree has exited and the lease was revoked or will expire. Before [`Exit::IdentityTaken`] it waits for `restart_pause`,
/// so that a service manager which restarts it at once does not move leadership each time.
pub async fn run<S: Store, C: Clock>(
    election: &Election<S, C>,
    config: &ElectionConfig,
    stop_signal: i32,
    guard: &impl Guard,
    signals: impl Stream<Item = i32>,
    instance: &Instance<C>,
    restart_pause: Duration,
) -> Exit {
    let campaign_and_lead = campaign_and_lead(election, config, stop_signal, guard, signals, instance, restart_pause);
    // In the same task as the election, so that the heartbeat stops if the election is not polled.
    let heartbeat = async {
        loop {
            let due = election.etcd().clock().now() + HEARTBEAT;
            election.etcd().clock().sleep_until(due).await;
            let late = election.etcd().clock().now().saturating_since(due);
            if late >= HEARTBEAT {
                tracing::warn!(
                    "this process did not run for {late:.1?}: it was frozen, the machine was suspended, or no processor was free"
                );
            }
            instance.record_heartbeat();
        }
    };
    tokio::select! {
        biased;
        // First, as its log line explains those that follow.
        () = heartbeat => unreachable!("the heartbeat never ends"),
        exit = campaign_and_lead => exit,
        never = election.etcd().keep_endpoints_current() => never,
    }
}

async fn campaign_and_lead<S: Store, C: Clock>(
    election: &Election<S, C>,
    config: &ElectionConfig,
    stop_signal: i32,
    guard: &impl Guard,
    signals: impl Stream<Item = i32>,
    instance: &Instance<C>,
    restart_pause: Duration,
) -> Exit {
    let mut signals = pin!(signals);
    // Read now, as it cannot be found out after the terminal has closed.
    let on_terminal = std::io::stdin().is_terminal();
    let mut pause = Duration::ZERO;
    let mut exit = loop {
        let begun = election.etcd().clock().now();
        let campaign = async {
            election.etcd().clock().sleep(pause).await;
            election.campaign(guard).await
        };
        let term = tokio::select! {
            biased;
            () = guard_lost(guard) => break Exit::Guard,
            exit = shutdown_request(&mut signals, stop_signal, on_terminal) => break exit,
            campaigned = campaign => match campaigned {
                Ok(term) => term,
                Err(failure) => {
                    log_denial(&failure);
                    break Exit::NoPermission;
                }
            },
            exit = acquire_timeout(election, config, instance.lifecycle()) => break exit,
        };
        let waited = election.etcd().clock().now().saturating_since(begun);
        tracing::info!(token = term.token, lease = %term.lease, "elected: {:?} leads {} after {waited:.1?}", config.identity, config.lock);
        let shutdown_signal = Cell::new(None);
        let forwarded = signals.as_mut().inspect(|&signal| {
            // While the command is being stopped anyway, signals that otherwise concern only the command end the program, too.
            if instance.is_stopping() && ends_standby(signal, stop_signal, on_terminal) {
                shutdown_signal.set(Some(signal));
            }
            if signal == stop_signal || signal == Signal::SIGTERM as i32 {
                shutdown_signal.set(Some(signal));
                tracing::info!("received a shutdown request: stopping the command");
                instance.shut_down();
            }
        });
        let end = election.lead(&term, guard, forwarded).await;
        election.hand_over(&term, guard).await;
        // The cause may still exist.
        pause = if end == End::Command(CommandEnd::NotStarted) { config.timing.retry_period() } else { Duration::ZERO };
        match (exit_after(end, config), shutdown_signal.get()) {
            (Some(exit), _) => break exit,
            (None, Some(signal)) => {
                tracing::info!("received {} while stepping down: not campaigning again", signal_named(signal));
                break exit_by(signal);
            }
            (None, None) => tracing::info!("campaigning again"),
        }
    };
    if exit == Exit::IdentityTaken && !restart_pause.is_zero() {
        election.release(guard).await;
        tracing::info!(
            "exiting in {}, so that the service manager does not restart this instance before",
            show(restart_pause)
        );
        exit = tokio::select! {
            biased;
            exit = shutdown_request(&mut signals, stop_signal, on_terminal) => exit,
            () = election.etcd().clock().sleep(restart_pause) => exit,
        };
    }
    instance.exit();
    election.release(guard).await;
    guard.order(Order::Dismiss);
    exit
}

/// Returns how the program exits after a term; `None` to campaign again.
fn exit_after(end: End, config: &ElectionConfig) -> Option<Exit> {
    match end {
        End::Command(CommandEnd::Exited(code)) => Some(Exit::Command(code)),
        End::Command(CommandEnd::Signaled(signal)) => Some(Exit::Signal(signal)),
        End::Command(CommandEnd::NotFound) => Some(Exit::NotFound),
        End::Command(CommandEnd::NotExecutable) => Some(Exit::NotExecutable),
        // Its first deadlines had passed, or no process could be created.
        End::Command(CommandEnd::NotStarted) => None,
        End::GuardLost => Some(Exit::Guard),
        End::Lost(Loss::Requested(by)) if config.identity_is_explicit && by == config.identity.as_bytes() => {
            let by = shown(&by);
            tracing::error!(
                "another live instance has the identity of this one, {by:?}, and took leadership: exiting; set a different \
                 ETCD_AWAIT_ELECTION_IDENTITY for each instance"
            );
            Some(Exit::IdentityTaken)
        }
        End::Lost(_) if config.on_loss == OnLoss::Campaign => None,
        End::Lost(_) => Some(Exit::Lost),
    }
}

/// Completes if the guard exits while no command runs.
async fn guard_lost(guard: &impl Guard) {
    while guard.report().await != Report::GuardLost {}
    tracing::error!("the guard exited; exiting");
}

/// Completes at a signal that ends a standby, and ignores all others.
async fn shutdown_request(
    signals: &mut (impl Stream<Item = i32> + Unpin),
    stop_signal: i32,
    on_terminal: bool,
) -> Exit {
    while let Some(number) = signals.next().await {
        if ends_standby(number, stop_signal, on_terminal) {
            tracing::info!("received {} while waiting: leaving the queue", signal_named(number));
            return exit_by(number);
        }
        // A standby has no deadlines, so it can be suspended as any job of a shell.
        if number == Signal::SIGTSTP as i32 {
            let _ = signal::raise(Signal::SIGSTOP);
        }
    }
    std::future::pending().await
}

/// Returns whether a signal ends this program while no command runs.
fn ends_standby(number: i32, stop_signal: i32, on_terminal: bool) -> bool {
    number == stop_signal
        || match Signal::try_from(number) {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => true,
            // From a service manager it means "reload", which has no effect on a standby; from a terminal, that it has closed.
            Ok(Signal::SIGHUP) => on_terminal,
            _ => false,
        }
}

fn signal_named(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

fn exit_by(number: i32) -> Exit {
    Exit::Signal(u8::try_from(number).unwrap_or(0))
}

/// Completes when ACQUIRE_TIMEOUT has passed. Zero tries once: until somebody else is seen to be ahead, or for as long as a
/// renewal may take if etcd does not answer at all.
async fn acquire_timeout<S: Store, C: Clock>(
    election: &Election<S, C>,
    config: &ElectionConfig,
    mut lifecycle: watch::Receiver<Lifecycle>,
) -> Exit {
    let Some(timeout) = config.acquire_timeout else { return std::future::pending().await };
    let once = timeout.is_zero();
    let limit = if once { config.timing.renew_deadline() } else { timeout };
    let waiting = async {
        // The sender lives as long as the instance.
        let _ = lifecycle.wait_for(|lifecycle| once && lifecycle.is_waiting()).await;
    };
    tokio::select! {
        biased;
        () = waiting => tracing::error!("the lock is held by another instance: giving up, as ACQUIRE_TIMEOUT is 0"),
        () = election.etcd().clock().sleep(limit) => {
            tracing::error!("not elected within {} (ACQUIRE_TIMEOUT {}): giving up", show(limit), show(timeout));
        }
    }
    Exit::GaveUp
}

fn log_denial(failure: &StoreError) {
    match failure {
        StoreError::AccessDenied(why) => {
            tracing::error!(
                "etcd denied access: {why}; check ETCD_AWAIT_ELECTION_USER, PASSWORD or PASSWORD_FILE, and the user's permission \
                 to read and write the lock's key and the keys below it"
            );
        }
        StoreError::Untrusted(why) => {
            tracing::error!(
                "TLS verification failed for every endpoint: {why}; check ETCD_AWAIT_ELECTION_CACERT, CERT, KEY and \
                 TLS_SERVER_NAME"
            );
        }
        StoreError::NoLeader(why) | StoreError::Unavailable(why) => tracing::error!("{why}"),
    }
}

/// Logs what the timing settings mean.
pub(super) fn log_timing(config: &ElectionConfig) {
    let ttl = config.timing.lease();
    tracing::info!(
        "timing: a leader keeps leadership for {} without etcd; its command receives the stop signal {} and SIGKILL {} after \
         the last renewal; another instance replaces a lost machine within about {:?}",
        show(config.timing.outage_survived()),
        show(config.timing.renew_deadline()),
        show(Timing::latest_death(ttl)),
        Timing::slowest_hand_over(ttl) + Duration::from_secs(1),
    );
}
