//! The deadline: what has not ended by then is told so as far as its protocol has a word for it, and cut.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{App, Client, Ebb, End, Exchange, let_time_pass, within};

/// The deadline comes two seconds after the trigger.
const SOON: &[&str] = &["--grace-period", "4s", "--app-shutdown", "1s"];

async fn held(app: &mut App, ebb: &Ebb, request: &str) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send(request).await;
    (client, app.request().await)
}

const GET: &str = "GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// Guards: the last word to a client whose response has not begun.
#[tokio::test]
async fn a_request_without_a_response_gets_503() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, SOON).await;
    let (mut client, mut exchange) = held(&mut app, &ebb, GET).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    let response = client.response().await;
    assert!(start.elapsed() >= Duration::from_millis(1900), "before the deadline: {:?}", start.elapsed());
    response.assert_error(503, "drain-deadline");
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
    assert_eq!(within("the app to be told", exchange.wire.rest()).await.0, b"");
    let report = hook.report().await;
    assert_eq!(report["outcome"], "forced", "{report}");
}

/// Guards: the deadline strikes a client that is still uploading, too.
#[tokio::test]
async fn an_upload_gets_503() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, SOON).await;
    let head = "POST /held HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhalf";
    let (mut client, _held) = held(&mut app, &ebb, head).await;
    let hook = ebb.drain().await;
    let response = client.response().await;
    response.assert_error(503, "drain-deadline");
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "forced");
}

/// Guards: the last word to a client that has not finished its request's head.
#[tokio::test]
async fn half_a_head_gets_503() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, SOON).await;
    let mut client = ebb.client().await;
    client.send("GET /half HTTP/1.1\r\nHost: app").await;
    let _hook = ebb.drain().await;
    let response = client.response().await;
    response.assert_error(503, "drain-deadline");
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
}

/// Guards: a stream of events ends, for its client, as such a stream does, even if the app has left off in the middle
/// of one; it reconnects elsewhere.
#[tokio::test]
async fn an_event_stream_ends_in_order() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, SOON).await;
    let (mut client, mut exchange) = held(&mut app, &ebb, GET).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    exchange.wire.send(head).await.unwrap();
    exchange.chunk("data: 1\n").await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunk().await, "data: 1\n");
    let hook = ebb.drain().await;
    assert_eq!(client.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin));
    assert_eq!(hook.report().await["outcome"], "forced");
}

/// Guards: any other body can't end in order: its client must see that it was cut.
#[tokio::test]
async fn a_half_sent_body_does_not_look_whole() {
    for (framing, half) in [("Content-Length: 100", "half"), ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")]
    {
        let mut app = App::scripted();
        let ebb = Ebb::start_with(&app, SOON).await;
        let (mut client, mut exchange) = held(&mut app, &ebb, GET).await;
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{half}")).await.unwrap();
        assert_eq!(client.head().await.status(), 200);
        let hook = ebb.drain().await;
        assert_eq!(client.rest().await.0, half.as_bytes(), "{framing}");
        assert_eq!(hook.report().await["outcome"], "forced", "{framing}");
    }
}

/// Guards: a tunnel is ended and, if its ends do not mind, cut.
#[tokio::test]
async fn a_tunnel_is_cut() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, SOON).await;
    let upgrade = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let (mut client, mut exchange) = held(&mut app, &ebb, upgrade).await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    exchange.wire.send(switching).await.unwrap();
    assert_eq!(client.head().await.status(), 101);
    let hook = ebb.drain().await;
    client.expect_fin().await;
    assert_eq!(within("the app to be told", exchange.wire.rest()).await.0, b"");
    // Neither end closes its own half.
    let report = hook.report().await;
    assert_eq!(report["outcome"], "forced", "{report}");
    drop((client, exchange));
}

/// Guards: after the deadline there is still the margin, and no more: SIGTERM's ebb is gone before the grace
/// is over, whatever clients and app do.
#[tokio::test]
async fn ebb_ends_within_the_grace() {
    let mut app = App::scripted();
    let mut ebb = Ebb::start_with(&app, SOON).await;
    let (_client, _exchange) = held(&mut app, &ebb, GET).await;
    let (mut reading, mut streaming) = held(&mut app, &ebb, GET).await;
    streaming.begin_chunked().await.unwrap();
    assert_eq!(reading.head().await.status(), 200);
    let start = Instant::now();
    ebb.signal(libc::SIGTERM);
    let status = ebb.exit().await;
    assert!(start.elapsed() < Duration::from_secs(4), "ebb took {:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
}

/// Guards: the time that lame duck did not use belongs to draining: a request that ends before the deadline
/// is not cut.
#[tokio::test]
async fn there_is_time_until_the_deadline() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--grace-period", "6s", "--app-shutdown", "1s"]).await;
    let (mut client, mut exchange) = held(&mut app, &ebb, GET).await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let_time_pass(Duration::from_secs(2)).await;
    exchange.answer("200 OK", "in time").await.unwrap();
    exchange.keep();
    assert_eq!(client.response().await.text(), "in time");
    drop(client);
    assert_eq!(hook.report().await["outcome"], "clean");
}
