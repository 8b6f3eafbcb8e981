//! A gRPC service that sends back what it gets, once or often.

use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::messages::{self, ECHO, Messages, REPEAT, framed};
use super::told;

/// Between two messages of a stream.
const PAUSE: Duration = Duration::from_millis(50);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");

/// Serves the connection until the client leaves; once told, until the calls under way are done.
pub(super) async fn serve(stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut calls = JoinSet::new();
    let mut going = false;
    loop {
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((request, response))) => drop(calls.spawn(answer(request, response))),
                Some(Err(_)) | None => return,
            },
            Some(_) = calls.join_next() => {}
            () = told(&mut stopping), if !going => {
                going = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Answers a call; a client that is gone meanwhile does not need one.
async fn answer(request: Request<RecvStream>, mut response: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(());
    answer.headers_mut().insert(CONTENT_TYPE, messages::CONTENT_TYPE);
    let repeat = match head.uri.path() {
        ECHO => false,
        REPEAT => true,
        _ => {
            answer.headers_mut().insert(GRPC_STATUS, UNIMPLEMENTED);
            return response.send_response(answer, true).map(drop);
        }
    };
    let message = Messages::new(body).next().await?.unwrap_or_default();
    let mut stream = response.send_response(answer, false)?;
    send(&mut stream, &message, repeat).await?;
    stream.send_trailers(HeaderMap::from_iter([(GRPC_STATUS, OK)]))
}

async fn send(stream: &mut SendStream<Bytes>, message: &[u8], repeat: bool) -> Result<(), h2::Error> {
    let times = if repeat { message.first().copied().unwrap_or(0) } else { 1 };
    for _ in 0..times {
        stream.send_data(framed(message), false)?;
        if repeat {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}
