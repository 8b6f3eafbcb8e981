//! Bodies over HTTP/2: whole, streamed, and held up by whoever does not read.

use std::time::Duration;

use bytes::Bytes;
use h2::client::Builder;
use http::Request;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::frames::{
    self, ACK, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, OK, SETTINGS,
};
use crate::support::http2::{self, Http2App, Http2Client, answer, piece, post};
use crate::support::{App, Ebb, let_time_pass, within};

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i ^ (i >> 8) ^ (i >> 16)) & 0xff).unwrap()).collect()
}

const LARGE: usize = 5 << 20;

/// Sends a body, reads what comes back at the same time, and compares.
async fn echo(client: &mut Http2Client, len: usize) {
    let sent = pattern(len);
    let (response, mut stream) = client.send(post("/echo"), false).await;
    let (written, answer) = tokio::join!(http2::write(&mut stream, &sent, true), answer(response));
    written.unwrap();
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body == sent, "{} of {len} bytes, or others", answer.body.len());
}

/// Guards: large bodies in both directions at once, on several streams at once.
#[tokio::test]
async fn large_bodies_both_ways() {
    let ebb = Ebb::start_at(Http2App::echo().await, &[]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    echo(&mut client, LARGE).await;
    let sizes = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 262_144, 262_145, LARGE];
    let mut other = Http2Client::connect(ebb.addr()).await;
    let clients = async { futures_util::future::join_all(sizes.map(|size| async move { size })).await };
    for size in clients.await {
        tokio::join!(echo(&mut client, size), echo(&mut other, size));
    }
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
}

/// Guards: the same through an HTTP/1.1 app, and from an HTTP/1.1 client.
#[tokio::test]
async fn large_bodies_between_versions() {
    let app = App::answering(|mut exchange| async move {
        let body = exchange.body().await?.bytes;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        exchange.wire.send(head).await?;
        exchange.wire.send(body).await?;
        exchange.keep();
        Ok(())
    });
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    for len in [0, 1, 70_000, LARGE] {
        echo(&mut client, len).await;
    }
    let ebb = Ebb::start_at(Http2App::echo().await, &["--upstream-protocol", "h2c"]).await;
    let mut client = ebb.client().await;
    for len in [0, 1, 70_000, 200_000] {
        let sent = pattern(len);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n")).await;
        client.send(&sent).await;
        let response = client.response().await;
        assert!(response.body.bytes == sent, "{len} bytes");
    }
}

