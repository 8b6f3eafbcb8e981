//! A graceful shutdown that deserves the name: the demo must not make the app worse than it is.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::events::event;
use super::super::frames::{Frame, Opcode, Socket};
use super::super::messages::{Messages, REPEAT, framed};
use super::super::page::content;
use super::*;

/// A running app, which stops when the sender is used, and its connections.
async fn start() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    (addr, stop, tokio::spawn(serve_until(listener, stopped)))
}

async fn ask(stream: &mut TcpStream, page: u16) {
    let request = format!("GET /{page} HTTP/1.1\r\nHost: app\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads until the page is there.
async fn read_page(stream: &mut TcpStream, page: u16) {
    let mut seen = Vec::new();
    while !seen.ends_with(&content(page)) {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "the page ended too early");
    }
}

#[tokio::test]
async fn a_response_that_has_begun_is_finished() {
    let (addr, stop, app) = start().await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    ask(&mut stream, 999).await;
    let mut response = vec![stream.read_u8().await.unwrap()];
    stop.send(()).unwrap();
    stream.read_to_end(&mut response).await.unwrap();
    assert!(response.ends_with(&content(999)));
    app.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_new_ones_are_refused() {
    let (addr, stop, app) = start().await;
    let mut idle = TcpStream::connect(addr).await.unwrap();
    ask(&mut idle, 0).await;
    read_page(&mut idle, 0).await;
    stop.send(()).unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    app.await.unwrap();
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_connection_without_a_request_gets_its_first_answered() {
    let (addr, stop, app) = start().await;
    let mut fresh = TcpStream::connect(addr).await.unwrap();
    // Connections are accepted in their order: when this one is served, the other has been accepted.
    let mut other = TcpStream::connect(addr).await.unwrap();
    ask(&mut other, 0).await;
    read_page(&mut other, 0).await;
    stop.send(()).unwrap();
    assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
    ask(&mut fresh, 1).await;
    let mut response = Vec::new();
    fresh.read_to_end(&mut response).await.unwrap();
    assert!(response.ends_with(&content(1)));
    assert!(String::from_utf8_lossy(&response).to_lowercase().contains("connection: close"));
    app.await.unwrap();
}

#[tokio::test]
async fn what_is_no_page_is_not_found() {
    let (addr, _stop, _app) = start().await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    ask(&mut stream, 1000).await;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 404");
}

/// Sends the handshake of a WebSocket.
async fn open_websocket(addr: SocketAddr) -> Socket<TcpStream> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = "GET /echo HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    Socket::client(stream, bytes::BytesMut::new())
}

#[tokio::test]
async fn a_websocket_sends_back_what_it_gets_and_says_goodbye() {
    let (addr, _stop, _app) = start().await;
    let mut socket = open_websocket(addr).await;
    let message = Frame { fin: true, opcode: Opcode::Binary, payload: content(5) };
    socket.write(&message).await.unwrap();
    assert_eq!(socket.read().await.unwrap(), message);
    socket.write(&Frame::close(1000)).await.unwrap();
    assert_eq!(socket.read().await.unwrap(), Frame::close(1000));
    socket.finish().await.unwrap();
}

#[tokio::test]
async fn a_websocket_and_a_stream_of_events_are_cut_when_the_time_is_up() {
    let (addr, stop, app) = start().await;
    let mut socket = open_websocket(addr).await;
    let mut events = TcpStream::connect(addr).await.unwrap();
    events.write_all(b"GET /events HTTP/1.1\r\nHost: app\r\nLast-Event-ID: 7\r\n\r\n").await.unwrap();
    let mut seen = vec![events.read_u8().await.unwrap()];
    stop.send(()).unwrap();
    assert!(socket.read().await.is_err());
    events.read_to_end(&mut seen).await.unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("content-type: text/event-stream") && seen.contains(&event(8)), "{seen}");
    assert!(!seen.ends_with("\r\n0\r\n\r\n"), "{seen}");
    app.await.unwrap();
}

/// A call under way when the app is told to end is finished, and the client is told to go.
#[tokio::test]
async fn grpc_calls_are_finished_and_the_client_is_told() {
    let (addr, stop, app) = start().await;
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://app{REPEAT}")).body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(framed(b"\x05five times"), true).unwrap();
    let mut messages = Messages::new(response.await.unwrap().into_body());
    stop.send(()).unwrap();
    for _ in 0..5 {
        assert_eq!(messages.next().await.unwrap().unwrap(), "\x05five times");
    }
    assert_eq!(messages.next().await.unwrap(), None);
    assert_eq!(messages.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    assert!(client.ready().await.unwrap_err().is_go_away());
    app.await.unwrap();
}
