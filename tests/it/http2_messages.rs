//! Heads and bodies from one version of HTTP to the other.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM,
};
use crate::support::http2::{self, Call, Http2App, Http2Client, answer, post};
use crate::support::{App, Ebb, within};

/// The fields that belong to one connection, which HTTP/2 has not.
const HOP_BY_HOP: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"];

fn assert_no_hop_by_hop(fields: &HeaderMap) {
    for name in HOP_BY_HOP {
        assert!(!fields.contains_key(name), "{name} over HTTP/2: {fields:?}");
    }
}

async fn h2_to_h2() -> (Http2App, Ebb, Http2Client) {
    let app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &[]).await;
    let client = Http2Client::connect(ebb.addr()).await;
    (app, ebb, client)
}

/// Guards: what the app sees of a request, HTTP/2 all the way.
#[tokio::test]
async fn http2_to_http2() {
    let (mut app, _ebb, mut client) = h2_to_h2().await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "OPTIONS"] {
        let head = Request::builder()
            .method(method)
            .uri("http://shop.test:8080/a%20b/c?d=e&f")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-forwarded-for", "192.0.2.7")
            .header("x-empty", "")
            .body(())
            .unwrap();
        let (response, mut body) = client.send(head, false).await;
        http2::write(&mut body, b"question", true).await.unwrap();
        let mut call = app.call().await;
        assert_eq!(call.request.method(), method);
        assert_eq!(call.request.uri().to_string(), "http://shop.test:8080/a%20b/c?d=e&f");
        assert_eq!(call.request.headers().get_all("cookie").iter().count(), 2);
        assert_eq!(call.field("te"), Some("trailers"));
        assert_eq!(call.field("x-empty"), Some(""));
        assert_eq!(call.field("x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
        assert_eq!(call.field("x-forwarded-host"), Some("shop.test:8080"));
        assert_eq!(call.field("x-forwarded-proto"), Some("http"));
        assert_eq!(call.field("content-length"), None);
        assert_no_hop_by_hop(call.request.headers());
        assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"question");
        let head = Response::builder().status(201).header("set-cookie", "c=3").header("set-cookie", "d=4");
        let mut stream = call.begin_with(head.body(()).unwrap());
        stream.send_data(Bytes::from("reply"), true).unwrap();
        let reply = answer(response).await.unwrap();
        assert_eq!((reply.status, &*reply.body), (201, &b"reply"[..]));
        assert_eq!(reply.head.get_all("set-cookie").iter().count(), 2);
        assert_no_hop_by_hop(&reply.head);
    }
    assert_eq!(app.accepted(), 1);
}

/// Guards: what an HTTP/1.1 app sees of an HTTP/2 request.
async fn to_http1(flags: &[&str]) {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, flags).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    // The first of them may be where the app's version is found out.
    for _ in 0..2 {
        let head = Request::builder()
            .method("POST")
            .uri("http://shop.test:8080/a?b=c")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut body) = client.send(head, false).await;
        http2::write(&mut body, b"question", true).await.unwrap();
        let mut exchange = loop {
            let mut exchange = app.request().await;
            if exchange.head.start == "PRI * HTTP/2.0" {
                exchange.wire.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await.unwrap();
                continue;
            }
            break exchange;
        };
        let head = &exchange.head;
        assert_eq!(head.start, "POST /a?b=c HTTP/1.1");
        assert_eq!(head.get("host"), Some("shop.test:8080"));
        assert_eq!(head.get("cookie"), Some("a=1; b=2"));
        assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(head.get("x-forwarded-host"), Some("shop.test:8080"));
        assert_eq!(head.get("transfer-encoding"), Some("chunked"));
        assert_eq!(exchange.body().await.unwrap().bytes, b"question");
        let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n\
                    Proxy-Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nreply\r\n0\r\n\r\n";
        exchange.wire.send(head).await.unwrap();
        exchange.keep();
        let reply = answer(response).await.unwrap();
        assert_eq!((reply.status, &*reply.body), (200, &b"reply"[..]));
        assert_no_hop_by_hop(&reply.head);
        assert!(!reply.head.contains_key("x-mine"));
    }
}

