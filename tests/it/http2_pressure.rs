//! HTTP/2 under pressure: what piles up, and what holds up others.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::frames::{self, DATA, END_HEADERS, END_STREAM, Frame, Frames, HEADERS, WINDOW_UPDATE};
use crate::support::http2::{self, Http2App, Http2Client, answer, post};
use crate::support::{App, Ebb, let_time_pass, within};

/// What ebb takes on one stream before it is read.
const STREAM_WINDOW: usize = 128 << 10;

/// More than is left of a connection's window when streams that are stuck hold more than half of it.
const LARGE: usize = 5 << 20;

/// A download that is soon done.
const SMALL: usize = 100_000;

/// ebb with one worker, before an app that it asks in HTTP/1.1.
async fn before_http1(app: &App) -> Ebb {
    Ebb::start_with(app, &["--workers", "1", "--upstream-protocol", "http1"]).await
}

/// Guards: responses that clients don't read hold up no others on the app's connection, though they hold more than half
/// of its window.
#[tokio::test]
async fn stuck_downloads_hold_up_no_others() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
    // Its streams have no window.
    let mut stuck = Frames::connect_with(ebb.addr(), &[(4, 0)]).await;
    let mut unread = JoinSet::new();
    for i in 0..55 {
        stuck.get(2 * i + 1, "/stuck").await;
        let mut call = app.call().await;
        unread.spawn(async move {
            let mut stream = call.begin();
            http2::write(&mut stream, &vec![b'x'; STREAM_WINDOW], false).await.unwrap();
            (call, stream)
        });
    }
    let _unread = unread.join_all().await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let response = client.begin("/other").await;
    let mut call = app.call().await;
    assert_eq!(call.connection, 0, "on the same connection");
    let mut stream = call.begin();
    let sent = vec![b'y'; 3 * LARGE];
    let (written, answer) = tokio::join!(http2::write(&mut stream, &sent, true), answer(response));
    written.unwrap();
    assert_eq!(answer.unwrap().body.len(), sent.len());
}

/// Guards: the same the other way: uploads that the app doesn't read hold up no others on the client's connection.
#[tokio::test]
async fn stuck_uploads_hold_up_no_others() {
    let mut builder = h2::server::Builder::new();
    builder.initial_connection_window_size(64 << 20);
    let mut app = Http2App::start_with(builder).await;
    let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let mut unread = Vec::new();
    for _ in 0..25 {
        let (response, mut stream) = client.send(post("/stuck"), false).await;
        let call = app.call().await;
        // The rest of it fits into the app's window.
        http2::write(&mut stream, &vec![b'x'; STREAM_WINDOW + 30_000], false).await.unwrap();
        unread.push((response, stream, call));
    }
    let (_response, mut stream) = client.send(post("/other"), false).await;
    let mut call = app.call().await;
    assert_eq!(call.connection, 0, "on the same connection");
    let sent = vec![b'y'; LARGE];
    let (written, read) = tokio::join!(http2::write(&mut stream, &sent, true), http2::read(&mut call.body));
    written.unwrap();
    assert_eq!(read.unwrap().0.len(), sent.len());
}

/// Guards: a client that reads nothing isn't read from when much waits for it: responses without a body need no window.
#[tokio::test]
async fn responses_without_a_body_do_not_pile_up() {
    let app = App::answering(|mut exchange| async move {
        let filler = "y".repeat(12_000);
        exchange.wire.send(format!("HTTP/1.1 304 Not Modified\r\nX-Filler: {filler}\r\n\r\n")).await?;
        exchange.keep();
        Ok(())
    });
    let ebb = before_http1(&app).await;
    let held = ebb.memory_kib();
    let mut client = Frames::connect(ebb.addr()).await;
    let mut streams = (1..).step_by(2);
    let mut asked = 0;
    while asked < 4_000 {
        let request =
            |stream| Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, &frames::head("GET", "/", &[]));
        client.raw(&streams.by_ref().take(100).flat_map(request).collect::<Vec<_>>()).await;
        asked += 100;
        let answered = ebb.until_metric(&["ebb_requests_total"], f64::from(asked));
        if tokio::time::timeout(Duration::from_secs(1), answered).await.is_err() {
            // ebb waits for us.
            break;
        }
    }
    let grown = ebb.memory_kib().saturating_sub(held);
    assert!(grown < 16 << 10, "{grown} KiB more after {asked} requests");
}

/// Guards: streams take turns: a download that always has more to send leaves room for others on a connection that is
/// slower than the app.
#[tokio::test]
async fn a_download_leaves_room_for_another() {
    let app = App::answering(|mut exchange| async move {
        let length: usize = if exchange.head.target() == "/large" { 1 << 30 } else { SMALL };
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await?;
        let block = vec![b'x'; length.min(256 << 10)];
        for _ in 0..length / block.len() {
            exchange.wire.send(&block[..]).await?;
        }
        exchange.keep();
        Ok(())
    });
    let ebb = before_http1(&app).await;
    let widest = (1 << 31) - 1;
    let mut client = Frames::connect_with(ebb.addr(), &[(4, widest)]).await;
    client.send(WINDOW_UPDATE, 0, 0, &(widest - 65_535).to_be_bytes()).await;
    client.get(1, "/large").await;
    let (mut large, mut small, mut asked) = (0, 0, false);
    while small < SMALL {
        let frame = within("more of the downloads", client.next()).await.expect("no end");
        match (frame.kind, frame.stream) {
            (DATA, 1) => large += frame.payload.len(),
            (DATA, 3) => small += frame.payload.len(),
            _ => {}
        }
        assert!(large < 100 << 20, "{large} bytes, and {small} of the other download");
        if large % (1 << 20) < frame.payload.len() {
            // Slower than the app: that is what keeps the connection full.
            let_time_pass(Duration::from_millis(10)).await;
        }
        if large > 4 << 20 && !std::mem::replace(&mut asked, true) {
            client.get(3, "/small").await;
        }
    }
}
