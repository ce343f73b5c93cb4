//! All settings, each with its flag, variable, default, parser and help text.
//!
//! The parser, `--help`, the manual page, the completions, the table in `docs/settings.md`, `example.env` and the options of the
//! NixOS module are generated from these structs. A test checks that the flag and the variable of a field have its name.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Command, CommandFactory as _, Parser, Subcommand, ValueHint};
use tracing_subscriber::filter::Targets;

use super::{
    address::{self, EndpointList, StatusEndpoint},
    probe::{self, Probe},
    values::{self, CommandLine, LogFormat, NotifyReady, OnLoss, Secret, hidden, quoted},
};
use crate::core::{exit_code::Exit, names::LockName};

/// The argument with the name of an instance.
pub(super) const NAME_OF_INSTANCE: &str = "name_of_instance";
/// The argument with the path of an environment file.
pub(super) const ENV_FILE: &str = "env_file";

/// Runs a command only while it holds leadership in an etcd election.
#[derive(Debug, Parser)]
#[command(
    name = "etcd-await-election",
    version,
    disable_help_subcommand = true,
    override_usage = "etcd-await-election [OPTIONS] [--] COMMAND [ARGS]...\n       etcd-await-election ctl VERB [OPTIONS]"
)]
pub(super) struct GateArgs {
    #[command(flatten)]
    pub(super) lock: LockArgs,
    #[command(flatten)]
    pub(super) election: ElectionArgs,
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    #[command(flatten)]
    pub(super) timing: TimingArgs,
    #[command(flatten)]
    pub(super) command: CommandArgs,
    #[command(flatten)]
    pub(super) checks: CheckArgs,
    #[command(flatten)]
    pub(super) status: StatusArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,

    /// Command to run while leading, with its arguments. Without any election setting it is executed at once.
    #[arg(value_name = "COMMAND", num_args = 0.., trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub(super) words: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Election")]
pub(super) struct LockArgs {
    /// Name of the lock; all instances of one service use the same name. No segment between slashes may begin with ~.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_LOCK_NAME", value_name = "NAME", value_parser = quoted(values::lock_name))]
    pub(super) lock_name: LockName,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Election")]
pub(super) struct ElectionArgs {
    /// Name of this instance. It must be unique and the same after a restart: an instance takes over leadership from an older one
    /// with the same name. If unset: the host name, an underscore and 8 random digits.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_IDENTITY", value_name = "NAME", value_parser = quoted(values::name))]
    pub(super) identity: Option<String>,

    /// Give up if leadership has not been acquired within this time; 0 tries once and does not wait. If unset, wait forever.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_ACQUIRE_TIMEOUT", value_name = "TIME", value_parser = quoted(values::duration))]
    pub(super) acquire_timeout: Option<Duration>,

    /// Request that the leader stop its command and hand over. Enabled by any value except 0, f, false, no and off; the flag needs
    /// no value.
    // Without the equals sign the flag would take the command for its value.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_FORCE_ACQUIRE", value_name = "VALUE", value_parser = quoted(values::yes),
        num_args = 0..=1, require_equals = true, default_missing_value = "yes"
    )]
    pub(super) force_acquire: Option<bool>,

    /// What to do after leadership was lost and the command has exited: exit, or campaign again.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_ON_LOSS", value_name = "exit|campaign", default_value = "exit")]
    pub(super) on_loss: OnLoss,

    /// Priority of this instance: leadership is handed over to the standby with the highest priority, and to the oldest one of
    /// these. From -2147483648 to 2147483647.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_PRIORITY", value_name = "NUMBER", default_value = "0",
        allow_negative_numbers = true, value_parser = quoted(values::priority)
    )]
    pub(super) priority: i32,

    /// How long this instance is a standby before it requests a handover from a leader with a lower priority. If unset, it waits until
    /// the leader ends.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_FAILBACK", value_name = "TIME", value_parser = quoted(values::duration))]
    pub(super) failback: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "etcd")]
pub(super) struct EtcdArgs {
    /// etcd endpoints, separated by commas: host:port or URLs. Without a scheme, https is used if a TLS setting is given, else http.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_ENDPOINTS", value_name = "URLS", value_parser = address::endpoints)]
    pub(super) endpoints: Option<EndpointList>,

