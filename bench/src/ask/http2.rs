//! HTTP/2 with prior knowledge: pages, gRPC calls, and gRPC streams. Several clients share a connection.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};

use super::{Answered, Ask};
use crate::client::{Failure, connect};
use crate::messages::{CONTENT_TYPE, ECHO, framed};
use crate::origin::{BURST, body_of, pattern};

/// The page that is asked for.
const TARGET: &str = "/";

/// What small frames that were not read yet may count: a stream of messages is made of them.
const BUDGET: usize = 64 << 20;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A page whose body has this size.
    Page(usize),
    /// A gRPC call with a message of this size, which comes back.
    Unary(usize),
    /// A gRPC call with a message of this size, which comes back that many times.
    Stream(usize, u8),
}

/// A client: one stream at a time.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Bytes>,
    request: Request<()>,
    /// What is sent; nothing with a page.
    message: Option<Bytes>,
    /// What has to come.
    expected: Bytes,
    answers: u64,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Http2 {
    /// Opens the connections, with this many clients on each.
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub async fn clients(
        addr: SocketAddr,
        what: What,
        connections: usize,
        streams: usize,
    ) -> Result<Vec<Self>, Failure> {
        let mut clients = Vec::with_capacity(connections * streams);
        for _ in 0..connections {
            let stream = connect(addr).await?;
            let mut builder = h2::client::Builder::new();
            builder.data_frame_budget(BUDGET);
            let (sender, connection) = builder.handshake(stream).await.map_err(|_| Failure::LostFresh)?;
            tokio::spawn(connection);
            clients.extend(std::iter::repeat_n(Self::new(sender, what), streams));
        }
        Ok(clients)
    }

    fn new(sender: SendRequest<Bytes>, what: What) -> Self {
        let (target, message, times) = match what {
            What::Page(_) => (TARGET, None, 1),
            What::Unary(size) => (ECHO, Some(pattern(1, size)), 1),
            // The first byte says how often.
            What::Stream(size, times) => (BURST, Some(pattern(u64::from(times), size)), times),
        };
        let mut request = Request::new(());
        *request.uri_mut() = format!("http://app{target}").parse().unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let message = message.map(|message| framed(&message));
        if message.is_some() {
            *request.method_mut() = Method::POST;
            request.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
            request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let expected = match (what, &message) {
            (What::Page(size), _) => body_of(TARGET, size),
            (_, message) => message.as_deref().unwrap_or_default().repeat(usize::from(times)),
        };
        Self { sender, request, message, expected: expected.into(), answers: u64::from(times) }
    }

    async fn exchange(&mut self) -> Result<(), Failure> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await.map_err(|_| Failure::LostReused)?;
        let sent = self.sender.send_request(self.request.clone(), self.message.is_none());
        let (response, mut body) = sent.map_err(|_| Failure::LostReused)?;
        if let Some(message) = &self.message {
            // What is wrong with the stream, the response says as well.
            let _ = body.send_data(message.clone(), true);
        }
        let response = response.await.map_err(|_| Failure::LostReused)?;
        right(response.status() == StatusCode::OK)?;
        let mut body = response.into_body();
        self.read(&mut body).await?;
        if self.message.is_some() {
            let trailers = body.trailers().await.map_err(|_| Failure::Cut)?.unwrap_or_default();
            right(trailers.get("grpc-status").is_some_and(|status| status == "0"))?;
        }
        Ok(())
    }

    async fn read(&self, body: &mut RecvStream) -> Result<(), Failure> {
        let mut read = 0;
        while let Some(data) = body.data().await {
            let data = data.map_err(|_| Failure::Cut)?;
            body.flow_control().release_capacity(data.len()).map_err(|_| Failure::Cut)?;
            right(self.expected.get(read..read + data.len()) == Some(&data[..]))?;
            read += data.len();
        }
        if read == self.expected.len() { Ok(()) } else { Err(Failure::Cut) }
    }
}

impl Ask for Http2 {
    async fn ask(&mut self) -> Result<Answered, Failure> {
        self.exchange().await?;
        Ok(Answered { answers: self.answers, bytes: self.expected.len() as u64 })
    }
}

fn right(right: bool) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(Failure::Bad) }
}
