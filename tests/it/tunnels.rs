//! `Upgrade`: after a 101 the connection belongs to the two ends.

use crate::support::{App, Client, Ebb, End, Exchange, within};

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";

/// Fails unless bytes pass both ways.
async fn assert_open(client: &mut Client, exchange: &mut Exchange) {
    client.send("ping").await;
    assert_eq!(within("bytes from the client", exchange.wire.exactly(4)).await.unwrap(), b"ping");
    exchange.wire.send("pong").await.unwrap();
    assert_eq!(within("bytes from the app", client.wire.exactly(4)).await.unwrap(), b"pong");
}

async fn open(app: &mut App, ebb: &Ebb) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send(UPGRADE).await;
    let mut exchange = app.request().await;
    assert!(exchange.head.has("connection", "upgrade"), "{}", exchange.head);
    assert_eq!(exchange.head.get("upgrade"), Some("echo/1"));
    exchange.wire.send(SWITCHING).await.unwrap();
    let head = client.head().await;
    assert_eq!((head.status(), head.get("upgrade")), (101, Some("echo/1")));
    assert!(head.has("connection", "upgrade"), "{head}");
    (client, exchange)
}

/// Guards: the tunnel itself, and a half-close passing through it.
#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open(&mut app, &ebb).await;
    assert_open(&mut client, &mut exchange).await;
    client.finish().await;
    assert_eq!(within("the client's FIN", exchange.wire.rest()).await, (Vec::new(), End::Fin));
    exchange.wire.send("the last word").await.unwrap();
    drop(exchange);
    assert_eq!(client.rest().await, (b"the last word".to_vec(), End::Fin));
}

/// Guards: bytes that came together with the request, or with the 101, belong to the tunnel.
#[tokio::test]
async fn bytes_sent_ahead_are_not_lost() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(format!("{UPGRADE}early client")).await;
    let mut exchange = app.request().await;
    exchange.wire.send(format!("{SWITCHING}early app")).await.unwrap();
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(within("the app's early bytes", client.wire.exactly(9)).await.unwrap(), b"early app");
    assert_eq!(within("the client's early bytes", exchange.wire.exactly(12)).await.unwrap(), b"early client");
    assert_open(&mut client, &mut exchange).await;
}

/// Guards: an app that does not want to switch answers as it does otherwise.
#[tokio::test]
async fn an_upgrade_may_be_refused() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(UPGRADE).await;
    let mut exchange = app.request().await;
    exchange.answer("403 Forbidden", "no").await.unwrap();
    exchange.keep();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (403, "no"));
    client.send_get("/next").await;
    let mut exchange = app.request().await;
    exchange.answer("200 OK", "yes").await.unwrap();
    assert_eq!(client.response().await.text(), "yes");
}

/// Guards: one end's sudden end is the other's.
#[tokio::test]
async fn a_tunnel_ends_with_either_end() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, exchange) = open(&mut app, &ebb).await;
    exchange.reset();
    assert_eq!(client.rest().await.0, b"");
    let (client, mut exchange) = open(&mut app, &ebb).await;
    client.wire.reset();
    assert_eq!(within("the app to be told", exchange.wire.rest()).await.0, b"");
}

/// Guards: nobody is told to go by changing a 101; a 101 that races the drain still opens a tunnel, which
/// the drain then waits for.
#[tokio::test]
async fn a_101_that_races_the_drain_is_a_101() {
    for phase in ["lame-duck", "draining"] {
        let mut app = App::scripted();
        let ebb = Ebb::start(&app).await;
        let mut client = ebb.client().await;
        client.send(UPGRADE).await;
        let mut exchange = app.request().await;
        let hook = ebb.drain().await;
        ebb.phase(phase).await;
        exchange.wire.send(SWITCHING).await.unwrap();
        let head = client.head().await;
        assert_eq!(head.status(), 101, "in {phase}");
        assert!(head.has("connection", "upgrade") && !head.has("connection", "close"), "in {phase}: {head}");
        assert_open(&mut client, &mut exchange).await;
        if phase == "lame-duck" {
            ebb.phase("draining").await;
            assert_open(&mut client, &mut exchange).await;
        }
        client.finish().await;
        drop(exchange);
        assert_eq!(client.rest().await, (Vec::new(), End::Fin));
        assert_eq!(hook.report().await["outcome"], "clean");
    }
}
