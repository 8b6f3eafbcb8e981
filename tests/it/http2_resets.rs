//! Streams that are given up, by either side, and what the other side hears of it.

use bytes::Bytes;
use h2::Reason;

use crate::support::http2::{self, Http2App, Http2Client, answer, grpc, piece, post};
use crate::support::{App, Ebb, within};

async fn setup() -> (Http2App, Ebb, Http2Client) {
    let app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
    let client = Http2Client::connect(ebb.addr()).await;
    (app, ebb, client)
}

/// Nothing of any stream is left.
async fn nothing_left(ebb: &Ebb) {
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
    ebb.until_metric(&["ebb_connections{", "http2", "active"], 0.0).await;
}

const CODES: [Reason; 3] = [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::ENHANCE_YOUR_CALM];

/// Guards: a client's code reaches an app that has not answered yet, with the request's body at its end, under way, or
/// stuck because the app does not read.
#[tokio::test]
async fn a_clients_reset_before_the_head() {
    let (mut app, ebb, mut client) = setup().await;
    for code in CODES {
        for body in ["none", "open", "stuck"] {
            let (_response, mut stream) = client.send(post("/"), body == "none").await;
            let mut call = app.call().await;
            if body == "open" {
                stream.send_data(Bytes::from("some"), false).unwrap();
                assert_eq!(piece(&mut call.body).await.unwrap(), "some");
            } else if body == "stuck" {
                http2::write(&mut stream, &[0; 100_000], false).await.unwrap();
            }
            stream.send_reset(code);
            assert_eq!(call.reset().await, code, "body: {body}");
        }
    }
    nothing_left(&ebb).await;
    assert_eq!(app.accepted(), 1);
}

/// Guards: the same after the response's head.
#[tokio::test]
async fn a_clients_reset_after_the_head() {
    let (mut app, ebb, mut client) = setup().await;
    for code in CODES {
        for body in ["none", "open", "stuck"] {
            let (response, mut stream) = client.send(post("/"), body == "none").await;
            let mut call = app.call().await;
            let mut sending = call.begin();
            sending.send_data(Bytes::from("part"), false).unwrap();
            let mut response = within("a head", response).await.unwrap().into_body();
            assert_eq!(piece(&mut response).await.unwrap(), "part");
            if body == "open" {
                stream.send_data(Bytes::from("some"), false).unwrap();
                assert_eq!(piece(&mut call.body).await.unwrap(), "some");
            } else if body == "stuck" {
                http2::write(&mut stream, &[0; 100_000], false).await.unwrap();
            }
            stream.send_reset(code);
            assert_eq!(http2::reset(&mut sending).await, code, "body: {body}");
        }
    }
    nothing_left(&ebb).await;
    assert_eq!(app.accepted(), 1);
}

/// Guards: a client that is gone has given everything up.
#[tokio::test]
async fn a_client_that_vanishes() {
    let (mut app, ebb, _) = setup().await;
    for body in ["none", "open", "stuck"] {
        for head in [false, true] {
            let mut client = Http2Client::connect(ebb.addr()).await;
            let (response, mut stream) = client.send(post("/"), body == "none").await;
            let mut call = app.call().await;
            let sending = head.then(|| call.begin());
            if head {
                within("a head", response).await.unwrap();
            }
            if body == "stuck" {
                http2::write(&mut stream, &[0; 100_000], false).await.unwrap();
            }
            drop(stream);
            client.vanish().await;
            match sending {
                Some(mut sending) => assert_eq!(http2::reset(&mut sending).await, Reason::CANCEL, "{body}"),
                None => assert_eq!(call.reset().await, Reason::CANCEL, "{body}"),
            }
        }
    }
    nothing_left(&ebb).await;
}

/// Guards: an HTTP/1.1 client that goes away ends the stream to an HTTP/2 app.
#[tokio::test]
async fn an_http1_client_that_vanishes() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--upstream-protocol", "h2c"]).await;
    for head in [false, true] {
        let mut client = ebb.client().await;
        client.send_get("/").await;
        let mut call = app.call().await;
        if head {
            let mut sending = call.begin();
            sending.send_data(Bytes::from("part"), false).unwrap();
            assert_eq!(client.head().await.status(), 200);
            client.wire.reset();
            assert_eq!(http2::reset(&mut sending).await, Reason::CANCEL);
        } else {
            client.wire.reset();
            assert_eq!(call.reset().await, Reason::CANCEL);
        }
    }
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
}

