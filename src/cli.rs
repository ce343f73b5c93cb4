//! The command line and the environment: from words to a [`Mode`].
//!
//! Parsing is a function of arguments and variables; nothing here reads the process's own.

mod given;
pub mod setting;
mod tables;

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, builder::OsStringValueParser};

pub use self::{
    given::{Given, Source, Value, Variables, shown},
    setting::Setting,
    tables::{exit_codes_table, settings_table},
};
use crate::{
    config::LogConfig,
    config::{Config, EtcdConfig, Refused, StatusEndpoint},
    core::{
        exit_code::Exit,
        names::{LeaseId, LockName},
    },
};

/// What this run is.
#[derive(Debug)]
pub enum Mode {
    /// No election is asked for: become this command.
    PassThrough(Vec<OsString>),
    /// Gate a command.
    Gate(Box<Config>),
    /// Print who holds the lock and who waits.
    Show {
        /// The lock.
        lock: LockName,
        /// Where etcd is.
        etcd: EtcdConfig,
        /// Print for programs.
        json: bool,
    },
    /// Ask this status endpoint whether the instance is healthy.
    HealthCheck(StatusEndpoint),
    /// Internal: give a lease back and end.
    Release {
        /// The lease.
        lease: LeaseId,
        /// Where etcd is.
        etcd: EtcdConfig,
    },
    /// Print this text (`--help`, `--version`).
    Answer(String),
}

/// What was understood.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub mode: Mode,
    /// How to log.
    pub log: LogConfig,
    /// What is odd but not wrong, to be logged as warnings: one line each.
    pub remarks: Vec<String>,
}

/// The definition of the command line, for the parser, the manual page and the shells' completions.
#[must_use]
pub fn command() -> clap::Command {
    let settings = setting::ALL.map(|setting| {
        let arg = Arg::new(setting.flag)
            .long(setting.flag)
            .value_name(setting.value)
            .help(help(setting))
            .help_heading("Settings (each is a flag or a variable; the flag goes first)")
            .value_parser(OsStringValueParser::new());
        // Without the equals sign the flag would take the command for its value.
        let optional_value = setting.flag == setting::FORCE_ACQUIRE.flag;
        if optional_value { arg.num_args(0..=1).require_equals(true).default_missing_value("yes") } else { arg }
    });
    let question = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
            .help_heading("Questions")
            .conflicts_with(COMMAND)
    };
    clap::Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs a command only while it holds leadership in an etcd election")
        .override_usage("etcd-await-election [OPTIONS] [--] COMMAND [ARGS]...")
        .next_line_help(true)
        .after_help(tables::exit_codes_help())
        .arg(
            Arg::new(COMMAND)
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(OsStringValueParser::new())
                .help("The command to run while leading, with its arguments; it runs at once if nothing is set"),
        )
        .args(settings)
        .arg(question(
            HEALTHCHECK,
            "Ask the instance that serves the status endpoint whether it is healthy: exits 0 or 1",
        ))
        .arg(question(SHOW, "Print who holds the lock and who waits for it"))
        .arg(question(JSON, "With --show: print one JSON object").requires(SHOW))
        .arg(Arg::new(RELEASE).long(RELEASE).require_equals(true).hide(true))
}

const COMMAND: &str = "COMMAND";
const HEALTHCHECK: &str = "healthcheck";
const SHOW: &str = "show";
const JSON: &str = "json";
const RELEASE: &str = "release-lease";

fn help(setting: &Setting) -> String {
    let default = setting.default.map(|default| format!("[default: {default}]"));
    let default = default.or_else(|| setting.otherwise.map(|otherwise| format!("[if unset: {otherwise}]")));
    format!("{}\n[{}] {}", setting.help, setting.variable(), default.unwrap_or_default()).trim_end().to_owned()
}

/// Understands the command line (the program's name first) together with the environment.
///
/// # Errors
/// With a text for the operator, and the exit code, if something is wrong or missing.
pub fn parse(args: impl IntoIterator<Item = OsString>, variables: &Variables) -> Result<Invocation, Refused> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(command) = plain_command(&args, variables) {
        let mode = Mode::PassThrough(command.to_vec());
        return Ok(Invocation { mode, log: LogConfig::default(), remarks: Vec::new() });
    }
    let mut remarks = given::unknown_variables(variables);
    let mut matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            return Ok(Invocation { mode: Mode::Answer(error.to_string()), log: LogConfig::default(), remarks });
        }
        Err(error) => {
            let text = error.to_string();
            return Err(Refused::new(Exit::Usage, text.strip_prefix("error: ").unwrap_or(&text).trim_end()));
        }
    };
    let command: Vec<OsString> = matches.remove_many(COMMAND).map(Iterator::collect).unwrap_or_default();
    let given = Given::new(|setting| matches.remove_one(setting.flag), variables)?;
    let asks = [HEALTHCHECK, SHOW].iter().any(|question| matches.get_flag(question)) || matches.contains_id(RELEASE);
    if !asks && given.asks_for_election().is_none() {
        if command.is_empty() {
            return Err(Refused::new(
                Exit::Usage,
                "there is nothing to do: no setting and no COMMAND is given; see --help",
            ));
        }
        // Not even a bad LOG may keep the command from running: here it is of no use.
        return Ok(Invocation { mode: Mode::PassThrough(command), log: LogConfig::default(), remarks });
    }
    let log = LogConfig::new(&given)?;
    let mode = mode(&mut matches, &given, command, &mut remarks)?;
    if matches!(mode, Mode::Gate(_)) {
        remarks.extend(pid_file_of_unit(variables));
    }
    Ok(Invocation { mode, log, remarks })
}

