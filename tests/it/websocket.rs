//! WebSocket in a drain: Close 1001 to both ends, exactly between two frames, and what they say first wins.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    App, BINARY, CLOSE, CONTINUATION, Client, Ebb, End, Exchange, Frame, PING, SWITCHING, TEXT, WEBSOCKET,
    let_time_pass, open_websocket, within,
};

/// One worker: its connections get their instants in the order in which they came.
const ONE: &[&str] = &["--workers", "1"];

fn close(code: u16) -> Vec<u8> {
    code.to_be_bytes().to_vec()
}

/// Opens another one, answers its Close when it comes, and returns: those that were opened before have had their
/// instant.
async fn instants_pass((mut client, mut exchange): (Client, Exchange)) {
    client.wire.expect_frame(Frame::going_away(false)).await;
    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
    exchange.wire.expect_frame(Frame::client(CLOSE, close(1001))).await;
    exchange.wire.send_frame(Frame::app(CLOSE, close(1001))).await;
    client.expect_fin().await;
}

async fn expect_end(exchange: &mut Exchange) {
    assert_eq!(within("the app's connection to end", exchange.wire.rest()).await, (Vec::new(), End::Fin));
}

#[track_caller]
fn assert_ended(report: &serde_json::Value, outcome: &str, end: &str, count: u64) {
    assert_eq!(report["outcome"], outcome, "{report}");
    assert_eq!(report["connections"]["websocket"][end], count, "{report}");
}

/// Guards: the Close to the client, its answer and everything before it on the way to the app, the silence after it,
/// and the FINs.
#[tokio::test]
async fn both_ends_are_told() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    client.wire.send_frame(Frame::client(TEXT, "ping")).await;
    exchange.wire.expect_frame(Frame::client(TEXT, "ping")).await;
    exchange.wire.send_frame(Frame::app(TEXT, "pong")).await;
    client.wire.expect_frame(Frame::app(TEXT, "pong")).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    exchange.wire.send_frame(Frame::app(TEXT, "too late")).await;
    client.wire.send_frame(Frame::client(TEXT, "one more")).await;
    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
    exchange.wire.expect_frame(Frame::client(TEXT, "one more")).await;
    exchange.wire.expect_frame(Frame::client(CLOSE, close(1001))).await;
    client.expect_fin().await;
    let start = Instant::now();
    exchange.wire.send_frame(Frame::app(CLOSE, close(1001))).await;
    expect_end(&mut exchange).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "the app's answer is overlooked: {:?}",
        start.elapsed()
    );
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: a client that does not answer does not keep the app from hearing of it, nor the drain from ending.
#[tokio::test]
async fn a_client_that_does_not_answer() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    let start = Instant::now();
    client.wire.send_frame(Frame::client(TEXT, "one more")).await;
    exchange.wire.expect_frame(Frame::client(TEXT, "one more")).await;
    exchange.wire.expect_frame(Frame::going_away(true)).await;
    assert!(start.elapsed() > Duration::from_millis(800), "too soon: {:?}", start.elapsed());
    client.wire.send_frame(Frame::client(TEXT, "too late")).await;
    exchange.wire.send_frame(Frame::app(CLOSE, close(1001))).await;
    client.expect_fin().await;
    assert!(start.elapsed() > Duration::from_millis(4500), "too soon: {:?}", start.elapsed());
    expect_end(&mut exchange).await;
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: what the client says after the app has been told in its place reaches nobody, but for its Close, which ends
/// the waiting.
#[tokio::test]
async fn a_client_that_answers_late() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    let start = Instant::now();
    exchange.wire.expect_frame(Frame::going_away(true)).await;
    exchange.wire.send_frame(Frame::app(CLOSE, close(1001))).await;
    client.wire.send_frame(Frame::client(TEXT, "too late")).await;
    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
    client.expect_fin().await;
    assert!(start.elapsed() < Duration::from_secs(4), "waited on: {:?}", start.elapsed());
    expect_end(&mut exchange).await;
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: an app that does not answer keeps nobody waiting for long, its client not at all.
#[tokio::test]
async fn an_app_that_does_not_answer() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    let start = Instant::now();
    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
    client.expect_fin().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(client);
    exchange.wire.expect_frame(Frame::client(CLOSE, close(1001))).await;
    expect_end(&mut exchange).await;
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: an app that hangs up, however it does so, does not spoil the client's end.
#[tokio::test]
async fn an_app_that_hangs_up() {
    for reset in [false, true] {
        let mut app = App::scripted();
        let ebb = Ebb::start(&app).await;
        let (mut client, exchange) = open_websocket(&mut app, &ebb).await;
        let hook = ebb.drain().await;
        client.wire.expect_frame(Frame::going_away(false)).await;
        if reset {
            exchange.reset();
        } else {
            drop(exchange);
        }
        let ended = tokio::time::timeout(Duration::from_millis(300), client.peer_finished()).await;
        assert!(ended.is_err(), "the connection ends before the client has answered");
        client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
        client.expect_fin().await;
        drop(client);
        assert_ended(&hook.report().await, "clean", "told", 1);
    }
}

