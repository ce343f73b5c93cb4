//! One TLS handshake by hand, to hear what the server says about our certificate.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, Error, RootCertStore, crypto::ring},
};

use crate::config::TlsFiles;

/// A server that refuses a certificate says so at once; one that accepts it waits for us to speak.
const LIMIT: Duration = Duration::from_secs(1);

/// The TLS error that a connection ends with before anything was asked; `None` if there is none, or no connection.
pub(super) async fn alert(address: SocketAddr, host: &str, files: &TlsFiles) -> Option<String> {
    let name = files.server_name.clone().unwrap_or_else(|| host.to_owned());
    let connector = TlsConnector::from(Arc::new(config(files)?));
    let spoken = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        connector.connect(name, stream).await?.read_u8().await
    };
    let error = timeout(LIMIT, spoken).await.ok()?.err()?;
    Some(error.get_ref()?.downcast_ref::<Error>()?.to_string())
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