/// Guards: whoever sends everything before it reads must not wait for us while we wait for it.
#[tokio::test]
async fn an_upload_is_not_held_up_by_an_unread_response() {
    let ebb = Ebb::start_at(Http2App::echo().await, &[]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    // Below what the app's window and ours hold together.
    let sent = pattern(150_000);
    let (response, mut stream) = client.send(post("/echo"), false).await;
    http2::write(&mut stream, &sent, true).await.unwrap();
    assert!(answer(response).await.unwrap().body == sent);
}

/// Guards: many streams at a time go over few connections, no more on each than the app allows.
#[tokio::test]
async fn many_streams_on_few_connections() {
    for (allowed, expected) in [(200, 3), (20, 13)] {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(allowed);
        let mut app = Http2App::start_with(builder).await;
        let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
        let mut client = Http2Client::connect(ebb.addr()).await;
        assert_eq!(
            tokio::join!(client.get("/first"), async { app.call().await.answer("first") }).0.body,
            b"first"
        );
        let mut responses = Vec::new();
        for i in 0..250 {
            responses.push(client.begin(&format!("/{i}")).await);
        }
        let mut calls = Vec::new();
        for _ in 0..250 {
            calls.push(app.call().await);
        }
        assert_eq!(app.accepted(), expected, "connections");
        assert_eq!(ebb.metric(&["ebb_requests_in_flight"]).await, 250.0);
        for call in calls {
            let path = call.path().to_owned();
            call.answer(&path);
        }
        for (i, response) in responses.into_iter().enumerate() {
            assert_eq!(answer(response).await.unwrap().body, format!("/{i}").into_bytes());
        }
        ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
        ebb.until_metric(&["ebb_upstream_connections"], 0.0).await;
    }
}

/// A client that lets responses come up to its window, and no further.
async fn stuck(
    ebb: &Ebb,
    app: &mut Http2App,
    streams: usize,
) -> (Http2Client, JoinSet<()>, Vec<h2::RecvStream>) {
    let mut client = Http2Client::connect(ebb.addr()).await;
    let mut sending = JoinSet::new();
    let mut unread = Vec::new();
    for _ in 0..streams {
        let response = client.begin("/stuck").await;
        let mut call = app.call().await;
        let mut stream = call.begin();
        sending.spawn(async move {
            // Ends with an error, when the test does.
            while stream.send_data(Bytes::from(vec![b'x'; 16 << 10]), false).is_ok() {
                stream.reserve_capacity(16 << 10);
                if std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.is_none() {
                    return;
                }
            }
        });
        unread.push(within("a head", response).await.unwrap().into_body());
    }
    (client, sending, unread)
}

/// Guards: a client that reads nothing on one stream, on any number of streams, holds up nobody else, though
/// they share the connections to the app; and what is held for it is bounded.
#[tokio::test]
async fn who_does_not_read_stops_nobody_else() {
    for streams in [1, 40] {
        let mut app = Http2App::start().await;
        let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
        let (_client, _sending, _unread) = stuck(&ebb, &mut app, streams).await;
        let_time_pass(Duration::from_millis(500)).await;
        let mut other = Http2Client::connect(ebb.addr()).await;
        let large = "y".repeat(1_000_000);
        let response = other.begin("/other").await;
        let mut call = app.call().await;
        let mut stream = call.begin();
        let (written, answer) =
            tokio::join!(http2::write(&mut stream, large.as_bytes(), true), answer(response));
        written.unwrap();
        assert!(answer.unwrap().body == large.as_bytes());
        let held = ebb.memory_kib();
        assert!(held < 60_000 + 600 * streams as u64, "{held} KiB for {streams} streams");
    }
}

/// Guards: a client that uploads to an app that does not read is stopped, and nobody else is.
#[tokio::test]
async fn an_app_that_does_not_read_stops_the_sender() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let (_response, mut stream) = client.send(post("/unread"), false).await;
    let _call = app.call().await;
    let mut sent = 0;
    loop {
        stream.reserve_capacity(16 << 10);
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
        let Ok(Some(Ok(room))) = tokio::time::timeout(Duration::from_secs(1), room).await else { break };
        stream.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
        sent += room;
        assert!(sent < 2 << 20, "nobody stops it");
    }
    assert!(sent >= 64 << 10, "only {sent} bytes");
    let (fine, ()) = tokio::join!(client.get("/fine"), async { app.call().await.answer("fine") });
    assert_eq!(fine.body, b"fine");
}

/// Guards: a response whose parts are answers to the request's parts.
#[tokio::test]
async fn a_conversation() {
    for flags in [&[][..], &["--upstream-protocol", "h2c"]] {
        let ebb = Ebb::start_at(Http2App::echo().await, flags).await;
        let mut client = Http2Client::connect(ebb.addr()).await;
        let (response, mut stream) = client.send(post("/chat"), false).await;
        let mut body = within("a head before any data", response).await.unwrap().into_body();
        for i in 0..50 {
            let word = format!("word {i}");
            stream.send_data(Bytes::from(word.clone()), false).unwrap();
            assert_eq!(piece(&mut body).await.unwrap(), word);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(http2::read(&mut body).await.unwrap(), (Vec::new(), None));
    }
}

/// Guards: an answer that comes while the upload goes on, with the rest of it read or not.
#[tokio::test]
async fn an_early_answer() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &[]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    // The app reads on.
    let (response, mut stream) = client.send(post("/read"), false).await;
    let mut call = app.call().await;
    stream.send_data(Bytes::from("first"), false).unwrap();
    assert_eq!(piece(&mut call.body).await.unwrap(), "first");
    call.begin().send_data(Bytes::from("early"), true).unwrap();
    assert_eq!(answer(response).await.unwrap().body, b"early");
    stream.send_data(Bytes::from("second"), true).unwrap();
    assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"second");
    // The app does not want the rest: the client hears so, and the answer is whole all the same.
    let (response, mut stream) = client.send(post("/unread"), false).await;
    app.call().await.answer("no");
    assert_eq!(answer(response).await.unwrap().body, b"no");
    assert_eq!(http2::reset(&mut stream).await, h2::Reason::NO_ERROR);
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
}

/// Guards: what a client has sent reaches the app, though the client has gone with an early answer, and though ebb is
/// about to go as well.
#[tokio::test]
async fn an_upload_outlives_its_client() {
    for drains in [false, true] {
        let mut app = Http2App::start().await;
        let mut ebb = Ebb::start_at(app.addr(), &[]).await;
        let mut client = Http2Client::connect(ebb.addr()).await;
        // More than the app's window and less than ours.
        let sent = pattern(150_000);
        let (response, mut stream) = client.send(post("/"), false).await;
        let mut call = app.call().await;
        http2::write(&mut stream, &sent, true).await.unwrap();
        call.begin().send_data(Bytes::from("early"), true).unwrap();
        assert_eq!(answer(response).await.unwrap().body, b"early");
        client.vanish().await;
        ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
        if drains {
            ebb.signal(libc::SIGTERM);
            ebb.phase("draining").await;
            let_time_pass(Duration::from_millis(500)).await;
        }
        let received = http2::read(&mut call.body).await.unwrap().0;
        assert!(received == sent, "{} bytes", received.len());
        if drains {
            assert!(ebb.exit().await.success());
        }
    }
}

