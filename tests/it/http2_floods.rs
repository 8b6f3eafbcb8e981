//! Clients that mean harm: what they cost, and what others notice.

use std::time::Duration;

use crate::support::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE,
};
use crate::support::http2::{Http2App, Http2Client};
use crate::support::{App, Ebb, let_time_pass};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A RST_STREAM with CANCEL.
fn cancel(stream: u32) -> Vec<u8> {
    Frame::bytes(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

fn request(stream: u32) -> Vec<u8> {
    Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, &frames::head("GET", "/", &[]))
}

/// The code of the GOAWAY with which the connection ends; none when it ends without.
async fn goaway(client: &mut Frames) -> Option<u32> {
    let rest = client.rest().await;
    rest.iter().rev().find(|frame| frame.kind == GOAWAY).map(|frame| frame.number(4))
}

/// Guards: the budget of given-up requests (CVE-2023-44487).
#[tokio::test]
async fn rapid_reset() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut other = Http2Client::connect(ebb.addr()).await;
    assert_eq!(other.get("/").await.status, 200);
    for together in [true, false] {
        let mut attacker = Frames::connect(ebb.addr()).await;
        for stream in 0..20_000 {
            let stream = 2 * stream + 1;
            let sent = if together {
                attacker.try_raw(&[request(stream), cancel(stream)].concat()).await
            } else {
                // ebb has taken the request before it is given up.
                attacker.try_raw(&request(stream)).await && {
                    tokio::task::yield_now().await;
                    attacker.try_raw(&cancel(stream)).await
                }
            };
            if !sent {
                break;
            }
        }
        assert_eq!(goaway(&mut attacker).await.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM);
        assert!(!attacker.try_raw(&request(99_999)).await || attacker.next().await.is_none());
        assert_eq!(other.get("/").await.status, 200);
    }
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
    ebb.until_metric(&["ebb_connections{", "http2"], 1.0).await;
}

/// Guards: requests that each reach the app before they are given up are bounded as well, with a body under way or not.
#[tokio::test]
async fn a_slower_reset_flood() {
    slower_reset_flood(request).await;
    slower_reset_flood(|stream| Frame::bytes(HEADERS, END_HEADERS, stream, &frames::head("POST", "/", &[])))
        .await;
}

async fn slower_reset_flood(request: impl Fn(u32) -> Vec<u8>) {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
    let mut attacker = Frames::connect(ebb.addr()).await;
    let mut reached = 0;
    for stream in 0..2_000 {
        let stream = 2 * stream + 1;
        if !attacker.try_raw(&request(stream)).await {
            break;
        }
        match tokio::time::timeout(Duration::from_millis(500), app.call()).await {
            Ok(_) => reached += 1,
            Err(_) => break,
        }
        if !attacker.try_raw(&cancel(stream)).await {
            break;
        }
    }
    assert!((400..1900).contains(&reached), "{reached} requests");
    assert_eq!(goaway(&mut attacker).await, Some(ENHANCE_YOUR_CALM));
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
}

/// Guards: streams that make ebb itself reset them are bounded too ("MadeYouReset", CVE-2025-8671).
#[tokio::test]
async fn made_you_reset() {
    let app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut attacker = Frames::connect(ebb.addr()).await;
    for stream in 0..5_000 {
        let stream = 2 * stream + 1;
        // An increment of nothing is a stream's error.
        let increment = Frame::bytes(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes());
        if !attacker.try_raw(&[request(stream), increment].concat()).await {
            break;
        }
    }
    let code = goaway(&mut attacker).await;
    assert!(matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | None), "{code:?}");
    assert!(!attacker.try_raw(&request(99_999)).await || attacker.next().await.is_none());
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
}

/// Sends a block of bytes again and again, up to this many bytes or the connection's end, while it reads what comes
/// back or not.
async fn flood(ebb: &Ebb, mut attacker: Frames, block: &[u8], total: usize, reads: bool) {
    let before = ebb.memory_kib();
    let mut sent = 0;
    while sent < total {
        let sending = tokio::time::timeout(
            Duration::from_secs(1),
            tokio::io::AsyncWriteExt::write_all(&mut attacker.tcp, block),
        );
        match sending.await {
            Ok(Ok(())) => sent += block.len(),
            // Over, or nothing is read from us as we read nothing.
            Ok(Err(_)) | Err(_) => break,
        }
        if reads {
            attacker.discard_now();
        }
    }
    let grown = ebb.memory_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB more after {sent} bytes");
    assert_eq!(ebb.client().await.get("/").await.status(), 200, "somebody else");
    drop(attacker);
    ebb.until_metric(&["ebb_connections{", "http2"], 0.0).await;
}

