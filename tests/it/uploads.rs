//! Uploads that go on when their response is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{App, Ebb, UnixApp, let_time_pass, within};

/// More than a Unix socket takes, and less than ebb and the socket do: when ebb has read all of it, part of it
/// has not reached an app that does not read.
const TAIL_IN_EBB: usize = 350_000;

/// Guards: a body is a body to its last byte, whenever its response was over: what looks like a request in it
/// is none.
#[tokio::test]
async fn the_rest_of_a_body_is_no_request() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let inner = "GET /inner HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let length = "begin,".len() + inner.len();
    client
        .send(format!("POST /outer HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\nbegin,"))
        .await;
    let mut outer = app.request().await;
    outer.answer("200 OK", "early").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("early", false));
    // For longer than a connection has to be idle to be parked.
    let_time_pass(Duration::from_secs(2)).await;
    client.send(inner).await;
    assert_eq!(within("the body", outer.body()).await.unwrap().bytes, format!("begin,{inner}").as_bytes());
    outer.keep();
    client.send_get("/next").await;
    let mut next = app.request().await;
    assert_eq!(next.head.target(), "/next");
    next.answer("200 OK", "next").await.unwrap();
    assert_eq!(client.response().await.text(), "next");
}

/// Guards: what ebb has read of an upload reaches the app, however slowly that reads, after the response too.
#[tokio::test]
async fn an_upload_outlives_its_response() {
    let app = UnixApp::new();
    let ebb = app.start_ebb(&[]).await;
    for connection in ["keep-alive", "close"] {
        let mut client = ebb.client().await;
        client.send(upload(connection)).await;
        client.send_filler(TAIL_IN_EBB as u64).await;
        let mut exchange = app.request().await;
        exchange.answer("202 Accepted", "early").await;
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("early", connection == "close"));
        if connection == "close" {
            client.peer_finished().await;
        }
        drop(client);
        let_time_pass(Duration::from_millis(500)).await;
        assert_eq!(exchange.read_body(TAIL_IN_EBB).await, TAIL_IN_EBB, "{connection}");
    }
}

/// Guards: a drain waits for an upload whose response, with which the client was told to go, is over.
#[tokio::test]
async fn a_drain_waits_for_an_upload_to_reach_the_app() {
    let app = UnixApp::new();
    let mut ebb = app.start_ebb(&[]).await;
    let mut client = ebb.client().await;
    client.send(upload("keep-alive")).await;
    client.send_filler(TAIL_IN_EBB as u64).await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    ebb.signal(libc::SIGTERM);
    exchange.answer("202 Accepted", "early").await;
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("early", true));
    client.expect_fin().await;
    drop(client);
    // For longer than it would take ebb to end if it did not wait.
    let_time_pass(Duration::from_secs(1)).await;
    assert_eq!(exchange.read_body(TAIL_IN_EBB).await, TAIL_IN_EBB);
    drop(exchange);
    assert_eq!(hook.report().await["outcome"], "clean");
    assert_eq!(ebb.exit().await.code(), Some(0));
}

/// Guards: the same where the client is not told to go, and has been idle for so long that its connection is closed.
#[tokio::test]
async fn a_drain_waits_for_an_upload_behind_an_idle_connection() {
    let app = UnixApp::new();
    let mut ebb = app.start_ebb(&["--grace-period", "30s"]).await;
    let mut client = ebb.client().await;
    client.send(upload("keep-alive")).await;
    client.send_filler(1000).await;
    let mut exchange = app.request().await;
    exchange.answer("202 Accepted", "early").await;
    assert_eq!(client.response().await.text(), "early");
    client.send_filler(TAIL_IN_EBB as u64 - 1000).await;
    let hook = ebb.drain().await;
    ebb.signal(libc::SIGTERM);
    client.expect_fin().await;
    drop(client);
    // For longer than it would take ebb to end if it did not wait.
    let_time_pass(Duration::from_secs(1)).await;
    assert_eq!(exchange.read_body(TAIL_IN_EBB).await, TAIL_IN_EBB);
    drop(exchange);
    assert_eq!(hook.report().await["outcome"], "clean");
    assert_eq!(ebb.exit().await.code(), Some(0));
}

/// Guards: a client that was answered early, and neither sends the rest nor closes, does not hold a drain to its
/// deadline.
#[tokio::test]
async fn an_upload_that_stands_still_does_not_hold_the_drain() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--grace-period", "30s"]).await;
    let mut client = ebb.client().await;
    client.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\r\nbegin").await;
    let mut exchange = app.request().await;
    exchange.answer("401 Unauthorized", "no").await.unwrap();
    assert_eq!(client.response().await.status(), 401);
    let begin = Instant::now();
    let hook = ebb.drain().await;
    client.expect_fin().await;
    drop(client);
    hook.report().await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

fn upload(connection: &str) -> String {
    format!(
        "POST /up HTTP/1.1\r\nHost: app.test\r\nConnection: {connection}\r\nContent-Length: {TAIL_IN_EBB}\r\n\r\n"
    )
}
