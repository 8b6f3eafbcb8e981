//! One HTTP/1.1 connection, seen from the client, that can say exactly how a request ended.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::response::{Framing, Parsed, Response, parse_head, read_chunks};
use crate::tls::Trust;

mod stream;

pub(crate) use stream::Stream;

/// A SYN that was dropped is sent again after one second and after three; both must fit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any answer of the apps here takes, short enough that a test ends.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a request ended other than with its complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The kernel refused the connection: no request was made, and any client may try again.
    #[error("connection refused")]
    Refused,
    /// There was no connection for another reason: it took too long, or this machine ran out of ports.
    #[error("not connected")]
    NotConnected,
    /// The connection was accepted, then ended before the first byte of its first response.
    #[error("a new connection ended without a response")]
    LostFresh,
    /// A connection that had served before ended between the request and the first byte of its response: the
    /// race of HTTP/1.1's idle close.
    #[error("a reused connection ended without a response")]
    LostReused,
    /// The response began and did not end as its framing demands.
    #[error("the response was cut")]
    Cut,
    /// The response is not HTTP, or not the one that was asked for.
    #[error("not the right response")]
    Bad,
    /// Nothing ended, but the time is up.
    #[error("no response in time")]
    Stuck,
}

/// Whether the connection may carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// HTTP/1.1's default.
    KeepAlive,
    /// The request says `Connection: close`.
    Close,
}

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: SocketAddr,
    /// What was read and not yet consumed.
    buf: Vec<u8>,
    /// Complete responses so far.
    responses: u64,
    timeout: Duration,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Refused`], [`Failure::NotConnected`], or [`Failure::LostFresh`] when the handshake was
    /// completed and the connection reset before `connect` returned.
    pub async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        Ok(Self::on(addr, Stream::connect(addr, None).await?))
    }

    /// Connects, and makes the handshake of TLS.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`Failure::LostFresh`] also when the handshake of TLS does not succeed, and
    /// [`Failure::Stuck`] when it takes too long.
    pub async fn connect_tls(addr: SocketAddr, trust: &Trust) -> Result<Self, Failure> {
        Ok(Self::on(addr, Stream::connect(addr, Some(trust)).await?))
    }

    fn on(peer: SocketAddr, stream: Stream) -> Self {
        Self { stream, peer, buf: Vec::new(), responses: 0, timeout: RESPONSE_TIMEOUT }
    }

    /// Sets how long [`receive`](Self::receive) waits for a complete response; ten seconds otherwise.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The socket itself, for tests that do what no client should.
    #[must_use]
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.tcp()
    }

    /// Complete responses that came over this connection.
    #[must_use]
    pub fn responses(&self) -> u64 {
        self.responses
    }

    /// Asks for `target` and reads the whole response.
    ///
    /// # Errors
    /// How it ended otherwise.
    pub async fn get(&mut self, target: &str, after: After) -> Result<Response, Failure> {
        let close = if after == After::Close { "connection: close\r\n" } else { "" };
        let request = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n{close}\r\n", self.peer);
        self.send(request.as_bytes()).await?;
        self.receive().await
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// [`Failure::LostFresh`], [`Failure::LostReused`] or [`Failure::Stuck`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match timeout(self.timeout, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.lost()),
            Err(_) => Err(Failure::Stuck),
        }
    }

    /// Reads one whole response, skipping interim (1xx) ones but 101.
    ///
    /// # Errors
    /// How it ended otherwise.
    pub async fn receive(&mut self) -> Result<Response, Failure> {
        match timeout(self.timeout, self.read_response()).await {
            Ok(Ok(response)) => {
                self.responses += 1;
                Ok(response)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Stuck),
        }
    }

    /// Waits for `pause` while nothing is asked; true when the server closed the connection meanwhile. A client
    /// that looks before it reuses a connection loses nothing by that.
    ///
    /// # Errors
    /// [`Failure::Bad`] when the server sends what nobody asked for.
    pub async fn closed_within(&mut self, pause: Duration) -> Result<bool, Failure> {
        if !self.buf.is_empty() {
            return Err(Failure::Bad);
        }
        let closed = match timeout(pause, self.unasked()).await {
            Ok(closed) => closed,
            Err(_) => match self.peek_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // Whatever it is, it is here; of TLS it may be a record that says nothing, such as a session ticket.
                _ => match timeout(Duration::from_millis(1), self.unasked()).await {
                    Ok(closed) => closed,
                    Err(_) => return Ok(false),
                },
            },
        };
        if closed { Ok(true) } else { Err(Failure::Bad) }
    }

    /// Waits until something comes that nobody asked for; true when it is the end.
    async fn unasked(&mut self) -> bool {
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.peek(&mut [0]).await,
            Stream::Tls(stream) => stream.read(&mut [0]).await,
        };
        matches!(read, Ok(0) | Err(_))
    }

    /// Asks the kernel itself: the runtime may not have heard yet, and a busy client of ours must not look like
    /// a server's loss.
    fn peek_now(&mut self) -> io::Result<usize> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (peeked, _) = rustix::net::recv(&*self.stream(), &mut [0; 1], flags)?;
        Ok(peeked)
    }

    async fn read_response(&mut self) -> Result<Response, Failure> {
        loop {
            let (head, framing) = self.read_head().await?;
            let response = Response::new(head);
            let status = response.status();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let body = match framing {
                Framing::Length(length) => self.read_length(length).await?,
                Framing::Chunked => self.read_chunked().await?,
                Framing::UntilEof => self.read_to_eof().await?,
            };
            return Ok(response.with_body(body));
        }
    }

    async fn read_head(&mut self) -> Result<(Vec<u8>, Framing), Failure> {
        loop {
            match parse_head(&self.buf) {
                Parsed::Complete((length, framing)) => return Ok((self.consume(length), framing)),
                Parsed::Partial => {}
                Parsed::Invalid => return Err(Failure::Bad),
            }
            if self.fill().await? == 0 {
                return Err(if self.buf.is_empty() { self.lost() } else { Failure::Cut });
            }
        }
    }

    async fn read_length(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.buf.len() < length {
            if self.fill_body().await? == 0 {
                return Err(Failure::Cut);
            }
        }
        Ok(self.consume(length))
    }

    async fn read_chunked(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            match read_chunks(&self.buf) {
                Parsed::Complete((length, body)) => {
                    self.consume(length);
                    return Ok(body);
                }
                Parsed::Partial => {}
                Parsed::Invalid => return Err(Failure::Bad),
            }
            if self.fill_body().await? == 0 {
                return Err(Failure::Cut);
            }
        }
    }

    async fn read_to_eof(&mut self) -> Result<Vec<u8>, Failure> {
        while self.fill_body().await? > 0 {}
        Ok(std::mem::take(&mut self.buf))
    }

    /// Reads some more of a head; 0 at EOF.
    async fn fill(&mut self) -> Result<usize, Failure> {
        let begun = !self.buf.is_empty();
        let read = self.read_some().await;
        read.map_err(|_| if begun { Failure::Cut } else { self.lost() })
    }

    /// Reads some more of a body; 0 at EOF.
    async fn fill_body(&mut self) -> Result<usize, Failure> {
        self.read_some().await.map_err(|_| Failure::Cut)
    }

    async fn read_some(&mut self) -> io::Result<usize> {
        self.buf.reserve(4096);
        self.stream.read_buf(&mut self.buf).await
    }

    fn consume(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buf.split_off(length);
        std::mem::replace(&mut self.buf, rest)
    }

    fn lost(&self) -> Failure {
        if self.responses == 0 { Failure::LostFresh } else { Failure::LostReused }
    }
}

/// Opens a TCP connection.
pub(crate) async fn connect(addr: SocketAddr) -> Result<TcpStream, Failure> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(connect_failure(&error)),
        Err(_) => return Err(Failure::NotConnected),
    };
    // When nobody listens on a port of the ephemeral range, the kernel may pick just this port as ours, and
    // TCP's simultaneous open connects us to ourselves.
    if stream.local_addr().is_ok_and(|local| local == addr) {
        return Err(Failure::Refused);
    }
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn connect_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        // A SYN is answered with "refused"; "reset" means that the handshake had been completed.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::LostFresh,
        _ => Failure::NotConnected,
    }
}

#[cfg(test)]
mod tests;
