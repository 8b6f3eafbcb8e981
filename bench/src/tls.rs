//! A certificate for the proxies, and clients that trust it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The name in the certificate.
const NAME: &str = "app.test";

/// A new certificate, signed by itself, and its key.
#[derive(Debug)]
pub struct Identity {
    cert: CertificateDer<'static>,
    /// Both, the certificate first, as HAProxy wants them.
    pem: String,
}

/// What a client needs to speak TLS with a proxy that has an [`Identity`].
#[derive(Debug, Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Identity {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn new() -> io::Result<Self> {
        let made = generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
        let CertifiedKey { cert, signing_key } = made;
        let pem = cert.pem() + &signing_key.serialize_pem();
        Ok(Self { cert: cert.der().clone(), pem })
    }

    /// Writes certificate and key into one file.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn write(&self, to: &Path) -> io::Result<()> {
        fs::write(to, &self.pem)
    }

    /// What a client needs.
    ///
    /// # Errors
    /// When the certificate cannot be an anchor of trust.
    pub fn trust(&self) -> io::Result<Trust> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).map_err(io::Error::other)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Trust(Arc::new(config)))
    }
}

impl Trust {
    pub(crate) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}
