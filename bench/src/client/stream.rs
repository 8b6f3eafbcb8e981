//! What a client's connection is made of.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ProtocolVersion;

use super::{Failure, RESPONSE_TIMEOUT, connect};
use crate::tls::Trust;

/// A connection, in clear text or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, and makes the handshake of TLS if there is somebody to trust.
    pub(crate) async fn connect(addr: SocketAddr, trust: Option<&Trust>) -> Result<Self, Failure> {
        let stream = connect(addr).await?;
        let Some(trust) = trust else { return Ok(Self::Plain(stream)) };
        let handshake = timeout(RESPONSE_TIMEOUT, trust.handshake(stream)).await;
        let stream = handshake.map_err(|_| Failure::Stuck)?.map_err(|_| Failure::LostFresh)?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The socket itself.
    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_mut().0,
        }
    }

    /// Whether it is TLS in its latest version.
    pub(crate) fn is_tls13(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3),
        }
    }

    pub(crate) async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf).await,
            Self::Tls(stream) => stream.read(buf).await,
        }
    }

    pub(crate) async fn read_buf(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buf).await,
            Self::Tls(stream) => stream.read_buf(buf).await,
        }
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }
}