/// Guards: an app that answers the preface in HTTP/1.1 is asked in HTTP/1.1.
#[tokio::test]
async fn http2_to_http1_found_out() {
    to_http1(&[]).await;
}

/// Guards: `--upstream-protocol http1`.
#[tokio::test]
async fn http2_to_http1_by_flag() {
    to_http1(&["--upstream-protocol", "http1"]).await;
}

/// Guards: `--upstream-protocol h2c`.
#[tokio::test]
async fn http1_to_http2() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--upstream-protocol", "h2c"]).await;
    let mut client = ebb.client().await;
    let request = "POST /a?b=c HTTP/1.1\r\nHost: shop.test:8080\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
                   Keep-Alive: timeout=5\r\nTE: trailers, deflate\r\nTransfer-Encoding: chunked\r\n\r\n\
                   8\r\nquestion\r\n0\r\n\r\n";
    for _ in 0..2 {
        client.send(request).await;
        let mut call = app.call().await;
        assert_eq!(call.request.method(), "POST");
        assert_eq!(call.request.uri().to_string(), "http://shop.test:8080/a?b=c");
        assert_eq!(call.field("x-forwarded-host"), Some("shop.test:8080"));
        assert_eq!(call.field("x-mine"), None);
        assert_eq!(call.field("te"), Some("trailers"));
        assert_no_hop_by_hop(call.request.headers());
        assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"question");
        call.answer("reply");
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, "reply"));
    }
    // With a length, it stays.
    client.send("PUT /l HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    let mut call = app.call().await;
    assert_eq!(call.field("content-length"), Some("3"));
    assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"abc");
    let mut stream = call.begin_with(Response::builder().header("content-length", "5").body(()).unwrap());
    stream.send_data(Bytes::from("reply"), true).unwrap();
    let response = client.response().await;
    assert_eq!(response.head.get("content-length"), Some("5"));
    assert_eq!(app.accepted(), 1);
}

/// Guards: targets that are no ordinary path.
#[tokio::test]
async fn an_asterisk_goes_both_ways() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--upstream-protocol", "h2c"]).await;
    let mut client = ebb.client().await;
    client.send("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let call = app.call().await;
    assert_eq!(call.path(), "*", "{:?}", call.request);
    call.answer("reply");
    assert_eq!(client.response().await.status(), 200);
    // An absolute target: its authority is the host.
    client.send("GET http://other.test HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let call = app.call().await;
    assert_eq!(call.request.uri().to_string(), "http://other.test/");
    call.answer("reply");
    assert_eq!(client.response().await.status(), 200);
    // No host that HTTP/2 could carry.
    client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 400);
    assert!(app.call_now().is_none());
}

/// Guards: no body where there is none, whatever the length says.
#[tokio::test]
async fn messages_without_a_body() {
    let (mut app, _ebb, mut client) = h2_to_h2().await;
    let head = Request::head("http://app.test/").body(()).unwrap();
    let response = client.send(head, true).await.0;
    let mut call = app.call().await;
    assert!(call.body.is_end_stream());
    let head = Response::builder().header("content-length", "1000").body(()).unwrap();
    call.respond.send_response(head, true).unwrap();
    let reply = answer(response).await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.head["content-length"], "1000");
    for status in [204, 304, 200] {
        let response = client.begin("/").await;
        let mut call = app.call().await;
        let head = Response::builder().status(status).body(()).unwrap();
        call.respond.send_response(head, true).unwrap();
        let reply = answer(response).await.unwrap();
        assert_eq!((reply.status, reply.body.len()), (status, 0));
    }
    // An empty body whose end comes by itself, both ways.
    let (response, mut stream) = client.send(post("/"), false).await;
    let mut call = app.call().await;
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"");
    call.begin().send_data(Bytes::new(), true).unwrap();
    assert_eq!(answer(response).await.unwrap().body, b"");
}

