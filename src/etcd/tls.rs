//! The certificate files, read anew for each client.

use std::{fs, path::Path};

use etcd_client::{Certificate, Identity, TlsOptions};

use super::failure::ConfigError;
use crate::settings::TlsFiles;

/// TLS as configured, for endpoints with `https`.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn options(files: &TlsFiles) -> Result<TlsOptions, ConfigError> {
    let mut tls = TlsOptions::new();
    tls = match &files.cacert {
        Some(cacert) => tls.ca_certificate(Certificate::from_pem(read("CACERT", cacert)?)),
        None => tls.with_native_roots(),
    };
    if let Some((cert, key)) = &files.client {
        tls = tls.identity(Identity::from_pem(read("CERT", cert)?, read("KEY", key)?));
    }
    if let Some(name) = &files.server_name {
        tls = tls.domain_name(name.clone());
    }
    Ok(tls)
}

/// Whether there is a CA to verify a server by: the one of the setting, or any of the system's.
///
/// # Errors
/// If there is none.
pub(super) fn verifiable(files: &TlsFiles) -> Result<(), ConfigError> {
    if files.cacert.is_none() && rustls_native_certs::load_native_certs().certs.is_empty() {
        return Err(ConfigError::NoCertificates);
    }
    Ok(())
}

/// The content of the file that a setting names.
pub(super) fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::File { setting, path: path.to_owned(), source })
}
