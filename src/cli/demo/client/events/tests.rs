//! Every way in which a stream of events can end.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::tests::{caller, listen, read_head};
use super::*;

/// Sends these chunks and, when `ended`, the last one; returns the event that the client says it saw last.
async fn serve(listener: &TcpListener, chunks: &[&str], ended: bool) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = read_head(&mut stream).await;
    let mut response =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for chunk in chunks {
        response.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    response.push_str(if ended { "0\r\n\r\n" } else { "" });
    stream.write_all(response.as_bytes()).await.unwrap();
    head.split_once("last-event-id: ").unwrap().1.split_once("\r\n").unwrap().0.to_owned()
}

#[tokio::test]
async fn a_stream_that_is_ended_goes_on_elsewhere() {
    let (listener, addr) = listen().await;
    let (_stop, mut stop) = watch::channel(false);
    let mut client = Client::new(caller(addr));
    // Chunks need not be events, and half an event at the end does not count.
    let [one, two, three] = [1, 2, 3].map(event);
    let streams = [("0", [one.as_str(), &two[..5], &two[5..], &three[..4]]), ("2", [&three, "", "", ""])];
    for (last, chunks) in streams {
        let chunks: Vec<_> = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        let (outcome, asked) = tokio::join!(client.listen(&mut stop), serve(&listener, &chunks, true));
        assert_eq!((outcome.unwrap(), asked.as_str()), (Ok(()), last));
    }
    assert_eq!(client.last, 3);
}

#[tokio::test]
async fn a_stream_that_is_cut_is_a_failure() {
    let (listener, addr) = listen().await;
    let (_stop, mut stop) = watch::channel(false);
    let mut client = Client::new(caller(addr));
    let event = event(1);
    let chunks = [event.as_str()];
    let (outcome, _) = tokio::join!(client.listen(&mut stop), serve(&listener, &chunks, false));
    assert_eq!(outcome.unwrap(), Err(Failure::Cut));
}

#[tokio::test]
async fn an_event_that_is_missing_or_damaged_is_an_error() {
    for wrong in [event(2), event(1).replace("data", "date")] {
        let (listener, addr) = listen().await;
        let (_stop, mut stop) = watch::channel(false);
        let mut client = Client::new(caller(addr));
        let chunks = [wrong.as_str()];
        let (outcome, _) = tokio::join!(client.listen(&mut stop), serve(&listener, &chunks, true));
        assert_eq!(outcome.unwrap(), Err(Failure::Error));
    }
}

#[tokio::test]
async fn another_answer_or_none_is_a_failure() {
    for (answer, failure) in
        [("HTTP/1.1 503 Service Unavailable\r\n\r\n", Failure::Error), ("", Failure::Reset)]
    {
        let (listener, addr) = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (_stop, mut stop) = watch::channel(false);
        let mut client = Client::new(caller(addr));
        let (outcome, ()) = tokio::join!(client.listen(&mut stop), server);
        assert_eq!(outcome.unwrap(), Err(failure));
    }
}