/// Guards: the same from an HTTP/1.1 app.
#[tokio::test]
async fn messages_without_a_body_from_http1() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    for (method, head, length) in [
        ("HEAD", "200 OK\r\nContent-Length: 1000", Some("1000")),
        ("GET", "204 No Content", None),
        ("GET", "304 Not Modified\r\nContent-Length: 7", Some("7")),
        ("GET", "200 OK\r\nContent-Length: 0", Some("0")),
        ("DELETE", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0", None),
    ] {
        let request = Request::builder().method(method).uri("http://app.test/").body(()).unwrap();
        let response = client.send(request, true).await.0;
        let mut exchange = app.request().await;
        assert!(!exchange.head.has("transfer-encoding", "chunked"), "{}", exchange.head);
        exchange.wire.send(format!("HTTP/1.1 {head}\r\n\r\n")).await.unwrap();
        exchange.keep();
        let reply = answer(response).await.unwrap();
        assert_eq!(reply.body, b"");
        assert_eq!(reply.head.get("content-length").map(|value| value.to_str().unwrap()), length);
    }
}

/// Guards: an HTTP/1.1 app's words about upgrades have no place in HTTP/2.
#[tokio::test]
async fn an_upgrade_required_is_passed_on() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let response = client.begin("/").await;
    let mut exchange = app.request().await;
    let head = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n";
    exchange.wire.send(head).await.unwrap();
    exchange.keep();
    let reply = answer(response).await.unwrap();
    assert_eq!(reply.status, 426);
    assert_no_hop_by_hop(&reply.head);
}

/// Guards: trailers both ways, with a body before them and without.
#[tokio::test]
async fn trailers() {
    let (mut app, _ebb, mut client) = h2_to_h2().await;
    let fields = |value: &'static str| {
        HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static(value))])
    };
    for body in ["", "body"] {
        let (response, mut stream) = client.send(post("/"), false).await;
        if !body.is_empty() {
            stream.send_data(Bytes::from(body), false).unwrap();
        }
        stream.send_trailers(fields("1")).unwrap();
        let mut call: Call = app.call().await;
        let (bytes, trailers) = http2::read(&mut call.body).await.unwrap();
        assert_eq!((&*bytes, trailers), (body.as_bytes(), Some(fields("1"))));
        let mut stream = call.begin();
        if !body.is_empty() {
            stream.send_data(Bytes::from(body), false).unwrap();
        }
        stream.send_trailers(fields("2")).unwrap();
        let reply = answer(response).await.unwrap();
        assert_eq!((&*reply.body, reply.trailers), (body.as_bytes(), Some(fields("2"))));
    }
}

/// Guards: trailers that are larger than allowed end their stream: what is left of them isn't passed on as if it were all.
#[tokio::test]
async fn trailers_that_are_too_large() {
    let ebb = Ebb::start_at(Http2App::echo().await, &[]).await;
    let mut client = Frames::connect(ebb.addr()).await;
    client.send(HEADERS, END_HEADERS, 1, &frames::head("POST", "/", &[])).await;
    client.send(DATA, 0, 1, b"body").await;
    let large = "x".repeat(16_000);
    let field = |name, value: &str| {
        let mut block = Vec::new();
        frames::field(&mut block, name, value);
        block
    };
    client.send(HEADERS, END_STREAM, 1, &field("a", &large)).await;
    for name in ["b", "c", "d", "e"] {
        client.send(CONTINUATION, 0, 1, &field(name, &large)).await;
    }
    client.send(CONTINUATION, END_HEADERS, 1, &field("grpc-status", "13")).await;
    let over = |frame: &frames::Frame| frame.kind == RST_STREAM || frame.flags & END_STREAM != 0;
    let end = client.until("the stream's end", |frame| frame.stream == 1 && over(frame)).await;
    assert_eq!(end.kind, RST_STREAM, "{} bytes taken for all", end.payload.len());
}

