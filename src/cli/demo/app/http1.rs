//! Pages, events, and WebSockets that send back what they get.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, on};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::super::events::{self, Events};
use super::super::frames::{ACCEPT, Frame, Opcode, Socket};
use super::super::page::{PAGES, PagedOut, thinking};
use super::told;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves a connection whose first request is there.
pub(super) async fn serve(stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let (requested, upgrade) = (Notify::new(), Mutex::new(None));
    let service = service_fn(|request| {
        requested.notify_one();
        respond(request, &upgrade)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let told = async {
        told(&mut stopping).await;
        // hyper would close a connection whose first request it has not read.
        requested.notified().await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let upgrade = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Ok(()), Some(upgrade)) = (ended, upgrade)
        && let Ok(stream) = upgrade.await
    {
        // The client counts how it ended.
        let _ = echo(TokioIo::new(stream)).await;
    }
}

/// Answers `/PAGE` with that page; hands an upgrade to the connection's task.
async fn respond(
    request: Request<Incoming>,
    upgrade: &Mutex<Option<OnUpgrade>>,
) -> Result<Response<Body>, Infallible> {
    if request.headers().contains_key(UPGRADE) {
        *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(on(request));
        return Ok(switching_protocols());
    }
    if request.uri().path() == events::PATH {
        let last = request.headers().get(events::LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
        let mut response = Response::new(Events::after(last.unwrap_or(0)).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, events::CONTENT_TYPE);
        return Ok(response);
    }
    let page = request.uri().path().trim_start_matches('/').parse().ok().filter(|page| *page < PAGES);
    let Some(page) = page else {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    sleep(thinking(page)).await;
    Ok(Response::new(PagedOut::new(page).boxed_unsync()))
}

fn switching_protocols() -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(ACCEPT));
    response
}

/// A WebSocket that sends back each message, frame by frame, until it is closed.
async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut socket = Socket::server(stream);
    loop {
        let frame = socket.read().await?;
        match frame.opcode {
            Opcode::Close => {
                socket.write(&frame).await?;
                return socket.finish().await;
            }
            Opcode::Ping => socket.write(&Frame { opcode: Opcode::Pong, ..frame }).await?,
            Opcode::Pong => {}
            Opcode::Binary | Opcode::Continuation => socket.write(&frame).await?,
        }
    }
}
