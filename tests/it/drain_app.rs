//! The app dies, or comes back, in each phase.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{App, Client, Ebb, End, Exchange};

/// A lame duck that would not end by itself in a test, and a deadline far away.
const LONG: &[&str] = &["--grace-period", "10m", "--lame-duck-min", "60s", "--lame-duck-max", "60s"];

/// A deadline far away.
const PATIENT: &[&str] = &["--grace-period", "10m"];

async fn held(app: &mut App, ebb: &Ebb) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send_get("/held").await;
    (client, app.request().await)
}

/// Guards: an app that dies in `serving` costs the requests that it had, and nothing when it is back.
#[tokio::test]
async fn it_dies_while_serving() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, exchange) = held(&mut app, &ebb).await;
    app.kill().await;
    drop(exchange);
    client.response().await.assert_error(502, "upstream-reset");
    client.get("/").await.assert_error(503, "upstream-refused");
    app.start();
    client.send_get("/again").await;
    app.request().await.answer("200 OK", "back").await.unwrap();
    assert_eq!(client.response().await.text(), "back");
    assert_eq!(ebb.status().await["phase"], "serving");
}

/// Guards: a drain whose app has died is over: neither lame duck nor the deadline is waited for.
#[tokio::test]
async fn it_dies_in_lame_duck() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, LONG).await;
    let (mut client, exchange) = held(&mut app, &ebb).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    app.kill().await;
    drop(exchange);
    client.response().await.assert_error(502, "upstream-reset");
    drop(client);
    hook.report().await;
    assert!(start.elapsed() < Duration::from_secs(25), "the drain took {:?}", start.elapsed());
}

/// Guards: the same in `draining`, where a tunnel would have gone on for as long as there was time.
#[tokio::test]
async fn it_dies_while_draining() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, PATIENT).await;
    let (mut waiting, first) = held(&mut app, &ebb).await;
    let mut tunnel = ebb.client().await;
    tunnel.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n").await;
    let mut second = app.request().await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    second.wire.send(switching).await.unwrap();
    assert_eq!(tunnel.head().await.status(), 101);
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    app.kill().await;
    drop((first, second));
    waiting.response().await.assert_error(502, "upstream-reset");
    // The tunnel's client sees the app's end, and keeps its own half open.
    assert_eq!(tunnel.rest().await, (Vec::new(), End::Fin));
    hook.report().await;
    drop((waiting, tunnel));
}

/// Guards: an app that ends after the drain is what was meant to happen: ebb stays for its SIGTERM.
#[tokio::test]
async fn it_dies_when_drained() {
    let mut app = App::hello();
    let mut ebb = Ebb::start(&app).await;
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
    app.kill().await;
    assert_eq!(ebb.admin_get("/livez").await.status(), 200);
    assert!(ebb.is_running());
    ebb.signal(libc::SIGTERM);
    assert_eq!(ebb.exit().await.code(), Some(0));
}

/// Kills the app, waits until ebb has seen it, and starts it again.
async fn restart(app: &mut App, ebb: &Ebb) {
    app.kill().await;
    ebb.logged("that the app has gone", |line| {
        line["message"] == "the app has changed" && line["app"] != "Up"
    })
    .await;
    app.start();
}

async fn assert_serving(ebb: &Ebb) {
    ebb.phase("serving").await;
    let response = ebb.client().await.get("/").await;
    assert_eq!((response.status(), response.text(), response.closes()), (200, "hello", false));
    for path in ["/readyz", "/lbz"] {
        assert_eq!(ebb.admin_get(path).await.status(), 200, "{path}");
    }
}

/// Guards: re-arming: an app that came back after a liveness failure gets its traffic again.
#[tokio::test]
async fn it_restarts_when_drained() {
    let mut app = App::hello();
    let ebb = Ebb::start(&app).await;
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
    restart(&mut app, &ebb).await;
    assert_serving(&ebb).await;
    // And the next drain is one like the first.
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
    Client::until_refused(ebb.addr()).await;
}

