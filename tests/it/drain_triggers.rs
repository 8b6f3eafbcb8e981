//! What starts a drain, and how many of them make one: hooks, SIGTERM, SIGINT.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{App, Client, Ebb, Exchange, Hook};

/// A request that holds the drain until the test answers it.
async fn hold(app: &mut App, ebb: &Ebb) -> (Client, Exchange) {
    let mut client = ebb.client().await;
    client.send_get("/held").await;
    (client, app.request().await)
}

async fn release((mut client, mut exchange): (Client, Exchange)) {
    exchange.answer("200 OK", "").await.unwrap();
    exchange.keep();
    assert_eq!(client.response().await.status(), 200);
}

/// Guards: a drain without any traffic: every phase, in order, and a clean report; ebb stays and answers.
#[tokio::test]
async fn a_hook_without_traffic() {
    let app = App::hello();
    let mut ebb = Ebb::start(&app).await;
    let hook = ebb.drain().await;
    for phase in ["lame-duck", "draining", "drained"] {
        ebb.phase(phase).await;
    }
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    Client::until_refused(ebb.addr()).await;
    assert_eq!(ebb.status().await["phase"], "drained");
    assert!(ebb.is_running());
}

/// Guards: SIGTERM alone drains, then ends.
#[tokio::test]
async fn sigterm_without_traffic() {
    let app = App::hello();
    let mut ebb = Ebb::start(&app).await;
    ebb.signal(libc::SIGTERM);
    for phase in ["lame-duck", "draining", "drained"] {
        ebb.phase(phase).await;
    }
    assert_eq!(ebb.exit().await.code(), Some(0));
}

/// Guards: SIGTERM before `/drain`: the hook joins the drain and has its answer before ebb ends.
#[tokio::test]
async fn sigterm_before_the_hook() {
    let mut app = App::scripted();
    let mut ebb = Ebb::start(&app).await;
    let held = hold(&mut app, &ebb).await;
    ebb.signal(libc::SIGTERM);
    ebb.phase("lame-duck").await;
    let early = ebb.drain().await;
    ebb.phase("draining").await;
    let late = ebb.drain().await;
    release(held).await;
    assert_eq!(early.report().await["outcome"], "clean");
    assert_eq!(late.report().await["outcome"], "clean");
    assert_eq!(ebb.exit().await.code(), Some(0));
    assert_eq!(ebb.count_logged(|line| line["phase"] == "lame-duck"), 1);
}

/// Guards: SIGTERM during `/drain` joins it and cuts nothing short.
#[tokio::test]
async fn sigterm_during_the_hook() {
    for phase in ["lame-duck", "draining"] {
        let mut app = App::scripted();
        let mut ebb = Ebb::start(&app).await;
        let held = hold(&mut app, &ebb).await;
        let hook = ebb.drain().await;
        ebb.phase(phase).await;
        ebb.signal(libc::SIGTERM);
        if phase == "lame-duck" {
            ebb.phase("draining").await;
        }
        // Another drain would begin with another phase, and an end would cut the request.
        assert_eq!(ebb.status().await["phase"], "draining");
        release(held).await;
        assert_eq!(hook.report().await["outcome"], "clean");
        assert_eq!(ebb.exit().await.code(), Some(0));
        assert_eq!(ebb.count_logged(|line| line["phase"] == "lame-duck"), 1);
    }
}

/// Guards: SIGTERM after `/drain` ends ebb, which has nothing left to do.
#[tokio::test]
async fn sigterm_after_the_hook() {
    let app = App::hello();
    let mut ebb = Ebb::start(&app).await;
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
    assert!(ebb.is_running());
    ebb.signal(libc::SIGTERM);
    assert_eq!(ebb.exit().await.code(), Some(0));
    assert_eq!(ebb.count_logged(|line| line["phase"] == "lame-duck"), 1);
}

/// Guards: a hook that comes after the drain has its answer at once.
#[tokio::test]
async fn a_hook_after_the_drain() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let first = ebb.drain().await.report().await;
    let second = ebb.drain().await.report().await;
    assert_eq!(first["outcome"], second["outcome"]);
    assert_eq!(ebb.count_logged(|line| line["phase"] == "lame-duck"), 1);
}

/// Guards: one drain for all: each caller has its answer, and one that hangs up changes nothing.
#[tokio::test]
async fn two_hooks_and_one_that_hangs_up() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let held = hold(&mut app, &ebb).await;
    let gone: Hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    let hooks = [ebb.drain().await, ebb.drain().await];
    gone.hang_up();
    ebb.phase("draining").await;
    assert_eq!(ebb.status().await["phase"], "draining");
    release(held).await;
    for hook in hooks {
        assert_eq!(hook.report().await["outcome"], "clean");
    }
    assert_eq!(ebb.count_logged(|line| line["phase"] == "lame-duck"), 1);
    assert_eq!(ebb.status().await["phase"], "drained");
}

/// Guards: SIGINT drains like SIGTERM.
#[tokio::test]
async fn sigint_drains() {
    let mut app = App::scripted();
    let mut ebb = Ebb::start(&app).await;
    let held = hold(&mut app, &ebb).await;
    ebb.signal(libc::SIGINT);
    ebb.phase("draining").await;
    release(held).await;
    assert_eq!(ebb.exit().await.code(), Some(0));
}

/// Guards: a second SIGINT ends at once, whoever waits.
#[tokio::test]
async fn a_second_sigint_ends_at_once() {
    let mut app = App::scripted();
    let mut ebb = Ebb::start_with(&app, &["--grace-period", "10m"]).await;
    let _held = hold(&mut app, &ebb).await;
    ebb.signal(libc::SIGINT);
    ebb.phase("lame-duck").await;
    ebb.signal(libc::SIGINT);
    // Nothing else would end it before the deadline, ten minutes away.
    assert_ne!(ebb.exit().await.code(), Some(0));
}

/// Guards: an app that has gone already has nobody to send: no lame duck, the end within two seconds.
#[tokio::test]
async fn sigterm_when_the_app_has_gone() {
    let mut app = App::hello();
    let mut ebb =
        Ebb::start_with(&app, &["--grace-period", "60s", "--lame-duck-min", "30s", "--lame-duck-max", "30s"])
            .await;
    let mut idle = ebb.client().await;
    assert_eq!(idle.get("/").await.status(), 200);
    let mut half = ebb.client().await;
    half.send("GET / HTTP/1.1\r\nHost: app").await;
    app.kill().await;
    let start = Instant::now();
    ebb.signal(libc::SIGTERM);
    // Half a head alone would hold the drain for --header-timeout, half a minute.
    assert_eq!(ebb.exit().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "ebb took {:?}", start.elapsed());
    assert_eq!(idle.rest().await.0, b"");
}
