//! The command line and the environment: from words to a complete, typed and checked [`Config`].
//!
//! `args` is the one place of a setting. Reading is a function of arguments and variables; nothing here reads the process's own.

mod address;
mod args;
mod config;
mod env_file;
mod files;
mod instance;
mod probe;
mod sources;
mod values;
mod variables;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use clap::{Args as _, Command, CommandFactory as _, error::ErrorKind};

pub use self::{
    address::StatusEndpoint,
    args::{definition, synopsis},
    config::{
        Checks, Config, Credentials, Discovery, ElectionConfig, Endpoints, EtcdConfig, LogConfig, Password, TlsFiles,
    },
    probe::{HttpProbe, Probe},
    sources::either,
    values::{CommandLine, LogFormat, NotifyReady, OnLoss, Secret},
    variables::Variables,
};
pub(crate) use self::{address::is_host, config::TARGET, files::read_within_limits};
use self::{
    args::{CTL, CtlArgs, GateArgs, LogArgs, OneLockArgs, Verb},
    sources::Sources,
};
use crate::{core::exit_code::Exit, core::names::LockName, core::start_error::StartError};

/// What an operator command is about.
#[derive(Debug)]
pub struct OneLock {
    /// The lock.
    pub lock: LockName,
    /// Where etcd is.
    pub etcd: EtcdConfig,
    /// Print for programs.
    pub json: bool,
}

/// The role of this run.
#[derive(Debug)]
pub enum Mode {
    /// No election is requested: become this command.
    PassThrough(Vec<OsString>),
    /// Gate a command.
    Gate(Box<Config>),
    /// Print who holds the lock and who waits for it.
    Show {
        /// The lock.
        lock: LockName,
        /// Where etcd is.
        etcd: EtcdConfig,
        /// Where the instance on this host serves its status, if that is known.
        status: Option<StatusEndpoint>,
        /// Print for programs.
        json: bool,
        /// Follow its changes.
        watch: bool,
    },
    /// Print the locks whose names begin with a prefix.
    List {
        /// The prefix.
        prefix: String,
        /// Where etcd is.
        etcd: EtcdConfig,
        /// Print for programs.
        json: bool,
    },
    /// Keep instances from becoming leader.
    Pause {
        /// The lock.
        one: OneLock,
        /// How long.
        length: Duration,
        /// Why.
        reason: Option<String>,
    },
    /// End a pause.
    Resume(OneLock),
    /// Move leadership to a standby.
    Resign {
        /// The lock.
        one: OneLock,
        /// The identity of the standby.
        to: Option<String>,
        /// When to withdraw the request.
        timeout: Duration,
    },
    /// Ask this status endpoint whether the instance is healthy.
    HealthCheck(StatusEndpoint),
    /// Copy the program into a folder.
    Install {
        /// The folder.
        folder: PathBuf,
        /// Print for programs.
        json: bool,
    },
    /// Internal: write the manual page and the completions into this folder.
    Pages(PathBuf),
    /// Print this text (`--help`, `--version`).
    Answer(String),
}

/// One command line, understood.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub mode: Mode,
    /// How to log.
    pub log: LogConfig,
    /// What is odd but not wrong, to be logged as warnings: one line each.
    pub remarks: Vec<String>,
}

/// Reads the command line (the program's name first) together with the environment.
///
/// # Errors
/// With a text for the operator, and the exit code, if something is wrong or missing.
pub fn parse(args: impl IntoIterator<Item = OsString>, variables: &Variables) -> Result<Invocation, StartError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(command) = plain_command(&args, variables) {
        return Ok(only(Mode::PassThrough(command.to_vec()), Vec::new()));
    }
    let remarks = variables::unknown(variables);
    let is_ctl = args.get(1).is_some_and(|word| word == CTL);
    let (command, words) =
        if is_ctl { (CtlArgs::command(), &args[1..]) } else { (GateArgs::command(), args.as_slice()) };
    match Sources::new(command, words, variables) {
        Ok(mut sources) => {
            sources.refuse_empty_flags()?;
            if is_ctl { ctl(&mut sources, remarks) } else { gate(&sources, &args, variables, remarks) }
        }
        // What is printed is the whole definition.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let help = sources::help(definition(), &args).unwrap_or_else(|| error.to_string());
            Ok(only(Mode::Answer(help), remarks))
        }
        Err(error) if !error.use_stderr() => Ok(only(Mode::Answer(error.to_string()), remarks)),
        Err(error) => Err(sources::usage(&error)),
    }
}

/// A run that has no settings, not even of the log.
fn only(mode: Mode, remarks: Vec<String>) -> Invocation {
    Invocation { mode, log: LogConfig::default(), remarks }
}

/// Returns the command, where there is neither a flag nor a variable of ours: nothing has to be understood then, and what takes no
/// part in an election need not wait for a parser.
fn plain_command<'a>(args: &'a [OsString], variables: &Variables) -> Option<&'a [OsString]> {
    let command = args.get(1..)?;
    let first = command.first()?.as_encoded_bytes();
    let ours = |name: &OsString| name.as_encoded_bytes().starts_with(variables::PREFIX.as_bytes());
    let is_command = !first.is_empty() && !first.starts_with(b"-") && first != CTL.as_bytes();
    (is_command && !variables.keys().any(ours)).then_some(command)
}

