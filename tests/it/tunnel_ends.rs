//! How a tunnel ends: each direction by itself, and nothing that was said is lost.

use std::time::Duration;

use tokio::net::TcpSocket;

use crate::support::tls::TlsEbb;
use crate::support::{App, Client, Ebb, End, Exchange, UnixApp, let_time_pass, within};

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";

async fn open(app: &mut App, ebb: &Ebb) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send(UPGRADE).await;
    let mut exchange = app.request().await;
    exchange.wire.send(SWITCHING).await.unwrap();
    assert_eq!(client.head().await.status(), 101);
    (client, exchange)
}

/// Guards: that the app takes nothing more does not cost the client what the app has said.
#[tokio::test]
async fn last_words_reach_a_client_that_goes_on_talking() {
    let app = UnixApp::new();
    let ebb = app.start_ebb(&[]).await;
    let words = vec![b'w'; 100_000];
    // Which direction ebb looks at first is a matter of chance.
    for _ in 0..12 {
        let mut client = ebb.client().await;
        client.send(UPGRADE).await;
        let mut exchange = app.request().await;
        exchange.send(SWITCHING).await;
        assert_eq!(client.head().await.status(), 101);
        ebb.freeze().await;
        exchange.send(&words).await;
        drop(exchange);
        client.send("ping").await;
        ebb.unfreeze();
        let got = within("the last words", client.wire.exactly(words.len())).await;
        assert!(got.is_ok_and(|got| got == words), "the last words are lost");
    }
}

/// Guards: while the client talks and the app listens, a drain waits, though the app itself has ended its side.
#[tokio::test]
async fn a_half_closed_tunnel_that_is_busy_is_not_cut() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open(&mut app, &ebb).await;
    exchange.wire.finish().await.unwrap();
    client.expect_fin().await;
    let hook = ebb.drain().await;
    for word in 0..12 {
        let_time_pass(Duration::from_millis(250)).await;
        client.send("word").await;
        let got = within("a word", exchange.wire.exactly(4)).await;
        assert!(got.is_ok_and(|got| got == b"word"), "word {word} is lost");
    }
    assert_eq!(ebb.status().await["phase"], "draining");
    client.finish().await;
    assert_eq!(within("the client's FIN", exchange.wire.rest()).await, (Vec::new(), End::Fin));
    drop((client, exchange));
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: a client that a drain does not wait for any more has not ended its side, and to an app that still listens it
/// does not look as if it had.
#[tokio::test]
async fn a_half_closed_tunnel_that_is_given_up_is_reset() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open(&mut app, &ebb).await;
    exchange.wire.finish().await.unwrap();
    client.expect_fin().await;
    client.send("half a word").await;
    assert_eq!(within("half a word", exchange.wire.exactly(11)).await.unwrap(), b"half a word");
    let hook = ebb.drain().await;
    assert_eq!(within("the end", exchange.wire.rest()).await, (Vec::new(), End::Reset));
    drop((client, exchange));
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: what broke off does not look like an end.
#[tokio::test]
async fn the_apps_reset_is_a_reset() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open(&mut app, &ebb).await;
    exchange.wire.send("half a mess").await.unwrap();
    assert_eq!(within("half a message", client.wire.exactly(11)).await.unwrap(), b"half a mess");
    exchange.reset();
    assert_eq!(client.rest().await, (Vec::new(), End::Reset));
}

/// Guards: what is sealed for a client already, but has found no room in its socket, goes out before the app's reset is
/// passed on.
#[tokio::test]
async fn last_words_over_tls_go_out_before_a_reset() {
    const PIECE: usize = 16 << 10;
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &[]).await;
    let to_client = &["ebb_tunnel_bytes_total{", "\"upgrade\"", "\"to_client\""];
    let (mut fits, piece) = (None, vec![b'w'; PIECE]);
    // The first one finds out how much goes into a client that does not read.
    for _ in 0..2 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        let stream = within("connecting", socket.connect(ebb.ebb.addr())).await.unwrap();
        let mut client = ebb.client_over(stream).await;
        client.send(UPGRADE).await;
        let mut exchange = app.request().await;
        exchange.wire.send(SWITCHING).await.unwrap();
        assert_eq!(client.head().await.status(), 101);
        let before = ebb.ebb.metric(to_client).await;
        let mut sent = 0;
        while fits.is_none_or(|fits| sent < fits) {
            exchange.wire.send(&piece).await.unwrap();
            let mut looks = 0..50;
            while ebb.ebb.metric(to_client).await - before < (sent + PIECE) as f64 && looks.next().is_some() {
                let_time_pass(Duration::from_millis(2)).await;
            }
            if fits.is_none() && looks.is_empty() {
                break;
            }
            sent += PIECE;
        }
        if fits.replace(sent).is_some() {
            exchange.reset();
            let_time_pass(Duration::from_millis(300)).await;
            within("the last words", client.wire.discard(sent as u64))
                .await
                .expect("the last words are lost");
            assert_ne!(client.rest().await, (Vec::new(), End::Fin));
        }
    }
}
