//! Pages whose every byte the clients know, and WebSockets that send back what they get.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use ebb_bench::origin::body_of;
use http_body_util::Full;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::on;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{Door, told};
use crate::BODY;
use crate::frames::{ACCEPT, Frame, Opcode, Socket};

/// Serves a connection whose first request is there.
pub(super) async fn serve(stream: TcpStream, door: Door) {
    let requested = Notify::new();
    let mut stopping = door.stopping.clone();
    let service = service_fn(|request| {
        requested.notify_one();
        respond(request, &door)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let told = async {
        told(&mut stopping).await;
        // hyper would close a connection whose first request it has not read.
        requested.notified().await;
    };
    // How a connection ends is the client's business: it counts.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

async fn respond(request: Request<Incoming>, door: &Door) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key(UPGRADE) {
        // Not one of the door's connections: nobody waits for it at the end.
        tokio::spawn(async move {
            if let Ok(stream) = on(request).await {
                let _ = echo(TokioIo::new(stream)).await;
            }
        });
        return Ok(switching_protocols());
    }
    let target = request.uri().path();
    let mut response = Response::new(Full::from(body_of(target, BODY)));
    match target {
        "/healthz" if door.sick.load(Relaxed) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        "/healthz" | "/ready" => {}
        _ => {
            let (least, most) = (door.pace.start(), door.pace.end());
            sleep(*least + (*most - *least).mul_f64(fastrand::f64())).await;
        }
    }
    Ok(response)
}

fn switching_protocols() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(ACCEPT));
    response
}

/// Sends back each message, frame by frame, until it is closed.
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
            // A client that has been told to go does not listen any more, but still says goodbye.
            Opcode::Binary | Opcode::Continuation => drop(socket.write(&frame).await),
        }
    }
}
