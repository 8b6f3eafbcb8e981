//! Server-sent events: each stream ends between two events, one after the other before the deadline, so that the
//! clients do not all come back in one moment.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{App, Client, Ebb, End, Exchange, within};

/// The deadline comes four seconds after the trigger; the last of them is for event streams.
const FLAGS: &[&str] = &["--grace-period", "6s", "--app-shutdown", "1s", "--workers", "1"];

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// An open stream of events that has begun with these bytes.
async fn stream(app: &mut App, ebb: &Ebb, begin: &str) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send_get("/events").await;
    let mut exchange = app.request().await;
    exchange.wire.send(HEAD).await.unwrap();
    exchange.chunk(begin).await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunk().await, begin);
    (client, exchange)
}

/// Guards: the spread, the terminal chunk, the FIN behind it, and that the app hears of it.
#[tokio::test]
async fn event_streams_end_one_after_the_other() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, FLAGS).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(stream(&mut app, &ebb, "data: 1\n\n").await);
    }
    let start = Instant::now();
    let hook = ebb.drain().await;
    let mut ends = JoinSet::new();
    for (mut client, mut exchange) in streams {
        ends.spawn(async move {
            assert_eq!(client.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin));
            let end = start.elapsed();
            assert_eq!(within("the app to be told", exchange.wire.rest()).await.0, b"");
            end
        });
    }
    let mut ends = ends.join_all().await;
    ends.sort();
    assert!(ends[0] >= Duration::from_millis(2900), "before the last quarter: {ends:?}");
    assert!(ends[7] - ends[0] > Duration::from_millis(600), "all at once: {ends:?}");
    let report = hook.report().await;
    assert_eq!((&report["outcome"], &report["connections"]["http1"]["told"]), (&"clean".into(), &8.into()));
}

/// Guards: half an event is not the end of a stream, its rest is.
#[tokio::test]
async fn an_event_is_not_cut_in_half() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, FLAGS).await;
    let (mut first, mut writing) = stream(&mut app, &ebb, "data: 1\r\n\r\ndata: 2\r\n").await;
    let (mut second, _quiet) = stream(&mut app, &ebb, "data: 1\r\n\r\n").await;
    let hook = ebb.drain().await;
    // Its turn is after the first one's.
    assert_eq!(second.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin));
    assert_eq!(ebb.status().await["phase"], "draining");
    writing.chunk("\r\n").await.unwrap();
    assert_eq!(first.chunk().await, "\r\n");
    assert_eq!(first.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin));
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: only an idle connection ends behind its event stream; a client that has asked for more gets an answer that
/// tells it to go.
#[tokio::test]
async fn a_request_behind_an_event_stream_is_answered() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, FLAGS).await;
    let (mut client, _events) = stream(&mut app, &ebb, "data: 1\n\n").await;
    client.send_get("/next").await;
    let hook = ebb.drain().await;
    assert_eq!(client.chunk().await, "");
    client.wire.exactly(2).await.unwrap();
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.target(), "/next");
    exchange.answer("200 OK", "yes").await.unwrap();
    let response = client.response().await;
    assert!(response.text() == "yes" && response.closes(), "{}", response.head);
    client.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: only streams of events end early; others have until the deadline.
#[tokio::test]
async fn other_streams_end_at_the_deadline() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, FLAGS).await;
    let mut client = ebb.client().await;
    client.send_get("/records").await;
    let mut exchange = app.request().await;
    exchange.wire.send(HEAD.replace("text/event-stream", "application/x-ndjson")).await.unwrap();
    exchange.chunk("{}\n\n").await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunk().await, "{}\n\n");
    let start = Instant::now();
    let hook = ebb.drain().await;
    assert_eq!(client.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin));
    assert!(start.elapsed() >= Duration::from_millis(3900), "{:?}", start.elapsed());
    assert_eq!(hook.report().await["outcome"], "forced");
}

async fn expect_end(body: &mut h2::RecvStream) {
    // An empty frame may say that it was the last.
    let end = within("the end", body.data()).await.map(|end| end.unwrap());
    assert!(end.is_none_or(|end| end.is_empty()) && body.is_end_stream());
}

/// Guards: over HTTP/2 the end of a stream of events is that of its stream.
#[tokio::test]
async fn an_event_stream_over_http2_ends_in_order() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &[FLAGS, &["--upstream-protocol", "http1"]].concat()).await;
    let socket = TcpStream::connect(ebb.addr()).await.unwrap();
    let (mut send, connection) = within("HTTP/2", h2::client::handshake(socket)).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut streams = Vec::new();
    for begin in ["data: 1\n\n", "data: 1\n\ndata: "] {
        let request = http::Request::get("http://app.test/events").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        let mut exchange = app.request().await;
        exchange.wire.send(HEAD).await.unwrap();
        exchange.chunk(begin).await.unwrap();
        let mut body = within("a response", response).await.unwrap().into_body();
        assert_eq!(within("an event", body.data()).await.unwrap().unwrap(), begin);
        streams.push((body, exchange));
    }
    let [(mut quiet, _exchange), (mut body, mut exchange)] = <[_; 2]>::try_from(streams).unwrap();
    let (mut other, _quiet) = stream(&mut app, &ebb, "data: 1\n\n").await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    assert_eq!(other.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin), "its turn is later");
    expect_end(&mut quiet).await;
    exchange.chunk("2\n\n").await.unwrap();
    assert_eq!(within("its rest", body.data()).await.unwrap().unwrap(), "2\n\n");
    expect_end(&mut body).await;
    assert!(start.elapsed() < Duration::from_millis(3950), "at the deadline: {:?}", start.elapsed());
    within("the connection's end", driving).await.unwrap().unwrap();
    let report = hook.report().await;
    assert_eq!((&report["outcome"], &report["connections"]["http2"]["told"]), (&"clean".into(), &1.into()));
}