/// Guards: the app's code reaches the client.
#[tokio::test]
async fn an_apps_reset() {
    let (mut app, ebb, mut client) = setup().await;
    for code in CODES {
        for open in [false, true] {
            let (response, _stream) = client.send(post("/"), !open).await;
            app.call().await.respond.send_reset(code);
            assert_eq!(
                answer(response).await.unwrap_err().reason(),
                Some(code),
                "before the head, open: {open}"
            );
            let (response, _stream) = client.send(post("/"), !open).await;
            let mut call = app.call().await;
            let mut sending = call.begin();
            sending.send_data(Bytes::from("part"), false).unwrap();
            let mut body = within("a head", response).await.unwrap().into_body();
            assert_eq!(piece(&mut body).await.unwrap(), "part");
            sending.send_reset(code);
            assert_eq!(
                http2::read(&mut body).await.unwrap_err().reason(),
                Some(code),
                "after it, open: {open}"
            );
        }
    }
    // gRPC is no exception: a reset is the app's own word.
    let (response, _stream) = client.send(grpc("/"), false).await;
    let mut call = app.call().await;
    let mut sending = call.begin_grpc();
    let mut body = within("a head", response).await.unwrap().into_body();
    sending.send_reset(Reason::ENHANCE_YOUR_CALM);
    assert_eq!(http2::read(&mut body).await.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    nothing_left(&ebb).await;
    assert_eq!(app.accepted(), 1);
}

/// Guards: to an HTTP/1.1 client an app's reset is a bad gateway, or a cut.
#[tokio::test]
async fn an_apps_reset_for_http1() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--upstream-protocol", "h2c"]).await;
    let mut client = ebb.client().await;
    client.send_get("/").await;
    app.call().await.respond.send_reset(Reason::INTERNAL_ERROR);
    client.response().await.assert_error(502, "upstream-reset");
    client.send_get("/").await;
    let mut sending = app.call().await.begin();
    sending.send_data(Bytes::from("part"), false).unwrap();
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunk().await, "part");
    sending.send_reset(Reason::NO_ERROR);
    assert_eq!(client.rest().await.0, b"", "half of it must not look whole");
}

/// Guards: an app that dies in the middle of its answer.
#[tokio::test]
async fn an_app_that_dies() {
    let (mut app, ebb, mut client) = setup().await;
    let plain = client.begin("/plain").await;
    let calling = client.send(grpc("/call"), true).await.0;
    let unanswered = client.send(grpc("/unanswered"), true).await.0;
    let (mut calls, mut sending) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut call = app.call().await;
        match call.path() {
            "/plain" => sending.push(call.begin()),
            "/call" => sending.push(call.begin_grpc()),
            _ => {}
        }
        calls.push(call);
    }
    let mut plain = within("a head", plain).await.unwrap().into_body();
    let mut calling = within("a head", calling).await.unwrap().into_body();
    app.kill(0);
    assert_eq!(http2::read(&mut plain).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    let (bytes, trailers) = http2::read(&mut calling).await.unwrap();
    assert_eq!(bytes, b"");
    let trailers = trailers.expect("trailers");
    assert_eq!(
        (http2::text(&trailers, "grpc-status"), http2::text(&trailers, "ebb-error")),
        ("14", "upstream-reset")
    );
    let unanswered = answer(unanswered).await.unwrap();
    assert_eq!((unanswered.status, unanswered.field("grpc-status")), (200, "14"));
    assert_eq!(unanswered.head["ebb-error"], "upstream-reset");
    nothing_left(&ebb).await;
    // It comes back: the next request finds it.
    let (fine, ()) = tokio::join!(client.get("/fine"), async { app.call().await.answer("fine") });
    assert_eq!(fine.body, b"fine");
}

/// Guards: an HTTP/1.1 app that dies in the middle of its answer.
#[tokio::test]
async fn an_http1_app_that_dies() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let response = client.begin("/").await;
        let mut exchange = app.request().await;
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\nhalf\r\n")).await.unwrap();
        let mut body = within("a head", response).await.unwrap().into_body();
        drop(exchange);
        let error = http2::read(&mut body).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{framing}");
    }
}
