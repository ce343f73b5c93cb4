//! From what was given to what is meant: every check of one setting against another is here.

use std::{
    ffi::OsString,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Config, Credentials, Discovery, ElectionConfig, Endpoints, EtcdConfig, Password, Refused, StatusEndpoint, TlsFiles,
    address, files, values,
};
use crate::{
    cli::{Given, Setting, Value, setting},
    core::{exit_code::Exit, timing::Timing},
};

impl Config {
    /// Reads all settings of a gated run. What is odd but not wrong becomes a remark, for the log.
    ///
    /// # Errors
    /// With the first setting that cannot be understood or used.
    pub fn new(given: &Given, command: Vec<OsString>, remarks: &mut Vec<String>) -> Result<Self, Refused> {
        let status_endpoint = given.get(&setting::STATUS_ENDPOINT);
        Ok(Self {
            election: ElectionConfig::new(given, remarks)?,
            stop_signal: given.required(&setting::STOP_SIGNAL)?.parse(values::signal)?,
            status_endpoint: status_endpoint.map(|value| value.parse(StatusEndpoint::parse)).transpose()?,
            notify_ready: given.required(&setting::NOTIFY_READY)?.parse(values::notify_ready)?,
            // The files last: a typing error should not have to wait for a mounted disk.
            etcd: EtcdConfig::new(given, remarks)?,
            command,
        })
    }
}

impl ElectionConfig {
    fn new(given: &Given, remarks: &mut Vec<String>) -> Result<Self, Refused> {
        let identity = given.get(&setting::IDENTITY);
        let force = force(given, remarks)?;
        Ok(Self {
            lock: given.required(&setting::LOCK_NAME)?.parse(str::parse)?,
            identity_is_explicit: identity.is_some(),
            identity: match identity {
                Some(value) => value.parse(values::name)?,
                None => made_up_identity(),
            },
            timing: timing(given)?,
            force,
            acquire_timeout: acquire_timeout(given, force)?,
            on_loss: given.required(&setting::ON_LOSS)?.parse(values::on_loss)?,
        })
    }
}

impl EtcdConfig {
    /// Reads the settings that are about etcd alone, and looks at the files.
    ///
    /// # Errors
    /// With the first setting that cannot be understood or used.
    pub fn new(given: &Given, remarks: &mut Vec<String>) -> Result<Self, Refused> {
        let credentials = credentials(given, remarks)?;
        Ok(Self {
            endpoints: endpoints(given, credentials.is_some(), remarks)?,
            cluster_id: given.get(&setting::CLUSTER_ID).map(|value| value.parse(values::cluster_id)).transpose()?,
            tls: tls_files(given, remarks)?,
            credentials,
        })
    }
}

/// Where etcd is: what is listed, or what SRV records name.
fn endpoints(given: &Given, has_password: bool, remarks: &mut Vec<String>) -> Result<Endpoints, Refused> {
    let listed = given.get(&setting::ENDPOINTS);
    let (domain, suffix) = (given.get(&setting::DISCOVERY_SRV), given.get(&setting::DISCOVERY_SRV_NAME));
    // With one of these set, TLS is meant everywhere: an endpoint without it would silently not get it.
    let tls = [&setting::CACERT, &setting::CERT, &setting::KEY, &setting::TLS_SERVER_NAME];
    let tls = tls.into_iter().find_map(|setting| given.get(setting));
    let tls_without_scheme = tls.is_some();
    match (domain, listed) {
        (Some(domain), Some(listed)) => Err(domain
            .refuse(format!("{} is set as well: leave one of them out, as both say where etcd is", listed.spelled()))),
        (Some(domain), None) => {
            let discovery = Discovery {
                domain: domain.parse(address::domain)?,
                suffix: suffix.map(|value| value.parse(address::service_suffix)).transpose()?,
                tls_only: tls_without_scheme,
            };
            if has_password && !tls_without_scheme {
                remarks.push(format!(
                    "the etcd password goes without encryption to members of {} that have no record for TLS; set {} to use \
                     only those that have one",
                    discovery.domain,
                    setting::CACERT.either()
                ));
            }
            Ok(Endpoints::Discovered(discovery))
        }
        (None, _) => {
            pair(given, &setting::DISCOVERY_SRV_NAME, &setting::DISCOVERY_SRV)?;
            let endpoints = given.required(&setting::ENDPOINTS)?;
            let list = address::endpoints(endpoints.text()?).map_err(|why| endpoints.refuse(why))?;
            let plain = list.iter().find(|endpoint| !endpoint.tls.unwrap_or(tls_without_scheme));
            if let (Some(plain), Some(tls)) = (plain, &tls) {
                let (url, tls) = (plain.url(false), tls.spelled());
                return Err(
                    endpoints.refuse(format!("{url} is without TLS, but {tls} is set: write https:// or no scheme"))
                );
            }
            if let (Some(plain), true) = (plain, has_password) {
                remarks.push(format!("the etcd password goes to {} without encryption", plain.url(false)));
            }
            Ok(Endpoints::Listed(list.iter().map(|endpoint| endpoint.url(tls_without_scheme)).collect()))
        }
    }
}