    /// Find the etcd members by the SRV records _etcd-client-ssl._tcp.DOMAIN and _etcd-client._tcp.DOMAIN, instead of endpoints. Only
    /// the former are used if a TLS setting is given.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_DISCOVERY_SRV", value_name = "DOMAIN", value_parser = quoted(address::domain))]
    pub(super) discovery_srv: Option<String>,

    /// Suffix of the service in the names of these records: west for _etcd-client-west._tcp.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_DISCOVERY_SRV_NAME", value_name = "SUFFIX",
        value_parser = quoted(address::service_suffix)
    )]
    pub(super) discovery_srv_name: Option<String>,

    /// Use only the etcd cluster with this ID, in hexadecimal. If unset: the cluster that more than half of the endpoints report.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_CLUSTER_ID", value_name = "HEX", value_parser = quoted(values::cluster_id))]
    pub(super) cluster_id: Option<u64>,

    /// CA certificates to verify etcd with (PEM). If unset: the CAs of the system.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_CACERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) cacert: Option<PathBuf>,

    /// Client certificate (PEM); requires a key.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_CERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) cert: Option<PathBuf>,

    /// Private key of the client certificate (PEM).
    #[arg(long, env = "ETCD_AWAIT_ELECTION_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) key: Option<PathBuf>,

    /// Name that etcd's certificate must be valid for. If unset: the host of the endpoint.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_TLS_SERVER_NAME", value_name = "NAME",
        value_parser = quoted(values::server_name)
    )]
    pub(super) tls_server_name: Option<String>,

    /// etcd user; requires a password.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_USER", value_name = "NAME", value_parser = quoted(values::name))]
    pub(super) user: Option<String>,

    /// Password of the user. Every user of the machine can read a flag; use a password file instead.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_PASSWORD", value_name = "TEXT", value_parser = values::secret)]
    pub(super) password: Option<Secret>,

    /// File whose first line is the password; it is read again at each login.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Timing")]
pub(super) struct TimingArgs {
    /// Time to live of the lease, in whole seconds: how long after its last renewal a lost leader keeps the lock.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_LEASE_DURATION", value_name = "SECONDS", default_value = "15",
        value_parser = quoted(values::duration)
    )]
    pub(super) lease_duration: Duration,

    /// Stop the command if the lease has not been renewed for this long.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_RENEW_DEADLINE", value_name = "TIME", default_value = "10",
        value_parser = quoted(values::duration)
    )]
    pub(super) renew_deadline: Duration,

    /// How often a leader renews its lease; at most half of RENEW_DEADLINE.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_RETRY_PERIOD", value_name = "TIME", default_value = "2",
        value_parser = quoted(values::duration)
    )]
    pub(super) retry_period: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Command")]
pub(super) struct CommandArgs {
    /// How long the command may take to stop before it is killed; less if its lease is about to expire.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_STOP_GRACE", value_name = "TIME", default_value = "10",
        value_parser = quoted(values::duration)
    )]
    pub(super) stop_grace: Duration,

    /// Signal that the command is stopped with: TERM, SIGTERM or 15.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_STOP_SIGNAL", value_name = "SIGNAL", default_value = "TERM",
        value_parser = quoted(values::signal)
    )]
    pub(super) stop_signal: i32,

    /// Command to run in every term before the command, with the same environment. If it fails, the command is not started, and
    /// leadership is handed over. It is split like a shell's words and executed without a shell.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_ON_ELECTED", value_name = "CMD", value_parser = hidden(CommandLine::parse)
    )]
    pub(super) on_elected: Option<CommandLine>,

    /// Command to run when the command has exited with all its descendants, before leadership is handed over. It is killed shortly before
    /// the lease could expire.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_ON_STOPPED", value_name = "CMD", value_parser = hidden(CommandLine::parse)
    )]
    pub(super) on_stopped: Option<CommandLine>,

    /// When to notify systemd that the service is ready: at once if the settings are valid, when this instance is in the queue,
    /// or when the command has been started.
    #[arg(
        long,
        env = "ETCD_AWAIT_ELECTION_NOTIFY_READY",
        value_name = "started|campaigning|elected",
        default_value = "started"
    )]
    pub(super) notify_ready: NotifyReady,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Checks")]
