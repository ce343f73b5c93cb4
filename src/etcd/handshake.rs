//! One TLS handshake by hand, to hear what the server says about our certificate.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, Error, RootCertStore, crypto::ring},
};

use crate::{core::clock::Clock as _, settings::TlsFiles, system::clock::BootClock};

/// A server that refuses a certificate says so at once; one that accepts it waits for us to speak.
const LIMIT: Duration = Duration::from_secs(1);

/// What a server says to a TLS handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its certificate or ours is not trusted.
    Untrusted(String),
    /// It speaks TLS.
    Tls,
    /// It speaks something else, or hangs up.
    NotTls,
}

/// What a server says to a connection before anything was asked; `None` if that is nothing, or there is no connection.
pub(super) async fn listen(address: SocketAddr, host: &str, files: &TlsFiles) -> Option<Heard> {
    let name = files.server_name.clone().unwrap_or_else(|| host.to_owned());
    let connector = TlsConnector::from(Arc::new(config(files)?));
    let mut connected = false;
    let spoken = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        let mut stream = connector.connect(name, stream).await?;
        connected = true;
        stream.read_u8().await
    };
    let spoken = BootClock.before(BootClock.now() + LIMIT, spoken).await;
    match spoken.and_then(Result::err) {
        // So does etcd without TLS.
        Some(error) if error.kind() == ErrorKind::UnexpectedEof && !connected => Some(Heard::NotTls),
        Some(error) => match error.get_ref()?.downcast_ref::<Error>()? {
            error @ (Error::AlertReceived(_) | Error::InvalidCertificate(_)) => {
                Some(Heard::Untrusted(error.to_string()))
            }
            Error::InvalidMessage(_) if !connected => Some(Heard::NotTls),
            _ => connected.then_some(Heard::Tls),
        },
        None => connected.then_some(Heard::Tls),
    }
}

/// As `tonic` makes it of the same files.
fn config(files: &TlsFiles) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &files.cacert {
        Some(cacert) => {
            for certificate in CertificateDer::pem_file_iter(cacert).ok()? {
                roots.add(certificate.ok()?).ok()?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let ring = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().ok()?;
    let builder = builder.with_root_certificates(roots);
    match &files.client {
        Some((cert, key)) => {
            let chain = CertificateDer::pem_file_iter(cert).ok()?.collect::<Result<_, _>>().ok()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).ok()?).ok()
        }
        None => Some(builder.with_no_client_auth()),
    }
}
