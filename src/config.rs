//! What the program was told to do: complete, typed and checked; nothing here is decided later.

pub(crate) mod address;
mod convert;
mod files;
mod log;
mod values;

use std::{ffi::OsString, path::PathBuf, time::Duration};

pub(crate) use self::log::TARGET;
pub use self::{
    address::StatusEndpoint,
    log::{LogConfig, LogFormat},
};
pub use crate::core::start_error::Refused;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// End, and let the supervisor start again.
    Exit,
    /// Join the queue again.
    Campaign,
}

/// When to tell systemd that the service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyReady {
    /// When the settings are valid and this instance campaigns, whether or not etcd answers.
    Started,
    /// When this instance takes part in the election.
    Campaigning,
    /// When the command was started.
    Elected,
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

/// A password, or the file that has it (read again at each login).
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Value(String),
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
            Self::Value(password) => Ok(password.clone()),
            Self::File(path) => files::first_line(path),
        }
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}
