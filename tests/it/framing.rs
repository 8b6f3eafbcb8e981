//! How the end of a message is told, and what must not be lost or misunderstood on the way.

use crate::support::{App, Ebb, within};

/// Guards: a chunked body stays with its request, also where a body is unusual.
#[tokio::test]
async fn a_chunked_get_keeps_its_body() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    for method in ["GET", "DELETE", "OPTIONS"] {
        client
            .send(format!(
                "{method} /search HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nquery\r\n0\r\n\r\n"
            ))
            .await;
        let mut exchange = app.request().await;
        assert_eq!(within("the body", exchange.body()).await.unwrap().bytes, b"query", "{method}");
        exchange.answer("200 OK", "found").await.unwrap();
        exchange.keep();
        assert_eq!(client.response().await.text(), "found", "{method}");
    }
}

/// Guards: chunked overrides a length (RFC 9112 section 6.3), which does not go on.
#[tokio::test]
async fn a_response_of_two_framings_is_chunked() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/").await;
    let mut exchange = app.request().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    exchange.wire.send(format!("{head}b\r\nhello world\r\n0\r\n\r\n")).await.unwrap();
    let response = client.response().await;
    assert_eq!(response.head.get("content-length"), None);
    assert_eq!(response.text(), "hello world");
}

/// Guards: a transfer coding that ebb would lose on the way is refused, on the way there and back.
#[tokio::test]
async fn other_transfer_codings_are_refused() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    for coding in ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked"] {
        let mut client = ebb.client().await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
            ))
            .await;
        client.response().await.assert_error(400, "bad-request");
    }
    assert!(app.request_now().is_none());
    let mut client = ebb.client().await;
    client.send_get("/").await;
    let mut exchange = app.request().await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    exchange.wire.send(format!("{head}4\r\nzzzz\r\n0\r\n\r\n")).await.unwrap();
    client.response().await.assert_error(502, "upstream-invalid");
}

/// Guards: no way past ebb by an upgrade to HTTP/2: the app hears of an ordinary request.
#[tokio::test]
async fn an_upgrade_to_h2c_is_not_forwarded() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    for upgrade in ["h2c", "H2C", "websocket, h2c"] {
        let mut client = ebb.client().await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            ))
            .await;
        let mut exchange = app.request().await;
        for field in ["upgrade", "http2-settings"] {
            assert_eq!(exchange.head.get(field), None, "{upgrade}");
        }
        assert!(!exchange.head.has("connection", "upgrade"), "{}", exchange.head);
        exchange.answer("200 OK", "in HTTP/1.1").await.unwrap();
        assert_eq!(client.response().await.text(), "in HTTP/1.1");
    }
}

/// Guards: a 426 says what to upgrade to (RFC 9110 section 15.5.22).
#[tokio::test]
async fn a_426_keeps_its_upgrade() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/").await;
    let mut exchange = app.request().await;
    let fields = "Connection: upgrade\r\nUpgrade: echo/1\r\nContent-Length: 0";
    exchange.wire.send(format!("HTTP/1.1 426 Upgrade Required\r\n{fields}\r\n\r\n")).await.unwrap();
    let response = client.response().await;
    assert_eq!((response.status(), response.head.get("upgrade")), (426, Some("echo/1")));
    assert!(response.head.has("connection", "upgrade"), "{}", response.head);
}

/// Guards: a target without a path is CONNECT's alone (RFC 9112 section 3.2.3).
#[tokio::test]
async fn a_target_that_is_an_authority_is_400() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.get("app.test:80").await.assert_error(400, "bad-request");
    assert!(app.request_now().is_none());
}

/// Guards: a body that the client breaks off or garbles is the client's fault, and counts as no error of the app.
#[tokio::test]
async fn a_broken_chunk_is_400() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n").await;
    let mut exchange = app.request().await;
    assert_eq!(within("the first chunk", exchange.wire.chunk()).await.unwrap(), b"body");
    client.send("no size\r\n").await;
    client.response().await.assert_error(400, "bad-request");
    let metrics = ebb.admin_get("/metrics").await;
    let errors = metrics.text().lines().filter(|line| line.starts_with("ebb_upstream_errors_total"));
    assert!(errors.clone().all(|line| line.ends_with(" 0")), "{:?}", errors.collect::<Vec<_>>());
}
