//! Clients that speak HTTP/2 with prior knowledge: plain requests, and gRPC calls.
//!
//! After a GOAWAY they use another connection. A request is sent again only when it is certain that no server has looked
//! at it: its stream was refused, or is above the last one of the GOAWAY.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::client::{Failure, RESPONSE_TIMEOUT, connect};
use crate::messages::{CONTENT_TYPE, ECHO, Messages, REPEAT, framed};
use crate::origin::{body_of, pattern};
use crate::session::{Running, Session};
use crate::tally::Tally;

/// What clients of HTTP/2 do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Requests whose responses have bodies of this size.
    Get(usize),
    /// gRPC calls with one message in each direction.
    Unary,
    /// gRPC calls that are answered with 5 to 50 messages, one every 20 ms.
    Stream,
}

/// A load of one kind of call against one address.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Where it goes.
    pub addr: SocketAddr,
    /// What is called.
    pub call: Call,
    /// Connections.
    pub connections: usize,
    /// Calls at a time on each.
    pub streams: usize,
    /// Each call has a connection of its own.
    pub one_shot: bool,
    /// Each stream waits up to this long between two calls.
    pub think: Duration,
}

/// A connection that several callers share.
#[derive(Clone)]
struct Sender {
    inner: SendRequest<Bytes>,
    /// Complete responses so far.
    responses: Arc<AtomicU64>,
}

/// The connection that is used at the moment; there is none in the beginning.
type Channel = Arc<Mutex<Option<Sender>>>;

/// How a call ended.
enum End {
    Answered,
    Failed(Failure),
    /// No server has looked at it: it may be sent again.
    NotSeen,
}

impl Load {
    /// Starts all clients as tasks of the current runtime.
    pub fn start(self) -> Running {
        let mut running = Running::new();
        self.add_to(&mut running);
        running
    }

    /// Adds the clients to a load.
    pub(crate) fn add_to(self, running: &mut Running) {
        for id in 0..self.connections {
            let channel = Channel::default();
            for stream in 0..self.streams {
                let id = (id * self.streams + stream) as u64;
                let channel = Arc::clone(&channel);
                running.spawn(|session| Caller { load: self, id, calls: 0, channel, session }.run());
            }
        }
    }
}

/// A connection that has had a response and waits.
pub struct Idle(Sender);

impl Idle {
    /// Connects, and asks for one page.
    ///
    /// # Errors
    /// When there is no connection, or no answer with status 200.
    pub async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        let mut sender = handshake(addr).await?;
        let asked = timeout(RESPONSE_TIMEOUT, sender.ask(request(Method::GET, "/"), None)).await;
        let Ok(response) = asked.map_err(|_| Failure::Stuck)? else { return Err(Failure::LostFresh) };
        if response.status() != StatusCode::OK {
            return Err(Failure::Bad);
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            data.map_err(|_| Failure::Cut)?;
        }
        Ok(Self(sender))
    }

    /// Whether the server has closed it meanwhile.
    pub async fn closed(&mut self) -> bool {
        self.0.inner.clone().ready().await.is_err()
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idle")
    }
}

/// A new connection, which ends with its last sender and stream; what goes wrong on it is told to the requests.
async fn handshake(addr: SocketAddr) -> Result<Sender, Failure> {
    let stream = connect(addr).await?;
    let (inner, connection) = h2::client::handshake(stream).await.map_err(|_| Failure::LostFresh)?;
    tokio::spawn(connection);
    Ok(Sender { inner, responses: Arc::default() })
}

struct Caller {
    load: Load,
    id: u64,
    calls: u64,
    channel: Channel,
    session: Session,
}

impl Caller {
    async fn run(mut self) -> Tally {
        while !self.session.stopped() {
            self.calls += 1;
            while let Some(sender) = self.sender().await {
                let call = self.call(sender);
                match timeout(RESPONSE_TIMEOUT, call).await.unwrap_or(End::Failed(Failure::Stuck)) {
                    End::Answered => self.session.record(Ok(())),
                    End::Failed(failure) => self.session.record(Err(failure)),
                    End::NotSeen => {
                        self.channel.lock().await.take();
                        continue;
                    }
                }
                break;
            }
            if !self.load.think.is_zero() {
                sleep(self.load.think.mul_f64(fastrand::f64())).await;
            }
        }
        self.session.tally
    }

