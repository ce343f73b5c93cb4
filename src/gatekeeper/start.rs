//! From a configuration to a running gatekeeper with its guard.

use std::{os::fd::OwnedFd, rc::Rc, time::Duration};

use futures_util::stream;
use nix::sys::signal::Signal;

use super::{
    lifecycle::{Instance, Lifecycle},
    run,
};
use crate::{
    core::{exit_code::Exit, limits::RESTART_PAUSE, start_error::StartError},
    election::Election,
    etcd::{self, client::RequestTimeouts},
    guard::{
        self, GuardSetup, Guarded,
        signals::{Original, Signals},
    },
    log::{self, Style},
    settings::Config,
    status::{http, systemd},
    system::{clock::BootClock, runtime},
};

/// Everything that can be wrong is found out before this instance joins. The guard is forked before any thread exists.
pub fn start(config: &Config, style: Style, stderr: Option<OwnedFd>, original: Original) -> Result<Exit, StartError> {
    let program = guard::resolve(&config.command[0]).map_err(|errno| guard::not_executed(&config.command[0], errno))?;
    let signals = Signals::open().map_err(StartError::no_room("the signal handling"))?;
    let setup = GuardSetup {
        program,
        command: config.command.clone(),
        lock: config.election.lock.clone(),
        stop_signal: config.stop_signal,
        stop_grace: config.election.timing.stop_grace(),
        original,
        log: style,
        stderr,
        release_program: None,
    };
    let guarded = guard::start(setup).map_err(StartError::no_room("the guard"))?;
    log::writer::release_stdout();
    // After the fork, or the guard would keep the port when the gatekeeper is killed.
    let endpoint = config.status_endpoint.as_ref().map(http::bind).transpose()?;
    runtime::run(campaign(config, guarded, signals, original, endpoint))?
}

async fn campaign(
    config: &Config,
    guarded: Guarded,
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
                // As nohup and a shell's `&` want it.
                ignored if original.ignores(ignored) => {}
                // What systemd can send to all processes of a unit to end this one: nobody else takes notice of it.
                urgent if urgent == Signal::SIGURG as i32 => return Some((Signal::SIGTERM as i32, signals)),
                signal => return Some((signal, signals)),
            }
        }
    });
    let instance = Rc::new(Instance::new(&config.election, BootClock));
    let status = instance.status();
    if let Some(endpoint) = endpoint {
        tokio::spawn(endpoint.serve(status.clone(), BootClock));
    }
    // What a member of etcd has to do for it must not delay the start of the command.
    let mut lifecycle = instance.lifecycle();
    let systemd = tokio::spawn(systemd::run(status, config.notify_ready, timing.stop_limit(), BootClock));
    run::say_timing(&config.election);
    let restart_pause = if systemd::has_notify_socket() { RESTART_PAUSE } else { Duration::ZERO };
    let election = Election::new(&config.election, cluster, instance.observer());
    let exit = tokio::select! {
        biased;
        exit = run::run(&election, &config.election, config.stop_signal, &handle, signals, &instance, restart_pause) => exit,
        () = async {
            // The sender lives as long as the instance.
            let _ = lifecycle.wait_for(Lifecycle::is_settled).await;
            etcd::log_risks(election.etcd(), timing.lease(), config.etcd.credentials.is_some()).await;
            std::future::pending().await
        } => unreachable!("pending for ever"),
    };
    // Its last message, STOPPING=1, is sent when the status ends.
    drop((election, instance));
    let _ = systemd.await;
    Ok(exit)
}
