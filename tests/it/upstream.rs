//! The way to the app: pooled connections, retries, and each error that ebb makes by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{App, Client, Ebb, End, let_time_pass, unix_door, within};

const POST: &str = "POST /once HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody";

/// One request, whose connection to the app stays in the pool.
async fn fill_pool(app: &mut App, client: &mut Client) -> crate::support::Exchange {
    client.send_get("/first").await;
    let mut exchange = app.request().await;
    exchange.answer("200 OK", "first").await.unwrap();
    assert_eq!(client.response().await.text(), "first");
    exchange
}

/// Guards: a pooled connection that the app closed in the very moment of the next request is replaced.
#[tokio::test]
async fn a_pooled_connection_that_the_app_closed_is_no_error() {
    for reset in [false, true] {
        let mut app = App::scripted();
        let ebb = Ebb::start(&app).await;
        let mut client = ebb.client().await;
        let pooled = fill_pool(&mut app, &mut client).await;
        ebb.freeze().await;
        if reset {
            pooled.reset();
        } else {
            drop(pooled);
        }
        client.send_get("/second").await;
        ebb.unfreeze();
        let mut exchange = app.request().await;
        assert_eq!(exchange.head.target(), "/second");
        exchange.answer("200 OK", "second").await.unwrap();
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, "second"), "reset: {reset}");
    }
}

/// Guards: a GET that a pooled connection swallowed is sent again, on a new one.
#[tokio::test]
async fn a_request_that_may_be_sent_again_is() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    fill_pool(&mut app, &mut client).await.keep();
    client.send_get("/again").await;
    // The app closes instead of answering, as one does whose keep-alive has just run out.
    let swallowed = app.request().await;
    let first = swallowed.peer();
    drop(swallowed);
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.target(), "/again");
    assert_ne!(exchange.peer(), first);
    exchange.answer("200 OK", "again").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "again"));
}

/// Guards: a request that the app may have acted on is not sent twice.
#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    fill_pool(&mut app, &mut client).await.keep();
    client.send(POST).await;
    let mut swallowed = app.request().await;
    assert_eq!(swallowed.body().await.unwrap().bytes, b"body");
    drop(swallowed);
    client.response().await.assert_error(502, "upstream-reset");
    assert!(app.request_now().is_none(), "the app got the POST again");
}

/// Guards: an app that closes a fresh connection without a word is an error, not an endless retry.
#[tokio::test]
async fn a_fresh_connection_that_breaks_is_502() {
    for reset in [false, true] {
        let mut app = App::scripted();
        let ebb = Ebb::start(&app).await;
        let mut client = ebb.client().await;
        client.send(POST).await;
        let exchange = app.request().await;
        if reset {
            exchange.reset();
        } else {
            drop(exchange);
        }
        client.response().await.assert_error(502, "upstream-reset");
    }
}

/// Guards: an app that is not there is 503, at once, and is found again when it is back.
#[tokio::test]
async fn an_app_that_is_not_there_is_503() {
    let mut app = App::hello();
    let ebb = Ebb::start(&app).await;
    app.kill().await;
    let mut client = ebb.client().await;
    client.get("/").await.assert_error(503, "upstream-refused");
    app.start();
    let response = client.get("/").await;
    assert_eq!((response.status(), response.text()), (200, "hello"));
}

/// A port whose accept queue is full, so that it leaves every new connection without an answer.
async fn unanswering() -> (SocketAddr, TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let filling = within("the queue to fill", TcpStream::connect(addr)).await.unwrap();
    (addr, listener, filling)
}

/// Guards: `--connect-timeout`.
#[tokio::test]
async fn an_app_that_does_not_accept_is_504() {
    let (addr, _listener, _filling) = unanswering().await;
    let forward = format!("127.0.0.1:0={addr}");
    let ebb = Ebb::start_bare(&[
        "--forward",
        &forward,
        "--admin",
        "127.0.0.1:0",
        "--connect-timeout",
        "300ms",
        "--workers",
        "1",
    ])
    .await;
    ebb.client().await.get("/").await.assert_error(504, "upstream-timeout");
}

