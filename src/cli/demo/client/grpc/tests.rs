//! What a gRPC client makes of a server that goes, refuses, breaks, or answers wrongly.

use std::net::SocketAddr;

use bytes::BytesMut;
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};

use super::super::tests::{caller, listen};
use super::*;

type Server = Connection<TcpStream, Bytes>;

fn client(addr: SocketAddr) -> Client {
    Client::pair(caller(addr), caller(addr)).into_iter().next().unwrap()
}

async fn accept(listener: &TcpListener) -> Server {
    let (stream, _) = listener.accept().await.unwrap();
    h2::server::handshake(stream).await.unwrap()
}

/// The next call's message, and where to answer it.
async fn next(server: &mut Server) -> Option<(Bytes, SendResponse<Bytes>)> {
    let (request, response) = server.accept().await?.unwrap();
    let mut messages = Messages::new(request.into_body());
    let message = tokio::select! {
        message = messages.next() => message.unwrap().unwrap(),
        _ = std::future::poll_fn(|cx| server.poll_closed(cx)) => panic!("the connection is closed"),
    };
    Some((message, response))
}

fn answer(mut response: SendResponse<Bytes>, message: &[u8], status: &'static str) {
    let mut stream = response.send_response(Response::new(()), false).unwrap();
    stream.send_data(framed(message), false).unwrap();
    let status = HeaderValue::from_static(status);
    stream
        .send_trailers(HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)]))
        .unwrap();
}

/// Serves until the client has gone.
async fn until_closed(mut server: Server) {
    while server.accept().await.is_some() {}
}

/// Returns when the client has all that was sent to it.
async fn received(server: &mut Server) {
    let mut ping = server.ping_pong().unwrap();
    tokio::select! {
        pong = ping.ping(h2::Ping::opaque()) => drop(pong.unwrap()),
        _ = server.accept() => panic!("the client makes another call"),
    }
}

/// A call's outcome when the server does this with the connection.
async fn outcome(serve: impl AsyncFn(Server)) -> Result<(), Failure> {
    let (listener, addr) = listen().await;
    let server = async { serve(accept(&listener).await).await };
    // The client, and its connection with it, is gone when the call is over.
    let call = async { client(addr).call().await.unwrap() };
    tokio::join!(call, server).0
}

#[tokio::test]
async fn a_call_is_answered() {
    let serve = async |mut server: Server| {
        let (message, response) = next(&mut server).await.unwrap();
        answer(response, &message, "0");
        until_closed(server).await;
    };
    assert_eq!(outcome(serve).await, Ok(()));
}

#[tokio::test]
async fn a_wrong_message_another_status_or_none_is_an_error() {
    for (damage, status) in [(true, "0"), (false, "14")] {
        let serve = async |mut server: Server| {
            let (message, response) = next(&mut server).await.unwrap();
            let mut message = BytesMut::from(message);
            message[0] ^= u8::from(damage);
            answer(response, &message, status);
            until_closed(server).await;
        };
        assert_eq!(outcome(serve).await, Err(Failure::Error));
    }
    let without_trailers = async |mut server: Server| {
        let (message, mut response) = next(&mut server).await.unwrap();
        let mut stream = response.send_response(Response::new(()), false).unwrap();
        stream.send_data(framed(&message), true).unwrap();
        until_closed(server).await;
    };
    assert_eq!(outcome(without_trailers).await, Err(Failure::Error));
}

#[tokio::test]
async fn a_broken_connection_is_a_reset_or_a_cut() {
    let before = async |mut server: Server| drop(next(&mut server).await.unwrap());
    assert_eq!(outcome(before).await, Err(Failure::Reset));
    let within = async |mut server: Server| {
        let (message, mut response) = next(&mut server).await.unwrap();
        let mut stream = response.send_response(Response::new(()), false).unwrap();
        stream.send_data(framed(&message), false).unwrap();
        received(&mut server).await;
        stream.send_reset(Reason::CANCEL);
        until_closed(server).await;
    };
    assert_eq!(outcome(within).await, Err(Failure::Cut));
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_but_not_for_ever() {
    let serve = async |refusals: usize, mut server: Server| {
        for _ in 0..refusals {
            let (_, mut response) = next(&mut server).await.unwrap();
            response.send_reset(Reason::REFUSED_STREAM);
        }
        if let Some((message, response)) = next(&mut server).await {
            answer(response, &message, "0");
            until_closed(server).await;
        }
    };
    assert_eq!(outcome(async |server| serve(1, server).await).await, Ok(()));
    assert_eq!(outcome(async |server| serve(TRANSPARENT_RETRIES, server).await).await, Err(Failure::Reset));
}

/// After a GOAWAY the call under way finishes, and the next one uses another connection.
#[tokio::test]
async fn a_server_that_goes_is_left_without_a_failure() {
    let (listener, addr) = listen().await;
    let serve = async {
        for _ in 0..2 {
            let mut server = accept(&listener).await;
            let (message, response) = next(&mut server).await.unwrap();
            server.graceful_shutdown();
            answer(response, &message, "0");
            until_closed(server).await;
        }
    };
    let calls = async {
        let mut client = client(addr);
        for _ in 0..2 {
            assert_eq!(client.call().await.unwrap(), Ok(()));
            // Until the client has heard of it.
            let sender = client.channel.lock().await.clone().unwrap();
            while sender.clone().ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::join!(serve, calls);
}
