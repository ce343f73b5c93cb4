//! Which of its roles this process has: pass-through, gatekeeper (and guard, which is forked from it), or an operator's command.

use std::{env, process::ExitCode};

use etcd_await_election::{
    core::{exit_code::Exit, start_error::StartError},
    ctl::{healthcheck, pages, print, release, show},
    gatekeeper,
    guard::{self, signals::Original},
    log::{self, Style},
    settings::{self, Invocation, Mode},
    system::runtime,
};
use nix::sys::prctl;

fn main() -> ExitCode {
    // The command, of the same user, must not read our password in `/proc`, by ptrace or in a core dump. Ends with `execve`.
    let _ = prctl::set_dumpable(false);
    // Before anything is blocked.
    let original = Original::save();
    let variables = env::vars_os().collect();
    let code = match settings::parse(env::args_os(), &variables).and_then(|invocation| run(invocation, original)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            print(&format_args!("etcd-await-election: {error}\n"), &mut std::io::stderr());
            error.exit.into()
        }
    };
    log::writer::finish();
    code
}

fn run(Invocation { mode, log, remarks }: Invocation, original: Original) -> Result<Exit, StartError> {
    let (style, stderr) = match mode {
        Mode::Gate(_) => log::init_without_waiting(&log).map_err(StartError::no_room("the log writer"))?,
        // A command that is only executed waits for nothing, and nothing is logged before it.
        Mode::PassThrough(_) if remarks.is_empty() => (Style::PLAIN, None),
        _ => (log::init(&log), None),
    };
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    match mode {
        Mode::PassThrough(command) => Err(guard::not_executed(&command[0], guard::exec(&command, &original))),
        Mode::Gate(config) => gatekeeper::start(&config, style, stderr, original),
        Mode::Show { lock, etcd, json } => runtime::run(show::show(&lock, &etcd, json))?,
        Mode::HealthCheck(endpoint) => Ok(healthcheck::run(&endpoint)),
        Mode::Pages(folder) => pages::write(&folder).map(|()| Exit::Command(0)).map_err(|error| {
            StartError::new(Exit::Config, format!("could not write to {}: {error}", folder.display()))
        }),
        Mode::Release { lease, etcd } => runtime::run(release::release(lease, &etcd)),
        Mode::Answer(text) => {
            print(&text, &mut std::io::stdout());
            Ok(Exit::Command(0))
        }
    }
}