/// Guards: what is no HTTP is not passed on as if it were.
#[tokio::test]
async fn an_app_that_talks_nonsense_is_502() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(POST).await;
    let mut exchange = app.request().await;
    exchange.wire.send("SSH-2.0-OpenSSH_9.9\r\n\r\n").await.unwrap();
    let response = client.response().await;
    assert_eq!(response.status(), 502);
    assert!(response.head.get("ebb-error").is_some(), "{}", response.head);
}

/// Guards: an app that says `Connection: close` has its connection back, and its client none the worse.
#[tokio::test]
async fn an_app_may_close_after_a_response() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    for i in 0..2 {
        client.send_get(&format!("/{i}")).await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.head.target(), format!("/{i}"));
        exchange
            .wire
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await
            .unwrap();
        let response = client.response().await;
        assert!(!response.closes(), "the app's close is not the client's: {}", response.head);
        let (rest, end) = within("ebb to let go", exchange.wire.rest()).await;
        assert_eq!((rest.as_slice(), end), (b"".as_slice(), End::Fin));
    }
}

/// Guards: `--upstream-idle`.
#[tokio::test]
async fn an_unused_pooled_connection_is_closed() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-idle", "200ms"]).await;
    let mut client = ebb.client().await;
    let mut exchange = fill_pool(&mut app, &mut client).await;
    assert_eq!(within("the pooled connection's end", exchange.wire.rest()).await, (Vec::new(), End::Fin));
    // The client's connection is none of that.
    client.send_get("/later").await;
    let mut exchange = app.request().await;
    exchange.answer("200 OK", "later").await.unwrap();
    assert_eq!(client.response().await.text(), "later");
}

/// Guards: a pooled connection in use is no idle one, however long the response takes.
#[tokio::test]
async fn a_slow_response_outlives_the_pools_time() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-idle", "100ms", "--connect-timeout", "200ms"]).await;
    let mut client = ebb.client().await;
    client.send_get("/slow").await;
    let mut exchange = app.request().await;
    let_time_pass(Duration::from_millis(600)).await;
    exchange.answer("200 OK", "at last").await.unwrap();
    assert_eq!(client.response().await.text(), "at last");
}

/// Guards: `unix:` upstreams.
#[tokio::test]
async fn an_app_behind_a_unix_socket_is_reached() {
    let app = App::hello();
    let path = std::env::temp_dir().join(format!("ebb-it-{}.sock", std::process::id()));
    // What a run that was killed left behind.
    let _ = std::fs::remove_file(&path);
    unix_door(&path, &app);
    let forward = format!("127.0.0.1:0=unix:{}", path.display());
    let nobody = "127.0.0.1:0=unix:/nonexistent/app.sock";
    let ebb = Ebb::start_bare(&["--forward", &forward, "--forward", nobody, "--admin", "127.0.0.1:0"]).await;
    let mut client = ebb.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    std::fs::remove_file(&path).unwrap();
    Client::connect(ebb.forwards[1]).await.get("/").await.assert_error(503, "upstream-refused");
}

/// Guards: several `--forward`, each with its own app.
#[tokio::test]
async fn each_forward_has_its_own_app() {
    let mut one = App::scripted();
    let mut two = App::scripted();
    let flags = [format!("127.0.0.1:0={}", one.addr()), format!("127.0.0.1:0={}", two.addr())];
    let ebb =
        Ebb::start_bare(&["--forward", &flags[0], "--forward", &flags[1], "--admin", "127.0.0.1:0"]).await;
    for (i, app) in [&mut one, &mut two].into_iter().enumerate() {
        let mut client = Client::connect(ebb.forwards[i]).await;
        client.send_get("/").await;
        app.request().await.answer("200 OK", "mine").await.unwrap();
        assert_eq!(client.response().await.text(), "mine");
    }
}
