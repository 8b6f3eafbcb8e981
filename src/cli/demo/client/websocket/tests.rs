//! Every way in which a WebSocket can end, from a server that ends it so.

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::super::tests::{caller, listen, read_head};
use super::*;

/// A connection's outcome when the server does this with it after the handshake.
async fn outcome<F: Future>(serve: impl Fn(Socket<TcpStream>) -> F) -> Result<(), Failure> {
    let (listener, addr) = listen().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        serve(Socket::server(stream)).await;
    };
    let (_stop, mut stop) = watch::channel(false);
    let mut client = Client::new(caller(addr));
    let (outcome, ()) = tokio::join!(client.talk(&mut stop), server);
    outcome.unwrap()
}

/// Reads a message of two frames.
async fn message(socket: &mut Socket<TcpStream>) -> [Frame; 2] {
    [socket.read().await.unwrap(), socket.read().await.unwrap()]
}

/// Says goodbye for this reason and sees it answered.
async fn close(mut socket: Socket<TcpStream>, code: u16) {
    socket.write(&Frame::close(code)).await.unwrap();
    assert_eq!(socket.read().await.unwrap().close_code(), Some(code));
    socket.finish().await.unwrap();
}

#[tokio::test]
async fn a_goodbye_is_answered_and_no_failure() {
    assert_eq!(outcome(|socket| close(socket, 1001)).await, Ok(()));
    // Also when a message is on its way.
    let unanswered = async |mut socket| {
        message(&mut socket).await;
        close(socket, 1012).await;
    };
    assert_eq!(outcome(unanswered).await, Ok(()));
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_cut() {
    assert_eq!(outcome(async |socket| drop(socket)).await, Err(Failure::Cut));
    let unanswered = async |mut socket| drop(message(&mut socket).await);
    assert_eq!(outcome(unanswered).await, Err(Failure::Cut));
    let half = async |mut socket| {
        let [first, _] = message(&mut socket).await;
        socket.write(&first).await.unwrap();
    };
    assert_eq!(outcome(half).await, Err(Failure::Cut));
}

#[tokio::test]
async fn a_damaged_message_or_frame_and_a_servers_own_trouble_are_errors() {
    let damaged = async |mut socket| {
        let [first, mut last] = message(&mut socket).await;
        last.payload = last.payload.slice(1..);
        socket.write(&first).await.unwrap();
        socket.write(&last).await.unwrap();
    };
    assert_eq!(outcome(damaged).await, Err(Failure::Error));
    let unasked = async |mut socket: Socket<TcpStream>| {
        let frame = Frame { fin: true, opcode: Opcode::Binary, payload: Bytes::new() };
        socket.write(&frame).await.unwrap();
    };
    assert_eq!(outcome(unasked).await, Err(Failure::Error));
    let trouble = async |mut socket: Socket<TcpStream>| socket.write(&Frame::close(1011)).await.unwrap();
    assert_eq!(outcome(trouble).await, Err(Failure::Error));
}

#[tokio::test]
async fn messages_that_come_back_until_the_user_leaves_are_a_success() {
    let echo = async |mut socket: Socket<TcpStream>| {
        socket.write(&Frame { opcode: Opcode::Ping, ..Frame::close(0) }).await.unwrap();
        loop {
            let frame = socket.read().await.unwrap();
            socket.write(&frame).await.unwrap();
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.close_code(), Some(NORMAL));
                return socket.finish().await.unwrap();
            }
        }
    };
    assert_eq!(outcome(echo).await, Ok(()));
}

#[tokio::test]
async fn a_handshake_that_fails_is_a_failure() {
    for (answer, failure) in [
        ("", Failure::Reset),
        ("HTTP/1.1 101", Failure::Cut),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Failure::Error),
    ] {
        let (listener, addr) = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (_stop, mut stop) = watch::channel(false);
        let mut client = Client::new(caller(addr));
        let (outcome, ()) = tokio::join!(client.talk(&mut stop), server);
        assert_eq!(outcome.unwrap(), Err(failure), "{answer}");
    }
}
