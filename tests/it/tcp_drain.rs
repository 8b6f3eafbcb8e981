//! `tcp://` in a drain: nothing can be said, so connections are waited for.

use tokio::time::{Duration, Instant};

use crate::support::{Client, Ebb, End, RawApp, let_time_pass, within};

/// The deadline comes two seconds after the trigger.
const SOON: &[&str] = &["--grace-period", "4s", "--app-shutdown", "1s"];

/// Guards: a drain refuses new connections and waits for those that there are, which hear nothing of it.
#[tokio::test]
async fn a_connection_is_waited_for() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(&[]).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    Client::until_refused(ebb.addr()).await;
    for _ in 0..4 {
        let_time_pass(Duration::from_millis(400)).await;
        client.send("ping").await;
        assert_eq!(within("bytes from the client", wire.exactly(4)).await.unwrap(), b"ping");
        wire.send("pong").await.unwrap();
        assert_eq!(within("bytes from the app", client.wire.exactly(4)).await.unwrap(), b"pong");
    }
    assert_eq!(ebb.status().await["phase"], "draining");
    client.finish().await;
    assert_eq!(within("the client's FIN", wire.rest()).await, (Vec::new(), End::Fin));
    drop((client, wire));
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert_eq!(report["connections"]["tcp"]["finished"], 1, "{report}");
}

/// Guards: at the deadline both sides get a FIN, and are cut when they do not mind it.
#[tokio::test]
async fn the_deadline_ends_both_sides() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(SOON).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    client.expect_fin().await;
    assert_eq!(within("the app to be told", wire.rest()).await, (Vec::new(), End::Fin));
    assert!(start.elapsed() >= Duration::from_millis(1900), "before the deadline: {:?}", start.elapsed());
    let report = hook.report().await;
    assert_eq!(report["outcome"], "forced", "{report}");
    assert_eq!(report["connections"]["tcp"]["cut"], 1, "{report}");
    drop((client, wire));
}

/// Guards: a client that has not taken everything by then does not see an end, but a RST.
#[tokio::test]
async fn what_is_cut_off_does_not_look_whole() {
    let app = RawApp::new().await;
    let ebb = app.start_ebb(SOON).await;
    let (mut client, mut wire) = app.open(&ebb).await;
    let hook = ebb.drain().await;
    // More than fits into all the buffers on the way; nobody reads.
    let talking = async { while wire.send_filler(1 << 20).await.is_ok() {} };
    let (report, ()) = tokio::join!(hook.report(), talking);
    assert_eq!(report["outcome"], "forced", "{report}");
    assert_eq!(client.rest().await.1, End::Reset);
}

/// Guards: in lame duck a connection is an arrival when its client says something. A probe says nothing.
#[tokio::test]
async fn silent_connections_are_no_arrivals() {
    let app = RawApp::new().await;
    let flags = ["--lame-duck-min", "1500ms", "--lame-duck-max", "1500ms"];
    for talks in [false, true] {
        let ebb = app.start_ebb(&flags).await;
        let hook = ebb.drain().await;
        ebb.phase("lame-duck").await;
        let mut client = ebb.client().await;
        if talks {
            client.send("hello").await;
        }
        client.finish().await;
        // Among them may be ebb's own looks at the app.
        loop {
            let mut wire = app.accept().await;
            let (said, _) = within("the client's FIN", wire.rest()).await;
            if !talks || !said.is_empty() {
                break;
            }
        }
        drop(client);
        let report = hook.report().await;
        assert_eq!(report["last_arrival_seconds"].is_number(), talks, "{report}");
    }
}

/// Guards: connections in the accept queue are served when the listener closes.
#[tokio::test]
async fn rescued_connections_are_served() {
    const CLIENTS: usize = 50;
    let app = RawApp::new().await;
    let flags = ["--lame-duck-min", "500ms", "--lame-duck-max", "500ms"];
    let ebb = app.start_ebb(&flags).await;
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    ebb.freeze().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(ebb.client().await);
    }
    let_time_pass(Duration::from_millis(700)).await;
    ebb.unfreeze();
    let talk = async {
        for client in &mut clients {
            client.send("still").await;
            assert_eq!(within("an echo", client.wire.exactly(5)).await.unwrap(), b"still");
        }
    };
    tokio::select! {
        () = app.echo() => {}
        () = talk => {}
    }
    drop(clients);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}

/// Guards: a client that comes when the app has gone already is reset at once, and does not hold up the drain.
#[tokio::test]
async fn without_its_app_a_rescued_connection_is_reset() {
    let app = RawApp::new().await;
    let flags = ["--lame-duck-min", "500ms", "--lame-duck-max", "500ms"];
    let ebb: Ebb = app.start_ebb(&flags).await;
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    ebb.freeze().await;
    let mut client = ebb.client().await;
    drop(app);
    let_time_pass(Duration::from_millis(700)).await;
    ebb.unfreeze();
    let begin = Instant::now();
    assert_eq!(client.rest().await, (Vec::new(), End::Reset));
    hook.report().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