pub(super) struct CheckArgs {
    /// Check that the command works while it runs: http://, https:// or tcp://HOST:PORT, or a command that exits with 0. It is split into
    /// words as by a shell and executed without one. If the check fails, another instance takes over, if one can.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_CHECK", value_name = "URL|COMMAND", value_parser = hidden(probe::probe),
        value_hint = ValueHint::Url
    )]
    pub(super) check: Option<Probe>,

    /// Campaign only while this host may lead: a URL or a command, as for the check. It is not asked while this instance leads.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_ELIGIBLE", value_name = "URL|COMMAND", value_parser = hidden(probe::probe),
        value_hint = ValueHint::Url
    )]
    pub(super) eligible: Option<Probe>,

    /// Time from the start of one check to the start of the next.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_CHECK_INTERVAL", value_name = "TIME", default_value = "5",
        value_parser = quoted(values::duration)
    )]
    pub(super) check_interval: Duration,

    /// How long one check may take; at most CHECK_INTERVAL.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_CHECK_TIMEOUT", value_name = "TIME", default_value = "2",
        value_parser = quoted(values::duration)
    )]
    pub(super) check_timeout: Duration,

    /// How many checks in a row have to fail before this has an effect.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_CHECK_FAILURES", value_name = "NUMBER", default_value = "3",
        value_parser = quoted(values::count)
    )]
    pub(super) check_failures: u32,

    /// How long the command may take to start: until its check has succeeded once or this time has passed, failures do not count.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_CHECK_START", value_name = "TIME", default_value = "5m",
        value_parser = quoted(values::duration)
    )]
    pub(super) check_start: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Status")]
pub(super) struct StatusArgs {
    /// Address to serve status, health checks and metrics at; :PORT listens on all interfaces.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_STATUS_ENDPOINT", value_name = "HOST:PORT",
        value_parser = quoted(StatusEndpoint::parse)
    )]
    pub(super) status_endpoint: Option<StatusEndpoint>,
}

// The only settings that do not request an election.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(super) struct LogArgs {
    /// Log level: off, error, warn, info, debug or trace; or a list of target=level, separated by commas. If unset, the operator
    /// commands log warnings only, except ctl show --watch.
    #[arg(
        long, env = "ETCD_AWAIT_ELECTION_LOG", value_name = "FILTER", default_value = "warn,etcd_await_election=info",
        value_parser = quoted(values::filter)
    )]
    pub(super) log: Targets,

    /// Format of the log: text, or one JSON object per line.
    #[arg(long, env = "ETCD_AWAIT_ELECTION_LOG_FORMAT", value_name = "text|json", default_value = "text")]
    pub(super) log_format: LogFormat,
}

