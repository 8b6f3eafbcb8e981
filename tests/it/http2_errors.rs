//! Errors that ebb itself answers, to HTTP/2 and gRPC clients.

use http::{HeaderValue, Method, Request};

use crate::support::frames::{self, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::support::http2::{Answer, Http2App, Http2Client, answer, get, grpc};
use crate::support::{App, Ebb};

/// An ordinary error: a status, its reason, a line of text.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status, answer.field("ebb-error")), (status, reason), "{answer:?}");
    assert!(answer.body.ends_with(b"\n") && answer.body.len() > 1, "{answer:?}");
}

/// A gRPC error: trailers only.
#[track_caller]
fn assert_grpc(answer: &Answer, status: &str, reason: &str) {
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/grpc"), "{answer:?}");
    assert_eq!((answer.field("grpc-status"), answer.field("ebb-error")), (status, reason), "{answer:?}");
    assert!(!answer.field("grpc-message").is_empty(), "{answer:?}");
    assert_eq!((&*answer.body, &answer.trailers), (&b""[..], &None));
}

/// Guards: an app that is down, for both kinds of requests and with a body under way or not; and back again.
#[tokio::test]
async fn the_app_is_down() {
    let mut app = App::hello();
    let ebb = Ebb::start(&app).await;
    app.kill().await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    assert_error(&client.get("/").await, 503, "upstream-refused");
    let (response, _stream) = client.send(grpc("/"), false).await;
    let reply = answer(response).await.unwrap();
    assert_grpc(&reply, "14", "upstream-refused");
    let mut with_suffix = grpc("/");
    with_suffix.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    let response = client.send(with_suffix, true).await.0;
    assert_grpc(&answer(response).await.unwrap(), "14", "upstream-refused");
    // gRPC-Web is not gRPC.
    let mut web = grpc("/");
    web.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc-web"));
    let response = client.send(web, true).await.0;
    assert_error(&answer(response).await.unwrap(), 503, "upstream-refused");
    app.start();
    assert_eq!(client.get("/").await.body, b"hello");
    assert_eq!(ebb.metric(&["ebb_requests_total", "http2", "503"]).await, 2.0);
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
}

/// Guards: many requests wait for one attempt to connect, and all of them hear what came of it.
#[tokio::test]
async fn the_app_is_down_for_many() {
    let mut app = App::hello();
    let ebb = Ebb::start(&app).await;
    app.kill().await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let mut responses = Vec::new();
    for _ in 0..200 {
        responses.push(client.begin("/").await);
    }
    for response in responses {
        assert_error(&answer(response).await.unwrap(), 503, "upstream-refused");
    }
}

/// Guards: `--max-header-bytes`, and nobody else on the connection notices.
#[tokio::test]
async fn too_large_a_head_is_431() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--max-header-bytes", "8KiB"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let with = |size: usize| {
        let mut head = get("/");
        let value = HeaderValue::from_str(&"x".repeat(size)).unwrap();
        head.headers_mut().insert("x-big", value);
        head
    };
    for (size, status) in [(6000, 200), (10_000, 431), (100, 200), (30_000, 431), (100, 200)] {
        let response = client.send(with(size), true).await.0;
        let answer = answer(response).await.unwrap();
        assert_eq!(answer.status, status, "{size} bytes");
        if status == 431 {
            assert_error(&answer, 431, "header-too-large");
        }
    }
    // Many small ones: each counts 32 bytes more than it has.
    let mut many = get("/");
    for i in 0..400 {
        many.headers_mut().append("x", HeaderValue::from(i));
    }
    let response = client.send(many, true).await.0;
    assert_eq!(answer(response).await.unwrap().status, 431);
    assert_eq!(client.get("/").await.status, 200);
}

/// Guards: what can't be forwarded.
#[tokio::test]
async fn a_connect_is_400() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &[]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let mut connect = Request::builder().method(Method::CONNECT).uri("app.test:443").body(()).unwrap();
    *connect.version_mut() = http::Version::HTTP_2;
    let (response, _stream) = client.send(connect, false).await;
    assert_error(&answer(response).await.unwrap(), 400, "bad-request");
    assert!(app.call_now().is_none());
}

