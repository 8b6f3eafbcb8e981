//! The app over HTTP/2: the same pages, and a gRPC service that sends back what it gets.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{App, BURST, Counters, Random, body_of};
use crate::messages::{CONTENT_TYPE, Messages, REPEAT, framed};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Between two messages of a stream.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn serve(stream: TcpStream, app: &App, counters: &Counters, mut random: Random) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, response))) = connection.accept().await {
        let delay = if app.delay.end().is_zero() { Duration::ZERO } else { random.within(&app.delay) };
        let size = app.body;
        counters.serve();
        if request.method() == Method::GET && delay.is_zero() {
            // It takes no time, so it needs no task.
            let _ = page(request.uri().path(), size, response);
        } else {
            tokio::spawn(answer(request, response, delay, size));
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    response: SendResponse<Bytes>,
    delay: Duration,
    size: usize,
) -> Result<(), h2::Error> {
    if !delay.is_zero() {
        sleep(delay).await;
    }
    if request.method() == Method::GET {
        page(request.uri().path(), size, response)
    } else {
        grpc(request, response).await
    }
}

fn page(target: &str, size: usize, mut response: SendResponse<Bytes>) -> Result<(), h2::Error> {
    response.send_response(Response::new(()), false)?.send_data(body_of(target, size).into(), true)
}

async fn grpc(request: Request<RecvStream>, mut response: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let message = Messages::new(body).next().await?.unwrap_or_default();
    let (times, pause) = match head.uri.path() {
        REPEAT => (message.first().copied().unwrap_or(0), PAUSE),
        BURST => (message.first().copied().unwrap_or(0), Duration::ZERO),
        _ => (1, Duration::ZERO),
    };
    let mut answer = Response::new(());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    let mut stream = response.send_response(answer, false)?;
    for n in 0..times {
        if n > 0 && !pause.is_zero() {
            sleep(pause).await;
        }
        stream.send_data(framed(&message), false)?;
    }
    stream.send_trailers(HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]))
}