/// Operator commands.
#[derive(Debug, Parser)]
#[command(name = "ctl", bin_name = "etcd-await-election ctl", disable_help_subcommand = true)]
pub(super) struct CtlArgs {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print who holds the lock and who waits for it.
    Show(Box<ShowArgs>),
    /// Print the locks that have instances of this program, with the leader and the number of those that wait. A lock that is used only by
    /// the Go tool or by other etcd clients cannot be told from their other keys, and is not listed.
    List(Box<ListArgs>),
    /// Keep every instance from becoming leader for some time. The command of the leader goes on; if it ends, no other one is started.
    Pause {
        /// How long the pause lasts: 90s, 30m, 2h or 1d; at most 7d. A longer pause replaces a shorter one.
        #[arg(long = "for", value_name = "TIME", value_parser = quoted(values::pause_length))]
        length: Duration,

        /// The reason, which the logs and the status of all instances show.
        #[arg(long, value_name = "TEXT", value_parser = quoted(values::reason))]
        reason: Option<String>,

        #[command(flatten)]
        one: Box<OneLockArgs>,
    },
    /// End a pause.
    Resume {
        #[command(flatten)]
        one: Box<OneLockArgs>,
    },
    /// Move leadership to a standby: the leader stops its command and hands over. Waits until that has happened.
    Resign {
        /// Identity of the standby. If unset: the standby with the highest priority, and of these the oldest.
        #[arg(long, value_name = "IDENTITY", value_parser = quoted(values::name))]
        to: Option<String>,

        /// Withdraw the request if the leader has not handed over within this time.
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = quoted(values::duration))]
        timeout: Duration,

        #[command(flatten)]
        one: Box<OneLockArgs>,
    },
    /// Check the health of the instance that serves the status endpoint; exits with 0 if it is healthy, else with 1.
    Healthcheck {
        #[command(flatten)]
        instance: InstanceArgs,
        #[command(flatten)]
        status: StatusArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Copy this program into a folder under the name etcd-await-election, for a container of another image. It replaces an older copy,
    /// also while that is executed. No setting of etcd is needed.
    Install {
        /// Folder to copy the program into.
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: PathBuf,

        /// Print one JSON object.
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        log: LogArgs,
    },
    /// Write the manual page and the completions of the shells to a folder, for packages.
    #[command(hide = true)]
    Pages {
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Print one JSON object; with --watch, one on a line for each change.
    #[arg(long)]
    pub(super) json: bool,

    /// Show it until Ctrl-C is pressed, and follow its changes: as a table on a terminal, otherwise with one line for each change.
    #[arg(long)]
    pub(super) watch: bool,

    #[command(flatten)]
    pub(super) instance: InstanceArgs,
    #[command(flatten)]
    pub(super) lock: LockArgs,
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    #[command(flatten)]
    pub(super) status: StatusArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct OneLockArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) instance: InstanceArgs,
    #[command(flatten)]
    pub(super) lock: LockArgs,
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print only locks whose names begin with this. The user needs the permission to read all keys with this prefix.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub(super) prefix: String,

    /// Print one JSON object for each lock, as show does.
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) instance: InstanceArgs,
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Where to read settings that are neither flags nor variables: for every verb that needs etcd. `Sources` reads these arguments.
#[derive(Debug, Args)]
#[command(next_help_heading = "Instance")]
pub(super) struct InstanceArgs {
    /// Read the settings of the instance with this name: the lock NAME, and the variables in /etc/etcd-await-election/NAME.env. A
    /// flag has precedence, then a variable of the environment, then the file.
    #[arg(value_name = "NAME", conflicts_with = ENV_FILE)]
    name_of_instance: Option<OsString>,

    /// Read the variables in this file, as systemd does with EnvironmentFile=. A flag has precedence, then a variable of the
    /// environment, then the file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Option<PathBuf>,
}

/// The first word of the operator commands.
pub(super) const CTL: &str = "ctl";

/// Returns the definition of the whole command line, for help, manual page and completions.
#[must_use]
pub fn definition() -> Command {
    let definition = GateArgs::command().subcommand(CtlArgs::command());
    presented(definition.next_line_help(true).after_help(exit_codes_help()))
}

/// Returns the own arguments of an operator command, such as `--for TIME [--json]`. Settings are listed elsewhere.
#[must_use]
pub fn synopsis(verb: &Command) -> String {
    let own = verb.get_arguments().filter(|arg| arg.get_env().is_none());
    own.map(|arg| {
        let value = arg.get_value_names().and_then(|names| names.first()).filter(|_| arg.get_action().takes_values());
        match (arg.get_long(), value) {
            (Some(flag), Some(value)) if arg.is_required_set() => format!(" --{flag} {value}"),
            (Some(flag), Some(value)) => format!(" [--{flag} {value}]"),
            (Some(flag), None) => format!(" [--{flag}]"),
            (None, Some(value)) if arg.is_required_set() => format!(" {value}"),
            (None, Some(value)) => format!(" [{value}]"),
            (None, None) => String::new(),
        }
    })
    .collect()
}

/// Hides the values of variables, which can be secrets, and the lists of possible values, which the help texts have already.
fn presented(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let takes_values = arg.get_action().takes_values();
        arg.hide_env_values(true).hide_possible_values(takes_values)
    });
    command.mut_subcommands(|verb| presented(verb.next_line_help(true)))
}

fn exit_codes_help() -> String {
    let lines =
        Exit::ALL.map(Exit::meaning).map(|(code, meaning)| format!("  {code:>5}  {}", meaning.replace('`', "")));
    format!("Exit codes:\n{}", lines.join("\n"))
}
