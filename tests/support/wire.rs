//! One TCP connection with its unread bytes: what the client's and the app's end have in common.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::message::{Body, Framing, Head, field};

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer's FIN.
    Fin,
    /// The peer's RST.
    Reset,
    /// The peer's FIN, before which TLS would have had to say that this is the end.
    Truncated,
}

/// A socket, or TLS over one.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn either(&mut self) -> Pin<&mut dyn Both> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().either().poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().either().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().either().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().either().poll_shutdown(cx)
    }
}

/// A connection and the bytes of it that were read but not yet used.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    unused: Vec<u8>,
}

impl Wire {
    /// Takes over a fresh connection.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), unused: Vec::new() }
    }

    /// Takes over a connection after its handshake.
    pub(crate) fn over_tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), unused: Vec::new() }
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// TLS itself.
    pub(crate) fn tls(&mut self) -> &mut TlsStream<TcpStream> {
        match &mut self.stream {
            Stream::Tcp(_) => panic!("no TLS here"),
            Stream::Tls(stream) => stream,
        }
    }

    /// The socket itself, when nothing is left that was read but not used.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.unused.is_empty(), "unused bytes");
        match self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(_) => panic!("a plain socket is asked for"),
        }
    }

    /// Waits for the peer's RST without reading anything.
    pub(crate) async fn peer_reset(&self) -> io::Result<()> {
        while !self.stream().ready(Interest::WRITABLE).await?.is_write_closed() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Writes everything.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Writes this many bytes of nothing in particular.
    pub(crate) async fn send_filler(&mut self, mut count: u64) -> io::Result<()> {
        let block = vec![b'x'; 64 << 10];
        while count > 0 {
            let part = usize::try_from(count).unwrap_or(usize::MAX).min(block.len());
            self.stream.write_all(&block[..part]).await?;
            count -= part as u64;
        }
        self.stream.flush().await
    }

    /// Sends a FIN; reading goes on.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Waits for the peer's FIN without reading anything before it.
    pub(crate) async fn peer_finished(&self) -> io::Result<()> {
        // Readiness says so beside "readable", which it is all the time: look again when others had their turn.
        while !self.stream().ready(Interest::READABLE).await?.is_read_closed() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Ends the connection with a RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Reads a head; `None` when the connection ends before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.unused, b"\r\n\r\n") {
                let bytes: Vec<u8> = self.unused.drain(..end + 4).collect();
                return Ok(Some(Head::parse(std::str::from_utf8(&bytes[..end]).expect("a head in UTF-8"))));
            }
            if self.fill().await? == 0 {
                return if self.unused.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads a body to its end.
    pub(crate) async fn body(&mut self, framing: Framing) -> io::Result<Body> {
        match framing {
            Framing::None => Ok(Body::default()),
            Framing::Length(length) => {
                let length = usize::try_from(length).expect("a body that fits into memory");
                Ok(Body { bytes: self.exactly(length).await?, ..Body::default() })
            }
            Framing::Chunked => self.chunked().await,
            Framing::Close => {
                while self.fill().await? > 0 {}
                Ok(Body { bytes: std::mem::take(&mut self.unused), ..Body::default() })
            }
        }
    }

    /// Reads the next chunk of a chunked body; the last one is empty, and its trailers are left unread.
    pub(crate) async fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = self.line().await?;
        let size = size.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let bytes = self.exactly(size).await?;
        if size > 0 && !self.line().await?.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(bytes)
    }

    async fn chunked(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() {
                break;
            }
            body.bytes.extend_from_slice(&chunk);
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(body);
            }
            body.trailers.push(field(&line));
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.unused, b"\r\n") {
                let bytes: Vec<u8> = self.unused.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&bytes[..end]).into_owned());
            }
            self.more().await?;
        }
    }

    /// Reads this many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unused.len() < count {
            self.more().await?;
        }
        Ok(self.unused.drain(..count).collect())
    }

    /// Reads this many bytes and forgets them.
    pub(crate) async fn discard(&mut self, mut count: u64) -> io::Result<()> {
        let mut block = vec![0; 64 << 10];
        let have = self.unused.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        self.unused.drain(..have);
        count -= have as u64;
        while count > 0 {
            let part = usize::try_from(count).unwrap_or(usize::MAX).min(block.len());
            let read = self.stream.read(&mut block[..part]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            count -= read as u64;
        }
        Ok(())
    }

    /// Reads to the end and returns what came, with how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.fill().await {
                Ok(0) => return (std::mem::take(&mut self.unused), End::Fin),
                Ok(_) => {}
                Err(error) => {
                    let truncated = error.kind() == io::ErrorKind::UnexpectedEof;
                    let end = if truncated { End::Truncated } else { End::Reset };
                    return (std::mem::take(&mut self.unused), end);
                }
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.unused).await
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
