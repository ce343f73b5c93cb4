//! What the program was told to do: complete, typed and checked; nothing here is decided later.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{StatusEndpoint, args::LogArgs, files};
use crate::core::{names::LockName, timing::Timing};

/// One gated run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The election to take part in.
    pub election: ElectionConfig,
    /// Where etcd is and how to speak to it.
    pub etcd: EtcdConfig,
    /// The command to gate: program and arguments, never empty.
    pub command: Vec<OsString>,
    /// The signal that asks the command to stop.
    pub stop_signal: i32,
    /// Where to serve the status, if anywhere.
    pub status_endpoint: Option<StatusEndpoint>,
    /// When to tell systemd that the service is ready.
    pub notify_ready: NotifyReady,
}

/// The election to take part in.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    /// The lock.
    pub lock: LockName,
    /// Who we are.
    pub identity: String,
    /// Whether the identity was set, not made up: only then it means the same instance.
    pub identity_is_explicit: bool,
    /// How long everything takes.
    pub timing: Timing,
    /// Ask for the lead instead of waiting for it.
    pub force: bool,
    /// Give up waiting after this time; zero tries once; `None` waits for ever.
    pub acquire_timeout: Option<Duration>,
    /// What to do when leadership was lost.
    pub on_loss: OnLoss,
}

/// What to do when leadership was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnLoss {
    /// End, and let the supervisor start again.
    Exit,
    /// Join the queue again.
    Campaign,
}

/// When to tell systemd that the service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NotifyReady {
    /// When the settings are valid and this instance campaigns, whether or not etcd answers.
    Started,
    /// When this instance takes part in the election.
    Campaigning,
    /// When the command was started.
    Elected,
}

/// What to log and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which events.
    pub filter: Targets,
    /// In which form.
    pub format: LogFormat,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// This crate, as the filter knows it.
pub(crate) const TARGET: &str = "etcd_await_election";

impl LogConfig {
    pub(super) fn new(args: LogArgs) -> Self {
        Self { filter: args.log, format: args.log_format }
    }
}

impl Default for LogConfig {
    /// What holds when nothing is set.
    fn default() -> Self {
        let filter = Targets::new().with_default(LevelFilter::WARN).with_target(TARGET, LevelFilter::INFO);
        Self { filter, format: LogFormat::Text }
    }
}

/// Where etcd is and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members.
    pub endpoints: Endpoints,
    /// The only cluster to use; decided by vote if unset.
    pub cluster_id: Option<u64>,
    /// The certificate files.
    pub tls: TlsFiles,
    /// User and password, if etcd wants them.
    pub credentials: Option<Credentials>,
}

/// Where the members of etcd are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// At least one URL with scheme and port, in the order given.
    Listed(Vec<String>),
    /// Where SRV records say.
    Discovered(Discovery),
}

/// The SRV records that name the members of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The domain that has them, without a dot at its end.
    pub domain: String,
    /// What follows the service in their names.
    pub suffix: Option<String>,
    /// Whether only those count that are for TLS.
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
    /// The password, or where it is.
    pub password: Password,
}

/// A value that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
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
    /// The password itself, read from its file now.
    ///
    /// # Errors
    /// If the file cannot be read, or its first line is empty; the text names the file.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Value(password) => Ok(password.0.clone()),
            Self::File(path) => files::first_line(path),
        }
    }
}