/// Guards: trailers of an HTTP/1.1 app, which may name anything.
#[tokio::test]
async fn trailers_from_http1() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let response = client.begin("/").await;
    let mut exchange = app.request().await;
    let message = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\
                   Connection: close\r\n\r\n";
    exchange.wire.send(message).await.unwrap();
    exchange.keep();
    let reply = answer(response).await.unwrap();
    assert_eq!(reply.body, b"body");
    let trailers = reply.trailers.expect("trailers");
    assert_eq!(trailers["x-sum"], "7");
    assert_no_hop_by_hop(&trailers);
}

/// Guards: informational responses of the app; the final one counts.
#[tokio::test]
async fn early_hints_are_no_response() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--upstream-protocol", "h2c"]).await;
    let mut new = Http2Client::connect(ebb.addr()).await;
    let response = new.begin("/").await;
    let hints = || Response::builder().status(103).header("link", "</a>").body(()).unwrap();
    let mut call = app.call().await;
    call.respond.send_informational(hints()).unwrap();
    call.answer("reply");
    assert_eq!(answer(response).await.unwrap().body, b"reply");
    // With something to wait for: hints are no 100 (Continue).
    let mut old = ebb.client().await;
    old.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let mut call = app.call().await;
    call.respond.send_informational(hints()).unwrap();
    call.respond.send_informational(Response::builder().status(100).body(()).unwrap()).unwrap();
    assert_eq!(old.head().await.status(), 100);
    old.send("body").await;
    assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"body");
    call.answer("reply");
    assert_eq!(old.response().await.text(), "reply");
}

/// Guards: `Expect` is answered here, for what holds a body back in HTTP/2 is the window.
#[tokio::test]
async fn an_expectation_over_http2() {
    let (mut app, _ebb, mut client) = h2_to_h2().await;
    let mut head = post("/");
    head.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    let (mut response, mut stream) = client.send(head, false).await;
    let informational = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert_eq!(informational.unwrap().unwrap().status(), 100);
    stream.send_data(Bytes::from("body"), true).unwrap();
    let mut call = app.call().await;
    assert_eq!(call.field("expect"), None);
    assert_eq!(http2::read(&mut call.body).await.unwrap().0, b"body");
    call.answer("reply");
    assert_eq!(answer(response).await.unwrap().body, b"reply");
}

/// Guards: the way that a request takes can't be told from its line in the access log.
#[tokio::test]
async fn the_access_log_says_the_same_of_every_request() {
    let app = Http2App::echo().await;
    let mut ebb = Ebb::start_at(app, &["--workers", "1", "--access-log", "json"]).await;
    let mut lines = BufReader::new(ebb.stdout()).lines();
    let mut client = Http2Client::connect(ebb.addr()).await;
    let mut all = Vec::new();
    // The first one has to wait for a connection to the app; an expectation makes a request other than plain.
    for expect in [None, None, Some("100-continue")] {
        let mut head = post("/a?b");
        head.headers_mut().insert("user-agent", HeaderValue::from_static("tester"));
        head.headers_mut()
            .extend(expect.map(|expect| (http::header::EXPECT, HeaderValue::from_static(expect))));
        let (response, mut body) = client.send(head, false).await;
        http2::write(&mut body, b"question", true).await.unwrap();
        assert_eq!(answer(response).await.unwrap().body, b"question");
        let line = within("an access log line", lines.next_line()).await.unwrap().unwrap();
        let mut line: serde_json::Value = serde_json::from_str(&line).unwrap();
        for varies in ["time", "duration_ms"] {
            line.as_object_mut().unwrap().remove(varies).unwrap();
        }
        all.push(line);
    }
    assert_eq!((&all[0]["protocol"], &all[0]["bytes_sent"]), (&"HTTP/2".into(), &8.into()), "{}", all[0]);
    assert_eq!((&all[0]["path"], &all[0]["user_agent"]), (&"/a?b".into(), &"tester".into()), "{}", all[0]);
    assert!(all.iter().all(|line| *line == all[0]), "{all:?}");
}