/// Warns about a `PIDFile=` in the unit that runs this program: systemd puts it into the environment, see systemd.exec(5).
fn pid_file_of_unit(variables: &Variables) -> Option<String> {
    let value = |name: &str| variables.get(OsStr::new(name)).filter(|value| !value.is_empty());
    value("NOTIFY_SOCKET")?;
    let file = value("PIDFILE")?.display();
    Some(format!(
        "the unit has PIDFile={file}: systemd may take the process that it names for the gatekeeper, and the command can \
         outlive its lock; clear it with an empty PIDFile= in a drop-in, as gate.conf does"
    ))
}

/// The command, where there is neither a flag nor a variable of ours: nothing has to be understood then, and what takes no
/// part in an election need not wait for a parser.
fn plain_command<'a>(args: &'a [OsString], variables: &Variables) -> Option<&'a [OsString]> {
    let command = args.get(1..)?;
    let first = command.first()?.as_encoded_bytes();
    let ours = |name: &OsString| name.as_encoded_bytes().starts_with(setting::PREFIX.as_bytes());
    (!first.is_empty() && !first.starts_with(b"-") && !variables.keys().any(ours)).then_some(command)
}

fn mode(
    matches: &mut ArgMatches,
    given: &Given,
    command: Vec<OsString>,
    remarks: &mut Vec<String>,
) -> Result<Mode, Refused> {
    if let Some(lease) = matches.remove_one::<String>(RELEASE) {
        complete(given, "--release-lease", &[&setting::ENDPOINTS], None)?;
        let lease = i64::from_str_radix(&lease, 16).ok().filter(|lease| *lease > 0);
        let lease = lease.ok_or_else(|| Refused::new(Exit::Usage, "--release-lease: write a lease in hexadecimal"))?;
        return Ok(Mode::Release { lease: LeaseId(lease), etcd: EtcdConfig::new(given, remarks)? });
    }
    if matches.get_flag(HEALTHCHECK) {
        complete(given, "--healthcheck", &[&setting::STATUS_ENDPOINT], None)?;
        return given.required(&setting::STATUS_ENDPOINT)?.parse(StatusEndpoint::parse).map(Mode::HealthCheck);
    }
    if matches.get_flag(SHOW) {
        complete(given, "--show", &[&setting::LOCK_NAME, &setting::ENDPOINTS], None)?;
        let lock = given.required(&setting::LOCK_NAME)?.parse(str::parse)?;
        return Ok(Mode::Show { lock, etcd: EtcdConfig::new(given, remarks)?, json: matches.get_flag(JSON) });
    }
    let because = given.asks_for_election().map(Value::spelled).unwrap_or_default();
    complete(given, &because, &[&setting::LOCK_NAME, &setting::ENDPOINTS], Some(&command))?;
    Ok(Mode::Gate(Box::new(Config::new(given, command, remarks)?)))
}

/// Refuses a part without the rest: all that is missing is named at once, in both spellings, and what asked for it.
fn complete(
    given: &Given,
    because: &str,
    needed: &[&'static Setting],
    command: Option<&Vec<OsString>>,
) -> Result<(), Refused> {
    let is_missing = |setting: &Setting| match setting.flag {
        // Either of the two says where etcd is.
        flag if flag == setting::ENDPOINTS.flag && given.get(&setting::DISCOVERY_SRV).is_some() => false,
        _ => true,
    };
    let missing = needed.iter().filter(|setting| given.get(setting).is_none() && is_missing(setting));
    let mut missing: Vec<_> = missing.map(|setting| setting.either()).collect();
    match command {
        Some(command) if command.is_empty() => missing.push("the COMMAND to run".to_owned()),
        Some(command) if command[0].is_empty() => missing.push("the COMMAND to run (its name is empty)".to_owned()),
        _ => {}
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refused::new(Exit::Usage, format!("with {because} there must also be {}", missing.join(", and "))))
}

#[cfg(test)]
mod tests;
