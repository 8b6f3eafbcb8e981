use std::net::{Ipv4Addr, TcpListener as StdListener};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;

/// What the server does with one connection.
enum Server {
    /// Reads the request, writes these bytes, then FIN.
    Answers(&'static [u8]),
    /// Reads the request, writes these bytes, then RST once the client has read them.
    AnswersThenResets(&'static [u8]),
    /// Reads the request, then keeps still.
    Waits,
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "the client hung up");
    }
}

/// One request to a server that treats it as told.
async fn ask(server: Server) -> Result<Response, Failure> {
    let (listener, addr) = listen().await;
    let mut client = Connection::connect(addr).await?;
    let (mut stream, _) = listener.accept().await.unwrap();
    let serve = async {
        read_head(&mut stream).await;
        if let Server::Answers(bytes) | Server::AnswersThenResets(bytes) = server {
            stream.write_all(bytes).await.unwrap();
        }
        stream
    };
    client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let stream = serve.await;
    match server {
        Server::Answers(_) => drop(stream),
        Server::AnswersThenResets(bytes) => {
            // A reset throws away what the client has not read yet.
            while client.buf.len() < bytes.len() {
                client.fill().await?;
            }
            stream.set_zero_linger().unwrap();
            drop(stream);
        }
        Server::Waits => {
            let result = client.with_timeout(Duration::from_millis(1)).receive().await;
            drop(stream);
            return result;
        }
    }
    client.receive().await
}

#[tokio::test]
async fn a_complete_response_is_one() {
    let response =
        ask(Server::Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi")).await.unwrap();
    assert_eq!((response.status(), response.body(), response.close()), (200, &b"hi"[..], false));
    assert_eq!((response.header("x-a"), response.header("x-c")), (Some("b"), None));

    let response = ask(Server::Answers(b"HTTP/1.1 200 OK\r\n\r\nto the end")).await.unwrap();
    assert_eq!(response.body(), b"to the end");

    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    let response = ask(Server::Answers(interim)).await.unwrap();
    assert_eq!((response.status(), response.close()), (204, true));

    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    assert_eq!(ask(Server::AnswersThenResets(chunked)).await.unwrap().body(), b"hi");
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    // Bound and not listening: nobody else can get the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(Connection::connect(socket.local_addr().unwrap()).await.unwrap_err(), Failure::Refused);
}

#[tokio::test]
async fn no_byte_of_the_response_is_lost() {
    assert_eq!(ask(Server::Answers(b"")).await.unwrap_err(), Failure::LostFresh, "FIN");
    assert_eq!(ask(Server::AnswersThenResets(b"")).await.unwrap_err(), Failure::LostFresh, "RST");
}

#[tokio::test]
async fn a_listener_closed_with_a_connection_in_its_queue_loses_it() {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = Connection::connect(listener.local_addr().unwrap()).await.unwrap();
    drop(listener);
    assert_eq!(client.get("/", After::Close).await.unwrap_err(), Failure::LostFresh);
}

#[tokio::test]
async fn a_reused_connection_is_told_apart() {
    let (listener, addr) = listen().await;
    let mut client = Connection::connect(addr).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let serve = async {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        read_head(&mut stream).await;
        drop(stream);
    };
    let ask = async {
        client.get("/", After::KeepAlive).await.unwrap();
        assert_eq!(client.get("/", After::KeepAlive).await.unwrap_err(), Failure::LostReused);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn what_has_begun_and_does_not_end_is_cut() {
    for begun in [
        &b"H"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let shown = String::from_utf8_lossy(begun);
        assert_eq!(ask(Server::Answers(begun)).await.unwrap_err(), Failure::Cut, "{shown:?}, FIN");
        assert_eq!(ask(Server::AnswersThenResets(begun)).await.unwrap_err(), Failure::Cut, "{shown:?}, RST");
    }
    let until_eof = b"HTTP/1.1 200 OK\r\n\r\nwithout a length, a reset is no end";
    assert_eq!(ask(Server::AnswersThenResets(until_eof)).await.unwrap_err(), Failure::Cut);
}

#[tokio::test]
async fn what_is_no_http_is_bad() {
    assert_eq!(ask(Server::Answers(b"SSH-2.0-x\r\n")).await.unwrap_err(), Failure::Bad);
}

#[tokio::test]
async fn silence_is_stuck() {
    assert_eq!(ask(Server::Waits).await.unwrap_err(), Failure::Stuck);
}

#[tokio::test]
async fn idle_connections_notice_their_end() {
    let (listener, addr) = listen().await;
    let mut client = Connection::connect(addr).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(client.closed_within(Duration::ZERO).await, Ok(false));
    stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    assert_eq!(client.closed_within(Duration::from_secs(60)).await, Err(Failure::Bad));

    let mut client = Connection::connect(addr).await.unwrap();
    drop(listener.accept().await.unwrap());
    assert_eq!(client.closed_within(Duration::from_secs(60)).await, Ok(true));
}