/// Guards: of a client that hangs up on its Close the app hears in order, and at once.
#[tokio::test]
async fn a_client_that_hangs_up() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    let start = Instant::now();
    drop(client);
    exchange.wire.expect_frame(Frame::going_away(true)).await;
    assert!(start.elapsed() < Duration::from_millis(800), "too late: {:?}", start.elapsed());
    exchange.wire.send_frame(Frame::app(CLOSE, close(1001))).await;
    expect_end(&mut exchange).await;
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: a client that answers and is gone does not take the connection away under an app that is about to answer.
#[tokio::test]
async fn a_client_that_answers_and_hangs_up() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
    drop(client);
    exchange.wire.expect_frame(Frame::client(CLOSE, close(1001))).await;
    let answer = Frame::app(CLOSE, close(1001)).bytes();
    for byte in answer {
        let_time_pass(Duration::from_millis(100)).await;
        exchange.wire.send([byte]).await.expect("somebody still listens");
    }
    expect_end(&mut exchange).await;
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: a Close never goes into a frame.
#[tokio::test]
async fn a_large_frame_is_waited_for() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, ONE).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let other = open_websocket(&mut app, &ebb).await;
    let large = Frame::app(BINARY, vec![0x88; 300_000]).bytes();
    exchange.wire.send(&large[..150_000]).await.unwrap();
    let hook = ebb.drain().await;
    instants_pass(other).await;
    exchange.wire.send(&large[150_000..]).await.unwrap();
    exchange.wire.send_frame(Frame::app(TEXT, "too late")).await;
    client.wire.expect_frame(Frame::app(BINARY, vec![0x88; 300_000])).await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    // The other direction, where the client takes longer than an answer may.
    let large = Frame::client(BINARY, vec![0x88; 300_000]).bytes();
    client.send(&large[..150_000]).await;
    let_time_pass(Duration::from_millis(1500)).await;
    client.send(&large[150_000..]).await;
    client.wire.send_frame(Frame::client(TEXT, "too late")).await;
    exchange.wire.expect_frame(Frame::client(BINARY, vec![0x88; 300_000])).await;
    exchange.wire.expect_frame(Frame::going_away(true)).await;
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 2);
}

/// Guards: a Close goes between two messages.
#[tokio::test]
async fn a_message_of_several_frames_is_waited_for() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, ONE).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let other = open_websocket(&mut app, &ebb).await;
    exchange.wire.send_frame(Frame::app(TEXT, "be").unfinished()).await;
    exchange.wire.send_frame(Frame::app(PING, "")).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::app(TEXT, "be").unfinished()).await;
    client.wire.expect_frame(Frame::app(PING, "")).await;
    // Their instants lie two seconds apart: this one is patient for as long as that.
    let ended = tokio::spawn(instants_pass(other));
    ebb.phase("draining").await;
    let_time_pass(Duration::from_millis(1500)).await;
    exchange.wire.send_frame(Frame::app(CONTINUATION, "gin").unfinished()).await;
    exchange.wire.send_frame(Frame::app(CONTINUATION, "end")).await;
    exchange.wire.send_frame(Frame::app(TEXT, "too late")).await;
    client.wire.expect_frame(Frame::app(CONTINUATION, "gin").unfinished()).await;
    client.wire.expect_frame(Frame::app(CONTINUATION, "end")).await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    within("the other one to end", ended).await.unwrap();
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 2);
}

/// Guards: a message that is never finished is interrupted, between two of its frames.
#[tokio::test]
async fn a_message_that_is_never_finished_is_interrupted() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    exchange.wire.send_frame(Frame::app(TEXT, "be").unfinished()).await;
    client.wire.expect_frame(Frame::app(TEXT, "be").unfinished()).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: the app's Close is the last word in its direction.
