//! Clients that do not read: what the kernel holds for them is not delivered yet.

use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::support::{App, Client, Ebb, let_time_pass, within};

/// More than a small receive buffer holds, less than a send buffer can.
const LENGTH: u64 = 1_500_000;

fn download() -> App {
    App::answering(|mut exchange| async move {
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).await?;
        exchange.wire.send_filler(LENGTH).await?;
        exchange.keep();
        Ok(())
    })
}

/// A client that has read no more than the head of a response, which is the last one on its connection.
async fn slow_client(ebb: &Ebb) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let stream = within("connecting", socket.connect(ebb.addr())).await.unwrap();
    let mut client = Client::over(stream);
    client.send("GET /download HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 200);
    client
}

/// Guards: a response is over when the client has taken it: a drain waits for what the kernel still holds.
#[tokio::test]
async fn a_drain_waits_until_a_response_is_taken() {
    let app = download();
    let ebb = Ebb::start_with(&app, &["--grace-period", "30s"]).await;
    let mut client = slow_client(&ebb).await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    // For longer than ebb waits for a client that has taken everything.
    let_time_pass(Duration::from_secs(4)).await;
    assert_eq!(ebb.status().await["phase"], "draining");
    within("the body", client.wire.discard(LENGTH)).await.unwrap();
    client.expect_fin().await;
    drop(client);
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: a drain that ends before a client has taken its response does not claim that nothing was lost.
#[tokio::test]
async fn a_response_that_is_never_taken_makes_the_drain_a_forced_one() {
    let app = download();
    let ebb = Ebb::start(&app).await;
    let _client = slow_client(&ebb).await;
    let report = ebb.drain().await.report().await;
    assert_eq!(report["outcome"], "forced", "{report}");
}

/// Guards: nothing is waited for that a client will never take: it has ended its side, and then reset the
/// connection.
#[tokio::test]
async fn a_client_that_ends_and_resets_does_not_hold_the_drain() {
    let app = download();
    let ebb = Ebb::start_with(&app, &["--grace-period", "30s"]).await;
    let mut client = slow_client(&ebb).await;
    client.finish().await;
    let begin = Instant::now();
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let_time_pass(Duration::from_secs(1)).await;
    client.wire.reset();
    assert_eq!(hook.report().await["outcome"], "clean");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
