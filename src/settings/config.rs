//! The complete, typed and checked configuration. All checks of one setting against another are here.

use std::{
    ffi::OsString,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    time::Duration,
};

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{
    address::StatusEndpoint,
    args::{CheckArgs, ElectionArgs, EtcdArgs, GateArgs, LogArgs, TimingArgs},
    files,
    probe::Probe,
    sources::{Sources, either},
    values::{CommandLine, LogFormat, NotifyReady, OnLoss, Secret},
};
use crate::core::{
    exit_code::Exit,
    limits::SICK_PAUSE,
    names::LockName,
    start_error::StartError,
    timing::{Timing, show},
};

/// The configuration of a run with an election.
#[derive(Clone, Debug)]
pub struct Config {
    /// The election to take part in.
    pub election: ElectionConfig,
    /// How to reach etcd.
    pub etcd: EtcdConfig,
    /// The command: program and arguments, never empty.
    pub command: Vec<OsString>,
    /// The hook before the command.
    pub on_elected: Option<CommandLine>,
    /// The hook after the command.
    pub on_stopped: Option<CommandLine>,
    /// The signal that the command is stopped with.
    pub stop_signal: i32,
    /// The checks, if there are any.
    pub checks: Option<Checks>,
    /// The address of the status endpoint, if it is served.
    pub status_endpoint: Option<StatusEndpoint>,
    /// When to notify systemd that the service is ready.
    pub notify_ready: NotifyReady,
}

/// The election to take part in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ElectionConfig {
    /// The lock.
    pub lock: LockName,
    /// The identity of this instance.
    pub identity: String,
    /// Whether the identity was set and not generated. Only then does the same identity mean the same instance.
    pub identity_is_explicit: bool,
    /// The lease, the deadlines and the stop grace.
    pub timing: Timing,
    /// Whether to make a handover request to the leader.
    pub force: bool,
    /// How long to wait for leadership; zero tries once, and `None` waits without a limit.
    pub acquire_timeout: Option<Duration>,
    /// What to do after a loss of leadership.
    pub on_loss: OnLoss,
    /// Leadership is handed over to the highest priority first.
    pub priority: i32,
    /// How long to be a standby before a handover is requested from a leader with a lower priority; `None` for ever.
    pub failback: Option<Duration>,
    /// Whether this instance campaigns only after it was told that its host is eligible.
    pub asks_eligibility: bool,
    /// How long a leader stays out of the queue after its command was sick; twice as long each further time.
    pub sick_pause: Duration,
}

/// What is checked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Whether the command works, while it runs.
    pub command: Option<Probe>,
    /// Whether this host may lead, while it does not.
    pub host: Option<Probe>,
    /// The time from the start of one check to the start of the next.
    pub interval: Duration,
    /// How long one check may take; at most the interval.
    pub timeout: Duration,
    /// How many failures in a row count.
    pub failures: u32,
    /// How long failures of a command do not count unless it has succeeded.
    pub start: Duration,
}

/// What to log and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which events are logged.
    pub filter: Targets,
    /// The format of the lines.
    pub format: LogFormat,
}

/// The target of this crate's events.
pub(crate) const TARGET: &str = "etcd_await_election";

impl LogConfig {
    pub(super) fn new(args: LogArgs) -> Self {
        Self { filter: without_dns(args.log), format: args.log_format }
    }

    /// Returns the configuration of a command that prints one result: an operator asks for more if he needs it.
    pub(super) fn of_one_result(mut args: LogArgs, sources: &Sources) -> Self {
        if !sources.is_given("log") {
            args.log = Targets::new().with_default(LevelFilter::WARN);
        }
        Self::new(args)
    }
}

/// Leaves out what hickory says about each odd packet and each line of `resolv.conf` that it does not know: it would say so in every
/// lookup. A more precise target shows it all the same: `hickory_net=debug`.
fn without_dns(filter: Targets) -> Targets {
    filter.with_target("hickory", LevelFilter::ERROR)
}

impl Default for LogConfig {
    /// Returns the defaults.
    fn default() -> Self {
        let filter = Targets::new().with_default(LevelFilter::WARN).with_target(TARGET, LevelFilter::INFO);
        Self { filter: without_dns(filter), format: LogFormat::Text }
    }
}

/// How to reach etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members of the cluster.
    pub endpoints: Endpoints,
    /// The only cluster to use; decided by vote if unset.
    pub cluster_id: Option<u64>,
    /// The certificate files.
    pub tls: TlsFiles,
    /// User and password, if authentication is enabled in etcd.
    pub credentials: Option<Credentials>,
}

/// Where the members of etcd are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// At least one URL with scheme and port, in the order given.
    Listed(Vec<String>),
    /// The targets of SRV records.
    Discovered(Discovery),
}

/// The SRV records that name the members of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The domain that has them, without a dot at its end.
    pub domain: String,
    /// The suffix of the service in their names.
    pub suffix: Option<String>,
    /// Whether only records for TLS are used.
    pub tls_only: bool,
}

