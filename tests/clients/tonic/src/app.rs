//! The app: a tonic server on a thread of its own.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Duration, interval};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;

use crate::codec::Raw;

/// Answers every message with the server's name and the message; a unary call is a stream of one.
pub(crate) const ECHO: &str = "/talk/Echo";

/// Says its name without end, as large messages.
pub(crate) const TALK: &str = "/talk/Talk";

type Said = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A running app. Dropping it is a crash: all its connections end at once.
#[derive(Debug)]
pub(crate) struct App {
    runtime: Option<Runtime>,
    pub(crate) addr: SocketAddr,
    /// How many messages it has echoed.
    pub(crate) answered: Arc<AtomicUsize>,
}

impl App {
    /// Starts an app whose messages begin with `name`.
    pub(crate) fn start(name: u8) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?.with_nodelay(Some(true));
        let addr = incoming.local_addr()?;
        let answered = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&answered);
        let service = service_fn(move |request: http::Request<Body>| serve(name, &counter, request));
        runtime.spawn(Server::builder().serve_with_incoming(service, incoming));
        drop(entered);
        Ok(Self { runtime: Some(runtime), addr, answered })
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn serve(
    name: u8,
    answered: &Arc<AtomicUsize>,
    request: http::Request<Body>,
) -> Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>> {
    let answered = Arc::clone(answered);
    let talks = request.uri().path() == TALK;
    let handler = service_fn(move |request: Request<Streaming<Bytes>>| {
        let words = request.into_inner();
        let said: Said = if talks { talk(name) } else { echo(name, Arc::clone(&answered), words) };
        std::future::ready(Ok::<_, Status>(Response::new(said)))
    });
    Box::pin(async move { Ok(Grpc::new(Raw).streaming(handler, request).await) })
}

fn echo(name: u8, answered: Arc<AtomicUsize>, words: Streaming<Bytes>) -> Said {
    Box::pin(words.map(move |message| {
        let message = message?;
        answered.fetch_add(1, Relaxed);
        let mut said = BytesMut::with_capacity(message.len() + 1);
        said.extend_from_slice(&[name]);
        said.extend_from_slice(&message);
        Ok(said.freeze())
    }))
}

fn talk(name: u8) -> Said {
    let word = Bytes::from(vec![name; 1_000_000]);
    let ticks = stream::unfold(interval(Duration::from_millis(10)), |mut ticks| async move {
        ticks.tick().await;
        Some(((), ticks))
    });
    Box::pin(ticks.map(move |()| Ok(word.clone())))
}
