//! Lame duck: how long it lasts, and what connections hear in it.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{App, Client, Ebb, Traffic, within};

/// Guards: `--lame-duck-min`: the least, even when nobody comes.
#[tokio::test]
async fn it_lasts_at_least_its_minimum() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--lame-duck-min", "700ms", "--lame-duck-max", "2s"]).await;
    let start = Instant::now();
    let _hook = ebb.drain().await;
    ebb.phase("draining").await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
}

/// Guards: `--quiet`: when nobody comes, the maximum is not waited for.
#[tokio::test]
async fn it_ends_when_nobody_comes() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "60s", "--lame-duck-max", "40s"]).await;
    let start = Instant::now();
    let _hook = ebb.drain().await;
    ebb.phase("draining").await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// Guards: arrivals prolong it, and `--lame-duck-max` ends it all the same; the report says how long after the
/// trigger the last one came.
#[tokio::test]
async fn a_trickle_of_connections_prolongs_it_up_to_its_maximum() {
    let app = App::hello();
    let flags = ["--lame-duck-min", "0", "--lame-duck-max", "2s", "--quiet", "1s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let traffic = Traffic::start(ebb.addr(), 0, 1);
    traffic.served(1).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1900), "quiet, while somebody came all the time: {took:?}");
    assert!(took < Duration::from_secs(5), "past the maximum: {took:?}");
    let tally = traffic.until_refused().await;
    assert_eq!(tally.lost, Vec::<String>::new());
    let report = hook.report().await;
    assert!(report["last_arrival_seconds"].as_f64().unwrap() > 1.0, "{report}");
}

/// Guards: `/metrics` in a drain: a pod that is done is often gone before it is scraped again, so what alerts and the
/// recommended lame duck rest on must show before that.
#[tokio::test]
async fn metrics_tell_how_far_it_has_come() {
    let app = App::hello();
    let flags =
        ["--grace-period", "60s", "--app-shutdown", "5s", "--lame-duck-min", "40s", "--lame-duck-max", "40s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let remaining = async |ebb: &Ebb| ebb.metric(&["ebb_drain_deadline_in_seconds"]).await;
    let text = ebb.admin_get("/metrics").await.text().to_owned();
    assert!(!text.contains("ebb_drain_deadline_in_seconds "), "{text}");
    assert_eq!(ebb.metric(&["ebb_drain_last_arrival_seconds"]).await, 0.0);
    assert_eq!(ebb.metric(&["ebb_setting_seconds", "lame-duck-max"]).await, 40.0);
    assert_eq!(ebb.metric(&["ebb_setting_seconds", "deadline"]).await, 54.0);

    let _hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    assert!((1.0..54.0).contains(&remaining(&ebb).await));
    // A worker hears of the drain a moment after the admin port does.
    let counted = async {
        while ebb.metric(&["ebb_drain_last_arrival_seconds"]).await == 0.0 {
            assert_eq!(ebb.client().await.get("/").await.status(), 200);
        }
    };
    within("an arrival to be counted", counted).await;
    let mut admin = Client::connect(ebb.admin).await;
    admin.send("POST /undrain HTTP/1.1\r\nHost: ebb.test\r\n\r\n").await;
    assert_eq!(admin.response().await.status(), 200);
    let text = ebb.admin_get("/metrics").await.text().to_owned();
    assert!(!text.contains("ebb_drain_deadline_in_seconds "), "{text}");
}

/// Connects and asks as a prober does, again and again, until it is refused.
async fn probe(addr: std::net::SocketAddr, agent: &str) {
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    );
    while let Ok(stream) = tokio::net::TcpStream::connect(addr).await {
        let mut client = Client::over(stream);
        client.send(&request).await;
        assert_eq!(client.response().await.status(), 200);
    }
}

/// Guards: probers are no arrivals, by their name or because they do not ask anything.
#[tokio::test]
async fn probes_do_not_prolong_it() {
    let app = App::hello();
    let flags = [
        "--grace-period",
        "60s",
        "--lame-duck-min",
        "0",
        "--lame-duck-max",
        "40s",
        "--quiet",
        "500ms",
        "--probe-user-agent",
        "my-prober/",
    ];
    let ebb = Ebb::start_with(&app, &flags).await;
    let mut probers = JoinSet::new();
    for agent in ["kube-probe/1.33", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Envoy/HC", "my-prober/7"] {
        probers.spawn(probe(ebb.addr(), agent));
    }
    let addr = ebb.addr();
    probers.spawn(async move {
        // As HAProxy checks without a request.
        while let Ok(stream) = tokio::net::TcpStream::connect(addr).await {
            Client::over(stream).wire.reset();
        }
    });
    let start = Instant::now();
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "probes kept lame duck going: {took:?}");
    probers.join_all().await;
    let report = hook.report().await;
    assert!(report["last_arrival_seconds"].is_null(), "{report}");
}

