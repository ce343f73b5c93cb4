//! Which of its roles this process has: pass-through, gatekeeper (and guard, which is forked from it), or an errand.

use std::{env, ffi::OsStr, os::fd::OwnedFd, process::ExitCode, time::Duration};

use etcd_await_election::{
    core::{
        clock::{BootClock, Clock as _},
        exit_code::Exit,
        names::LockName,
        text,
    },
    ctl::{healthcheck, pages, release, show},
    election::Election,
    etcd::{self, client::Patience},
    gatekeeper,
    guard::{
        self, GuardSetup, Guarded,
        signals::{Original, Signals},
    },
    log::{self, Style},
    settings::{self, Config, ElectionConfig, EtcdConfig, Invocation, Mode, Refused},
    status::{Phase, Status, http, systemd},
};
use futures_util::stream;
use nix::{
    errno::Errno,
    sys::{prctl, signal::Signal},
};
use tokio::{runtime::Runtime, sync::watch};

fn main() -> ExitCode {
    // The command, of the same user, must not read our password in `/proc`, by ptrace or in a core dump. Ends with `execve`.
    let _ = prctl::set_dumpable(false);
    // Before anything is blocked.
    let original = Original::save();
    let variables = env::vars_os().collect();
    let code = match settings::parse(env::args_os(), &variables).and_then(|invocation| run(invocation, original)) {
        Ok(exit) => exit.into(),
        Err(refused) => {
            say(&format_args!("etcd-await-election: {refused}\n"), &mut std::io::stderr());
            refused.exit.into()
        }
    };
    log::writer::finish();
    code
}

fn run(Invocation { mode, log, remarks }: Invocation, original: Original) -> Result<Exit, Refused> {
    let (style, stderr) = match mode {
        Mode::Gate(_) => log::init_without_waiting(&log).map_err(internal("log writer"))?,
        // A command that is only executed waits for nothing, and nothing is logged before it.
        Mode::PassThrough(_) if remarks.is_empty() => (Style::PLAIN, None),
        _ => (log::init(&log), None),
    };
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    match mode {
        Mode::PassThrough(command) => Err(not_executed(&command[0], guard::exec(&command, &original))),
        Mode::Gate(config) => gate(&config, style, stderr, original),
        Mode::Show { lock, etcd, json } => errand(show(&lock, &etcd, json))?,
        Mode::HealthCheck(endpoint) => Ok(healthcheck::run(&endpoint)),
        Mode::Pages(folder) => pages::write(&folder)
            .map(|()| Exit::Command(0))
            .map_err(|error| Refused::new(Exit::Config, format!("could not write to {}: {error}", folder.display()))),
        Mode::Release { lease, etcd } => errand(release::release(lease, &etcd)),
        Mode::Answer(text) => {
            say(&text, &mut std::io::stdout());
            Ok(Exit::Command(0))
        }
    }
}

/// Everything that can be wrong is found out before this instance joins. The guard is forked before any thread exists.
fn gate(config: &Config, style: Style, stderr: Option<OwnedFd>, original: Original) -> Result<Exit, Refused> {
    let program = guard::resolve(&config.command[0]).map_err(|errno| not_executed(&config.command[0], errno))?;
    let signals = Signals::open().map_err(internal("signals"))?;
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
    let guarded = guard::start(setup).map_err(internal("guard"))?;
    log::writer::release_stdout();
    // After the fork, or the guard would keep the port when the gatekeeper is killed.
    let endpoint = config.status_endpoint.as_ref().map(http::bind).transpose()?;
    let runtime = runtime()?;
    let exit = runtime.block_on(campaign(config, guarded, signals, original, endpoint));
    // A name that is being looked up need not be waited for.
    runtime.shutdown_background();
    exit
}

fn not_executed(command: &OsStr, errno: Errno) -> Refused {
    let exit = guard::exit_of(errno);
    let why = match exit {
        Exit::NotFound => "was not found".to_owned(),
        _ => format!("cannot be executed: {}", errno.desc()),
    };
    Refused::new(exit, format!("the command {} {why}", command.display()))
}