fn timing(given: &Given) -> Result<Timing, Refused> {
    let settings = [&setting::LEASE_DURATION, &setting::RENEW_DEADLINE, &setting::RETRY_PERIOD, &setting::STOP_GRACE];
    let duration = |setting| given.required(setting)?.parse(values::duration);
    let [lease, renew, retry, grace] = settings.map(duration);
    Timing::new(lease?, renew?, retry?, grace?).map_err(|error| {
        // The error names the settings in short; here it is known where to mend each of them.
        let mut text = error.to_string();
        for setting in settings {
            let spelled = given.get(setting).map(|value| value.spelled()).unwrap_or_default();
            text = text.replace(&setting.short(), &spelled);
        }
        Refused::new(Exit::Usage, text)
    })
}

fn force(given: &Given, remarks: &mut Vec<String>) -> Result<bool, Refused> {
    let Some(value) = given.get(&setting::FORCE_ACQUIRE) else { return Ok(false) };
    let text = value.text()?;
    let yes = values::yes(text);
    if !yes {
        remarks.push(format!("{} is '{text}', which means no: leadership is waited for", value.spelled()));
    }
    Ok(yes)
}

fn acquire_timeout(given: &Given, force: bool) -> Result<Option<Duration>, Refused> {
    let Some(value) = given.get(&setting::ACQUIRE_TIMEOUT) else { return Ok(None) };
    let timeout: Duration = value.parse(values::duration)?;
    match given.get(&setting::FORCE_ACQUIRE) {
        Some(forced) if force && timeout.is_zero() => Err(value.refuse(format!(
            "0 gives up where another instance leads, and {} asks that one for the lead: leave one of them out",
            forced.spelled()
        ))),
        _ => Ok(Some(timeout)),
    }
}

fn exposed(value: &Value, path: &Path, secret: bool) -> Option<String> {
    files::exposed(path, secret).map(|why| format!("{}: {why}", value.spelled()))
}

fn tls_files(given: &Given, remarks: &mut Vec<String>) -> Result<TlsFiles, Refused> {
    let mut file = |setting, kind| {
        let Some(value) = given.get(setting) else { return Ok(None) };
        let path = PathBuf::from(&value.raw);
        files::check(&path, kind).map_err(|why| value.unusable(why))?;
        remarks.extend(exposed(&value, &path, kind == files::Kind::Key));
        Ok(Some(path))
    };
    pair(given, &setting::CERT, &setting::KEY)?;
    pair(given, &setting::KEY, &setting::CERT)?;
    let server_name = given.get(&setting::TLS_SERVER_NAME);
    let server_name = server_name.map(|value| value.parse(values::server_name)).transpose()?;
    let cacert = file(&setting::CACERT, files::Kind::Certificate)?;
    let cert = file(&setting::CERT, files::Kind::Certificate)?;
    let key = file(&setting::KEY, files::Kind::Key)?;
    if let (Some(value), Some(cert)) = (given.get(&setting::CERT), &cert) {
        files::check_version(cert).map_err(|why| value.unusable(why))?;
    }
    Ok(TlsFiles { cacert, client: cert.zip(key), server_name })
}

fn credentials(given: &Given, remarks: &mut Vec<String>) -> Result<Option<Credentials>, Refused> {
    let (value, file) = (given.get(&setting::PASSWORD), given.get(&setting::PASSWORD_FILE));
    if let (Some(value), Some(file)) = (&value, &file) {
        return Err(value.refuse(format!("{} is set as well: only one of them can be meant", file.spelled())));
    }
    let Some(user) = given.get(&setting::USER) else {
        pair(given, &setting::PASSWORD, &setting::USER)?;
        pair(given, &setting::PASSWORD_FILE, &setting::USER)?;
        return Ok(None);
    };
    let password = match (value, file) {
        (Some(value), _) => Password::Value(value.text()?.to_owned()),
        (None, Some(file)) => {
            let path = PathBuf::from(&file.raw);
            remarks.extend(exposed(&file, &path, true));
            let password = Password::File(path);
            password.read().map_err(|why| file.unusable(why))?;
            password
        }
        (None, None) => {
            return Err(user.refuse(format!("the user needs a password: set {}", setting::PASSWORD_FILE.either())));
        }
    };
    Ok(Some(Credentials { user: user.parse(values::name)?, password }))
}

/// If `one` is given, `other` must be.
fn pair(given: &Given, one: &'static Setting, other: &'static Setting) -> Result<(), Refused> {
    match given.get(one) {
        Some(value) if given.get(other).is_none() => {
            Err(value.refuse(format!("it is of no use alone: set {} as well", other.either())))
        }
        _ => Ok(()),
    }
}

/// The host name and something that no other instance has, nor this one after a restart.
fn made_up_identity() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host: String = host.to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    // The hasher's keys come from the kernel's random numbers.
    let random = RandomState::new().build_hasher().finish() >> 32;
    format!("{host}_{random:08x}")
}

#[cfg(test)]
mod tests;