/// Guards: new connections are accepted as if nothing were, and hear nothing at first.
#[tokio::test]
async fn new_connections_are_served_and_not_told_at_once() {
    let app = App::hello();
    let flags = ["--lame-duck-min", "2s", "--lame-duck-max", "2s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let _hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    let mut client = ebb.client().await;
    let response = client.get("/").await;
    assert_eq!((response.status(), response.closes()), (200, false), "{}", response.head);
    // It asks on until it is told, which a busy client is before draining begins.
    client.get_until_told("/").await;
    assert_eq!(ebb.status().await["phase"], "lame-duck");
    client.expect_fin().await;
}

/// Guards: the notice to connections that were open at the trigger, spread over the first part of lame duck.
#[tokio::test]
async fn open_connections_are_told_in_lame_duck_but_not_all_at_once() {
    let app = App::hello();
    let flags = ["--grace-period", "30s", "--lame-duck-min", "3s", "--lame-duck-max", "3s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = ebb.client().await;
        assert!(!client.get("/").await.closes());
        clients.push(client);
    }
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    // Each asks without a pause until it is told, so none is ever idle.
    let mut asking = JoinSet::new();
    let trigger = Instant::now();
    for mut client in clients {
        asking.spawn(async move {
            client.get_until_told("/").await;
            let told = trigger.elapsed();
            client.expect_fin().await;
            told
        });
    }
    let mut told = asking.join_all().await;
    assert_eq!(ebb.status().await["phase"], "lame-duck", "all were told before draining");
    told.sort();
    let spread = told[39] - told[0];
    assert!(spread > Duration::from_millis(900), "all were told within {spread:?}: {told:?}");
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: clients that still come after `--lame-duck-min` are led elsewhere before they are refused, also when the pod is
/// not deleted and only the app is restarted: readiness fails, but not before, and everything is accepted still.
#[tokio::test]
async fn readiness_fails_when_clients_still_come_after_its_minimum() {
    let app = App::hello();
    let flags = ["--grace-period", "10m", "--lame-duck-min", "2s", "--lame-duck-max", "5m", "--quiet", "1s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let traffic = Traffic::start(ebb.addr(), 0, 1);
    traffic.served(1).await;
    let start = Instant::now();
    let _hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    let failing = async { while ebb.admin_get("/readyz").await.status() == 200 {} };
    within("readiness to fail", failing).await;
    assert!(start.elapsed() >= Duration::from_secs(2), "it failed after {:?}", start.elapsed());
    assert_eq!(ebb.status().await["phase"], "lame-duck");
    assert_eq!(ebb.client().await.get("/").await.status(), 200);
}

/// Guards: a budget that does not fit is refused, with the sum.
#[tokio::test]
async fn a_budget_that_does_not_fit_is_refused() {
    let forward = ["--forward", "127.0.0.1:0=9", "--admin", "127.0.0.1:0"];
    let flags = ["--grace-period", "10s", "--app-shutdown", "5s", "--lame-duck-max", "15s"];
    let (code, text) = Ebb::refused(&[&forward[..], &flags].concat()).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("5s + margin 1s + --lame-duck-max 15s + 1s to drain = 22s"), "{text}");
    let flags = ["--lame-duck-min", "2s", "--lame-duck-max", "1s"];
    let (code, text) = Ebb::refused(&[&forward[..], &flags].concat()).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--lame-duck-min 2s is more than --lame-duck-max 1s"), "{text}");
}

/// Guards: a port that is taken is an error at the start, not a proxy without a listener.
#[tokio::test]
async fn a_taken_port_is_refused() {
    let app = App::hello();
    let forward = format!("{}={}", app.addr(), app.addr());
    let (code, text) = Ebb::refused(&["--forward", &forward, "--admin", "127.0.0.1:0"]).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?} {text}");
    assert!(text.contains(&app.addr().to_string()), "{text}");
}