#[tokio::test]
async fn the_apps_close_is_first() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    exchange.wire.send_frame(Frame::app(CLOSE, close(4000))).await;
    client.wire.expect_frame(Frame::app(CLOSE, close(4000))).await;
    let hook = ebb.drain().await;
    // The client does not answer.
    exchange.wire.expect_frame(Frame::going_away(true)).await;
    client.expect_fin().await;
    expect_end(&mut exchange).await;
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: the client's Close is the last word in its direction, and the app may answer it by itself.
#[tokio::test]
async fn the_clients_close_is_first() {
    for answers in [true, false] {
        let mut app = App::scripted();
        let ebb = Ebb::start_with(&app, ONE).await;
        let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
        client.wire.send_frame(Frame::client(CLOSE, close(4000))).await;
        exchange.wire.expect_frame(Frame::client(CLOSE, close(4000))).await;
        let other = open_websocket(&mut app, &ebb).await;
        let hook = ebb.drain().await;
        if answers {
            ebb.phase("draining").await;
            exchange.wire.send_frame(Frame::app(CLOSE, close(4000))).await;
            client.wire.expect_frame(Frame::app(CLOSE, close(4000))).await;
        } else {
            client.wire.expect_frame(Frame::going_away(false)).await;
        }
        client.expect_fin().await;
        expect_end(&mut exchange).await;
        instants_pass(other).await;
        drop((client, exchange));
        assert_ended(&hook.report().await, "clean", "told", if answers { 1 } else { 2 });
    }
}

/// Guards: what is no WebSocket behind its 101 is not touched.
#[tokio::test]
async fn what_is_no_websocket_is_left_alone() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--grace-period", "5s", "--app-shutdown", "1s"]).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    exchange.wire.send("something else").await.unwrap();
    assert_eq!(within("it to pass", client.wire.exactly(14)).await.unwrap(), b"something else");
    let hook = ebb.drain().await;
    client.send("as usual").await;
    assert_eq!(within("it to pass", exchange.wire.exactly(8)).await.unwrap(), b"as usual");
    let cut = client.rest().await;
    assert_eq!(cut, (Vec::new(), End::Fin));
    expect_end(&mut exchange).await;
    drop((client, exchange));
    let report = hook.report().await;
    assert_ended(&report, "forced", "cut", 1);
}

/// Guards: goodbyes are spread, and none is said in lame duck.
#[tokio::test]
async fn they_are_told_one_after_the_other() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--workers", "1", "--lame-duck-min", "1s"]).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(open_websocket(&mut app, &ebb).await);
    }
    let start = Instant::now();
    let hook = ebb.drain().await;
    let mut tasks = JoinSet::new();
    for pair in all {
        tasks.spawn(async move {
            instants_pass(pair).await;
            start.elapsed()
        });
    }
    let mut told = within("all to be told", tasks.join_all()).await;
    told.sort();
    // The deadline is eight seconds after the trigger; seven are left when draining begins.
    assert!(told[0] > Duration::from_millis(1000), "in lame duck: {told:?}");
    assert!(told[7] - told[0] > Duration::from_millis(2500), "all at once: {told:?}");
    assert!(told[7] < Duration::from_millis(6000), "too late for answers: {told:?}");
    assert_ended(&hook.report().await, "clean", "told", 8);
}

/// Guards: a handshake that the drain overtakes ends in a WebSocket, which is told at once; what the app says
/// together with its 101 is part of it.
#[tokio::test]
async fn a_handshake_races_the_drain() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send([WEBSOCKET.as_bytes(), &Frame::client(TEXT, "early").bytes()].concat()).await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    let half = Frame::app(TEXT, vec![b'h'; 200]).bytes();
    let early = [SWITCHING.as_bytes(), &Frame::app(TEXT, "hello").bytes(), &half[..100]].concat();
    exchange.wire.send(early).await.unwrap();
    assert_eq!(client.head().await.status(), 101);
    client.wire.expect_frame(Frame::app(TEXT, "hello")).await;
    exchange.wire.expect_frame(Frame::client(TEXT, "early")).await;
    exchange.wire.send(&half[100..]).await.unwrap();
    client.wire.expect_frame(Frame::app(TEXT, vec![b'h'; 200])).await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
    exchange.wire.expect_frame(Frame::client(CLOSE, close(1001))).await;
    exchange.wire.send_frame(Frame::app(CLOSE, close(1001))).await;
    client.expect_fin().await;
    drop((client, exchange));
    assert_ended(&hook.report().await, "clean", "told", 1);
}

