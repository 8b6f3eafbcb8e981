//! How a connection of a `tcp://` forward ends: what one side does, the other sees.

use std::io::ErrorKind;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Duration, Instant};

use crate::support::{Client, Ebb, End, RawApp, let_time_pass, within};

const ACTIVE: &str = "ebb_connections{forward=";

fn active(ebb: &Ebb) -> String {
    format!("{ACTIVE}\"{}\",protocol=\"tcp\",state=\"active\"}}", ebb.addr())
}

/// Guards: a half-close passes on, from either side, and the other direction goes on.
#[tokio::test]
async fn a_half_close_passes_on() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    client.send("question").await;
    client.finish().await;
    assert_eq!(within("the question", wire.rest()).await, (b"question".to_vec(), End::Fin));
    wire.send("answer").await.unwrap();
    drop(wire);
    assert_eq!(client.rest().await, (b"answer".to_vec(), End::Fin));
    let (mut client, mut wire) = app.open(&ebb).await;
    wire.send("bye").await.unwrap();
    wire.finish().await.unwrap();
    assert_eq!(client.rest().await, (b"bye".to_vec(), End::Fin));
    client.send("not yet").await;
    client.finish().await;
    assert_eq!(within("the last words", wire.rest()).await, (b"not yet".to_vec(), End::Fin));
}

/// Guards: a RST on one side is one on the other.
#[tokio::test]
async fn a_reset_passes_on() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (client, mut wire) = app.open(&ebb).await;
    client.wire.reset();
    assert_eq!(within("the app to be told", wire.rest()).await, (Vec::new(), End::Reset));
    let (mut client, wire) = app.open(&ebb).await;
    wire.reset();
    assert_eq!(client.rest().await, (Vec::new(), End::Reset));
}

/// Guards: the look now and then: nobody reads any more from a client that has ended its side, so nobody hears its
/// RST; the app, which says nothing, would wait for ever.
#[tokio::test]
async fn a_reset_after_a_fin_passes_on() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    client.finish().await;
    assert_eq!(within("the client's FIN", wire.rest()).await, (Vec::new(), End::Fin));
    client.wire.reset();
    within("the app to be told", wire.peer_reset()).await.unwrap();
    // The same on the app's side: the client, which says nothing, has got its FIN; ebb lets go.
    let (mut client, mut wire) = app.open(&ebb).await;
    wire.finish().await.unwrap();
    client.expect_fin().await;
    wire.reset();
    ebb.until_metric(&[&active(&ebb)], 0.0).await;
}

/// Guards: what the app has said before it breaks off still reaches a client that is slow: its RST is not passed on
/// before.
#[tokio::test]
async fn last_words_before_a_reset_reach_a_slow_client() {
    const WORDS: usize = 1_000_000;
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let client = Client::over(within("connecting", socket.connect(ebb.addr())).await.unwrap());
    let (mut client, mut wire) = app.meet(client).await;
    wire.send_filler(WORDS as u64).await.unwrap();
    let passed_on = format!(
        "ebb_tunnel_bytes_total{{forward=\"{}\",protocol=\"tcp\",direction=\"to_client\"}}",
        ebb.addr()
    );
    ebb.until_metric(&[&passed_on], WORDS as f64).await;
    wire.reset();
    let mut got = 0;
    while got < WORDS {
        // A reader that pauses, but for less than a dead one would.
        if got % 100_000 == 0 {
            let_time_pass(Duration::from_millis(200)).await;
        }
        got += within("the last words", client.wire.exactly(20_000)).await.expect("the last words").len();
    }
    assert_eq!(client.rest().await, (Vec::new(), End::Reset));
}

/// Guards: what a client has said before it breaks off still reaches an app that is slow.
#[tokio::test]
async fn a_clients_last_words_reach_a_slow_app() {
    const WORDS: usize = 8_000_000;
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    // More than ebb can pass on before the app reads: part of it is still in ebb's hands, or in the client's.
    let send = async {
        client.send_filler(WORDS as u64).await;
        client
    };
    let receive = async {
        let_time_pass(Duration::from_millis(300)).await;
        within("the words", wire.discard(WORDS as u64)).await.expect("every word");
        wire
    };
    let (client, mut wire) = tokio::join!(send, receive);
    client.wire.reset();
    assert_eq!(within("the app to be told", wire.rest()).await, (Vec::new(), End::Reset));
}

/// Guards: an app that can't be connected to is a RST, at once, and counted.
#[tokio::test]
async fn without_an_app_the_client_is_reset() {
    let app = RawApp::new().await;
    let forward = app.forward();
    drop(app);
    let ebb = Ebb::start_bare(&["--forward", &forward, "--admin", "127.0.0.1:0"]).await;
    let begin = Instant::now();
    let refused = async { TcpStream::connect(ebb.addr()).await?.read(&mut [0; 1]).await };
    assert_eq!(within("a reset", refused).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let failures =
        format!("ebb_upstream_errors_total{{forward=\"{}\",reason=\"upstream-refused\"}}", ebb.addr());
    ebb.until_metric(&[&failures], 1.0).await;
}

/// Guards: over the limit there is no 503 on a `tcp://` forward, but a RST.
#[tokio::test]
async fn over_the_limit_a_client_is_reset() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&["--max-connections", "1"]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    // The reset may come before connect(2) has returned.
    let refused = async { TcpStream::connect(ebb.addr()).await?.read(&mut [0; 1]).await };
    let error = within("a reset", refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    client.send("still here").await;
    assert_eq!(within("bytes", wire.exactly(10)).await.unwrap(), b"still here");
}