/// Guards: heads that would mean something else in HTTP/1.1 than they do in HTTP/2 never get there.
#[tokio::test]
async fn malformed_heads_do_not_reach_the_app() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let block = |pseudo: &[(&str, &str)], fields: &[(&str, &str)]| {
        let mut block = Vec::new();
        pseudo.iter().chain(fields).for_each(|(name, value)| frames::field(&mut block, name, value));
        block
    };
    let usual = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let with = |name: &'static str, value: &'static str| block(&usual, &[(name, value)]);
    let replaced = |name: &'static str, value: &'static str| {
        let pseudo = usual.map(|(n, v)| if n == name { (n, value) } else { (n, v) });
        block(&pseudo, &[])
    };
    let blocks = [
        with("connection", "close"),
        with("transfer-encoding", "chunked"),
        with("upgrade", "websocket"),
        with("keep-alive", "5"),
        with("te", "gzip"),
        with("X-Upper", "1"),
        with("x", "a\r\nevil: 1"),
        with("x", "a\nb"),
        with("x", "a\0b"),
        with("x y", "1"),
        with("x:", "1"),
        with("", "1"),
        with(":status", "200"),
        with(":path", "/again"),
        with("content-length", "x"),
        with("content-length", "+4"),
        with("content-length", "4, 5"),
        with("content-length", "-1"),
        block(&usual, &[("content-length", "4"), ("content-length", "5")]),
        block(&usual[..3], &[]),
        block(&usual[1..], &[]),
        block(&[usual[0], usual[1], usual[3]], &[]),
        block(&[("x", "before")], &usual),
        replaced(":path", ""),
        replaced(":path", "/a b"),
        replaced(":path", "/a HTTP/1.1\r\nevil: 1"),
        replaced(":path", "nothing"),
        replaced(":path", "http://other/"),
        replaced(":method", "GET /"),
        replaced(":method", ""),
        replaced(":authority", "a b"),
        replaced(":authority", "a\r\nevil: 1"),
        replaced(":authority", "user@a"),
        replaced(":authority", ""),
        replaced(":authority", "a/b"),
    ];
    for block in blocks {
        let mut client = Frames::connect(ebb.addr()).await;
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        // Refused in one way or another, without delay.
        let refused = client.until("a refusal", |frame| {
            frame.kind == RST_STREAM || frame.kind == GOAWAY || (frame.kind == HEADERS && frame.stream == 1)
        });
        let refused = refused.await;
        let text = String::from_utf8_lossy(&block).into_owned();
        // 0x8c: the static table's ":status: 400".
        assert!(refused.kind != HEADERS || refused.payload[0] == 0x8c, "{text:?}: {refused:?}");
        assert!(app.request_now().is_none(), "reached the app: {text:?}");
    }
}

/// Guards: a body that is not as long as its length says is no request.
#[tokio::test]
async fn a_wrong_length_is_not_passed_on_as_right() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    for body in ["abc", "abcdefg"] {
        let mut client = Frames::connect(ebb.addr()).await;
        let head = frames::head("POST", "/", &[("content-length", "5")]);
        client.send(HEADERS, END_HEADERS, 1, &head).await;
        let mut exchange = app.request().await;
        client.send(frames::DATA, END_STREAM, 1, body.as_bytes()).await;
        assert_eq!(client.frame(RST_STREAM, 1).await.number(0), 1, "PROTOCOL_ERROR");
        let (bytes, _) = exchange.wire.rest().await;
        assert!(bytes.len() < 5, "{bytes:?}");
    }
}

/// Guards: `--max-connections`, in words that an HTTP/2 client understands.
#[tokio::test]
async fn one_connection_too_many() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--max-connections", "1"]).await;
    let mut first = Http2Client::connect(ebb.addr()).await;
    assert_eq!(first.get("/").await.status, 200);
    let mut second = Frames::silent(ebb.addr()).await;
    second.raw(frames::PREFACE).await;
    second.send(frames::SETTINGS, 0, 0, &[]).await;
    second.get(1, "/").await;
    assert_eq!(second.next().await.map(|frame| frame.kind), Some(frames::SETTINGS));
    let goaway = second.frame(GOAWAY, 0).await;
    assert_eq!(goaway.number(0), 0, "nothing was processed");
    assert_eq!(second.rest().await, []);
    // HTTP/1.1 clients hear it as before, those that say nothing too.
    let mut third = ebb.client().await;
    third.response().await.assert_error(503, "overloaded");
    assert_eq!(first.get("/").await.status, 200);
}
