//! The certificate files, which are read again for each connection.

use std::{fs, path::Path};

use etcd_client::{Certificate, Identity, TlsOptions};

use super::failure::ConfigError;
use crate::settings::TlsFiles;

/// Returns the TLS options for endpoints with `https`.
///
/// # Errors
/// If a file cannot be read.
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

/// Checks that there is a CA to verify a server with: that of the setting, or one of the system.
///
/// # Errors
/// If there is none.
pub(super) fn verifiable(files: &TlsFiles) -> Result<(), ConfigError> {
    if files.cacert.is_none() && rustls_native_certs::load_native_certs().certs.is_empty() {
        return Err(ConfigError::NoCertificates);
    }
    Ok(())
}

/// Reads the file that a setting names.
pub(super) fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::File { setting, path: path.to_owned(), source })
}