/// The certificate files, read again at each connect so that they can be rotated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA to verify the server by; the system's roots if unset.
    pub cacert: Option<PathBuf>,
    /// Client certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name to verify the server's certificate for, if not the endpoint's host.
    pub server_name: Option<String>,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The etcd user.
    pub user: String,
    /// The password or its file.
    pub password: Password,
}

/// A password, or the file that has it (read again at each login).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Value(Secret),
    /// A file whose first line is the password.
    File(PathBuf),
}

impl Password {
    /// Returns the password; reads it from its file on each call.
    ///
    /// # Errors
    /// If the file cannot be read or its first line is empty; the error names the file.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Value(password) => Ok(password.0.clone()),
            Self::File(path) => files::first_line(path),
        }
    }
}

impl Config {
    /// Checks the settings of a run with an election. Warnings are added to the remarks, which are logged.
    ///
    /// # Errors
    /// For the first setting that cannot be used.
    pub(super) fn new(
        args: GateArgs,
        command: Vec<OsString>,
        sources: &Sources,
        remarks: &mut Vec<String>,
    ) -> Result<(Self, LogConfig), StartError> {
        let timing = timing(&args.timing, args.command.stop_grace, sources)?;
        check_force(&args.election, sources, remarks)?;
        let checks = checks(args.checks, sources)?;
        let config = Self {
            election: ElectionConfig {
                lock: args.lock.lock_name,
                identity_is_explicit: args.election.identity.is_some(),
                identity: args.election.identity.unwrap_or_else(random_identity),
                timing,
                force: args.election.force_acquire.unwrap_or(false),
                acquire_timeout: args.election.acquire_timeout,
                on_loss: args.election.on_loss,
                priority: args.election.priority,
                failback: args.election.failback,
                asks_eligibility: checks.as_ref().is_some_and(|checks| checks.host.is_some()),
                sick_pause: SICK_PAUSE,
            },
            on_elected: args.command.on_elected,
            on_stopped: args.command.on_stopped,
            stop_signal: args.command.stop_signal,
            checks,
            status_endpoint: args.status.status_endpoint,
            notify_ready: args.command.notify_ready,
            // Files are read last, as that can block on a mounted disk, and a misspelled setting should be reported at once.
            etcd: EtcdConfig::new(args.etcd, sources, remarks)?,
            command,
        };
        Ok((config, LogConfig::new(args.log)))
    }
}

