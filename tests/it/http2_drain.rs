//! Drains over HTTP/2: GOAWAY twice, with the streams finished in between and after.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::time::Instant;

use crate::support::frames::{ACK, END_STREAM, Frames, GOAWAY, HEADERS, OK, PING, RST_STREAM};
use crate::support::http2::{self, Http2App, Http2Client, answer, piece, post};
use crate::support::{App, Client, Ebb, let_time_pass, within};

/// The highest number of a stream: the first GOAWAY says that nothing has been refused so far.
const ALL: u32 = (1 << 31) - 1;

const REFUSED_STREAM: u32 = 7;

/// Guards: the two GOAWAYs, and the ping between them: what was opened before its answer is finished.
#[tokio::test]
async fn goaway_twice_with_a_ping_between() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Frames::connect(ebb.addr()).await;
    client.get(1, "/before").await;
    let before = app.request().await;
    let hook = ebb.drain().await;
    let goaway = client.frame(GOAWAY, 0).await;
    assert_eq!((goaway.number(0), goaway.number(4)), (ALL, 0), "the first one");
    let ping = client.frame(PING, 0).await;
    // The client had sent this before it heard of anything.
    client.get(3, "/crossing").await;
    let crossing = app.request().await;
    client.send(PING, ACK, 0, &ping.payload).await;
    let goaway = client.frame(GOAWAY, 0).await;
    assert_eq!((goaway.number(0), goaway.number(4)), (3, 0), "the second one");
    ebb.phase("draining").await;
    for (mut exchange, stream) in [(crossing, 3), (before, 1)] {
        exchange.answer("200 OK", "finished").await.unwrap();
        exchange.keep();
        assert!(client.frame(HEADERS, stream).await.payload.starts_with(OK));
    }
    let rest = client.rest().await;
    assert!(rest.iter().any(|frame| frame.payload == b"finished"), "{rest:?}");
    drop(client);
    let report = hook.report().await;
    assert_eq!(
        (&report["outcome"], &report["connections"]["http2"]["told"]),
        (&"clean".into(), &1.into()),
        "{report}"
    );
    assert!(report["seconds"]["total"].as_f64().unwrap() < 5.0, "{report}");
}

/// Guards: an idle connection is told and closed; the client's end sees no error.
#[tokio::test]
async fn idle_connections_are_told_and_closed() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut used = Http2Client::connect(ebb.addr()).await;
    assert_eq!(used.get("/").await.status, 200);
    let mut unused = Http2Client::connect(ebb.addr()).await;
    ebb.until_metric(&["ebb_connections{", "http2", "idle"], 2.0).await;
    let start = Instant::now();
    let hook = ebb.drain().await;
    used.ended().await.unwrap();
    unused.ended().await.unwrap();
    let report = hook.report().await;
    assert_eq!(
        (&report["outcome"], &report["connections"]["http2"]["told"]),
        (&"clean".into(), &2.into()),
        "{report}"
    );
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(ebb.metric(&["ebb_connections{"]).await, 0.0);
    assert_eq!(ebb.metric(&["ebb_drain_connections_total", "http2", "told"]).await, 2.0);
}

