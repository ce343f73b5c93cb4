//! From the values that were given to a [`Config`]: every check of one setting against another is here.

use std::{
    ffi::OsString,
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
};

use super::{
    Config, Credentials, Discovery, ElectionConfig, Endpoints, EtcdConfig, LogConfig, Password, Refused, TlsFiles,
    args::{ElectionArgs, EtcdArgs, GateArgs, TimingArgs},
    files,
    sources::{Sources, either},
};
use crate::core::timing::Timing;

impl Config {
    /// Checks the settings of a gated run. What is odd but not wrong becomes a remark, for the log.
    ///
    /// # Errors
    /// With the first setting that cannot be used.
    pub(super) fn new(
        args: GateArgs,
        command: Vec<OsString>,
        sources: &Sources,
        remarks: &mut Vec<String>,
    ) -> Result<(Self, LogConfig), Refused> {
        let timing = timing(&args.timing, args.command.stop_grace, sources)?;
        check_force(&args.election, sources, remarks)?;
        let config = Self {
            election: ElectionConfig {
                lock: args.lock.lock_name,
                identity_is_explicit: args.election.identity.is_some(),
                identity: args.election.identity.unwrap_or_else(random_identity),
                timing,
                force: args.election.force_acquire.unwrap_or(false),
                acquire_timeout: args.election.acquire_timeout,
                on_loss: args.election.on_loss,
            },
            stop_signal: args.command.stop_signal,
            status_endpoint: args.status.status_endpoint,
            notify_ready: args.command.notify_ready,
            // The files last: a typing error should not have to wait for a mounted disk.
            etcd: EtcdConfig::new(args.etcd, sources, remarks)?,
            command,
        };
        Ok((config, LogConfig::new(args.log)))
    }
}

impl EtcdConfig {
    /// Checks the settings that are about etcd alone, and reads the files.
    ///
    /// # Errors
    /// With the first setting that cannot be used.
    pub(super) fn new(args: EtcdArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<Self, Refused> {
        let credentials = credentials(&args, sources, remarks)?;
        Ok(Self {
            endpoints: endpoints(&args, credentials.is_some(), sources, remarks)?,
            cluster_id: args.cluster_id,
            tls: tls_files(args, sources, remarks)?,
            credentials,
        })
    }
}

/// Returns where etcd is: what is listed, or what SRV records name.
fn endpoints(
    args: &EtcdArgs,
    has_password: bool,
    sources: &Sources,
    remarks: &mut Vec<String>,
) -> Result<Endpoints, Refused> {
    // With one of these set, TLS is meant everywhere: an endpoint without it would silently not get it.
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

fn timing(args: &TimingArgs, stop_grace: std::time::Duration, sources: &Sources) -> Result<Timing, Refused> {
    let timing = Timing::new(args.lease_duration, args.renew_deadline, args.retry_period, stop_grace);
    timing.map_err(|error| {
        Refused::new(crate::core::exit_code::Exit::Usage, error.describe(|name| sources.spelled(name)))
    })
}

fn check_force(args: &ElectionArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<(), Refused> {
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

fn tls_files(args: EtcdArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<TlsFiles, Refused> {
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

fn credentials(args: &EtcdArgs, sources: &Sources, remarks: &mut Vec<String>) -> Result<Option<Credentials>, Refused> {
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
fn pair(one: &str, other: &str, sources: &Sources) -> Result<(), Refused> {
    if sources.is_given(one) && !sources.is_given(other) {
        return Err(sources.refuse(one, format!("requires {}", either(other))));
    }
    Ok(())
}

fn exposed(setting: &str, path: &std::path::Path, secret: bool, sources: &Sources) -> Option<String> {
    files::exposed(path, secret).map(|why| format!("{}: {why}", sources.spelled(setting)))
}

/// Returns the host name with something that no other instance has, nor this one after a restart.
fn random_identity() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host: String = host.to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    // The hasher's keys come from the kernel's random numbers.
    let random = RandomState::new().build_hasher().finish() >> 32;
    format!("{host}_{random:08x}")
}

#[cfg(test)]
mod tests;