/// Guards: frames that want an answer, from a client that reads the answers or not; and frames that mean nothing.
#[tokio::test]
async fn floods_of_small_frames() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    for (name, frame) in [
        ("PING", Frame::bytes(PING, 0, 0, &[7; 8])),
        ("PING's answer", Frame::bytes(PING, ACK, 0, &[7; 8])),
        ("SETTINGS", Frame::bytes(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("WINDOW_UPDATE", Frame::bytes(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", Frame::bytes(0x77, 0, 0, &[1; 100])),
        ("PRIORITY", Frame::bytes(2, 0, 1, &[0, 0, 0, 3, 9])),
    ] {
        for reads in [true, false] {
            eprintln!("{name}, reads: {reads}");
            let attacker = Frames::connect(ebb.addr()).await;
            flood(&ebb, attacker, &frame.repeat(1000), 8 << 20, reads).await;
        }
    }
}

/// Guards: a head without end: CONTINUATION frames of something, or of nothing.
#[tokio::test]
async fn a_head_without_end() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut filler = Vec::new();
    frames::field(&mut filler, "x", &"y".repeat(1000));
    for payload in [&filler[..], &[]] {
        let mut attacker = Frames::connect(ebb.addr()).await;
        attacker.send(HEADERS, END_STREAM, 1, &frames::head("GET", "/", &[])).await;
        let block = Frame::bytes(CONTINUATION, 0, 1, payload).repeat(1000);
        flood(&ebb, attacker, &block, 32 << 20, true).await;
    }
}

/// Guards: data that takes up more room than its bytes: an app that does not read, frames of one byte or of none.
#[tokio::test]
async fn data_in_tiny_frames() {
    let app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--workers", "1"]).await;
    for payload in [&[][..], b"x"] {
        let before = ebb.memory_kib();
        let mut attacker = Frames::connect(ebb.addr()).await;
        for stream in [1, 3, 5, 7] {
            let head = frames::head("POST", "/", &[]);
            attacker.send(HEADERS, END_HEADERS, stream, &head).await;
            let block = Frame::bytes(DATA, 0, stream, payload).repeat(1000);
            for _ in 0..255 {
                if !attacker.try_raw(&block).await {
                    break;
                }
            }
        }
        let_time_pass(Duration::from_millis(300)).await;
        let grown = ebb.memory_kib().saturating_sub(before);
        assert!(grown < 64 << 10, "{grown} KiB more for frames of {} bytes", payload.len());
    }
}

/// Guards: what breaks the protocol ends the connection, or the stream, with the code for it.
#[tokio::test]
async fn breaches_of_the_protocol() {
    let app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let open = |stream| Frame::bytes(HEADERS, END_HEADERS, stream, &frames::head("POST", "/", &[]));
    let large = (1u32 << 31) - 1;
    let update = |stream, by: u32| Frame::bytes(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let too_much = [open(1), Frame::bytes(DATA, 0, 1, &[0; 16 << 10]).repeat(17)].concat();
    for (what, bytes, code) in [
        ("the connection's window overflows", update(0, large), FLOW_CONTROL_ERROR),
        ("an increment of nothing", update(0, 0), PROTOCOL_ERROR),
        ("data on stream 0", Frame::bytes(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("a head on stream 0", Frame::bytes(HEADERS, 5, 0, &frames::head("GET", "/", &[])), PROTOCOL_ERROR),
        ("a reset on stream 0", cancel(0), PROTOCOL_ERROR),
        ("data on a stream that never was", Frame::bytes(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("a reset of a stream that never was", cancel(7), PROTOCOL_ERROR),
        ("a stream of the server's kind", open(2), PROTOCOL_ERROR),
        ("going backwards", [open(5), open(3)].concat(), PROTOCOL_ERROR),
        ("a continuation of nothing", Frame::bytes(CONTINUATION, 4, 1, &[]), PROTOCOL_ERROR),
        ("settings on a stream", Frame::bytes(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        ("a ping of seven bytes", Frame::bytes(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("settings of five bytes", Frame::bytes(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("a frame that is too large", Frame::bytes(DATA, 0, 1, &[0; 17 << 10]), FRAME_SIZE_ERROR),
        (
            "a window that is too large",
            Frame::bytes(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255]),
            FLOW_CONTROL_ERROR,
        ),
        ("no HPACK", Frame::bytes(HEADERS, 5, 1, &[0xff; 20]), COMPRESSION_ERROR),
        ("a push", Frame::bytes(5, 4, 1, &[0, 0, 0, 2]), PROTOCOL_ERROR),
    ] {
        let mut client = Frames::connect(ebb.addr()).await;
        client.raw(&bytes).await;
        let found = goaway(&mut client).await;
        // A size that is wrong is a breach of the protocol as well.
        let also = if code == FRAME_SIZE_ERROR { PROTOCOL_ERROR } else { code };
        assert!(found == Some(code) || found == Some(also), "{what}: {found:?}");
    }
    for (what, bytes, code) in [
        ("a stream's window overflows", [open(1), update(1, large)].concat(), FLOW_CONTROL_ERROR),
        ("more data than the window", too_much, FLOW_CONTROL_ERROR),
    ] {
        let mut client = Frames::connect(ebb.addr()).await;
        client.raw(&bytes).await;
        assert_eq!(client.frame(RST_STREAM, 1).await.number(0), code, "{what}");
        client.send(PING, 0, 0, &[1; 8]).await;
        client.until("life goes on", |frame| frame.kind == PING).await;
    }
    ebb.until_metric(&["ebb_connections{", "http2"], 0.0).await;
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
}

/// Guards: more streams than allowed are refused, so that they may be sent again.
#[tokio::test]
async fn too_many_streams() {
    let app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &[]).await;
    let mut client = Frames::connect(ebb.addr()).await;
    for stream in 0..300 {
        client.raw(&request(2 * stream + 1)).await;
    }
    // REFUSED_STREAM.
    assert_eq!(client.frame(RST_STREAM, 599).await.number(0), 7);
    ebb.until_metric(&["ebb_requests_in_flight"], 250.0).await;
    drop(client);
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
}

/// Guards: `--http2-keepalive`: who answers a ping stays, who does not is taken to be gone.
#[tokio::test]
async fn silent_clients_are_pinged() {
    let mut app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &["--http2-keepalive", "200ms"]).await;
    let mut alive = Http2Client::connect(ebb.addr()).await;
    let response = alive.begin("/slow").await;
    let call = app.call().await;
    let mut dead = Frames::connect(ebb.addr()).await;
    let mut dead_with_stream = Frames::connect(ebb.addr()).await;
    dead_with_stream.get(1, "/dead").await;
    let mut lost = app.call().await;
    for dead in [&mut dead, &mut dead_with_stream] {
        assert!(dead.rest().await.iter().any(|frame| frame.kind == PING));
    }
    assert_eq!(lost.reset().await, h2::Reason::CANCEL);
    // Much longer than those were given.
    let_time_pass(Duration::from_secs(2)).await;
    call.answer("fine");
    assert_eq!(crate::support::http2::answer(response).await.unwrap().body, b"fine");
    ebb.until_metric(&["ebb_connections{", "http2"], 1.0).await;
}

/// Guards: a client that gives many requests up at once, before ebb has looked at them, keeps its connection.
#[tokio::test]
async fn giving_up_many_at_once_is_no_flood() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Frames::connect(ebb.addr()).await;
    let mut all = Vec::new();
    for stream in (1..200).step_by(2) {
        all.extend(Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, &frames::head("GET", "/", &[])));
        all.extend(Frame::bytes(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    client.raw(&all).await;
    client.get(201, "/").await;
    let answer = client.until("an answer", |frame| matches!(frame.kind, GOAWAY | HEADERS)).await;
    assert_eq!((answer.kind, answer.stream), (HEADERS, 201), "{answer:?}");
    ebb.until_metric(&["ebb_requests_in_flight"], 0.0).await;
}