async fn campaign(
    config: &Config,
    guarded: Guarded,
    signals: Signals,
    original: Original,
    endpoint: Option<http::Bound>,
) -> Result<Exit, Refused> {
    let ElectionConfig { lock, identity, timing, .. } = &config.election;
    let cluster = etcd::cluster(&config.etcd, Patience::of(timing))
        .map_err(|error| Refused::new(Exit::Config, error.to_string()))?;
    let reaper = guarded.reaper();
    let handle = guarded.into_handle().map_err(internal("guard"))?;
    let signals = signals.into_async().map_err(internal("signals"))?;
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
    let (sender, status) = watch::channel(Status::new(lock.to_string(), identity.clone(), timing.lease()));
    if let Some(endpoint) = endpoint {
        tokio::spawn(endpoint.serve(status.clone(), BootClock));
    }
    // What a member of etcd has to do for it must not delay the start of the command.
    let mut joined = status.clone();
    let systemd = tokio::spawn(systemd::run(status.clone(), config.notify_ready, timing.stop_grace(), BootClock));
    gatekeeper::say_timing(&config.election);
    let restart_pause = if systemd::is_told() { RESTART_PAUSE } else { Duration::ZERO };
    let election = Election::new(&config.election, cluster, sender);
    let exit = tokio::select! {
        biased;
        exit = gatekeeper::run(&election, &config.election, config.stop_signal, &handle, signals, status, restart_pause) => exit,
        () = async {
            // The sender lives in the election.
            let _ = joined.wait_for(|status| !matches!(status.phase, Phase::Joining | Phase::Elected)).await;
            etcd::log_risks(election.cluster(), timing.lease(), config.etcd.credentials.is_some()).await;
            std::future::pending().await
        } => unreachable!("pending for ever"),
    };
    // Its last message, STOPPING=1, is sent when the status ends.
    drop(election);
    let _ = systemd.await;
    Ok(exit)
}

/// How long systemd shall not restart an instance whose identity is in use elsewhere: a `RestartSec=` holds for all exit codes.
/// Container engines pause by themselves.
const RESTART_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How long a person waits for `ctl show`.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

async fn show(lock: &LockName, config: &EtcdConfig, json: bool) -> Result<Exit, Refused> {
    let cluster =
        etcd::cluster(config, Patience::default()).map_err(|error| Refused::new(Exit::Config, error.to_string()))?;
    let limit = BootClock.now() + SHOW_LIMIT;
    let shown = match BootClock.before(limit, show::look(lock, &cluster)).await {
        Some(shown) => shown.map_err(|error| Refused::new(Exit::Refused, text::escaped(&error.to_string())))?,
        None if cluster.membership().ours().is_none() => {
            return Err(Refused::new(Exit::GaveUp, "could not decide which etcd cluster to ask"));
        }
        None => return Err(Refused::new(Exit::GaveUp, "etcd does not answer")),
    };
    if json {
        say(&format_args!("{}\n", shown.json()), &mut std::io::stdout());
    } else {
        say(&shown, &mut std::io::stdout());
    }
    Ok(Exit::Command(0))
}

/// Runs to its end what has one.
fn errand<T>(errand: impl Future<Output = T>) -> Result<T, Refused> {
    let runtime = runtime()?;
    let done = runtime.block_on(errand);
    // A name that is being looked up need not be waited for.
    runtime.shutdown_background();
    Ok(done)
}

fn runtime() -> Result<Runtime, Refused> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal("runtime"))
}

/// Where the machine itself has no room for us.
fn internal(what: &'static str) -> impl FnOnce(std::io::Error) -> Refused {
    move |error| Refused::new(Exit::Guard, format!("the {what} cannot be started: {error}"))
}

/// Whether anybody reads it is not our affair: a closed stream is no reason to panic.
fn say(text: &dyn std::fmt::Display, stream: &mut dyn std::io::Write) {
    let _ = write!(stream, "{text}").and_then(|()| stream.flush());
}
