//! A TLS handshake outside of the client, to learn why a server rejects the client certificate.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, Error, RootCertStore, crypto::ring},
};

use crate::{core::clock::Clock as _, settings::TlsFiles, system::clock::BootClock};

/// A server that rejects the certificate does so at once. One that accepts it waits for a request.
const LIMIT: Duration = Duration::from_secs(1);

/// The outcome of a TLS handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// The certificate of the server or of the client is not trusted.
    Untrusted(String),
    /// The server supports TLS.
    Tls,
    /// The server uses another protocol, or closes the connection.
    NotTls,
}

/// Makes a TLS handshake without a request. Returns `None` if there is no connection, or the outcome is not clear.
pub(super) async fn probe(address: SocketAddr, host: &str, files: &TlsFiles) -> Option<Handshake> {
    let name = files.server_name.clone().unwrap_or_else(|| host.to_owned());
    let connector = TlsConnector::from(Arc::new(config(files)?));
    let mut connected = false;
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        let mut stream = connector.connect(name, stream).await?;
        connected = true;
        stream.read_u8().await
    };
    let outcome = BootClock.before(BootClock.now() + LIMIT, exchange).await;
    match outcome.and_then(Result::err) {
        // etcd without TLS does so.
        Some(error) if error.kind() == ErrorKind::UnexpectedEof && !connected => Some(Handshake::NotTls),
        Some(error) => match error.get_ref()?.downcast_ref::<Error>()? {
            error @ (Error::AlertReceived(_) | Error::InvalidCertificate(_)) => {
                Some(Handshake::Untrusted(error.to_string()))
            }
            Error::InvalidMessage(_) if !connected => Some(Handshake::NotTls),
            _ => connected.then_some(Handshake::Tls),
        },
        None => connected.then_some(Handshake::Tls),
    }
}

/// Creates the same configuration as `tonic` from these files.
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
