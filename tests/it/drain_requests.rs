//! Requests in flight when the drain begins: they end as they would have.

use crate::support::{App, Client, Ebb, End, within};

/// Guards: lame duck does not wait for requests, draining does.
#[tokio::test]
async fn a_long_request_outlives_lame_duck() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/long").await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    Client::until_refused(ebb.addr()).await;
    exchange.answer("200 OK", "worth the wait").await.unwrap();
    exchange.keep();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "worth the wait"));
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}

/// Guards: a response counts until its last byte.
#[tokio::test]
async fn a_response_streams_across_the_whole_drain() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/stream").await;
    let mut exchange = app.request().await;
    exchange.begin_chunked().await.unwrap();
    exchange.chunk("serving").await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunk().await, "serving");
    let hook = ebb.drain().await;
    for phase in ["lame-duck", "draining"] {
        ebb.phase(phase).await;
        exchange.chunk(phase).await.unwrap();
        assert_eq!(client.chunk().await, phase);
    }
    assert_eq!(ebb.status().await["phase"], "draining");
    exchange.chunk("").await.unwrap();
    assert_eq!(client.rest().await, (b"0\r\n\r\n".to_vec(), End::Fin));
    drop(exchange);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}

/// Guards: a request body counts until its last byte.
#[tokio::test]
async fn an_upload_goes_on_across_the_drain() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("PUT /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 200000\r\n\r\n").await;
    client.send_filler(100_000).await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    client.send_filler(100_000).await;
    assert_eq!(within("the body", exchange.body()).await.unwrap().bytes.len(), 200_000);
    exchange.answer("201 Created", "").await.unwrap();
    exchange.keep();
    let response = client.response().await;
    assert_eq!(response.status(), 201);
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: the lingering close: a response that came early reaches a client that is still sending when ebb has
/// nothing more to say.
#[tokio::test]
async fn an_early_response_reaches_a_client_that_still_uploads() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4000000\r\n\r\n").await;
    client.send_filler(50_000).await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    exchange.answer("413 Content Too Large", "big").await.unwrap();
    drop(exchange);
    client.peer_finished().await;
    client.send_filler(500_000).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (413, "big"));
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
    drop(client);
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: requests that were sent ahead are answered all: only the last of those that are here is told to be
/// the last.
#[tokio::test]
async fn pipelined_requests_are_all_answered() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let ahead: String = (0..5).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: app.test\r\n\r\n")).collect();
    client.send(ahead).await;
    let first = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let mut next = Some(first);
    for i in 0..5 {
        let mut exchange = match next.take() {
            Some(first) => first,
            None => app.request().await,
        };
        assert_eq!(exchange.head.target(), format!("/{i}"));
        exchange.answer("200 OK", &format!("answer {i}")).await.unwrap();
        exchange.keep();
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, format!("answer {i}").as_str()));
        assert_eq!(response.closes(), i == 4, "answer {i}");
    }
    client.expect_fin().await;
    drop(client);
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: a client that vanishes in a drain is no loss and is not waited for.
#[tokio::test]
async fn a_client_that_vanishes_does_not_hold_the_drain() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/long").await;
    let _held = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    client.wire.reset();
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}
