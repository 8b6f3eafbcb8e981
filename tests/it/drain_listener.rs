//! New connections while ebb stops listening: each is served or refused, none is reset.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{App, Ebb, Traffic, let_time_pass, within};

/// Guards: the lossless close: handshakes under way and connections in the accept queue when the listeners
/// close. Clients connect without a pause through the whole of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_through_the_close_loses_nothing() {
    for workers in ["1", "2"] {
        let app = App::hello();
        let ebb = Ebb::start_with(&app, &["--workers", workers]).await;
        let traffic = Traffic::start(ebb.addr(), 16, 48);
        traffic.served(500).await;
        let hook = ebb.drain().await;
        let tally = traffic.until_refused().await;
        assert_eq!(tally.lost, Vec::<String>::new(), "of {} with {workers} workers", tally.served);
        assert_eq!(tally.refused, 64);
        let report = hook.report().await;
        assert_eq!(report["outcome"], "clean", "{report}");
    }
}

/// Guards: new SYNs are steered away before the queues are emptied: from the moment that draining has begun
/// none becomes a connection, so the queues do come to their end however many clients knock.
#[tokio::test]
async fn a_connection_begun_while_draining_is_refused() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let mut knocking = JoinSet::new();
    for _ in 0..16 {
        knocking.spawn(TcpStream::connect(ebb.addr()));
    }
    for knock in within("an answer to each", knocking.join_all()).await {
        assert_eq!(knock.map(drop).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: the accept queue is emptied before the listeners close. The connections came while ebb stood still,
/// and its lame duck was over when it went on.
#[tokio::test]
async fn connections_in_the_accept_queue_are_served() {
    let app = App::hello();
    let flags = ["--lame-duck-min", "500ms", "--lame-duck-max", "500ms"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    ebb.freeze().await;
    let mut clients = JoinSet::new();
    for _ in 0..300 {
        let mut client = ebb.client().await;
        client.send_get("/queued").await;
        clients.spawn(async move { client.response().await.status() });
    }
    let_time_pass(Duration::from_millis(700)).await;
    ebb.unfreeze();
    assert_eq!(clients.join_all().await, [200; 300]);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}

/// Guards: a listener for both families closes for both, and the queue of either is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dual_stack_port_closes_without_loss_in_both_families() {
    let app = App::hello();
    let forward = format!("0={}", app.addr());
    let ebb = Ebb::start_bare(&["--forward", &forward, "--admin", "127.0.0.1:0"]).await;
    let port = ebb.addr().port();
    let v4 = Traffic::start((Ipv4Addr::LOCALHOST, port).into(), 4, 16);
    let v6 = Traffic::start((Ipv6Addr::LOCALHOST, port).into(), 4, 16);
    v4.served(200).await;
    v6.served(200).await;
    let hook = ebb.drain().await;
    for traffic in [v4, v6] {
        let tally = traffic.until_refused().await;
        assert_eq!(tally.lost, Vec::<String>::new(), "of {}", tally.served);
    }
    assert_eq!(hook.report().await["outcome"], "clean");
}
