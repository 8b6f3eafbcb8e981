//! The drain's deadline over HTTP/2: each stream ends in the way that its client understands best.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use tokio::time::Instant;

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS};
use crate::support::http2::{self, Http2App, Http2Client, answer, get, grpc, piece};
use crate::support::{App, Ebb, within};

/// The deadline comes two seconds after the trigger.
const SOON: &[&str] = &["--grace-period", "4s", "--app-shutdown", "1s"];

async fn setup() -> (Http2App, Ebb, Http2Client) {
    let app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), SOON).await;
    let client = Http2Client::connect(ebb.addr()).await;
    (app, ebb, client)
}

fn events() -> Response<()> {
    Response::builder().header("content-type", "text/event-stream").body(()).unwrap()
}

/// Guards: the last words of every kind of stream, all on one connection.
#[tokio::test]
async fn last_words() {
    let (mut app, ebb, mut client) = setup().await;
    let waiting = client.begin("/waiting").await;
    let _waiting_call = app.call().await;
    let (calling, _calling_stream) = client.send(grpc("/calling"), false).await;
    let mut calling_call = app.call().await;
    let (streaming, _stream) = client.send(grpc("/streaming"), false).await;
    let mut streaming_call = app.call().await;
    let mut streaming_out = streaming_call.begin_grpc();
    // A whole message, as gRPC frames it.
    let message = "\0\0\0\0\u{7}message";
    streaming_out.send_data(Bytes::from(message), false).unwrap();
    let mut streaming = within("a head", streaming).await.unwrap().into_body();
    assert_eq!(piece(&mut streaming).await.unwrap(), message);
    let eventful = client.begin("/events").await;
    let mut eventful_call = app.call().await;
    let mut eventful_out = eventful_call.begin_with(events());
    eventful_out.send_data(Bytes::from("data: 1\n\n"), false).unwrap();
    let mut eventful = within("a head", eventful).await.unwrap().into_body();
    assert_eq!(piece(&mut eventful).await.unwrap(), "data: 1\n\n");
    let half = client.begin("/half").await;
    let mut half_call = app.call().await;
    let mut half_out = half_call.begin();
    half_out.send_data(Bytes::from("half"), false).unwrap();
    let mut half = within("a head", half).await.unwrap().into_body();
    assert_eq!(piece(&mut half).await.unwrap(), "half");

    let start = Instant::now();
    let hook = ebb.drain().await;
    let waiting = answer(waiting).await.unwrap();
    assert!(start.elapsed() > Duration::from_millis(1900), "{:?}", start.elapsed());
    assert_eq!((waiting.status, waiting.field("ebb-error")), (503, "drain-deadline"));
    let calling = answer(calling).await.unwrap();
    assert_eq!((calling.status, calling.field("grpc-status")), (200, "14"));
    assert_eq!(calling.field("ebb-error"), "drain-deadline");
    let (bytes, trailers) = http2::read(&mut streaming).await.unwrap();
    let trailers = trailers.expect("trailers");
    assert_eq!((&*bytes, http2::text(&trailers, "grpc-status")), (&b""[..], "14"));
    assert_eq!(http2::text(&trailers, "ebb-error"), "drain-deadline");
    assert_eq!(http2::read(&mut eventful).await.unwrap(), (Vec::new(), None), "events end in order");
    assert!(http2::read(&mut half).await.is_err(), "half of it must not look whole");
    client.ended().await.unwrap();
    // The app hears of it, too.
    assert_eq!(calling_call.reset().await, Reason::CANCEL);
    assert_eq!(http2::reset(&mut streaming_out).await, Reason::CANCEL);
    assert_eq!(http2::reset(&mut half_out).await, Reason::CANCEL);
    let report = hook.report().await;
    assert_eq!(
        (&report["outcome"], &report["connections"]["http2"]["cut"]),
        (&"forced".into(), &1.into()),
        "{report}"
    );
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
    assert_eq!(ebb.metric(&["ebb_connections{", "http2"]).await, 0.0);
}

/// Guards: the GOAWAY comes before the trailers: a client that tries again at once must not come back here.
#[tokio::test]
async fn goaway_comes_before_the_trailers() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), SOON).await;
    let mut client = Frames::connect(ebb.addr()).await;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let head = crate::support::frames::head("POST", "/", &fields);
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    let mut call = app.call().await;
    let _out = call.begin_grpc();
    assert_eq!(client.frame(HEADERS, 1).await.flags & END_STREAM, 0);
    let hook = ebb.drain().await;
    let rest = client.rest().await;
    let at = |kind, stream| rest.iter().position(|frame| (frame.kind, frame.stream) == (kind, stream));
    let (goaway, trailers) = (at(GOAWAY, 0), at(HEADERS, 1));
    assert!(goaway.is_some() && goaway < trailers, "{rest:?}");
    drop(client);
    assert_eq!(hook.report().await["outcome"], "forced");
}

/// Guards: without an own end a stream that is stuck ends all the same, as far as its window lets it.
#[tokio::test]
async fn a_client_that_reads_nothing() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), SOON).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let mut bodies = Vec::new();
    let mut calls = Vec::new();
    for grpc_call in [true, false] {
        let head = if grpc_call { grpc("/") } else { get("/") };
        let response = client.send(head, true).await.0;
        let mut call = app.call().await;
        let mut out = if grpc_call { call.begin_grpc() } else { call.begin_with(events()) };
        // More than the client's window.
        out.send_data(Bytes::from(vec![1; 100_000]), false).unwrap();
        let body = within("a head", response).await.unwrap().into_body();
        bodies.push(body);
        calls.push((call, out));
    }
    let start = Instant::now();
    let hook = ebb.drain().await;
    let report = hook.report().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(
        (&report["outcome"], &report["connections"]["http2"]["cut"]),
        (&"forced".into(), &1.into()),
        "{report}"
    );
    // What would not fit is missing, and that shows.
    let (_, trailers) = http2::read(&mut bodies[0]).await.unwrap();
    assert_eq!(http2::text(&trailers.expect("trailers"), "grpc-status"), "14");
    assert!(http2::read(&mut bodies[1]).await.is_err(), "half an event must not look whole");
}

/// Guards: a client that does not even read from its socket does not hold the drain, nor make it spin.
#[tokio::test]
async fn a_client_whose_socket_is_full() {
    let app = App::answering(|mut exchange| async move {
        exchange.answer("200 OK", &"x".repeat(200_000)).await?;
        exchange.keep();
        Ok(())
    });
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1", "--grace-period", "8s"]).await;
    // Windows that let everything through.
    let mut client = Frames::connect_with(ebb.addr(), &[(4, (1 << 31) - 1)]).await;
    // And a socket that does not grow until it holds all of it.
    socket2::SockRef::from(&client.tcp).set_recv_buffer_size(64 << 10).unwrap();
    client.send(8, 0, 0, &((1u32 << 31) - 1 - 65_535).to_be_bytes()).await;
    for stream in 0..100 {
        client.get(2 * stream + 1, "/").await;
    }
    client.frame(DATA, 1).await;
    let start = Instant::now();
    let before = ebb.cpu_ticks();
    let hook = ebb.drain().await;
    let report = hook.report().await;
    assert_eq!(report["outcome"], "forced", "{report}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let spent = ebb.cpu_ticks() - before;
    assert!(spent < 150, "ebb spins: {spent} hundredths of a second");
    drop(client);
}
