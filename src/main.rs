//! Selects the role of this process: pass-through, gatekeeper (which forks the guard), or an operator command.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use etcd_await_election::{
    core::{exit_code::Exit, start_error::StartError},
    ctl::{healthcheck, install, list, pages, pause, print, resign, resume, show, watch},
    gatekeeper,
    guard::{self, signals::Original},
    log::{self, Style},
    settings::{self, Invocation, Mode},
    system::runtime,
};
use nix::sys::prctl;

fn main() -> ExitCode {
    // The command has the same user. It must not read the password in `/proc`, by ptrace or in a core dump. `execve` resets this.
    let _ = prctl::set_dumpable(false);
    // Before any signal is blocked.
    let original = Original::save();
    let variables = env::vars_os().collect();
    let code = match settings::parse(env::args_os(), &variables).and_then(|invocation| run(invocation, original)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // If stderr is closed, there is the exit code.
            let _ = writeln!(io::stderr(), "etcd-await-election: {error}");
            error.exit.into()
        }
    };
    log::writer::finish();
    code
}

fn run(Invocation { mode, log, remarks }: Invocation, original: Original) -> Result<Exit, StartError> {
    let (style, stderr) = match mode {
        Mode::Gate(_) => log::init_without_waiting(&log).map_err(StartError::no_room("the log writer"))?,
        // Pass-through needs no log.
        Mode::PassThrough(_) if remarks.is_empty() => (Style::PLAIN, None),
        // Lines would destroy the table, which says itself what is wrong.
        Mode::Show { watch: true, .. } if io::stdout().is_terminal() && io::stderr().is_terminal() => {
            (Style::PLAIN, None)
        }
        _ => (log::init(&log), None),
    };
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    match mode {
        Mode::PassThrough(command) => {
            Err(guard::not_executed("the command", &command[0], guard::exec(&command, &original)))
        }
        Mode::Gate(config) => gatekeeper::start(&config, style, stderr, original),
        Mode::Show { lock, etcd, json, watch: true, .. } => runtime::run(watch::watch(&lock, &etcd, json))?,
        Mode::Show { lock, etcd, status, json, watch: false } => {
            runtime::run(show::show(&lock, &etcd, status.as_ref(), json))?
        }
        Mode::List { prefix, etcd, json } => runtime::run(list::list(&prefix, &etcd, json))?,
        Mode::Pause { one, length, reason } => runtime::run(pause::pause(&one, length, reason))?,
        Mode::Resume(one) => runtime::run(resume::resume(&one))?,
        Mode::Resign { one, to, timeout } => runtime::run(resign::resign(&one, to.as_deref(), timeout))?,
        Mode::HealthCheck(endpoint) => Ok(healthcheck::run(&endpoint)),
        Mode::Install { folder, json } => install::install(&folder, json),
        Mode::Pages(folder) => pages::write(&folder).map(|()| Exit::Command(0)).map_err(|error| {
            StartError::new(Exit::Config, format!("could not write to {}: {error}", folder.display()))
        }),
        Mode::Answer(text) => print(&text),
    }
}
