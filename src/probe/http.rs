//! A `GET` request over a new connection. Redirects are not followed, and the body is not read.

use std::{pin::pin, sync::Arc};

use axum::body::Body;
use futures_util::future::{Either, select};
use hyper::{Request, StatusCode, client::conn::http1, header, rt};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring},
    },
};

use crate::settings::HttpProbe;

/// More than the header of an answer should need.
const MOST_BYTES: usize = 64 << 10;

/// Sends the request over this connection.
///
/// # Errors
/// If the status code is not 2xx, or there is none.
pub(super) async fn get(stream: TcpStream, probe: &HttpProbe) -> Result<(), String> {
    let status = if probe.tls {
        let name = ServerName::try_from(probe.host.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::new(config()?)).connect(name, stream).await;
        let stream = stream.map_err(|error| format!("could not open a TLS session: {error}"))?;
        status(TokioIo::new(stream), probe).await?
    } else {
        status(TokioIo::new(stream), probe).await?
    };
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_redirection() => Err(format!("it answered {status}, a redirect, which is not followed")),
        status => Err(format!("it answered {status}")),
    }
}

async fn status(stream: impl rt::Read + rt::Write + Unpin, probe: &HttpProbe) -> Result<StatusCode, String> {
    let wrong = |error: hyper::Error| format!("could not read the answer: {error}");
    let request = Request::get(&probe.path)
        .header(header::HOST, &probe.authority)
        .header(header::USER_AGENT, concat!("etcd-await-election/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MOST_BYTES).handshake(stream).await.map_err(wrong)?;
    // The connection makes progress only while it is polled.
    let answer = match select(pin!(sender.send_request(request)), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(wrong)
}

/// Returns a configuration that accepts any certificate, as the probes of Kubernetes do: a check asks whether a service works, sends no
/// secret, and most services do not have their certificate for `localhost`.
fn config() -> Result<ClientConfig, String> {
    let ring = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&ring)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(ring))).with_no_client_auth())
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
