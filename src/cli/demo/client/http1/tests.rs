//! Every kind of failure, from a server that does exactly that.

use tokio::io::AsyncWriteExt;

use super::super::tests::{caller, listen, read_head};
use super::*;

fn client(keep_alive: bool, endpoint: SocketAddr) -> Client {
    Client::new(caller(endpoint), keep_alive)
}

/// Reads a request head and returns the page that it asks for.
async fn read_request(stream: &mut TcpStream) -> u16 {
    let head = read_head(stream).await;
    head.split_once(' ').unwrap().1.split_once(' ').unwrap().0[1..].parse().unwrap()
}

/// A whole response with this status and body.
fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

/// What becomes of one request when the server reads it, writes `answer` for its page, and ends the
/// connection: with a reset or in an orderly way.
async fn outcome(reset: bool, answer: impl Fn(u16) -> Vec<u8>) -> Result<(), Failure> {
    let (listener, addr) = listen().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let page = read_request(&mut stream).await;
        stream.write_all(&answer(page)).await.unwrap();
        if reset {
            stream.set_zero_linger().unwrap();
        }
    };
    let mut client = client(false, addr);
    let (outcome, ()) = tokio::join!(client.request(), server);
    outcome.unwrap()
}

#[tokio::test]
async fn a_whole_page_is_a_success() {
    assert_eq!(outcome(false, |page| response("200 OK", &page::content(page))).await, Ok(()));
}

#[tokio::test]
async fn an_end_before_the_response_is_a_reset() {
    for reset in [false, true] {
        assert_eq!(outcome(reset, |_| Vec::new()).await, Err(Failure::Reset));
    }
}

#[tokio::test]
async fn an_end_within_the_response_is_a_cut() {
    let half = |page| {
        let mut response = response("200 OK", &page::content(page));
        response.truncate(response.len() / 2);
        response
    };
    assert_eq!(outcome(false, half).await, Err(Failure::Cut));
}

#[tokio::test]
async fn a_5xx_another_page_or_no_http_is_an_error() {
    let error = |page| response("503 Service Unavailable", &page::content(page));
    assert_eq!(outcome(false, error).await, Err(Failure::Error));
    let other = |page| response("200 OK", &page::content(page + 1));
    assert_eq!(outcome(false, other).await, Err(Failure::Error));
    assert_eq!(outcome(false, |_| b"this is not HTTP\r\n\r\n".to_vec()).await, Err(Failure::Error));
}

#[tokio::test]
async fn a_connection_closed_before_its_first_request_is_a_reset() {
    let (listener, addr) = listen().await;
    let server = async { drop(listener.accept().await.unwrap()) };
    let mut client = client(false, addr);
    let (outcome, ()) = tokio::join!(client.request(), server);
    assert_eq!(outcome.unwrap(), Err(Failure::Reset));
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let (listener, addr) = listen().await;
    let mut client = client(true, addr);
    for _ in 0..2 {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let page = read_request(&mut stream).await;
            stream.write_all(&response("200 OK", &page::content(page))).await.unwrap();
            stream
        };
        let (outcome, stream) = tokio::join!(client.request(), serve);
        assert_eq!(outcome.unwrap(), Ok(()));
        drop(stream);
        closed(client.kept.as_ref().unwrap()).await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_until_the_server_says_close() {
    let (listener, addr) = listen().await;
    let mut client = client(true, addr);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for head in ["200 OK", "200 OK\r\nConnection: close"] {
            let page = read_request(&mut stream).await;
            stream.write_all(&response(head, &page::content(page))).await.unwrap();
        }
    };
    let requests = async {
        client.request().await.unwrap().unwrap();
        assert!(client.kept.is_some());
        client.request().await.unwrap().unwrap();
        assert!(client.kept.is_none());
    };
    tokio::join!(requests, server);
}

/// Waits until the client's side knows that the connection is closed.
async fn closed(connection: &Connection) {
    while !connection.sender.is_closed() {
        tokio::task::yield_now().await;
    }
}
