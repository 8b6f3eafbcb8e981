//! Bodies: streamed both ways, in constant memory, with their trailers.

use std::time::Duration;

use crate::support::{App, Ebb, End, let_time_pass, within};

const GIB: u64 = 1 << 30;

/// What ebb may hold at the most while a gibibyte passes through it.
const MEMORY_KIB: u64 = 64 << 10;

/// Guards: each part of a response goes on as it comes.
#[tokio::test]
async fn a_response_is_streamed() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/stream").await;
    let mut exchange = app.request().await;
    exchange.begin_chunked().await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    for part in ["one", "two", "three"] {
        exchange.chunk(part).await.unwrap();
        assert_eq!(client.chunk().await, part);
    }
    exchange.chunk("").await.unwrap();
    assert_eq!(client.chunk().await, "");
}

/// Guards: each part of a request goes on as it comes, and the response may begin before the request has ended.
#[tokio::test]
async fn request_and_response_are_streamed_at_the_same_time() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("POST /echo HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut exchange = app.request().await;
    assert!(exchange.head.has("transfer-encoding", "chunked"), "{}", exchange.head);
    exchange.begin_chunked().await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    for part in ["one", "two", ""] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        let got = within("a chunk", exchange.wire.chunk()).await.unwrap();
        assert_eq!(got, part.as_bytes());
        exchange.chunk(part).await.unwrap();
        assert_eq!(client.chunk().await, part);
    }
}

/// Guards: back-pressure from the client to the app, and the memory that it saves.
#[tokio::test]
async fn a_gibibyte_comes_down_in_constant_memory() {
    let app = App::answering(|mut exchange| async move {
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n")).await?;
        exchange.wire.send_filler(GIB).await
    });
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/download").await;
    assert_eq!(client.head().await.get("content-length"), Some(GIB.to_string().as_str()));
    // A client that does not read, for long enough to see ebb take in what it can.
    let_time_pass(Duration::from_secs(1)).await;
    within("a gibibyte", client.wire.discard(GIB)).await.unwrap();
    let peak = ebb.peak_memory_kib();
    assert!(peak < MEMORY_KIB, "ebb held {peak} KiB");
}

/// Guards: back-pressure from the app to the client, and the memory that it saves.
#[tokio::test]
async fn a_gibibyte_goes_up_in_constant_memory() {
    let app = App::answering(|mut exchange| async move {
        // An app that does not read, for long enough to see ebb take in what it can.
        let_time_pass(Duration::from_secs(1)).await;
        exchange.wire.discard(GIB).await?;
        exchange.answer("200 OK", "got it").await
    });
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(format!("PUT /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: {GIB}\r\n\r\n")).await;
    client.send_filler(GIB).await;
    assert_eq!(client.response().await.text(), "got it");
    let peak = ebb.peak_memory_kib();
    assert!(peak < MEMORY_KIB, "ebb held {peak} KiB");
}

/// Guards: trailers, which end a chunked body, are part of the message both ways.
#[tokio::test]
async fn trailers_go_both_ways() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Up\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nup\r\n0\r\nX-Up: 1\r\n\r\n",
        )
        .await;
    let mut exchange = app.request().await;
    let body = within("the body", exchange.body()).await.unwrap();
    assert_eq!(body.bytes, b"up");
    assert!(same(&body.trailers, "x-up", "1"), "{:?}", body.trailers);
    exchange
        .wire
        .send(
            "HTTP/1.1 200 OK\r\nTrailer: X-Down\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\ndown\r\n0\r\nX-Down: 2\r\n\r\n",
        )
        .await
        .unwrap();
    exchange.keep();
    let response = client.response().await;
    assert_eq!(response.text(), "down");
    assert!(same(&response.body.trailers, "x-down", "2"), "{:?}", response.body.trailers);
}

fn same(trailers: &[(String, String)], name: &str, value: &str) -> bool {
    matches!(trailers, [(n, v)] if n.eq_ignore_ascii_case(name) && v == value)
}

/// Guards: a response that comes before the request's body has ended reaches a client that is still sending,
/// and no reset erases it.
#[tokio::test]
async fn an_early_response_is_not_erased() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 8388608\r\n\r\n").await;
    client.send_filler(100_000).await;
    let mut exchange = app.request().await;
    exchange
        .wire
        .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        .await
        .unwrap();
    drop(exchange);
    // The client has not looked yet and goes on sending.
    client.send_filler(1_000_000).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (413, "big"));
    client.finish().await;
    assert_eq!(client.rest().await, (Vec::new(), End::Fin));
}