    /// The channel's connection, or a new one when the server has taken leave of it. None when there is none to be had.
    async fn sender(&mut self) -> Option<Sender> {
        let channel = Arc::clone(&self.channel);
        let mut channel = channel.lock().await;
        if self.load.one_shot {
            channel.take();
        }
        if let Some(sender) = channel.take() {
            match sender.inner.clone().ready().await {
                Ok(inner) => {
                    let sender = Sender { inner, ..sender };
                    *channel = Some(sender.clone());
                    return Some(sender);
                }
                Err(error) if error.is_go_away() => self.session.tally.told += 1,
                Err(_) => self.session.tally.closed_idle += 1,
            }
        }
        if self.session.stopped() {
            return None;
        }
        let sender = self.session.connected(handshake(self.load.addr)).await?;
        *channel = Some(sender.clone());
        Some(sender)
    }

    async fn call(&self, mut sender: Sender) -> End {
        let end = match self.load.call {
            Call::Get(size) => get(&mut sender, &format!("/{}/{}", self.id, self.calls), size).await,
            Call::Unary => grpc(&mut sender, ECHO, 1, self.id << 32 | self.calls).await,
            Call::Stream => grpc(&mut sender, REPEAT, fastrand::u8(5..=50), self.id << 32 | self.calls).await,
        };
        match end {
            Ok(()) => {
                sender.responses.fetch_add(1, Ordering::Relaxed);
                End::Answered
            }
            Err(end) => end,
        }
    }
}

impl Sender {
    /// Sends a request and waits for the response's head.
    async fn ask(
        &mut self,
        request: Request<()>,
        message: Option<Bytes>,
    ) -> Result<Response<RecvStream>, End> {
        let lost = match self.responses.load(Ordering::Relaxed) {
            0 => Failure::LostFresh,
            _ => Failure::LostReused,
        };
        let sent = self.inner.send_request(request, message.is_none());
        let (response, mut body) = sent.map_err(|error| failed(&error, lost))?;
        if let Some(message) = message {
            // What is wrong with the stream, the response says as well.
            let _ = body.send_data(message, true);
        }
        response.await.map_err(|error| failed(&error, lost))
    }
}

/// Gets a page and checks it.
async fn get(sender: &mut Sender, target: &str, size: usize) -> Result<(), End> {
    let response = sender.ask(request(Method::GET, target), None).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut read = BytesMut::with_capacity(size);
    while let Some(data) = body.data().await {
        let data = data.map_err(cut)?;
        body.flow_control().release_capacity(data.len()).map_err(cut)?;
        read.extend_from_slice(&data);
    }
    right(status == StatusCode::OK && read == body_of(target, size))
}

/// Makes a call whose answer is its own message, that many times.
async fn grpc(sender: &mut Sender, path: &str, times: u8, seed: u64) -> Result<(), End> {
    let mut request = request(Method::POST, path);
    request.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    request.headers_mut().insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    let mut message = vec![times];
    message.extend_from_slice(&pattern(seed, fastrand::usize(..4000)));
    let mut messages = Messages::new(sender.ask(request, Some(framed(&message))).await?.into_body());
    let mut seen = 0;
    while let Some(received) = messages.next().await.map_err(cut)? {
        right(received == message)?;
        seen += 1;
    }
    let trailers: HeaderMap = messages.trailers().await.map_err(cut)?.unwrap_or_default();
    right(seen == times && trailers.get("grpc-status").is_some_and(|status| status == "0"))
}

fn request(method: Method, target: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://app{target}").parse().unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    request
}

fn right(right: bool) -> Result<(), End> {
    if right { Ok(()) } else { Err(End::Failed(Failure::Bad)) }
}

fn cut(error: h2::Error) -> End {
    failed(&error, Failure::Cut)
}

/// Tells a request that was refused from one that broke.
fn failed(error: &h2::Error, failure: Failure) -> End {
    let above_the_last = error.is_go_away() && error.is_remote();
    if above_the_last || error.reason() == Some(Reason::REFUSED_STREAM) {
        End::NotSeen
    } else {
        End::Failed(failure)
    }
}
