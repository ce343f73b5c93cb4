//! The ends of validity of the certificate files, for the metrics.
//!
//! The files are read every few seconds, and not only when a connection is made, because a rotated file counts before it is used.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use tokio::sync::watch;
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::{
    core::clock::Clock,
    settings::{self, TlsFiles},
    system::runtime,
};

/// The pause between two reads of the files, less than the usual time between two scrapes.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a read may take before the file counts as unreadable, as on a file system that hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// A certificate file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// Whose certificates it has: `client` or `ca`.
    pub role: &'static str,
    /// Whether the file can be read and has only certificates.
    pub readable: bool,
    /// The earliest end of validity in the file, since 1970.
    pub not_after: Option<Duration>,
}

/// Reads the certificate files again and again.
#[derive(Debug)]
pub struct Watcher {
    paths: Vec<(&'static str, PathBuf)>,
    files: watch::Sender<Vec<CertificateFile>>,
}

impl Watcher {
    /// Creates a watcher that has not read the files yet.
    #[must_use]
    pub fn new(files: &TlsFiles) -> Self {
        let client = files.client.as_ref().map(|(cert, _)| ("client", cert.clone()));
        let ca = files.cacert.as_ref().map(|cacert| ("ca", cacert.clone()));
        Self { paths: client.into_iter().chain(ca).collect(), files: watch::Sender::default() }
    }

    /// Returns what was read last; empty before the first read.
    #[must_use]
    pub fn files(&self) -> watch::Receiver<Vec<CertificateFile>> {
        self.files.subscribe()
    }

    /// Reads the files until the future is dropped. Needs a tokio runtime.
    pub async fn run(self, clock: impl Clock) {
        loop {
            let paths = self.paths.clone();
            // On a thread of its own, because a file system that hangs must not stop the election.
            let mut read = runtime::spawn_blocking(move || paths.iter().map(read).collect());
            let files = match clock.before(clock.now() + LIMIT, &mut read).await {
                Some(files) => files,
                None => {
                    let unreadable =
                        |(role, _): &(&'static str, _)| CertificateFile { role, readable: false, not_after: None };
                    self.files.send_replace(self.paths.iter().map(unreadable).collect());
                    read.await
                }
            };
            // It fails only if the runtime shuts down.
            if let Ok(files) = files {
                self.files.send_replace(files);
            }
            clock.sleep(PERIOD).await;
        }
    }
}

fn read((role, path): &(&'static str, PathBuf)) -> CertificateFile {
    let end = earliest_end(path);
    CertificateFile { role, readable: end.is_ok(), not_after: end.ok().flatten() }
}

/// Returns the earliest end of validity of the certificates in a PEM file, which must have at least one.
fn earliest_end(path: &Path) -> io::Result<Option<Duration>> {
    let pem = settings::read_within_limits(path)?;
    let ends = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| not_after(&certificate.map_err(io::Error::other)?).map_err(io::Error::other))
        .collect::<io::Result<Vec<_>>>()?;
    if ends.is_empty() {
        return Err(io::Error::other("there is no certificate"));
    }
    Ok(ends.into_iter().flatten().min())
}

/// Returns the end of validity of a certificate; `None` for one of X.509 version 1, which only an old CA has.
fn not_after(certificate: &CertificateDer<'_>) -> Result<Option<Duration>, Error> {
    // webpki has no accessor, but in the far future it refuses every certificate with the end of its validity, before any other check.
    let far = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let verified = EndEntityCert::try_from(certificate)
        .and_then(|parsed| parsed.verify_for_usage(&[], &[], &[], far, KeyUsage::client_auth(), None, None).map(drop));
    match verified {
        Err(Error::CertExpired { not_after, .. }) => Ok(Some(Duration::from_secs(not_after.as_secs()))),
        Err(Error::UnsupportedCertVersion) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use harness::certificates::Certificates;

    use super::*;
    use crate::system::clock::{BootClock, time_of_day};

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_earliest_end_of_a_file_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::create(folder.path(), &[]);
        let end = |path: &Path| read(&("client", path.to_owned()));
        let long = end(&certificates.client.cert);
        assert!(long.readable && long.not_after > Some(time_of_day() + DAY), "{long:?}");
        let expired = end(&certificates.expired.cert).not_after.expect("an end");
        assert!(expired < time_of_day(), "{expired:?}");
        assert!(end(&certificates.ca).not_after.is_some(), "a CA");

        let both = folder.path().join("both");
        let text = |path: &Path| fs::read_to_string(path).expect("a file");
        fs::write(&both, text(&certificates.client.cert) + &text(&certificates.expired.cert)).expect("written");
        assert_eq!(end(&both).not_after, Some(expired));
    }

    #[test]
    fn a_broken_file_is_unreadable() {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::create(folder.path(), &[]);
        let path = folder.path().join("broken");
        let pem = fs::read_to_string(&certificates.client.cert).expect("a file");
        for (what, text) in [
            ("empty", String::new()),
            ("cut short", pem[..pem.len() / 2].to_owned()),
            ("no certificate", "-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----\n".to_owned()),
            ("a key", fs::read_to_string(&certificates.client.key).expect("a file")),
        ] {
            fs::write(&path, text).expect("written");
            let file = read(&("client", path.clone()));
            assert_eq!(file, CertificateFile { role: "client", readable: false, not_after: None }, "{what}");
        }
        assert!(!read(&("client", folder.path().join("missing"))).readable);
        assert!(!read(&("client", folder.path().to_owned())).readable);
        assert!(!read(&("client", "/dev/zero".into())).readable, "it has no end");
    }

    #[tokio::test]
    async fn the_files_that_are_set_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::create(folder.path(), &[]);
        let client = Some((certificates.client.cert, certificates.client.key));
        for (files, roles) in [
            (TlsFiles::default(), vec![]),
            (TlsFiles { client: client.clone(), ..TlsFiles::default() }, vec!["client"]),
            (TlsFiles { client, cacert: Some(certificates.ca), ..TlsFiles::default() }, vec!["client", "ca"]),
        ] {
            let watcher = Watcher::new(&files);
            let mut read = watcher.files();
            tokio::select! {
                () = watcher.run(BootClock) => unreachable!("it never ends"),
                changed = read.changed() => changed.expect("it runs"),
            }
            assert_eq!(read.borrow().iter().map(|file| file.role).collect::<Vec<_>>(), roles);
            assert!(read.borrow().iter().all(|file| file.readable));
        }
    }
}
