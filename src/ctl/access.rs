//! What all operator commands have in common that ask etcd: a time limit, and the errors.

use crate::{
    core::clock::Clock as _,
    core::{exit_code::Exit, kv::StoreError, limits::QUESTION, start_error::StartError, text},
    etcd::{
        self, Endpoint,
        client::{EtcdClient, RequestTimeouts},
    },
    settings::EtcdConfig,
    system::clock::BootClock,
};

/// The client of an operator command.
pub(super) type Client = EtcdClient<Endpoint, BootClock>;

/// Creates a client.
pub(super) fn client(config: &EtcdConfig) -> Result<Client, StartError> {
    etcd::client_of(config, RequestTimeouts::default())
        .map_err(|error| StartError::new(Exit::Config, error.to_string()))
}

/// Waits for an answer of etcd within the limit of an operator command.
pub(super) async fn within_limit<T>(
    client: &Client,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StartError> {
    match BootClock.before(BootClock.now() + QUESTION, answer).await {
        Some(answer) => answer.map_err(|error| denied(&error)),
        None if client.membership().ours().is_none() && client.membership().has_votes() => Err(StartError::new(
            Exit::Unavailable,
            "could not decide which etcd cluster to ask; check --endpoints or give --cluster-id",
        )),
        None => Err(StartError::new(Exit::Unavailable, "etcd does not answer; check --endpoints")),
    }
}

/// Adds to the error that etcd does not answer how to see what has happened.
pub(super) fn unsure(error: &StartError, hint: &str) -> StartError {
    let hint = if error.exit == Exit::Unavailable { format!("; {hint}") } else { String::new() };
    StartError::new(error.exit, format!("{error}{hint}"))
}

/// Returns the error for an operator whom etcd denies access.
pub(super) fn denied(error: &StoreError) -> StartError {
    let remedy = match error {
        StoreError::AccessDenied(_) => "; check --user, --password-file and the permissions of the user in etcd",
        StoreError::Untrusted(_) => "; check --cacert, --cert, --key and --tls-server-name",
        StoreError::NoLeader(_) | StoreError::Unavailable(_) => "",
    };
    StartError::new(Exit::NoPermission, text::escaped(&format!("{error}{remedy}")))
}
