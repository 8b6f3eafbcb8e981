//! One client connection, byte by byte.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::message::{Head, Response};
use super::wire::{End, Wire};
use super::within;

/// A connection to ebb. Every step fails the test when it fails or takes for ever.
#[derive(Debug)]
pub(crate) struct Client {
    /// The connection itself, for what the methods here do not offer.
    pub(crate) wire: Wire,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = within("connecting", TcpStream::connect(addr)).await.expect("a connection");
        Self::over(stream)
    }

    /// Connects until the port refuses. Before that a connection may stand, which is given up at once.
    pub(crate) async fn until_refused(addr: SocketAddr) {
        let refused = async {
            loop {
                match TcpStream::connect(addr).await {
                    Ok(stream) => drop(stream),
                    Err(error) => return error,
                }
            }
        };
        assert_eq!(within("the port to refuse", refused).await.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Takes over a fresh connection.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { wire: Wire::new(stream) }
    }

    /// Takes over a connection after its TLS handshake.
    pub(crate) fn over_tls(stream: TlsStream<TcpStream>) -> Self {
        Self { wire: Wire::over_tls(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.wire.send(bytes)).await.expect("to send");
    }

    /// Sends this many bytes of nothing in particular.
    pub(crate) async fn send_filler(&mut self, count: u64) {
        within("sending a body", self.wire.send_filler(count)).await.expect("to send");
    }

    /// Reads the next head of a response.
    pub(crate) async fn head(&mut self) -> Head {
        let head = within("a response's head", self.wire.head()).await.expect("a response's head");
        head.expect("a response, not the connection's end")
    }

    /// Reads the response to anything but HEAD, be it an interim one.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads the response to a request with this method.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let head = self.head().await;
        let framing = head.response_framing(method);
        let body = within("a response's body", self.wire.body(framing)).await.expect("a whole body");
        Response { head, body }
    }

    /// Sends a GET without waiting for the response.
    pub(crate) async fn send_get(&mut self, target: &str) {
        self.send(get(target)).await;
    }

    /// Sends a GET and reads the response.
    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.send_get(target).await;
        self.response().await
    }

    /// Asks again and again until a response says that it is the last, which it returns. The log says that a
    /// phase has begun a moment before every worker has heard of it.
    pub(crate) async fn get_until_told(&mut self, target: &str) -> Response {
        let told = async {
            loop {
                let response = self.get(target).await;
                if response.closes() {
                    return response;
                }
                assert_eq!(response.status(), 200, "{}", response.head);
            }
        };
        within("being told to go", told).await
    }

    /// Reads the next chunk of a chunked body as text.
    pub(crate) async fn chunk(&mut self) -> String {
        let chunk = within("a chunk", self.wire.chunk()).await.expect("a chunk");
        String::from_utf8(chunk).expect("a chunk in UTF-8")
    }

    /// Waits for the end and fails unless it is a FIN without another byte before it.
    pub(crate) async fn expect_fin(&mut self) {
        let (rest, end) = self.rest().await;
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), end), ("", End::Fin));
    }

    /// Reads to the end, however it comes.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        within("the connection's end", self.wire.rest()).await
    }

    /// Waits for the peer's FIN without reading anything.
    pub(crate) async fn peer_finished(&self) {
        within("ebb's FIN", self.wire.peer_finished()).await.expect("ebb's FIN");
    }

    /// Sends a FIN; reading goes on.
    pub(crate) async fn finish(&mut self) {
        within("a FIN to leave", self.wire.finish()).await.expect("to half-close");
    }
}

/// A GET as ordinary clients send it.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")
}