/// Guards: re-arming out of lame duck; whoever waits for the drain has an answer.
#[tokio::test]
async fn it_restarts_in_lame_duck() {
    let mut app = App::hello();
    let ebb = Ebb::start_with(&app, LONG).await;
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    restart(&mut app, &ebb).await;
    hook.report().await;
    assert_serving(&ebb).await;
}

/// Guards: re-arming out of `draining`; whoever waits for the drain has an answer.
#[tokio::test]
async fn it_restarts_while_draining() {
    let mut app = App::answering(|mut exchange| async move {
        if exchange.head.target() == "/held" {
            std::future::pending::<()>().await;
        }
        exchange.answer("200 OK", "hello").await?;
        exchange.keep();
        Ok(())
    });
    let ebb = Ebb::start_with(&app, PATIENT).await;
    let mut client = ebb.client().await;
    client.send_get("/held").await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    restart(&mut app, &ebb).await;
    client.response().await.assert_error(502, "upstream-reset");
    drop(client);
    hook.report().await;
    assert_serving(&ebb).await;
}

/// Guards: after SIGTERM there is no way back.
#[tokio::test]
async fn it_restarts_after_sigterm() {
    let mut app = App::scripted();
    let mut ebb = Ebb::start_with(&app, PATIENT).await;
    let (mut client, exchange) = held(&mut app, &ebb).await;
    ebb.signal(libc::SIGTERM);
    ebb.phase("draining").await;
    restart(&mut app, &ebb).await;
    drop(exchange);
    client.response().await.assert_error(502, "upstream-reset");
    drop(client);
    assert_eq!(ebb.exit().await.code(), Some(0));
    assert_eq!(ebb.count_logged(|line| line["message"] == "phase" && line["phase"] == "serving"), 0);
}

async fn undrain(ebb: &Ebb) -> u16 {
    let mut client = Client::connect(ebb.admin).await;
    client.send("POST /undrain HTTP/1.1\r\nHost: ebb.test\r\nContent-Length: 0\r\n\r\n").await;
    client.response().await.status()
}

/// Guards: `/undrain` does by hand what the app's return does.
#[tokio::test]
async fn a_drain_may_be_undone_by_hand() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
    assert_eq!(undrain(&ebb).await, 200);
    assert_serving(&ebb).await;
}

/// Guards: `/undrain` is refused when ebb has to go.
#[tokio::test]
async fn sigterm_can_not_be_undone() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let _held = held(&mut app, &ebb).await;
    ebb.signal(libc::SIGTERM);
    ebb.phase("draining").await;
    assert_eq!(undrain(&ebb).await, 409);
    assert_eq!(ebb.status().await["phase"], "draining");
}

/// Guards: a SIGTERM is never forgotten, not by an `/undrain` that comes with it.
#[tokio::test]
async fn sigterm_together_with_undrain_ends() {
    let mut app = App::scripted();
    let mut ebb = Ebb::start(&app).await;
    let held = held(&mut app, &ebb).await;
    let _hook = ebb.drain().await;
    ebb.phase("draining").await;
    let mut undrain = Client::connect(ebb.admin).await;
    undrain.send("POST /undrain HTTP/1.1\r\nHost: ebb.test\r\nContent-Length: 0\r\n\r\n").await;
    ebb.signal(libc::SIGTERM);
    drop((held, undrain));
    assert_eq!(ebb.exit().await.code(), Some(0));
}

/// Guards: with several apps, one that restarts alone is the container that the kubelet restarted.
#[tokio::test]
async fn one_of_two_restarts() {
    let (mut one, two) = (App::hello(), App::hello());
    let forwards = [format!("127.0.0.1:0={}", one.addr()), format!("127.0.0.1:0={}", two.addr())];
    let flags = ["--forward", &forwards[0], "--forward", &forwards[1], "--admin", "127.0.0.1:0"];
    let ebb = Ebb::start_bare(&flags).await;
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
    restart(&mut one, &ebb).await;
    assert_serving(&ebb).await;
    drop(two);
}
