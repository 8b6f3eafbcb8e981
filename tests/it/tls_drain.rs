//! A drain of `https://` forwards: handshakes under way are connections like any other, and records are not requests.

use std::time::Duration;

use crate::support::tls::{Halfway, TlsEbb, seal, send_raw};
use crate::support::{App, Client, let_time_pass};

/// No lame duck: what is tested is draining.
const AT_ONCE: &[&str] = &["--lame-duck-min", "0", "--lame-duck-max", "0", "--quiet", "0"];

/// Longer than ebb keeps an idle connection in a drain.
const OLD: Duration = Duration::from_millis(1300);

/// Guards: a handshake that is under way when new connections are refused ends as it should, and its client has its
/// time for a first request from then on.
#[tokio::test]
async fn a_handshake_survives_the_refusal() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, AT_ONCE).await;
    let halfway = Halfway::begin(ebb.ebb.addr(), ebb.authority.client()).await;
    let hook = ebb.ebb.drain().await;
    ebb.ebb.phase("draining").await;
    let_time_pass(OLD).await;
    Client::until_refused(ebb.ebb.addr()).await;
    let mut client = halfway.finish().await;
    let_time_pass(Duration::from_millis(400)).await;
    let response = client.get("/").await;
    assert_eq!((response.status(), response.text()), (200, "hello"));
    assert!(response.closes(), "{}", response.head);
    client.expect_fin().await;
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert_eq!(report["connections"]["http1"]["told"], 1, "{report}");
}

/// Guards: a handshake that never ends holds the drain no longer than half a head does, and is counted.
#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_short() {
    let app = App::hello();
    let ebb = TlsEbb::start(
        &app,
        &[AT_ONCE, &["--tls-handshake-timeout", "60s", "--grace-period", "60s"]].concat(),
    )
    .await;
    let halfway = Halfway::begin(ebb.ebb.addr(), ebb.authority.client()).await;
    let hook = ebb.ebb.drain().await;
    halfway.expect_end().await;
    let report = hook.report().await;
    assert_eq!(report["connections"]["http1"]["cut"], 1, "{report}");
    assert!(report["seconds"]["total"].as_f64().unwrap() < 12.0, "{report}");
}

/// Guards: the deadline ends a handshake, too.
#[tokio::test]
async fn the_deadline_ends_a_handshake() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[AT_ONCE, &["--grace-period", "4s"]].concat()).await;
    let halfway = Halfway::begin(ebb.ebb.addr(), ebb.authority.client()).await;
    let hook = ebb.ebb.drain().await;
    halfway.expect_end().await;
    let report = hook.report().await;
    assert_eq!(report["outcome"], "forced", "{report}");
    assert_eq!(report["connections"]["http1"]["cut"], 1, "{report}");
}

/// Guards: a connection on which no byte has come yet is an idle one: served while it is young, closed when it is old.
#[tokio::test]
async fn a_connection_without_a_byte_is_served_or_closed() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, AT_ONCE).await;
    let mut silent = ebb.ebb.client().await;
    let hook = ebb.ebb.drain().await;
    ebb.ebb.phase("draining").await;
    silent.expect_fin().await;
    drop(silent);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert_eq!(report["connections"]["http1"]["closed_idle"], 1, "{report}");
}

/// Guards: idle connections are closed in TLS's own words, and the client's answer to those is no request that was lost.
#[tokio::test]
async fn an_idle_connection_is_told_and_closed() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, AT_ONCE).await;
    let mut used = ebb.client().await;
    assert_eq!(used.get("/").await.text(), "hello");
    let mut unused = ebb.client().await;
    let hook = ebb.ebb.drain().await;
    for client in [&mut used, &mut unused] {
        client.expect_fin().await;
        client.finish().await;
    }
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert_eq!(report["connections"]["http1"]["closed_idle"], 2, "{report}");
    assert_eq!(report["raced_requests"], 0, "{report}");
}

/// Guards: a request that crosses the close on the wire is counted, once.
#[tokio::test]
async fn a_request_that_crosses_the_close_is_counted() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, AT_ONCE).await;
    let mut client = ebb.client().await;
    let hook = ebb.ebb.drain().await;
    client.peer_finished().await;
    client.send_get("/too-late").await;
    client.send_get("/much-too-late").await;
    client.expect_fin().await;
    client.finish().await;
    drop(client);
    assert_eq!(hook.report().await["raced_requests"], 1);
}

/// Guards: records are looked for in the kernel before an idle connection is closed, and what is in them counts.
#[tokio::test]
async fn a_request_in_the_buffer_when_an_idle_connection_closes_is_served() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, AT_ONCE).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = ebb.client().await;
        assert_eq!(client.get("/first").await.text(), "hello");
        clients.push(client);
    }
    let mut updating = ebb.client().await;
    let hook = ebb.ebb.drain().await;
    ebb.ebb.phase("draining").await;
    ebb.ebb.freeze().await;
    for client in &mut clients {
        client.send_get("/second").await;
    }
    updating.wire.tls().get_mut().1.refresh_traffic_keys().unwrap();
    updating.send("").await;
    let_time_pass(OLD).await;
    ebb.ebb.unfreeze();
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "hello");
        client.expect_fin().await;
    }
    updating.expect_fin().await;
    drop((clients, updating));
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert_eq!(report["connections"]["http1"]["closed_idle"], 1, "{report}");
}

/// Guards: part of a record is part of a request: it is waited for, on parked connections and on new ones.
#[tokio::test]
async fn half_a_record_is_waited_for() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, AT_ONCE).await;
    let mut parked = ebb.client().await;
    assert_eq!(parked.get("/").await.text(), "hello");
    let mut fresh = ebb.client().await;
    let_time_pass(OLD).await;
    let mut serving = ebb.client().await;
    assert_eq!(serving.get("/").await.text(), "hello");
    let mut halves = Vec::new();
    for client in [&mut parked, &mut fresh, &mut serving] {
        let record = seal(client, "GET /half HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let (first, second) = record.split_at(record.len() / 2);
        send_raw(client, first).await;
        halves.push(second.to_vec());
    }
    let hook = ebb.ebb.drain().await;
    ebb.ebb.phase("draining").await;
    let_time_pass(OLD).await;
    for (client, half) in [parked, fresh, serving].iter_mut().zip(halves) {
        send_raw(client, &half).await;
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert!(response.closes(), "{}", response.head);
        client.expect_fin().await;
    }
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: half a record is bounded like half a head, in a drain and without one.
#[tokio::test]
async fn half_a_record_is_bounded() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &["--header-timeout", "500ms"]).await;
    let mut parked = ebb.client().await;
    assert_eq!(parked.get("/").await.text(), "hello");
    let_time_pass(OLD).await;
    let mut serving = ebb.client().await;
    assert_eq!(serving.get("/").await.text(), "hello");
    for mut client in [parked, serving] {
        let record = seal(&mut client, "GET /half HTTP/1.1\r\nHost: app.test\r\n\r\n");
        send_raw(&mut client, &record[..record.len() / 2]).await;
        client.response().await.assert_error(408, "header-timeout");
        client.expect_fin().await;
    }
}
