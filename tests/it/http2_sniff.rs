//! The first bytes, which tell HTTP/2 from HTTP/1.1.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::frames::{self, ACK, Frames, GOAWAY, HEADERS, OK, PREFACE, SETTINGS};
use crate::support::http2::Http2Client;
use crate::support::{App, Ebb, End, let_time_pass};

/// Guards: one port for both.
#[tokio::test]
async fn both_versions_share_a_port() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut old = ebb.client().await;
    let mut new = Http2Client::connect(ebb.addr()).await;
    for _ in 0..3 {
        assert_eq!(old.get("/old").await.text(), "hello");
        assert_eq!(new.get("/new").await.body, b"hello");
    }
    assert_eq!(ebb.metric(&["ebb_requests_total", "http1"]).await, 3.0);
    assert_eq!(ebb.metric(&["ebb_requests_total", "http2"]).await, 3.0);
    assert_eq!(ebb.metric(&["ebb_connections_total", "http2"]).await, 1.0);
}

/// Guards: the preface may come in any number of pieces, with the frames behind it too.
#[tokio::test]
async fn a_preface_byte_by_byte() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = Frames::silent(ebb.addr()).await;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frames::Frame::bytes(SETTINGS, 0, 0, &[]));
    bytes.extend(frames::Frame::bytes(HEADERS, 5, 1, &frames::head("GET", "/", &[])));
    for byte in bytes {
        client.raw(&[byte]).await;
        // Each its own segment, and its own read.
        let_time_pass(Duration::from_millis(2)).await;
    }
    assert!(client.frame(HEADERS, 1).await.payload.starts_with(OK));
}

/// Guards: `--header-timeout` bounds the wait for a preface; nobody knows yet what the client speaks.
#[tokio::test]
async fn a_preface_that_is_never_whole_is_408() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--header-timeout", "300ms"]).await;
    for known in [1, 10, 23] {
        let mut client = ebb.client().await;
        client.send(&PREFACE[..known]).await;
        client.response().await.assert_error(408, "header-timeout");
        client.expect_fin().await;
    }
}

/// Guards: dripping does not prolong it.
#[tokio::test]
async fn a_preface_that_drips_is_408() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--header-timeout", "500ms"]).await;
    let mut client = ebb.client().await;
    let start = Instant::now();
    for byte in &PREFACE[..8] {
        let_time_pass(Duration::from_millis(100)).await;
        if client.wire.send([*byte]).await.is_err() {
            break;
        }
    }
    client.response().await.assert_error(408, "header-timeout");
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// Guards: in a drain the wait is bounded much closer.
#[tokio::test]
async fn half_a_preface_does_not_hold_a_drain() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "40s"]).await;
    let mut client = ebb.client().await;
    client.send(&PREFACE[..12]).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    client.response().await.assert_error(408, "header-timeout");
    client.expect_fin().await;
    drop(client);
    hook.report().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Guards: the last word to a client whose preface is not whole.
#[tokio::test]
async fn half_a_preface_gets_503_at_the_deadline() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "4s", "--app-shutdown", "1s"]).await;
    let mut client = ebb.client().await;
    client.send(&PREFACE[..12]).await;
    let hook = ebb.drain().await;
    client.response().await.assert_error(503, "drain-deadline");
    client.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "forced");
}

/// Guards: what begins like the preface and is HTTP/1.1 is served as that, from its first byte.
#[tokio::test]
async fn half_a_preface_may_be_another_request() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    for (first, rest, start) in [
        ("P", "OST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc", "POST /a HTTP/1.1"),
        ("PR", "OPFIND /b HTTP/1.1\r\nHost: app.test\r\n\r\n", "PROPFIND /b HTTP/1.1"),
        ("PRI", " /c HTTP/1.1\r\nHost: app.test\r\n\r\n", "PRI /c HTTP/1.1"),
        ("PRI * HTTP/", "1.1\r\nHost: app.test\r\n\r\n", "PRI * HTTP/1.1"),
    ] {
        let mut client = ebb.client().await;
        client.send(first).await;
        let_time_pass(Duration::from_millis(50)).await;
        client.send(rest).await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.head.start, start);
        let body = exchange.body().await.unwrap().bytes;
        assert_eq!(body, if start.starts_with("POST") { &b"abc"[..] } else { b"" });
        exchange.answer("200 OK", "fine").await.unwrap();
        exchange.keep();
        assert_eq!(client.response().await.text(), "fine");
    }
    // "PRI * HTTP/2.0" and something else than the preface's end.
    let mut client = ebb.client().await;
    client.send("PRI * HTTP/2.0\r\nHost: app.test\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 400);
    client.expect_fin().await;
}

/// Guards: a client that goes away in the middle of its preface leaves nothing behind.
#[tokio::test]
async fn half_a_preface_and_an_end() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(&PREFACE[..12]).await;
    client.finish().await;
    client.rest().await;
    let mut client = ebb.client().await;
    client.send(&PREFACE[..12]).await;
    client.wire.reset();
    ebb.until_metric(&["ebb_connections{"], 0.0).await;
}

/// Guards: a client that says nothing after its preface is an idle one: GOAWAY in a drain, and a bound when it does
/// not answer.
#[tokio::test]
async fn a_preface_without_settings() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "40s"]).await;
    let mut client = Frames::silent(ebb.addr()).await;
    client.raw(PREFACE).await;
    client.until("ebb's settings", |frame| frame.kind == SETTINGS && frame.flags & ACK == 0).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    client.frame(GOAWAY, 0).await;
    client.frame(GOAWAY, 0).await;
    assert_eq!(client.rest().await, []);
    drop(client);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Guards: bytes that are no frames end the connection; nothing spins, nothing else is hurt.
#[tokio::test]
async fn garbage_after_the_preface() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(PREFACE).await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n".repeat(1000)).await;
    let (bytes, end) = client.rest().await;
    assert!(bytes.windows(1).len() > 9, "not even settings");
    assert_eq!(end, End::Fin, "the GOAWAY may be lost");
    assert_eq!(ebb.client().await.get("/").await.status(), 200);
    ebb.until_metric(&["ebb_connections{", "http2"], 0.0).await;
}