/// Guards: a window of nothing: the head goes out, the body waits for room.
#[tokio::test]
async fn a_client_without_a_window() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut builder = Builder::new();
    builder.initial_window_size(0);
    let mut client = Http2Client::connect_with(ebb.addr(), &builder).await;
    let response = client.begin("/").await;
    let mut body = within("a head", response).await.unwrap().into_body();
    assert!(tokio::time::timeout(Duration::from_millis(300), body.data()).await.is_err(), "no room for that");
    body.flow_control().release_capacity(0).unwrap();
    drop(body);
    // Another one is not held up by it.
    let response = client.send(Request::head("http://app.test/").body(()).unwrap(), true).await.0;
    assert_eq!(answer(response).await.unwrap().status, 200);
}

/// Most of a stream's window, in frames of a few bytes.
const TINY: usize = 6_000;

fn tiny_frames(stream: u32) -> Vec<u8> {
    Frame::bytes(DATA, 0, stream, &[7; 20]).repeat(TINY)
}

/// More than `h2` itself allows for.
const ENOUGH: usize = TINY * 8 * 256;

/// Guards: windows full of small messages that the app does not read yet are no reason to give a connection up.
#[tokio::test]
async fn an_app_that_is_slow_to_read_small_messages() {
    let mut builder = h2::server::Builder::new();
    builder.data_frame_budget(ENOUGH);
    let mut app = Http2App::start_with(builder).await;
    let ebb = Ebb::start_at(app.addr(), &[]).await;
    let mut client = Frames::connect(ebb.addr()).await;
    let mut slow = Vec::new();
    for stream in [1, 3, 5, 7] {
        client.send(HEADERS, END_HEADERS, stream, &frames::head("POST", "/slow", &[])).await;
        slow.push(app.call().await);
        client.raw(&tiny_frames(stream)).await;
        client.send(DATA, END_STREAM, stream, &[]).await;
    }
    client.get(9, "/quick").await;
    let wanted = |frame: &Frame| matches!(frame.kind, GOAWAY | HEADERS);
    let (answer, ()) =
        tokio::join!(client.until("an answer", wanted), async { app.call().await.answer("quick") });
    assert_eq!((answer.kind, answer.stream), (HEADERS, 9), "{answer:?}");
    // All at once: they share the app's window.
    let bodies = slow.iter_mut().map(|call| http2::read(&mut call.body));
    for body in futures_util::future::join_all(bodies).await {
        assert_eq!(body.unwrap().0.len(), TINY * 20);
    }
}

/// Guards: the same the other way: clients that read nothing do not take the app's connection away from others.
#[tokio::test]
async fn clients_that_are_slow_to_read_small_messages() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect_with(ebb.addr(), Builder::new().data_frame_budget(ENOUGH)).await;
    let mut slow = vec![client.begin("/slow").await];
    let mut app = Frames::accept(&listener).await;
    app.until("ebb's settings", |frame| frame.kind == SETTINGS && frame.flags & ACK == 0).await;
    app.send(SETTINGS, ACK, 0, &[]).await;
    for _ in 1..8 {
        slow.push(client.begin("/slow").await);
    }
    for _ in &slow {
        let stream = app.until("a request", |frame| frame.kind == HEADERS).await.stream;
        app.send(HEADERS, END_HEADERS, stream, OK).await;
        app.raw(&tiny_frames(stream)).await;
        app.send(DATA, END_STREAM, stream, &[]).await;
    }
    let mut other = Http2Client::connect(ebb.addr()).await;
    let (reply, ()) = tokio::join!(other.get("/quick"), async {
        let asked = app.until("a request", |frame| matches!(frame.kind, GOAWAY | HEADERS)).await;
        assert_eq!(asked.kind, HEADERS, "{asked:?}");
        app.send(HEADERS, END_HEADERS | END_STREAM, asked.stream, OK).await;
    });
    assert_eq!(reply.status, 200);
    // All at once: they share the client's window.
    for answer in futures_util::future::join_all(slow.into_iter().map(answer)).await {
        assert_eq!(answer.unwrap().body.len(), TINY * 20);
    }
}
