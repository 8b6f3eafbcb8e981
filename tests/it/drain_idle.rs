//! Connections without a request when the drain begins: nothing can be said to them, and nothing that they
//! have sent may be lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{App, Client, Ebb, End, let_time_pass};

/// No lame duck: what is tested is draining.
const AT_ONCE: &[&str] = &["--lame-duck-min", "0", "--lame-duck-max", "0", "--quiet", "0"];

/// Longer than ebb keeps an idle connection in a drain.
const OLD: Duration = Duration::from_millis(1300);

async fn idle_clients(ebb: &Ebb, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = ebb.client().await;
        assert_eq!(client.get("/first").await.status(), 200);
        clients.push(client);
    }
    clients
}

async fn assert_served(clients: &mut [Client]) {
    for client in clients {
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, "hello"));
    }
}

/// Guards: an idle connection is looked into before it is closed. Its request was in the kernel's buffer when
/// the drain began.
#[tokio::test]
async fn a_request_in_the_buffer_when_the_drain_begins_is_served() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, AT_ONCE).await;
    let mut clients = idle_clients(&ebb, 32).await;
    let_time_pass(OLD).await;
    ebb.freeze().await;
    for client in &mut clients {
        client.send_get("/second").await;
    }
    ebb.signal(libc::SIGTERM);
    ebb.unfreeze();
    assert_served(&mut clients).await;
}

/// Guards: the same in the moment when an idle connection's time is up.
#[tokio::test]
async fn a_request_in_the_buffer_when_an_idle_connection_closes_is_served() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, AT_ONCE).await;
    let mut clients = idle_clients(&ebb, 32).await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    ebb.freeze().await;
    for client in &mut clients {
        client.send_get("/second").await;
    }
    let_time_pass(OLD).await;
    ebb.unfreeze();
    assert_served(&mut clients).await;
    for mut client in clients {
        client.expect_fin().await;
    }
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}

/// Guards: the last response tells that it is the last, and the connection ends with it.
#[tokio::test]
async fn a_request_on_an_idle_connection_while_draining_is_the_last() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, AT_ONCE).await;
    let mut client = idle_clients(&ebb, 1).await.remove(0);
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    assert_eq!(client.get_until_told("/last").await.status(), 200);
    client.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: half a request head is a request: it is waited for and served.
#[tokio::test]
async fn half_a_head_is_waited_for() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    // One on a fresh connection, one on a connection that was used before.
    let mut clients = idle_clients(&ebb, 1).await;
    clients.push(ebb.client().await);
    for client in &mut clients {
        client.send("GET /half HTTP/1.1\r\nHost: app").await;
    }
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    // Longer than an idle connection would have.
    let_time_pass(OLD).await;
    for client in &mut clients {
        client.send(".test\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert!(response.closes(), "{}", response.head);
        client.expect_fin().await;
    }
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: half a head that never becomes a whole one holds the drain no longer than the head's time-out.
#[tokio::test]
async fn half_a_head_holds_the_drain_until_its_time_out() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--header-timeout", "2s"]).await;
    let mut client = ebb.client().await;
    client.send("GET /half HTTP/1.1\r\nHost: app").await;
    let hook = ebb.drain().await;
    client.response().await.assert_error(408, "header-timeout");
    client.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: a connection that has not sent a byte is an idle one: it is served while it may still be young,
/// and closed, not reset, when it is old.
#[tokio::test]
async fn a_connection_without_a_byte_is_served_or_closed() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, AT_ONCE).await;
    let mut silent = ebb.client().await;
    let mut late = ebb.client().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    assert_eq!(late.get_until_told("/first").await.status(), 200);
    late.expect_fin().await;
    silent.expect_fin().await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: the bound on a lingering close: a client that keeps its end open does not hold the drain.
#[tokio::test]
async fn a_client_that_never_closes_does_not_hold_the_drain() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "40s"]).await;
    let mut idle = idle_clients(&ebb, 1).await.remove(0);
    let mut told = ebb.client().await;
    assert_eq!(told.get("/first").await.status(), 200);
    let start = Instant::now();
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    told.get_until_told("/second").await;
    told.expect_fin().await;
    idle.expect_fin().await;
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert!(start.elapsed() < Duration::from_secs(20), "the drain took {:?}", start.elapsed());
    drop((idle, told));
}

/// Guards: the lingering read after an idle close, by which the one loss that HTTP/1.1 can't rule out is known: a
/// request that crossed the FIN on the wire.
#[tokio::test]
async fn a_request_that_crosses_the_close_is_counted() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, AT_ONCE).await;
    let mut crossing = ebb.client().await;
    let mut other = ebb.client().await;
    let hook = ebb.drain().await;
    crossing.peer_finished().await;
    crossing.send_get("/too-late").await;
    crossing.expect_fin().await;
    other.expect_fin().await;
    drop((crossing, other));
    let report = hook.report().await;
    assert_eq!((&report["outcome"], &report["raced_requests"]), (&"clean".into(), &1.into()), "{report}");
}

/// Guards: what arrives after the FIN is read, not answered by a reset that would erase the response in a slow
/// client's buffer.
#[tokio::test]
async fn a_response_that_the_client_has_not_read_is_not_erased() {
    let body = "y".repeat(100_000);
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/big").await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    exchange.answer("200 OK", &body).await.unwrap();
    exchange.keep();
    client.peer_finished().await;
    // ebb has nothing more to say, the client has read nothing, and asks for more.
    for _ in 0..16 {
        client.send_get("/more").await;
    }
    let response = client.response().await;
    assert_eq!(response.status(), 200);
    assert!(response.closes(), "{}", response.head);
    assert!(response.text() == body, "the body is not what it was");
    assert_eq!(client.rest().await, (Vec::new(), End::Fin));
    drop(client);
    assert_eq!(hook.report().await["outcome"], "clean");
}