fn gate(
    sources: &Sources,
    args: &[OsString],
    variables: &Variables,
    mut remarks: Vec<String>,
) -> Result<Invocation, StartError> {
    let words = sources.words();
    let first = words.first().map(OsString::as_os_str);
    if first == Some(OsStr::new(CTL)) && args[args.len() - words.len() - 1] != "--" {
        return Err(StartError::new(
            Exit::Usage,
            "ctl is reserved: write it as the first word, with its settings behind it; or run a command of that name after --",
        ));
    }
    let Some(because) = requests_election(sources) else {
        if words.is_empty() {
            return Err(StartError::new(
                Exit::Usage,
                "there is nothing to do: neither a setting nor a COMMAND is given; see --help",
            ));
        }
        // Not even a bad LOG may keep the command from running: here it is of no use.
        return Ok(only(Mode::PassThrough(words), remarks));
    };
    let no_command = match first {
        None => Some("a COMMAND to run"),
        Some(name) if name.is_empty() => Some("a COMMAND to run (its name is empty)"),
        Some(_) => None,
    };
    let no_command = no_command.map(str::to_owned);
    sources.require(&because, sources.missing(&WHERE_ETCD_IS).into_iter().chain(no_command))?;
    let args: GateArgs = sources.values()?;
    let (config, log) = Config::new(args, words, sources, &mut remarks)?;
    remarks.extend(variables::pid_file_of_unit(variables));
    Ok(Invocation { mode: Mode::Gate(Box::new(config)), log, remarks })
}

/// One of these is needed.
const WHERE_ETCD_IS: [&str; 2] = ["endpoints", "discovery_srv"];

/// Returns the first setting that requests an election, as it was given: without it the command just runs.
fn requests_election(sources: &Sources) -> Option<String> {
    let log = LogArgs::augment_args(Command::new(""));
    let of_election = |setting: &&str| log.get_arguments().all(|arg| arg.get_id() != setting);
    sources
        .names()
        .filter(of_election)
        .find(|setting| sources.is_given(setting))
        .map(|setting| sources.spelled(setting))
}

fn ctl(sources: &mut Sources, mut remarks: Vec<String>) -> Result<Invocation, StartError> {
    sources.read_instance_file(&mut remarks)?;
    let sources = &*sources;
    let needed: &[&str] = match sources.verb().as_str() {
        "ctl show" | "ctl list" | "ctl pause" | "ctl resume" | "ctl resign" => &WHERE_ETCD_IS,
        "ctl healthcheck" => &["status_endpoint"],
        _ => &[],
    };
    sources.require(&sources.verb(), sources.missing(needed))?;
    let args: CtlArgs = sources.values()?;
    let quiet = |log| LogConfig::of_one_result(log, sources);
    let mut one_lock = |args: OneLockArgs| -> Result<_, StartError> {
        let etcd = EtcdConfig::new(args.etcd, sources, &mut remarks)?;
        Ok((OneLock { lock: args.lock.lock_name, etcd, json: args.json }, quiet(args.log)))
    };
    let (mode, log) = match args.verb {
        Verb::Show(show) => {
            let etcd = EtcdConfig::new(show.etcd, sources, &mut remarks)?;
            (
                Mode::Show {
                    lock: show.lock.lock_name,
                    etcd,
                    status: show.status.status_endpoint,
                    json: show.json,
                    watch: show.watch,
                },
                if show.watch { LogConfig::new(show.log) } else { quiet(show.log) },
            )
        }
        Verb::List(list) => {
            let etcd = EtcdConfig::new(list.etcd, sources, &mut remarks)?;
            (Mode::List { prefix: list.prefix, etcd, json: list.json }, quiet(list.log))
        }
        Verb::Pause { length, reason, one } => {
            let (one, log) = one_lock(*one)?;
            (Mode::Pause { one, length, reason }, log)
        }
        Verb::Resume { one } => {
            let (one, log) = one_lock(*one)?;
            (Mode::Resume(one), log)
        }
        Verb::Resign { to, timeout, one } => {
            let (one, log) = one_lock(*one)?;
            (Mode::Resign { one, to, timeout }, log)
        }
        Verb::Healthcheck { status, log, .. } => match status.status_endpoint {
            Some(endpoint) => (Mode::HealthCheck(endpoint), quiet(log)),
            None => return Err(sources.refuse("status_endpoint", "it is missing")),
        },
        Verb::Install { folder, json, log } => (Mode::Install { folder, json }, quiet(log)),
        Verb::Pages { folder } => (Mode::Pages(folder), LogConfig::default()),
    };
    Ok(Invocation { mode, log, remarks })
}

#[cfg(test)]
pub(crate) mod documents;
#[cfg(test)]
mod tests;
