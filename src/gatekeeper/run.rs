//! The campaign_and_lead of one run: campaign, lead, hand over; and again, if it was lost and is wanted back.

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

/// How often the status says that the election is alive.
const BEAT: Duration = Duration::from_secs(1);

/// Takes part in the election, has the guard run the command while this instance leads, and gives the lead away. Returns
/// when nothing is left running and the lock was given back, or cannot be. After [`Exit::IdentityTaken`] it first waits for
/// `restart_pause`, so that a service manager which restarts it at once does not move the command each time.
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
    // In the same task as the campaign_and_lead: it only beats while that is polled, too.
    let beat = async {
        loop {
            let due = election.etcd().clock().now() + BEAT;
            election.etcd().clock().sleep_until(due).await;
            let late = election.etcd().clock().now().saturating_since(due);
            if late >= BEAT {
                tracing::warn!(
                    "this process did not run for {late:.1?}: it was frozen, the machine was suspended, or no processor was free"
                );
            }
            instance.beat();
        }
    };
    tokio::select! {
        biased;
        // First, as it explains what comes then.
        () = beat => unreachable!("the beat goes on for ever"),
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
    // Once it has closed nobody can tell any more.
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
                Err(failure) => break denied(&failure),
            },
            exit = acquire_timeout(election, config, instance.lifecycle()) => break exit,
        };
        let waited = election.etcd().clock().now().saturating_since(begun);
        tracing::info!(token = term.token, lease = %term.lease, "elected: {:?} leads {} after {waited:.1?}", config.identity, config.lock);
        let asked = Cell::new(None);
        let forwarded = signals.as_mut().inspect(|&signal| {
            // What is for the command alone while it leads is for us, too, once it has to stop anyway.
            if instance.is_stopping() && ends_a_waiting_program(signal, stop_signal, on_terminal) {
                asked.set(Some(signal));
            }
            if signal == stop_signal || signal == Signal::SIGTERM as i32 {
                asked.set(Some(signal));
                tracing::info!("received a shutdown request: stopping the command");
                instance.shut_down();
            }
        });
        let end = election.lead(&term, guard, forwarded).await;
        election.hand_over(&term, guard).await;
        // What kept the command from being started may still be there.
        pause = if end == End::Command(CommandEnd::NotStarted) { config.timing.retry_period() } else { Duration::ZERO };
        match (after(end, config), asked.get()) {
            (Some(exit), _) => break exit,
            (None, Some(signal)) => {
                tracing::info!("received {} while stepping down: not campaigning again", signal_named(signal));
                break ended_by(signal);
            }
            (None, None) => tracing::info!("campaigning again"),
        }
    };
    if exit == Exit::IdentityTaken && !restart_pause.is_zero() {
        election.give_back(guard).await;
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
    instance.ending();
    election.give_back(guard).await;
    guard.order(Order::Dismiss);
    exit
}

/// How the program ends after a term, or `None` to campaign again.
fn after(end: End, config: &ElectionConfig) -> Option<Exit> {
    match end {
        End::Command(CommandEnd::Exited(code)) => Some(Exit::Command(code)),
        End::Command(CommandEnd::Signalled(signal)) => Some(Exit::Signal(signal)),
        End::Command(CommandEnd::NotFound) => Some(Exit::NotFound),
        End::Command(CommandEnd::NotExecutable) => Some(Exit::NotExecutable),
        // Its first deadlines had passed before it could start, or the machine had no room for it.
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

/// Completes if the guard is gone although nothing was started.
async fn guard_lost(guard: &impl Guard) {
    while guard.report().await != Report::GuardLost {}
    tracing::error!("the guard exited; exiting");
}

/// Completes at a signal that ends a waiting program. All others mean nothing before there is a command.
async fn shutdown_request(
    signals: &mut (impl Stream<Item = i32> + Unpin),
    stop_signal: i32,
    on_terminal: bool,
) -> Exit {
    while let Some(number) = signals.next().await {
        if ends_a_waiting_program(number, stop_signal, on_terminal) {
            tracing::info!("received {} while waiting: leaving the queue", signal_named(number));
            return ended_by(number);
        }
        // Nobody waits for us yet who must not see us stop: behave as any job of a shell.
        if number == Signal::SIGTSTP as i32 {
            let _ = signal::raise(Signal::SIGSTOP);
        }
    }
    std::future::pending().await
}

/// Whether a signal ends this program where there is no command that it would be for.
fn ends_a_waiting_program(number: i32, stop_signal: i32, on_terminal: bool) -> bool {
    number == stop_signal
        || match Signal::try_from(number) {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => true,
            // A service manager's "reload": there is nothing yet that could. Without its terminal a job of a shell ends.
            Ok(Signal::SIGHUP) => on_terminal,
            _ => false,
        }
}

fn signal_named(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

fn ended_by(number: i32) -> Exit {
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

fn denied(failure: &StoreError) -> Exit {
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
    Exit::NoPermission
}

/// What the timing means, in an operator's words, once at the start.
pub(super) fn say_timing(config: &ElectionConfig) {
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