impl EtcdConfig {
    /// Checks the settings of etcd and reads the files.
    ///
    /// # Errors
    /// For the first setting that cannot be used.
    pub(super) fn new(args: EtcdArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<Self, StartError> {
        let credentials = credentials(&args, sources, remarks)?;
        Ok(Self {
            endpoints: endpoints(&args, credentials.is_some(), sources, remarks)?,
            cluster_id: args.cluster_id,
            tls: tls_files(args, sources, remarks)?,
            credentials,
        })
    }
}

/// Returns the members: the listed endpoints, or the domain of SRV records.
fn endpoints(
    args: &EtcdArgs,
    has_password: bool,
    sources: &Sources,
    remarks: &mut Vec<String>,
) -> Result<Endpoints, StartError> {
    // If one of these is set, an endpoint without TLS is an error, as the setting would have no effect on it.
    let tls = ["cacert", "cert", "key", "tls_server_name"].into_iter().find(|setting| sources.is_given(setting));
    match (&args.discovery_srv, &args.endpoints) {
        (Some(_), Some(_)) => {
            let why = format!("{} is set as well; set only one of them", sources.spelled("endpoints"));
            Err(sources.refuse("discovery_srv", why))
        }
        (Some(domain), None) => {
            if has_password && tls.is_none() {
                remarks.push(format!(
                    "the etcd password is sent without encryption to members of {domain} that have no record for TLS; set {} to use \
                     only those that have one",
                    either("cacert")
                ));
            }
            let suffix = args.discovery_srv_name.clone();
            Ok(Endpoints::Discovered(Discovery { domain: domain.clone(), suffix, tls_only: tls.is_some() }))
        }
        (None, list) => {
            pair("discovery_srv_name", "discovery_srv", sources)?;
            let list = list.as_ref().map(|list| list.0.as_slice()).unwrap_or_default();
            let plain = list.iter().find(|endpoint| !endpoint.tls.unwrap_or_else(|| tls.is_some()));
            match (plain.map(|endpoint| endpoint.url(false)), tls) {
                (Some(plain), Some(tls)) => {
                    let tls = sources.spelled(tls);
                    let why = format!("{plain} does not use TLS, but {tls} is set; use https:// or no scheme");
                    return Err(sources.refuse("endpoints", why));
                }
                (Some(plain), None) if has_password => {
                    remarks.push(format!("the etcd password is sent to {plain} without encryption"));
                }
                _ => {}
            }
            Ok(Endpoints::Listed(list.iter().map(|endpoint| endpoint.url(tls.is_some())).collect()))
        }
    }
}

fn timing(args: &TimingArgs, stop_grace: Duration, sources: &Sources) -> Result<Timing, StartError> {
    let timing = Timing::new(args.lease_duration, args.renew_deadline, args.retry_period, stop_grace);
    timing.map_err(|error| StartError::new(Exit::Usage, error.describe(|name| sources.spelled(name))))
}

/// Returns the checks; `None` if nothing is checked.
fn checks(args: CheckArgs, sources: &Sources) -> Result<Option<Checks>, StartError> {
    pair("check_start", "check", sources)?;
    if args.check.is_none() && args.eligible.is_none() {
        for setting in ["check_interval", "check_timeout", "check_failures"] {
            pair(setting, "check", sources)?;
        }
        return Ok(None);
    }
    for (setting, time) in [("check_interval", args.check_interval), ("check_timeout", args.check_timeout)] {
        if time.is_zero() {
            return Err(sources.refuse(setting, "must be more than 0"));
        }
    }
    if args.check_timeout > args.check_interval {
        let interval = sources.spelled("check_interval");
        return Err(
            sources.refuse("check_timeout", format!("must be at most {}, {interval}", show(args.check_interval)))
        );
    }
    Ok(Some(Checks {
        command: args.check,
        host: args.eligible,
        interval: args.check_interval,
        timeout: args.check_timeout,
        failures: args.check_failures,
        start: args.check_start,
    }))
}

fn check_force(args: &ElectionArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<(), StartError> {
    match (args.force_acquire, args.acquire_timeout) {
        (Some(false), _) => {
            let (spelled, text) = (sources.spelled("force_acquire"), sources.raw("force_acquire").unwrap_or_default());
            remarks.push(format!("{spelled} is '{}', which disables it: waiting for leadership", text.display()));
        }
        (Some(true), Some(timeout)) if timeout.is_zero() => {
            let force = sources.spelled("force_acquire");
            let why = format!(
                "0 gives up if another instance leads, but {force} requests that it hand over; omit one of them"
            );
            return Err(sources.refuse("acquire_timeout", why));
        }
        _ => {}
    }
    Ok(())
}

fn tls_files(args: EtcdArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<TlsFiles, StartError> {
    pair("cert", "key", sources)?;
    pair("key", "cert", sources)?;
    let mut file = |setting, path: Option<PathBuf>, kind| {
        let Some(path) = path else { return Ok(None) };
        files::check(&path, kind).map_err(|why| sources.unusable(setting, why))?;
        remarks.extend(exposed(setting, &path, kind == files::Kind::Key, sources));
        Ok(Some(path))
    };
    let cacert = file("cacert", args.cacert, files::Kind::Certificate)?;
    let cert = file("cert", args.cert, files::Kind::Certificate)?;
    let key = file("key", args.key, files::Kind::Key)?;
    if let Some(cert) = &cert {
        files::check_version(cert).map_err(|why| sources.unusable("cert", why))?;
    }
    Ok(TlsFiles { cacert, client: cert.zip(key), server_name: args.tls_server_name })
}

fn credentials(
    args: &EtcdArgs,
    sources: &Sources,
    remarks: &mut Vec<String>,
) -> Result<Option<Credentials>, StartError> {
    let password = match (&args.password, &args.password_file) {
        (Some(_), Some(_)) => {
            let why = format!("{} is set as well; set only one of them", sources.spelled("password_file"));
            return Err(sources.refuse("password", why));
        }
        (Some(password), None) => Some(Password::Value(password.clone())),
        (None, Some(path)) => Some(Password::File(path.clone())),
        (None, None) => None,
    };
    let Some(user) = args.user.clone() else {
        pair("password", "user", sources)?;
        pair("password_file", "user", sources)?;
        return Ok(None);
    };
    let Some(password) = password else {
        return Err(sources.refuse("user", format!("requires a password; set {}", either("password_file"))));
    };
    if let Password::File(path) = &password {
        remarks.extend(exposed("password_file", path, true, sources));
        password.read().map_err(|why| sources.unusable("password_file", why))?;
    }
    Ok(Some(Credentials { user, password }))
}

/// Fails if `one` is given without `other`.
fn pair(one: &str, other: &str, sources: &Sources) -> Result<(), StartError> {
    if sources.is_given(one) && !sources.is_given(other) {
        return Err(sources.refuse(one, format!("requires {}", either(other))));
    }
    Ok(())
}

fn exposed(setting: &str, path: &Path, secret: bool, sources: &Sources) -> Option<String> {
    files::exposed(path, secret).map(|why| format!("{}: {why}", sources.spelled(setting)))
}

/// Returns the host name with a random suffix, which differs between instances and between restarts.
fn random_identity() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host: String = host.to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    // The hasher's keys come from the kernel's random numbers.
    let random = RandomState::new().build_hasher().finish() >> 32;
    format!("{host}_{random:08x}")
}

#[cfg(test)]
mod tests;
