//! Header fields: what is removed, what is added, what must stay as it was.

use crate::support::{App, Ebb, Head, Response};

/// Sends one request and answers it; returns what the app and the client saw.
async fn exchange(flags: &[&str], request: &str, response: &str) -> (Head, Response) {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, flags).await;
    let mut client = ebb.client().await;
    client.send(request).await;
    let mut exchange = app.request().await;
    exchange.wire.send(response).await.unwrap();
    let head = exchange.head.clone();
    exchange.keep();
    (head, client.response().await)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Guards: the fields of RFC 9110 section 7.6.1 end at ebb, on the way there and on the way back.
#[tokio::test]
async fn hop_by_hop_fields_are_removed() {
    let (request, response) = exchange(
        &[],
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, X-Mine\r\nConnection: X-Other\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\
         X-Mine: 1\r\nX-Other: 2\r\nX-Kept: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, X-App\r\nKeep-Alive: timeout=7\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-App: 1\r\nX-Kept: 2\r\n\r\n",
    )
    .await;
    for name in ["keep-alive", "proxy-connection", "te", "upgrade", "x-mine", "x-other"] {
        assert_eq!(request.all(name), [""; 0], "{name} reached the app");
    }
    assert!(!request.has("connection", "x-mine") && !request.has("connection", "x-other"), "{request}");
    assert_eq!(request.get("x-kept"), Some("3"));
    for name in ["keep-alive", "proxy-connection", "upgrade", "x-app"] {
        assert_eq!(response.head.all(name), [""; 0], "{name} reached the client");
    }
    assert!(!response.head.has("connection", "x-app"), "{}", response.head);
    assert_eq!(response.head.get("x-kept"), Some("2"));
}

/// Guards: `Connection` can't be used to strip what the message or ebb itself depends on.
#[tokio::test]
async fn connection_does_not_remove_what_is_needed() {
    let (request, _) = exchange(
        &[],
        "POST / HTTP/1.1\r\nHost: app.test\r\nConnection: Host, Content-Length, X-Forwarded-For\r\n\
         Content-Length: 0\r\n\r\n",
        OK,
    )
    .await;
    assert_eq!(request.get("host"), Some("app.test"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
}

/// Guards: `X-Forwarded-*` as an app without another proxy before ebb sees them.
#[tokio::test]
async fn forwarded_fields_are_added() {
    let (request, _) = exchange(&[], "GET / HTTP/1.1\r\nHost: app.test:8080\r\n\r\n", OK).await;
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("app.test:8080"));
    assert_eq!(request.get("host"), Some("app.test:8080"));
}

const FORWARDED: &str = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 203.0.113.7\r\n\
    X-Forwarded-For: 203.0.113.8, 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.test\r\n\r\n";

/// Guards: `--forwarded append` believes the proxies before ebb.
#[tokio::test]
async fn forwarded_append() {
    let (request, _) = exchange(&["--forwarded", "append"], FORWARDED, OK).await;
    let chain = request.all("x-forwarded-for").join(", ");
    assert_eq!(chain, "203.0.113.7, 203.0.113.8, 203.0.113.9, 127.0.0.1");
    assert_eq!(request.get("x-forwarded-proto"), Some("https"));
    assert_eq!(request.get("x-forwarded-host"), Some("www.test"));
}

/// Guards: `--forwarded replace` believes nobody.
#[tokio::test]
async fn forwarded_replace() {
    let (request, _) = exchange(&["--forwarded", "replace"], FORWARDED, OK).await;
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("app.test"));
}

/// Guards: `--forwarded off` changes nothing.
#[tokio::test]
async fn forwarded_off() {
    let (request, _) = exchange(&["--forwarded", "off"], FORWARDED, OK).await;
    assert_eq!(request.all("x-forwarded-for"), ["203.0.113.7", "203.0.113.8, 203.0.113.9"]);
    assert_eq!(request.get("x-forwarded-proto"), Some("https"));
    assert_eq!(request.get("x-forwarded-host"), Some("www.test"));
    let (request, _) =
        exchange(&["--forwarded", "off"], "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", OK).await;
    assert_eq!(request.get("x-forwarded-for"), None);
    assert_eq!(request.get("x-forwarded-proto"), None);
    assert_eq!(request.get("x-forwarded-host"), None);
}

/// Guards: the target is the app's business, down to the byte.
#[tokio::test]
async fn targets_are_left_alone() {
    for target in ["/a//b/../c/./%2f%2F?q=a%20b&r=[1]+2&&", "/?", "*"] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let (request, _) = exchange(&[], &request, OK).await;
        assert_eq!(request.target(), target);
    }
}

/// Guards: repeated fields and odd but legal values stay as they are, both ways.
#[tokio::test]
async fn other_fields_are_left_alone() {
    let (request, response) = exchange(
        &[],
        "GET / HTTP/1.1\r\nHost: app.test\r\nCookie: a=1\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\n\
         X-Odd: caf\u{e9} \"q\\\"\"\t;\r\n\r\n",
        "HTTP/1.1 299 Very Fine\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: app\r\n\
         Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nVia: 1.1 other\r\n\r\n",
    )
    .await;
    assert_eq!(request.get("cookie"), Some("a=1"));
    assert_eq!(request.all("x-twice"), ["1", "2"]);
    assert_eq!(request.get("x-empty"), Some(""));
    assert_eq!(request.get("x-odd"), Some("caf\u{e9} \"q\\\"\"\t;"));
    assert_eq!(response.status(), 299);
    assert_eq!(response.head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.head.get("server"), Some("app"));
    assert_eq!(response.head.get("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
}

/// Guards: names reach the other side as they were written, whichever way a message goes: the second request has a field
/// that is not for the short one, and so has the last response.
#[tokio::test]
async fn names_keep_their_case() {
    let chunked = "HTTP/1.1 200 OK\r\nX-cAsE: b\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n0\r\n\r\n";
    let plain = "HTTP/1.1 200 OK\r\nX-cAsE: b\r\nContent-Length: 0\r\n\r\n";
    for (field, answer) in [("", plain), ("TE: trailers\r\n", plain), ("", chunked)] {
        let request = format!("GET / HTTP/1.1\r\nHost: app.test\r\nx-CaSe: a\r\n{field}\r\n");
        let (request, response) = exchange(&[], &request, answer).await;
        assert!(request.to_string().contains("\nx-CaSe: a\n"), "{request}");
        assert!(response.head.to_string().contains("\nX-cAsE: b\n"), "{}", response.head);
    }
}

/// Guards: what could mean two things never reaches the app in both meanings (RFC 9112 section 6.3).
#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
             0\r\n\r\n",
        )
        .await;
    tokio::select! {
        mut exchange = app.request() => {
            assert!(exchange.head.has("transfer-encoding", "chunked"), "{}", exchange.head);
            assert_eq!(exchange.head.get("content-length"), None);
            exchange.answer("200 OK", "").await.unwrap();
        }
        response = client.response() => assert_eq!(response.status(), 400),
    }
}
