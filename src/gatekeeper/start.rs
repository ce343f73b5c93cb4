//! Starts the gatekeeper and its guard from a configuration.

use std::{ffi::OsString, io, os::fd::OwnedFd, time::Duration};

use futures_util::stream;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::{
    health,
    lifecycle::{Instance, Lifecycle},
    revocation,
    run::{self, RunSettings},
};
use crate::{
    core::{exit_code::Exit, limits::RESTART_PAUSE, start_error::StartError},
    etcd::{self, client::RequestTimeouts},
    guard::{
        self, Executable, GuardSetup, Guarded,
        checker::{self, Checker},
        signals::{Original, Signals},
    },
    log::{self, Style},
    probe::Prober,
    settings::{Checks, CommandLine, Config, Probe},
    status::{certificates::Watcher, http, systemd},
    system::{clock::BootClock, runtime},
};

/// Starts the guard, and runs the gatekeeper until it exits. The guard is forked before any thread exists. The configuration is
/// checked completely before this instance joins.
///
/// # Errors
/// If the command cannot be executed, a file of the configuration cannot be used, or the machine lacks resources.
pub fn start(config: &Config, style: Style, stderr: Option<OwnedFd>, original: Original) -> Result<Exit, StartError> {
    let command = executable(&config.command, "the command")?;
    let hook = |hook: &Option<CommandLine>, name| hook.as_ref().map(|hook| executable(hook.words(), name)).transpose();
    let on_elected = hook(&config.on_elected, "the command of ON_ELECTED")?;
    let on_stopped = hook(&config.on_stopped, "the command of ON_STOPPED")?;
    let signals = Signals::open().map_err(StartError::no_room("the signal handling"))?;
    let setup = GuardSetup {
        command,
        on_elected,
        on_stopped,
        lock: config.election.lock.clone(),
        stop_signal: config.stop_signal,
        stop_grace: config.election.timing.stop_grace(),
        original,
        log: style,
        stderr,
        revoke: revocation::revoker(config.etcd.clone()),
    };
    let checker = match &config.checks {
        // Before the guard, which must not be known to the checker.
        Some(checks) => {
            start_checker(checks, original).map_err(StartError::no_room("the process that runs check commands"))?
        }
        None => None,
    };
    let guarded = guard::start(setup).map_err(StartError::no_room("the guard"))?;
    log::writer::release_stdout();
    // After the fork, or the guard would hold the port after the gatekeeper is killed.
    let endpoint = config.status_endpoint.as_ref().map(http::bind).transpose()?;
    runtime::run(campaign(config, guarded, checker, signals, original, endpoint))?
}

/// Starts the process that runs check commands, if there are any.
fn start_checker(checks: &Checks, original: Original) -> io::Result<Option<Checker>> {
    let command = |probe: &Option<Probe>| match probe {
        Some(Probe::Command(command)) => Some(command.words().to_vec()),
        _ => None,
    };
    let commands = [command(&checks.command), command(&checks.host)];
    commands.iter().any(Option::is_some).then(|| checker::start(commands.clone(), checks.timeout, original)).transpose()
}

fn executable(words: &[OsString], what: &str) -> Result<Executable, StartError> {
    let file = guard::resolve(&words[0]).map_err(|errno| guard::not_executed(what, &words[0], errno))?;
    Ok(Executable { file, words: words.to_vec() })
}

async fn campaign(
    config: &Config,
    guarded: Guarded,
    checker: Option<Checker>,
    signals: Signals,
    original: Original,
    endpoint: Option<http::Server>,
) -> Result<Exit, StartError> {
    let timing = &config.election.timing;
    let cluster = etcd::client_of(&config.etcd, RequestTimeouts::of(timing))
        .map_err(|error| StartError::new(Exit::Config, error.to_string()))?;
    let reaper = guarded.reaper();
    let handle = guarded.into_handle().map_err(StartError::no_room("the guard"))?;
    let signals = signals.into_async().map_err(StartError::no_room("the signal handling"))?;
    let signals = stream::unfold(signals, async |mut signals| {
        loop {
            match signals.next().await {
                child if child == Signal::SIGCHLD as i32 => reaper.reap_orphans(),
                // Signals that nohup or a shell's `&` set to be ignored.
                ignored if original.ignores(ignored) => {}
                // systemd can send SIGURG to all processes of a unit to stop this one, because the others ignore it.
                urgent if urgent == Signal::SIGURG as i32 => return Some((Signal::SIGTERM as i32, signals)),
                signal => return Some((signal, signals)),
            }
        }
    });
    let instance = Instance::new(&config.election, BootClock);
    let status = instance.status();
    if let Some(endpoint) = endpoint {
        let certificates = Watcher::new(&config.etcd.tls);
        tokio::spawn(endpoint.serve(status.clone(), certificates.files(), BootClock));
        tokio::spawn(certificates.run(BootClock));
    }
    let mut lifecycle = instance.lifecycle();
    let systemd = tokio::spawn(systemd::run(
        status,
        config.notify_ready,
        timing.stop_limit(config.on_stopped.is_some()),
        BootClock,
    ));
    let checks = match &config.checks {
        Some(checks) => {
            let checker = checker.map(Checker::into_handle).transpose();
            let checker = checker.map_err(StartError::no_room("the process that runs check commands"))?;
            let (events, received) = mpsc::unbounded_channel();
            let prober = Prober::new(checks.timeout, checker, BootClock);
            tokio::spawn(health::watch(checks.clone(), prober, instance.lifecycle(), BootClock, events));
            Some(received)
        }
        None => None,
    };
    run::log_timing(&config.election);
    let restart_pause = if systemd::has_notify_socket() { RESTART_PAUSE } else { Duration::ZERO };
    let settings = RunSettings { stop_signal: config.stop_signal, restart_pause };
    let exit = tokio::select! {
        biased;
        exit = run::run(&cluster, &config.election, settings, &handle, signals, checks, &instance) => exit,
        () = async {
            // Not before, or these requests could delay the start of the command. The sender lives as long as the instance.
            let _ = lifecycle.wait_for(Lifecycle::is_settled).await;
            etcd::log_risks(&cluster, timing.lease(), config.etcd.credentials.is_some()).await;
            std::future::pending().await
        } => unreachable!("it never ends"),
    };
    // The last message, STOPPING=1, is sent when the status channel closes.
    drop(instance);
    let _ = systemd.await;
    Ok(exit)
}
