//! Classification of errors of etcd, gRPC and TLS.

use std::{error::Error as _, fmt::Write as _, io, path::PathBuf};

use etcd_client::Error;

use crate::{core::kv::StoreError, settings};

/// A file of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting names it.
    #[error("ETCD_AWAIT_ELECTION_{setting}: {path}: {source}", path = .path.display())]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system has no CA certificates, as in a container image from scratch.
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

/// Texts of a member that has no leader, or whose leader has just changed.
const NO_LEADER: [&str; 3] =
    ["etcdserver: no leader", "etcdserver: leader changed", "possibly due to previous leader failure"];

/// The meaning of an error of etcd. Its texts are part of its API (`api/v3rpc/rpctypes/error.go`).
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
    /// The request had no token, and authentication is enabled.
    NotLoggedIn,
    /// Authentication is not enabled.
    NoLoginNeeded,
    /// Wrong password or missing permission.
    AccessDenied,
    /// TLS verification failed.
    Untrusted,
    /// The response is larger than the decoding limit.
    TooLarge,
    /// Another attempt may succeed.
    Other,
}

impl Meaning {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => {
                Self::of_status(status.code() as i32, status.message()).unwrap_or_else(|| Self::of_sources(error))
            }
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

    /// Classifies transport errors by their causes, as TLS failures are among them.
    fn of_sources(error: &Error) -> Self {
        let text = causes(error);
        if ["invalid peer certificate", "received fatal alert"].iter().any(|sign| text.contains(sign)) {
            Self::Untrusted
        } else {
            Self::Other
        }
    }
}

/// Returns the error for the election, with the endpoint in its text.
pub(super) fn translate(endpoint: &str, error: &Error) -> StoreError {
    let text = format!("{endpoint}: {}", causes(error));
    match Meaning::of(error) {
        Meaning::AccessDenied | Meaning::NotLoggedIn => StoreError::AccessDenied(text),
        Meaning::Untrusted => StoreError::Untrusted(text),
        Meaning::NoLeader => StoreError::NoLeader(text),
        _ => StoreError::Unavailable(text),
    }
}

/// Returns the message of an error and of its causes, without repetitions.
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