/// Guards: a stream that goes on through the whole drain, and its data in both directions.
#[tokio::test]
async fn a_conversation_goes_on_through_a_drain() {
    let ebb = Ebb::start_at(Http2App::echo().await, &[]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let (response, mut stream) = client.send(post("/chat"), false).await;
    let mut body = within("a head", response).await.unwrap().into_body();
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    Client::until_refused(ebb.addr()).await;
    for i in 0..20 {
        let word = format!("word {i}");
        stream.send_data(Bytes::from(word.clone()), false).unwrap();
        assert_eq!(piece(&mut body).await.unwrap(), word);
        let_time_pass(Duration::from_millis(50)).await;
    }
    assert!(client.try_send(http2::get("/late"), true).await.is_err(), "the client knows better");
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(http2::read(&mut body).await.unwrap().0, b"");
    client.ended().await.unwrap();
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: a peer that never answers the ping: its new streams are refused after a while in a way that lets it repeat
/// them, and the connection ends with its last stream.
#[tokio::test]
async fn a_ping_that_is_never_answered() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1", "--grace-period", "40s"]).await;
    let mut client = Frames::connect(ebb.addr()).await;
    client.get(1, "/first").await;
    let mut first = app.request().await;
    let hook = ebb.drain().await;
    assert_eq!(client.frame(GOAWAY, 0).await.number(0), ALL);
    client.get(3, "/second").await;
    let mut second = app.request().await;
    let_time_pass(Duration::from_millis(2500)).await;
    client.get(5, "/late").await;
    assert_eq!(client.frame(RST_STREAM, 5).await.number(0), REFUSED_STREAM);
    first.answer("200 OK", "first").await.unwrap();
    second.answer("200 OK", "second").await.unwrap();
    let rest = client.rest().await;
    let ends =
        rest.iter().filter(|frame| frame.flags & END_STREAM != 0 && matches!(frame.kind, 0 | 1)).count();
    assert_eq!(ends, 2, "{rest:?}");
    assert_eq!(rest.last().map(|frame| frame.kind), Some(GOAWAY), "{rest:?}");
    drop(client);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert!(report["seconds"]["total"].as_f64().unwrap() < 10.0, "{report}");
    assert!(app.request_now().is_none());
}

/// Guards: the same without any stream.
#[tokio::test]
async fn a_silent_peer_does_not_hold_a_drain() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "40s"]).await;
    let _client = Frames::connect(ebb.addr()).await;
    let hook = ebb.drain().await;
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert!(report["seconds"]["total"].as_f64().unwrap() < 10.0, "{report}");
}

/// Guards: notices are spread over the lame duck; a newcomer has a second.
#[tokio::test]
async fn lame_duck_tells_them_one_after_the_other() {
    let app = App::hello();
    // Each worker spreads its own.
    let flags = ["--workers", "1", "--grace-period", "30s", "--lame-duck-min", "5s", "--lame-duck-max", "6s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Http2Client::connect(ebb.addr()).await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
    let start = Instant::now();
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    let newcomer = async {
        // The worker has heard of the drain when the first is told.
        let_time_pass(Duration::from_millis(800)).await;
        let mut newcomer = Http2Client::connect(ebb.addr()).await;
        let came = Instant::now();
        assert_eq!(newcomer.get("/").await.status, 200);
        newcomer.ended().await.unwrap();
        came.elapsed()
    };
    let told = clients.iter_mut().map(|client| async {
        client.ended().await.unwrap();
        start.elapsed()
    });
    let (mut told, newcomer) = tokio::join!(futures_util::future::join_all(told), newcomer);
    assert!(newcomer > Duration::from_millis(950) && newcomer < Duration::from_millis(2500), "{newcomer:?}");
    told.sort();
    let gaps: Vec<_> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(200)), "not spread: {told:?}");
    assert!(told[5] < Duration::from_secs(5), "{told:?}");
    hook.hang_up();
}

/// Guards: a connection that comes between the trigger and the refusal is served like any other.
#[tokio::test]
async fn requests_in_lame_duck_are_served() {
    let app = App::hello();
    let flags = ["--grace-period", "30s", "--lame-duck-min", "2s", "--lame-duck-max", "3s"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    let mut served = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        let mut client = Http2Client::connect(ebb.addr()).await;
        // Until it is told, and a while longer: no request that it may send is lost.
        while let Ok((response, _)) = client.try_send(http2::get("/"), true).await {
            match answer(response).await {
                Ok(answer) => assert_eq!(answer.body, b"hello"),
                // Its number was above the last of the second GOAWAY: the client may always repeat it.
                Err(error) => {
                    assert!(error.is_go_away() && error.reason() == Some(Reason::NO_ERROR), "{error:?}");
                    break;
                }
            }
            served += 1;
        }
    }
    assert!(served > 10);
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
}

/// Guards: a drain does not wait for the streams of a client that is gone without a word, even if it went after it had
/// been told.
#[tokio::test]
async fn a_client_that_vanishes_does_not_hold_a_drain() {
    let mut app = App::scripted();
    let flags = ["--upstream-protocol", "http1", "--grace-period", "60s", "--http2-keepalive", "500ms"];
    let ebb = Ebb::start_with(&app, &flags).await;
    let mut client = Frames::connect(ebb.addr()).await;
    client.get(1, "/first").await;
    let _first = app.request().await;
    let hook = ebb.drain().await;
    assert_eq!(client.frame(GOAWAY, 0).await.number(0), ALL);
    // It answers nothing from here on.
    let report = hook.report().await;
    assert!(report["seconds"]["total"].as_f64().unwrap() < 15.0, "{report}");
}
