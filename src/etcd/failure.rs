//! What an error of etcd, of gRPC or of TLS means for us.

use std::{error::Error as _, fmt::Write as _, io, path::PathBuf};

use etcd_client::Error;

use crate::{etcd::store::StoreError, settings};

/// A file of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One that a setting names.
    #[error("ETCD_AWAIT_ELECTION_{setting}: {path}: {source}", path = .path.display())]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The system's CAs, of which there are none: so it is in an image that was made from nothing.
    #[error("{setting} must be set for https: this system has no CA certificates", setting = settings::either("cacert"))]
    NoCertificates,
}

/// gRPC codes, by number (<https://grpc.io/docs/guides/status-codes/>).
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Of a member that has no leader, that has just got another one, or whose leader it was.
const NO_LEADER: [&str; 3] =
    ["etcdserver: no leader", "etcdserver: leader changed", "possibly due to previous leader failure"];

/// What an answer of etcd means: its texts are part of its API (`api/v3rpc/rpctypes/error.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// There is no such lease.
    LeaseGone,
    /// There is such a lease already.
    LeaseExists,
    /// There is no leader, or it has just changed.
    NoLeader,
    /// The token is not valid any more: log in again.
    StaleToken,
    /// We sent no token, and etcd wants one.
    NotLoggedIn,
    /// There is no login in this cluster.
    NoLoginNeeded,
    /// Wrong password, or no permission.
    AccessDenied,
    /// Certificates do not match.
    Untrusted,
    /// The answer is larger than the decoding limit: ask for less.
    TooLarge,
    /// It may pass.
    Other,
}

impl Meaning {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => {
                Self::of_status(status.code() as i32, status.message()).unwrap_or_else(|| Self::of_sources(error))
            }
            Error::LeaseKeepAliveError(text) if text.contains("lease not found") => Self::LeaseGone,
            _ => Self::of_sources(error),
        }
    }

    fn of_status(code: i32, text: &str) -> Option<Self> {
        Some(match code {
            code::NOT_FOUND if text.contains("requested lease not found") => Self::LeaseGone,
            code::FAILED_PRECONDITION if text.contains("lease already exists") => Self::LeaseExists,
            code::FAILED_PRECONDITION if text.contains("not leader") => Self::NoLeader,
            code::UNAVAILABLE if NO_LEADER.iter().any(|sign| text.contains(sign)) => Self::NoLeader,
            code::UNAUTHENTICATED => Self::StaleToken,
            code::INVALID_ARGUMENT if text.contains("revision of auth store is old") => Self::StaleToken,
            code::INVALID_ARGUMENT if text.contains("user name is empty") => Self::NotLoggedIn,
            code::INVALID_ARGUMENT if text.contains("authentication failed") => Self::AccessDenied,
            code::FAILED_PRECONDITION if text.contains("authentication is not enabled") => Self::NoLoginNeeded,
            code::PERMISSION_DENIED => Self::AccessDenied,
            code::OUT_OF_RANGE if text.contains("decoded message length too large") => Self::TooLarge,
            _ => return None,
        })
    }

    /// TLS failures come as transport errors; only their causes tell.
    fn of_sources(error: &Error) -> Self {
        let text = causes(error);
        if ["invalid peer certificate", "received fatal alert"].iter().any(|sign| text.contains(sign)) {
            Self::Untrusted
        } else {
            Self::Other
        }
    }
}

/// The error for the election, with the endpoint in its text.
pub(super) fn translate(endpoint: &str, error: &Error) -> StoreError {
    let text = format!("{endpoint}: {}", causes(error));
    match Meaning::of(error) {
        Meaning::AccessDenied | Meaning::NotLoggedIn => StoreError::AccessDenied(text),
        Meaning::Untrusted => StoreError::Untrusted(text),
        Meaning::NoLeader => StoreError::NoLeader(text),
        _ => StoreError::Unavailable(text),
    }
}

/// The message and those of its causes that say something new.
fn causes(error: &Error) -> String {
    let mut text = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        Error::TransportError(error) => error.to_string(),
        error => error.to_string(),
    };
    let mut source = match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => error.source(),
        _ => None,
    };
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}
