//! A server and a client of ours, those of the h2 crate, and bodies that go between them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Duration, timeout};

use crate::http2::client::{self, SendRequest};
use crate::http2::server::{Accepted, Connection};
use crate::http2::{Error, Reason, Receiving, RecvStream, SendStream, Sending};

/// A head may be so large.
pub(super) const HEAD_MAX: usize = 64 << 10;

/// Runs a test and what it spawns. It fails when nobody can go on: the clock is paused, and moves when nothing else does.
pub(super) async fn local<T>(test: impl Future<Output = T>) -> T {
    let test = timeout(Duration::from_secs(1), test);
    LocalSet::new().run_until(test).await.expect("everybody waits")
}

/// So many bytes that are not the same everywhere.
pub(super) fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

pub(super) fn one_trailer(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

/// A body in pieces of odd sizes, with trailers or without.
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Pieces {
    pub(super) fn new(bytes: &Bytes, size: usize, trailers: Option<HeaderMap>) -> Self {
        let starts = (0..bytes.len()).step_by(size.max(1));
        let pieces = starts.map(|at| bytes.slice(at..bytes.len().min(at + size.max(1)))).collect();
        Self { pieces, trailers }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.pieces.pop_front().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}

/// All of a body that comes to us.
pub(super) async fn read(stream: RecvStream) -> Result<(Bytes, Option<HeaderMap>), Error> {
    let body = Receiving::new(stream).collect().await?;
    let trailers = body.trailers().cloned();
    Ok((body.to_bytes(), trailers))
}

/// Sends a body of ours; true when it got to its end.
pub(super) async fn send<B: Body<Data = Bytes> + Unpin>(body: B, stream: SendStream) -> bool {
    let mut sending = Sending::new(body, stream);
    poll_fn(|cx| sending.poll(cx)).await.is_ok()
}

// Our server.

/// What is to be done with the connection.
type Order = Box<dyn FnOnce(&mut Connection<DuplexStream>)>;

/// Tells a server that runs what to do. It ends well only if nothing is left of its streams.
pub(super) struct Serving {
    orders: mpsc::UnboundedSender<Order>,
    pub(super) ended: JoinHandle<Result<(), Error>>,
}

impl Serving {
    pub(super) fn order(&self, order: impl FnOnce(&mut Connection<DuplexStream>) + 'static) {
        self.orders.send(Box::new(order)).unwrap_or_else(|_| panic!("the server is gone"));
    }
}

/// Serves what [`answer`] knows.
pub(super) fn serve(io: DuplexStream, streams: u32) -> Serving {
    let (orders, ordered) = mpsc::unbounded_channel();
    let ended = spawn_local(run(Connection::new(io, streams, HEAD_MAX), ordered));
    Serving { orders, ended }
}

async fn run(
    mut connection: Connection<DuplexStream>,
    mut ordered: mpsc::UnboundedReceiver<Order>,
) -> Result<(), Error> {
    let mut streams = FuturesUnordered::new();
    let ended = poll_fn(|cx| {
        while let Poll::Ready(Some(order)) = ordered.poll_recv(cx) {
            order(&mut connection);
        }
        poll_server(&mut connection, &mut streams, cx)
    })
    .await;
    drop(streams);
    connection.driver.core.borrow().check();
    assert!(ended.is_err() || connection.driver.core.borrow().slots.is_empty(), "streams are left");
    let _ = poll_fn(|cx| connection.driver.poll_shutdown(cx)).await;
    // The other side may read why, whatever it has to say itself.
    spawn_local(async move {
        std::future::pending::<()>().await;
        drop(connection);
    });
    ended
}

/// The order of things in which a connection and its streams are polled.
fn poll_server(
    connection: &mut Connection<DuplexStream>,
    streams: &mut FuturesUnordered<LocalBoxFuture<'static, ()>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    loop {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok(accepted))) => {
                streams.push(Box::pin(answer(accepted)));
                continue;
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending => {}
        }
        let mut ended = false;
        while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {
            ended = true;
        }
        connection.driver.core.borrow().check();
        if !ended {
            return connection.poll_end(cx);
        }
    }
}

/// A request's path says what becomes of it. What fails here is seen at the other end.
async fn answer(accepted: Accepted) {
    let Accepted { head, body, mut respond } = accepted;
    let Some(head) = head else {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let _ = respond.send_response(&response, true);
        return;
    };
    let request = head.into_request().unwrap();
    let mut path = request.uri().path()[1..].split('/');
    let what = path.next();
    let number: u32 = path.next().map_or(0, |number| number.parse().unwrap());
    let mut response = Response::new(());
    *response.headers_mut() = request.headers().clone();
    match what {
        Some("echo") => {
            let _ = respond.send_response(&response, false);
            send(Receiving::new(body), respond).await;
        }
        Some("bytes") => {
            let _ = respond.send_response(&response, false);
            let trailers = request.uri().query().map(|_| one_trailer("x-end", "here"));
            send(Pieces::new(&pattern(number as usize), 10_007, trailers), respond).await;
        }
        Some("head") => {
            response.headers_mut().insert("content-length", number.into());
            let _ = respond.send_response(&response, true);
        }
        Some("continue") => {
            let _ = respond.send_continue();
            let _ = respond.send_response(&response, false);
            send(Receiving::new(body), respond).await;
        }
        Some("reset") => respond.reset(Reason(number)),
        Some("begun") => {
            let _ = respond.send_response(&response, false);
            respond.send_data(b"begun", false);
            respond.reset(Reason(number));
        }
        // Waits for a reset, and says with which code it came in the only way that is left.
        Some("hold") => assert_eq!(reset(&mut respond).await, Error::Reset(Reason(number))),
        _ => {}
    }
}

async fn reset(stream: &mut SendStream) -> Error {
    poll_fn(|cx| stream.poll_error(cx)).await
}

// Our client.

/// Our client's side of a connection; what moves it ends with this.
pub(super) fn connect(io: DuplexStream, window: u32) -> (SendRequest, JoinHandle<Result<(), Error>>) {
    let (sender, connection) = client::connect(io, window, HEAD_MAX);
    (sender, spawn_local(connection))
}

/// Waits for a response of which the body is still to come.
pub(super) async fn response(stream: &mut RecvStream) -> Result<Response<()>, Error> {
    poll_fn(|cx| stream.poll_head(cx)).await?.into_response()
}

/// A request with a body, and all of its response.
pub(super) async fn exchange(
    sender: &SendRequest,
    path: &str,
    body: Pieces,
) -> Result<(Bytes, Option<HeaderMap>), Error> {
    let (mut incoming, outgoing) = sender.send_request(&request(path), false)?;
    let receive = async {
        response(&mut incoming).await?;
        read(incoming).await
    };
    let (received, _) = tokio::join!(receive, send(body, outgoing));
    received
}

pub(super) fn request(path: &str) -> Request<()> {
    Request::post(format!("http://shop{path}")).body(()).unwrap()
}

// The h2 crate.

/// A connection of its client to our server.
pub(super) async fn h2_client(
    builder: &h2::client::Builder,
    streams: u32,
) -> (h2::client::SendRequest<Bytes>, Serving) {
    let (near, far) = duplex(20_000);
    let serving = serve(far, streams);
    let (sender, connection) = builder.handshake(near).await.unwrap();
    spawn_local(connection);
    (sender, serving)
}

/// All of a body that comes to the h2 crate.
pub(super) async fn h2_read(mut body: h2::RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all.into(), body.trailers().await?))
}