/// Guards: a goodbye that has begun is brought to its end, though the drain is called off.
#[tokio::test]
async fn a_drain_that_is_called_off() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, ONE).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let (mut later, mut later_exchange) = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    client.wire.expect_frame(Frame::going_away(false)).await;
    let mut admin = Client::connect(ebb.admin).await;
    admin.send("POST /undrain HTTP/1.1\r\nHost: ebb\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(admin.response().await.status(), 200);
    assert_eq!(hook.report().await["outcome"], "cancelled");
    exchange.wire.expect_frame(Frame::going_away(true)).await;
    client.expect_fin().await;
    expect_end(&mut exchange).await;
    // Those whose instant had not come stay.
    later.wire.send_frame(Frame::client(TEXT, "still here")).await;
    later_exchange.wire.expect_frame(Frame::client(TEXT, "still here")).await;
    later_exchange.wire.send_frame(Frame::app(TEXT, "so am I")).await;
    later.wire.expect_frame(Frame::app(TEXT, "so am I")).await;
}

/// What a frame of the load test holds, to be told from any other.
fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(next).collect()
}

/// Guards: under load no frame is damaged, lost before the Close, or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_is_damaged_under_load() {
    const CLIENTS: u32 = 24;
    let app = App::answering(|mut exchange| async move {
        exchange.wire.send(SWITCHING).await?;
        loop {
            let frame = Frame::read(&mut exchange.wire).await?;
            exchange.wire.send(Frame { masked: false, ..frame.clone() }.bytes()).await?;
            if frame.opcode == CLOSE {
                assert_eq!(frame.payload, close(1001), "a Close that nobody has sent");
                return Ok(());
            }
        }
    });
    let ebb = Ebb::start(&app).await;
    let busy = Arc::new(Barrier::new(CLIENTS as usize + 1));
    let mut clients = JoinSet::new();
    for id in 0..CLIENTS {
        let mut client = ebb.client().await;
        let busy = Arc::clone(&busy);
        clients.spawn(async move {
            client.send(WEBSOCKET).await;
            assert_eq!(client.head().await.status(), 101);
            // A few frames are always under way.
            let length = |n: u32| [10usize, 125, 126, 65_535, 65_536, 200_000][(n + id) as usize % 6];
            let frame = |n: u32| Frame::client(BINARY, pattern(id << 16 | n, length(n))).bytes();
            for n in 0..3 {
                client.send(frame(n)).await;
            }
            for n in 0.. {
                let echo = client.wire.frame().await;
                if echo.opcode == CLOSE {
                    assert_eq!(echo, Frame::going_away(false));
                    client.wire.send_frame(Frame::client(CLOSE, close(1001))).await;
                    client.expect_fin().await;
                    return n;
                }
                assert!(echo == Frame::app(BINARY, pattern(id << 16 | n, length(n))), "frame {n} of {id}");
                client.send(frame(n + 3)).await;
                if n == 2 {
                    busy.wait().await;
                }
            }
            unreachable!()
        });
    }
    within("every client to be busy", busy.wait()).await;
    let hook = ebb.drain().await;
    let frames = within("every client to be told", clients.join_all()).await;
    assert!(frames.iter().sum::<u32>() > 4 * CLIENTS, "no load: {frames:?}");
    assert_ended(&hook.report().await, "clean", "told", CLIENTS.into());
}

/// Guards: when both ends have left in the middle of something, there is nobody to wait for.
#[tokio::test]
async fn both_ends_leave_in_the_middle_of_a_message() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, ONE).await;
    let (mut client, mut exchange) = open_websocket(&mut app, &ebb).await;
    let long = Frame::app(TEXT, "a long message").bytes();
    exchange.wire.send(&long[..8]).await.unwrap();
    assert_eq!(within("half a message", client.wire.exactly(8)).await.unwrap(), long[..8]);
    let other = open_websocket(&mut app, &ebb).await;
    let hook = ebb.drain().await;
    instants_pass(other).await;
    client.finish().await;
    exchange.wire.expect_frame(Frame::client(CLOSE, close(1001))).await;
    expect_end(&mut exchange).await;
    exchange.wire.finish().await.unwrap();
    client.expect_fin().await;
    drop((client, exchange));
    assert_eq!(hook.report().await["outcome"], "clean");
}
