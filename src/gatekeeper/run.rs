//! One run of the gatekeeper: performs the actions of the candidate, and feeds it events.

use std::{collections::VecDeque, io::IsTerminal as _, pin::pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use nix::sys::signal;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{lifecycle::Instance, requests::Requests};
use crate::{
    core::{
        clock::Clock,
        exit_code::Exit,
        timing::{Timing, show},
    },
    election::{
        Candidate,
        protocol::{Action, Event, Meaning, Signal},
    },
    etcd::{client::EtcdClient, store::Store},
    guard::{Guard, Order, Report},
    settings::ElectionConfig,
};

/// The period of the heartbeat that the status shows.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The settings of one run, beside those of the election.
#[derive(Clone, Copy, Debug)]
pub struct RunSettings {
    /// The signal that stops the command.
    pub stop_signal: i32,
    /// How long to wait before [`Exit::IdentityTaken`], so that a service manager which restarts this instance at once does not move
    /// leadership each time.
    pub restart_pause: Duration,
}

/// Takes part in the election, orders the guard to run the command while this instance leads, and hands over. Returns when the
/// process tree has exited and the lease was revoked or will expire.
pub async fn run<S: Store, C: Clock>(
    etcd: &EtcdClient<S, C>,
    config: &ElectionConfig,
    settings: RunSettings,
    guard: &impl Guard,
    signals: impl Stream<Item = i32>,
    mut checks: Option<UnboundedReceiver<Event>>,
    instance: &Instance<C>,
) -> Exit {
    // In the same task as the election, so that the heartbeat stops if the election is not driven.
    let heartbeat = async {
        loop {
            let due = etcd.clock().now() + HEARTBEAT;
            etcd.clock().sleep_until(due).await;
            let late = etcd.clock().now().saturating_since(due);
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
        exit = drive(etcd, config, settings, guard, signals, checks.as_mut(), instance) => exit,
        never = etcd.keep_endpoints_current() => never,
    }
}

async fn drive<S: Store, C: Clock>(
    etcd: &EtcdClient<S, C>,
    config: &ElectionConfig,
    settings: RunSettings,
    guard: &impl Guard,
    signals: impl Stream<Item = i32>,
    mut checks: Option<&mut UnboundedReceiver<Event>>,
    instance: &Instance<C>,
) -> Exit {
    let clock = etcd.clock();
    let mut signals = pin!(signals);
    // Read now, as it cannot be found out after the terminal has closed.
    let on_terminal = std::io::stdin().is_terminal();
    let mut requests = Requests::new(etcd, config.lock.clone());
    let mut candidate = Candidate::new(Arc::new(config.clone()), settings.restart_pause, clock.now());
    let (mut guard_is_lost, mut cluster_is_lost) = (false, false);
    let mut events = VecDeque::from([Event::Woken]);
    loop {
        if !cluster_is_lost && etcd.membership().lost() {
            // Before an answer that came together with the one that shows this.
            cluster_is_lost = true;
            events.push_front(Event::ClusterLost);
        }
        if let Some(event) = events.pop_front() {
            tracing::trace!("event: {event:?}");
            for action in candidate.on(event, clock.now()) {
                tracing::trace!("action: {action:?}");
                match action {
                    Action::Request(id, request) => requests.send(id, request),
                    Action::Cancel(id) => requests.cancel(id),
                    Action::NewLease => events.push_front(Event::NewLease(etcd.new_lease())),
                    Action::ForgetCluster => {
                        etcd.forget_cluster();
                        cluster_is_lost = false;
                    }
                    Action::Order(order) => {
                        guard.order(order);
                        // Afterwards, so that the start need not wait for it.
                        if let (Order::Start { .. }, Some(cluster)) = (order, etcd.membership().ours()) {
                            guard.order(Order::Cluster(cluster));
                        }
                    }
                    Action::Progress(progress) => instance.on(&progress),
                    Action::Suspend => drop(signal::raise(signal::Signal::SIGSTOP)),
                    Action::Exit(exit) => return exit,
                }
            }
            etcd.set_urgent(candidate.is_in_term());
            continue;
        }
        let woken = async {
            match candidate.next_wake() {
                Some(due) => clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let checked = async {
            match &mut checks {
                Some(checks) => checks.recv().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            report = guard.report(), if !guard_is_lost => {
                guard_is_lost = report == Report::GuardLost;
                Event::Report(report)
            }
            Some(number) = signals.next() => {
                Event::Signal(Signal { number, meaning: meaning(number, settings.stop_signal, on_terminal) })
            }
            (id, answer) = requests.next() => Event::Answer(id, answer),
            () = etcd.membership().is_lost(), if !cluster_is_lost => continue,
            () = woken => Event::Woken,
            // Last, as everything else is more urgent.
            Some(event) = checked => event,
        };
        events.push_back(event);
    }
}

/// Returns what a signal requests.
fn meaning(number: i32, stop_signal: i32, on_terminal: bool) -> Meaning {
    use signal::Signal;
    if number == stop_signal {
        return Meaning::Shutdown;
    }
    match Signal::try_from(number) {
        Ok(Signal::SIGTERM) => Meaning::Shutdown,
        Ok(Signal::SIGINT | Signal::SIGQUIT) => Meaning::Interrupt,
        // From a service manager it means "reload", which has no effect on a standby; from a terminal, that it has closed.
        Ok(Signal::SIGHUP) if on_terminal => Meaning::Interrupt,
        Ok(Signal::SIGTSTP) => Meaning::Suspend,
        _ => Meaning::Other,
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

#[cfg(test)]
mod tests;
