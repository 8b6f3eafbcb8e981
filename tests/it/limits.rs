//! What a client may take up, and what it hears when it wants more.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{App, Client, Ebb, let_time_pass, within};

/// Guards: `--header-timeout`, and the answer that says so.
#[tokio::test]
async fn a_head_that_takes_too_long_is_408() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--header-timeout", "300ms"]).await;
    let mut client = ebb.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app").await;
    let response = client.response().await;
    response.assert_error(408, "header-timeout");
    assert!(response.closes());
    client.expect_fin().await;
}

/// Guards: the time-out runs from the head's first byte, on a connection that was used before too.
#[tokio::test]
async fn a_second_head_that_takes_too_long_is_408() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--header-timeout", "300ms"]).await;
    let mut client = ebb.client().await;
    assert_eq!(client.get("/").await.status(), 200);
    // Idle for longer than that is no fault.
    let_time_pass(Duration::from_millis(600)).await;
    assert_eq!(client.get("/").await.status(), 200);
    client.send("GET / HT").await;
    client.response().await.assert_error(408, "header-timeout");
    client.expect_fin().await;
}

/// Guards: `--header-timeout` is no limit on the body or on the response.
#[tokio::test]
async fn a_slow_body_is_no_slow_head() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--header-timeout", "200ms", "--idle-timeout", "200ms"]).await;
    let mut client = ebb.client().await;
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\n").await;
    let mut exchange = app.request().await;
    let_time_pass(Duration::from_millis(500)).await;
    client.send("body").await;
    assert_eq!(within("the body", exchange.body()).await.unwrap().bytes, b"body");
    let_time_pass(Duration::from_millis(500)).await;
    exchange.answer("200 OK", "fine").await.unwrap();
    assert_eq!(client.response().await.text(), "fine");
}

/// Guards: `--idle-timeout`, before the first request and between two.
#[tokio::test]
async fn an_idle_connection_is_closed() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--idle-timeout", "300ms"]).await;
    let mut used = ebb.client().await;
    assert_eq!(used.get("/").await.status(), 200);
    used.expect_fin().await;
    let mut unused = ebb.client().await;
    unused.expect_fin().await;
}

/// Guards: `--max-header-bytes`.
#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--max-header-bytes", "8KiB"]).await;
    let mut client = ebb.client().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\nX-Big: {}\r\n\r\n", "x".repeat(6000))).await;
    assert_eq!(client.response().await.status(), 200, "below the limit");
    client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\nX-Big: {}\r\n\r\n", "x".repeat(20_000))).await;
    let response = client.response().await;
    response.assert_error(431, "header-too-large");
    assert!(response.closes());
    client.expect_fin().await;
}

/// Guards: many small fields, which the default limits allow.
#[tokio::test]
async fn a_head_of_many_fields_is_fine() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let fields: String = (0..90).map(|i| format!("X-{i}: {}\r\n", "y".repeat(500))).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")).await;
    assert_eq!(client.response().await.status(), 200);
}

/// Guards: what is no request gets an answer and an end, never the app.
#[tokio::test]
async fn a_bad_request_is_400() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    for bad in [
        "GARBAGE\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-Space : 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = ebb.client().await;
        client.send(bad).await;
        let response = client.response().await;
        assert_eq!(response.status(), 400, "{bad:?}");
        assert_eq!(response.head.get("ebb-error"), Some("bad-request"), "{bad:?}");
        assert!(response.closes(), "{bad:?}");
        client.expect_fin().await;
    }
    assert!(app.request_now().is_none());
}

/// Guards: `--max-connections`: one too many is told so, and nobody else notices.
#[tokio::test]
async fn one_connection_too_many_is_503() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--max-connections", "2"]).await;
    let mut first = ebb.client().await;
    let mut second = ebb.client().await;
    assert_eq!(first.get("/").await.status(), 200);
    assert_eq!(second.get("/").await.status(), 200);
    let mut third = ebb.client().await;
    let response = third.get("/").await;
    response.assert_error(503, "overloaded");
    assert!(response.closes());
    third.expect_fin().await;
    assert_eq!(first.get("/").await.status(), 200);
    // Once ebb has said goodbye to one, there is room again.
    second.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(second.response().await.status(), 200);
    second.expect_fin().await;
    drop(second);
    within("room for another", async {
        while Client::connect(ebb.addr()).await.get("/").await.status() != 200 {}
    })
    .await;
}

/// Guards: the accept loop's back-off: without a free descriptor it neither spins nor ends.
#[tokio::test]
async fn without_descriptors_accepting_recovers() {
    let app = App::hello();
    let ebb = Ebb::start_with_ulimit(&app, "-n 48", &["--max-connections", "1000"]).await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(ebb.client().await);
    }
    let out_of_files = |line: &serde_json::Value| line.to_string().contains("os error 24");
    ebb.logged("that it has no more files", out_of_files).await;
    let before = ebb.cpu_ticks();
    let_time_pass(Duration::from_secs(1)).await;
    let spent = ebb.cpu_ticks() - before;
    assert!(spent < 50, "ebb spins: {spent} hundredths of a second in one");
    drop(clients);
    within("ebb to accept again", async {
        while Client::connect(ebb.addr()).await.get("/").await.status() != 200 {}
    })
    .await;
}

/// Guards: the soft limit of file descriptors is raised, with `--max-connections` too.
#[tokio::test]
async fn the_limit_of_descriptors_is_raised() {
    let app = App::hello();
    let ebb = Ebb::start_with_ulimit(&app, "-S -n 64", &["--max-connections", "500"]).await;
    let mut clients = Vec::new();
    for number in 0..100 {
        let mut client = ebb.client().await;
        assert_eq!(client.get("/").await.status(), 200, "client {number}");
        clients.push(client);
    }
}

/// Guards: `--access-log json`: one line a request.
#[tokio::test]
async fn the_access_log_has_a_line_a_request() {
    let app = App::hello();
    let mut ebb = Ebb::start_with(&app, &["--access-log", "json"]).await;
    let mut lines = BufReader::new(ebb.stdout()).lines();
    let mut client = ebb.client().await;
    for target in ["/one?x=1", "/two"] {
        client.get(target).await;
        let line = within("an access log line", lines.next_line()).await.unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line.to_string().contains(target), "{line}");
        assert!(line.to_string().contains("200"), "{line}");
    }
}

/// Guards: a time-out that would end everything at once, or a look without a pause, is refused.
#[tokio::test]
async fn no_time_at_all_is_refused() {
    let flags = [
        "--idle-timeout",
        "--header-timeout",
        "--connect-timeout",
        "--tls-handshake-timeout",
        "--tls-reload-interval",
    ];
    for flag in flags {
        let (code, text) = Ebb::refused(&["--forward", "0=1", flag, "0ms"]).await;
        let wanted = format!("invalid value '0ms' for '{flag} <DURATION>': write a duration above zero");
        assert!(code == Some(2) && text.contains(&wanted), "{text}");
    }
}
