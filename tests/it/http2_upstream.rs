//! The connections to an app that speaks HTTP/2: when there is another one, and what is sent again.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::net::TcpListener;

use crate::support::frames::{
    self, ACK, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, OK, PING, RST_STREAM, SETTINGS,
};
use crate::support::http2::{self, Http2App, Http2Client, answer, post};
use crate::support::{Client, Ebb, within};

/// Answers one call and returns what the client got.
async fn get_once(client: &mut Http2Client, app: &mut Http2App) -> Vec<u8> {
    let (answer, ()) = tokio::join!(client.get("/once"), async { app.call().await.answer("once") });
    assert_eq!(answer.status, 200);
    answer.body
}

async fn setup(flags: &[&str]) -> (Http2App, Ebb, Http2Client) {
    let app = Http2App::start().await;
    let ebb = Ebb::start_at(app.addr(), &[&["--workers", "1"], flags].concat()).await;
    let client = Http2Client::connect(ebb.addr()).await;
    (app, ebb, client)
}

/// Guards: `--upstream-idle`, and the gauges.
#[tokio::test]
async fn idle_connections_are_closed() {
    let (mut app, ebb, mut client) = setup(&["--upstream-idle", "300ms"]).await;
    get_once(&mut client, &mut app).await;
    assert_eq!(ebb.metric(&["ebb_upstream_connections", "idle"]).await, 1.0);
    let response = client.begin("/").await;
    let call = app.call().await;
    assert_eq!(ebb.metric(&["ebb_upstream_connections", "active"]).await, 1.0);
    // Longer than that: one with a stream is not idle.
    crate::support::let_time_pass(Duration::from_millis(700)).await;
    assert_eq!((app.open(), app.accepted()), (1, 1));
    call.answer("late");
    assert_eq!(answer(response).await.unwrap().body, b"late");
    within("the connection to be closed", async {
        while app.open() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    ebb.until_metric(&["ebb_upstream_connections"], 0.0).await;
    assert_eq!(app.accepted(), 1);
}

/// Guards: a stream that the app refuses, on a connection that has served before or not, is sent again once, if that can
/// be done.
#[tokio::test]
async fn a_refused_stream_is_sent_again_once() {
    let (mut app, _ebb, mut client) = setup(&[]).await;
    for _ in 0..2 {
        // Whatever the method: the app says that it has not looked at it.
        let response = client.send(post("/refused"), true).await.0;
        app.call().await.respond.send_reset(Reason::REFUSED_STREAM);
        app.call().await.answer("second");
        assert_eq!(answer(response).await.unwrap().body, b"second");
        // Twice is too much.
        let response = client.begin("/refused").await;
        app.call().await.respond.send_reset(Reason::REFUSED_STREAM);
        app.call().await.respond.send_reset(Reason::REFUSED_STREAM);
        assert_eq!(answer(response).await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
        assert!(app.call_now().is_none());
    }
    // With a body that has been sent in part only the client can do it.
    let (response, mut stream) = client.send(post("/refused"), false).await;
    let mut call = app.call().await;
    stream.send_data(Bytes::from("some"), false).unwrap();
    assert_eq!(http2::piece(&mut call.body).await.unwrap(), "some");
    call.respond.send_reset(Reason::REFUSED_STREAM);
    assert_eq!(answer(response).await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
    assert!(app.call_now().is_none());
}

/// Guards: GOAWAY from the app: what it has begun is finished, what comes later goes to another connection.
#[tokio::test]
async fn an_app_that_leaves() {
    let (mut app, _ebb, mut client) = setup(&[]).await;
    let begun = client.begin("/begun").await;
    let call = app.call().await;
    app.leave(0);
    let later = loop {
        let response = client.begin("/later").await;
        let later = app.call().await;
        let connection = later.connection;
        later.answer("later");
        assert_eq!(answer(response).await.unwrap().body, b"later");
        if connection > 0 {
            break connection;
        }
    };
    assert_eq!(later, 1);
    call.answer("begun");
    assert_eq!(answer(begun).await.unwrap().body, b"begun");
}

/// Guards: streams above the GOAWAY's last are sent again, those below finish, whatever the method.
#[tokio::test]
async fn what_a_goaway_leaves_out_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let first = client.send(post("/first"), true).await.0;
    let mut app = Frames::accept(&listener).await;
    app.frame(HEADERS, 1).await;
    let second = client.send(post("/second"), true).await.0;
    app.frame(HEADERS, 3).await;
    app.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    let mut other = Frames::accept(&listener).await;
    other.frame(HEADERS, 1).await;
    other.send(HEADERS, END_HEADERS, 1, OK).await;
    other.send(DATA, END_STREAM, 1, b"second").await;
    assert_eq!(answer(second).await.unwrap().body, b"second");
    app.send(HEADERS, END_HEADERS, 1, OK).await;
    app.send(DATA, END_STREAM, 1, b"first").await;
    assert_eq!(answer(first).await.unwrap().body, b"first");
    // The connection that was told to go is closed when its last stream is done.
    assert!(app.rest().await.iter().all(|frame| frame.kind != HEADERS));
}

/// Guards: what the app may have worked on is not sent again: the stream is within the GOAWAY's.
#[tokio::test]
async fn what_a_goaway_includes_is_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let first = client.send(post("/first"), true).await.0;
    let mut app = Frames::accept(&listener).await;
    app.frame(HEADERS, 1).await;
    app.send(HEADERS, END_HEADERS, 1, OK).await;
    app.send(DATA, END_STREAM, 1, b"first").await;
    assert_eq!(answer(first).await.unwrap().body, b"first");
    // Now on a connection that has been used before.
    let second = client.send(post("/second"), true).await.0;
    app.frame(HEADERS, 3).await;
    app.send(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 2]).await;
    drop(app);
    let second = answer(second).await.unwrap();
    assert_eq!((second.status, second.field("ebb-error")), (502, "upstream-reset"));
    let again = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(again.is_err(), "it was sent again");
}

/// Guards: a request that waits until the app allows a stream ends as it does without waiting, though its end comes
/// meanwhile and is nothing but an empty frame, or trailers.
#[tokio::test]
async fn a_request_that_has_to_wait_keeps_its_end() {
    for trailers in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
        let mut client = Frames::connect(ebb.addr()).await;
        client.send(HEADERS, END_HEADERS, 1, &frames::head("POST", "/", &[])).await;
        // No streams at first.
        let mut app = Frames::accept_with(&listener, &[(3, 0)]).await;
        app.until("ebb to have our settings", |frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
        if trailers {
            let mut block = Vec::new();
            frames::field(&mut block, "x-sum", "1");
            client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        } else {
            client.send(DATA, END_STREAM, 1, &[]).await;
        }
        // ebb has seen the end when it answers what comes after it.
        client.send(PING, 0, 0, &[1; 8]).await;
        client.until("the end to be seen", |frame| frame.kind == PING).await;
        app.settings(&[(3, 9)]).await;
        let head = app.until("the request", |frame| frame.kind == HEADERS).await;
        assert_eq!(head.stream, 1, "a head on no stream");
        if head.flags & END_STREAM == 0 {
            let end = app.until("its end", |frame| frame.stream == 1 && frame.flags & END_STREAM != 0).await;
            assert_eq!(end.kind, if trailers { HEADERS } else { DATA });
        } else {
            assert!(!trailers, "trailers are lost");
        }
    }
}

/// Guards: idle connections that the app has closed are not used, however many there are.
#[tokio::test]
async fn an_app_that_closes_idle_connections() {
    let (mut app, ebb, mut client) = setup(&["--upstream-idle", "10s"]).await;
    // Two connections.
    let mut responses = Vec::new();
    for _ in 0..120 {
        responses.push(client.begin("/").await);
    }
    for _ in 0..120 {
        app.call().await.answer("one of many");
    }
    for response in responses {
        assert_eq!(answer(response).await.unwrap().status, 200);
    }
    assert_eq!((app.accepted(), app.open()), (2, 2));
    // ebb hears of their end and of the next request at once.
    ebb.freeze().await;
    app.leave(0);
    app.leave(1);
    let response = client.send(post("/next"), true).await.0;
    ebb.unfreeze();
    app.call().await.answer("next");
    assert_eq!(answer(response).await.unwrap().body, b"next");
    // The same with connections that are just dropped.
    let last = app.accepted() - 1;
    ebb.freeze().await;
    app.kill(last);
    within("it to be gone", async {
        while app.open() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    let response = client.begin("/next").await;
    ebb.unfreeze();
    app.call().await.answer("next");
    assert_eq!(answer(response).await.unwrap().body, b"next");
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
}

/// Guards: an app that closes the connection without a word about versions is asked in HTTP/1.1, and HTTP/2 is tried
/// again with the next request: it may have been going away.
#[tokio::test]
async fn an_app_that_only_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let response = client.begin("/").await;
    let (mut first, _) = within("HTTP/2", listener.accept()).await.unwrap();
    // Reads the preface and hangs up.
    let mut preface = [0; 24];
    tokio::io::AsyncReadExt::read_exact(&mut first, &mut preface).await.unwrap();
    drop(first);
    let (second, _) = within("HTTP/1.1", listener.accept()).await.unwrap();
    let mut second = crate::support::Client::over(second);
    let head = second.head().await;
    assert_eq!(head.start, "GET / HTTP/1.1");
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
    assert_eq!(answer(response).await.unwrap().body, b"old");
    let response = client.begin("/").await;
    let mut third = Frames::accept(&listener).await;
    third.frame(HEADERS, 1).await;
    third.send(HEADERS, END_HEADERS, 1, OK).await;
    third.send(DATA, END_STREAM, 1, b"new").await;
    assert_eq!(answer(response).await.unwrap().body, b"new");
}

/// Guards: an app that does not understand the preface may say so in any way; what it says to HTTP/1.1 counts, and it
/// is not asked in HTTP/2 again.
#[tokio::test]
async fn an_app_that_answers_the_preface_without_a_status_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let response = client.begin("/").await;
    let (first, _) = within("HTTP/2", listener.accept()).await.unwrap();
    let mut first = Client::over(first);
    first.send("<!DOCTYPE HTML>\n<p>Error code: 505</p>\n").await;
    for response in [response, client.begin("/").await] {
        let (second, _) = within("HTTP/1.1", listener.accept()).await.unwrap();
        let mut second = Client::over(second);
        assert_eq!(second.head().await.start, "GET / HTTP/1.1");
        second.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nold").await;
        assert_eq!(answer(response).await.unwrap().body, b"old");
    }
}

/// Guards: an app that speaks neither, whatever it is asked in; and one that says nothing.
#[tokio::test]
async fn an_app_that_speaks_something_else() {
    for flags in [&[][..], &["--upstream-protocol", "h2c"]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let flags = [&["--connect-timeout", "500ms"], flags].concat();
        let ebb = Ebb::start_at(listener.local_addr().unwrap(), &flags).await;
        let mut client = Http2Client::connect(ebb.addr()).await;
        let response = client.begin("/").await;
        let _app = within("ebb to connect", listener.accept()).await.unwrap();
        let reply = answer(response).await.unwrap();
        assert_eq!((reply.status, reply.field("ebb-error")), (504, "upstream-timeout"));
        let response = client.begin("/").await;
        let mail = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((app, _)) = listener.accept().await {
                let mut app = Client::over(app);
                app.send("220 mail.test ESMTP ready\r\n").await;
                connections.push(app);
            }
        });
        let reply = answer(response).await.unwrap();
        assert_eq!(reply.status, 502, "{reply:?}");
        mail.abort();
        ebb.until_metric(&["ebb_upstream_connections"], 0.0).await;
    }
}

/// Guards: an app that misspeaks HTTP/2 in the middle of it.
#[tokio::test]
async fn an_app_that_breaks_the_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ebb = Ebb::start_at(listener.local_addr().unwrap(), &["--workers", "1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let response = client.begin("/").await;
    let mut app = Frames::accept(&listener).await;
    app.frame(HEADERS, 1).await;
    app.send(DATA, END_STREAM, 1, b"a body before its head").await;
    let reply = answer(response).await.unwrap();
    assert_eq!(reply.status, 502, "{:?}", reply.head);
    app.rest().await;
    // A stream's own fault stays its own.
    let response = client.begin("/").await;
    let mut app = Frames::accept(&listener).await;
    app.frame(HEADERS, 1).await;
    let mut malformed = OK.to_vec();
    frames::field(&mut malformed, "connection", "close");
    app.send(HEADERS, END_HEADERS, 1, &malformed).await;
    let reply = answer(response).await.unwrap();
    assert_eq!((reply.status, reply.field("ebb-error")), (502, "upstream-invalid"));
    app.frame(RST_STREAM, 1).await;
    ebb.until_metric(&["ebb_upstream_connections", "active"], 0.0).await;
}
