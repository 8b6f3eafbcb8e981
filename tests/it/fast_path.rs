//! HTTP/1.1 that goes on as bytes, and its way from there to hyper and back: at each place something could be lost, sent
//! twice, or taken for something else.

use std::mem::MaybeUninit;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::support::{App, Ebb, within};

/// What looks like a request, and is part of a body.
const INNER: &str = "GET /inner HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// A request with a body that looks like requests.
fn wrapped(fields: &str, inner: &str) -> (String, String) {
    let head =
        format!("POST /outer HTTP/1.1\r\nHost: app.test\r\n{fields}Content-Length: {}\r\n\r\n", inner.len());
    (head, inner.to_owned())
}

/// Guards: a body that nobody has read is no request, whoever answers instead of the app, and however it comes.
#[tokio::test]
async fn a_body_that_nobody_reads_is_no_request() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    app.kill().await;
    // The second is refused by ebb itself.
    for (fields, status) in [("", 503), ("Host: other.test\r\n", 400)] {
        for inner in [INNER.to_owned(), INNER.repeat(1000)] {
            for together in [true, false] {
                let (head, body) = wrapped(fields, &inner);
                let mut client = ebb.client().await;
                if together {
                    client.send(format!("{head}{body}")).await;
                    assert_eq!(client.response().await.status(), status);
                } else {
                    client.send(head).await;
                    assert_eq!(client.response().await.status(), status);
                    // ebb may have gone already.
                    let _ = client.wire.send(body).await;
                }
                let _ = client.wire.finish().await;
                let (rest, _) = client.rest().await;
                let rest = String::from_utf8_lossy(&rest);
                assert_eq!(rest, "", "{status}, {} bytes, together: {together}", inner.len());
            }
        }
    }
}

/// Guards: the same where the app goes without a word, in the middle of the body.
#[tokio::test]
async fn a_body_that_the_app_leaves_is_no_request() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let (head, body) = wrapped("", &INNER.repeat(1000));
    let mut client = ebb.client().await;
    client.send(head).await;
    drop(app.request().await);
    client.response().await.assert_error(502, "upstream-reset");
    let _ = client.wire.send(body).await;
    let _ = client.wire.finish().await;
    assert_eq!(String::from_utf8_lossy(&client.rest().await.0), "");
    assert!(app.request_now().is_none(), "the app got a request out of a body");
}

/// Guards: what was read behind a request and hyper had no room for goes on when hyper is done: it reads in small
/// pieces, and gives the connection back between any two requests.
#[tokio::test]
async fn what_is_left_behind_hyper_is_not_lost() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    // ebb refuses them itself, which is done so fast that hyper yields after a few.
    let padding = "x".repeat(50);
    let refused = format!("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nPadding: {padding}\r\n\r\n");
    ebb.freeze().await;
    client.send(refused.repeat(300)).await;
    ebb.unfreeze();
    for _ in 0..300 {
        client.response().await.assert_error(400, "bad-request");
    }
    assert_eq!(client.get("/").await.text(), "hello");
}

/// Guards: the same for the first bytes of a tunnel that came together with the request for it.
#[tokio::test]
async fn what_came_with_an_upgrade_reaches_the_tunnel() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let upgrade = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let first: String = (0..2500).map(|i| format!("{i:07} ")).collect();
    ebb.freeze().await;
    client.send(format!("{upgrade}{first}")).await;
    ebb.unfreeze();
    let mut exchange = app.request().await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    exchange.wire.send(switching).await.unwrap();
    assert_eq!(client.head().await.status(), 101);
    let came = within("the first bytes", exchange.wire.exactly(first.len())).await.unwrap();
    assert_eq!(String::from_utf8(came).unwrap(), first);
}

/// Guards: in a drain, that a request which hyper has not even read yet is answered before the client is told to go.
#[tokio::test]
async fn requests_that_hyper_has_not_read_are_answered_in_a_drain() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let padding = "x".repeat(6000);
    ebb.freeze().await;
    for i in 0..4 {
        // An interim response is hyper's.
        client.send(format!("GET /{i} HTTP/1.1\r\nHost: a\r\nPadding: {padding}\r\n\r\n")).await;
    }
    ebb.unfreeze();
    let mut next = Some(app.request().await);
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    for i in 0..4 {
        let mut exchange = match next.take() {
            Some(first) => first,
            None => app.request().await,
        };
        assert_eq!(exchange.head.target(), format!("/{i}"));
        exchange.wire.send("HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
        exchange.answer("200 OK", "answer").await.unwrap();
        exchange.keep();
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("answer", i == 3), "{i}");
    }
    client.expect_fin().await;
    drop(client);
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: what the app says beyond its response is the answer to nothing, also right behind it.
#[tokio::test]
async fn what_the_app_says_unasked_answers_nobody() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--workers", "1"]).await;
    let mut client = ebb.client().await;
    client.send_get("/one").await;
    let mut pooled = app.request().await;
    pooled.answer("200 OK", "one").await.unwrap();
    assert_eq!(client.response().await.text(), "one");
    pooled.answer("200 OK", "unasked").await.unwrap();
    client.send_get("/two").await;
    let mut exchange = app.request().await;
    exchange.answer("200 OK", "two").await.unwrap();
    assert_eq!(client.response().await.text(), "two");
}

/// Takes what has been sent to `app` by now, when it is more than before. Nothing is read.
async fn until_more_than(app: &UnixStream, before: usize) -> usize {
    let mut room = vec![MaybeUninit::uninit(); 1 << 20];
    loop {
        app.readable().await.unwrap();
        match SockRef::from(app).peek(&mut room) {
            Ok(there) if there > before => return there,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Guards: a request that did not go out at once, and then did, may have been acted on: it is not sent twice. Here the
/// app answers without reading until the connection takes nothing more.
#[tokio::test]
async fn a_post_that_had_to_wait_is_not_sent_twice() {
    let path = std::env::temp_dir().join(format!("ebb-full-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let forward = format!("127.0.0.1:0=unix:{}", path.display());
    let ebb = Ebb::start_bare(&["--forward", &forward, "--admin", "127.0.0.1:0", "--workers", "1"]).await;
    let mut client = ebb.client().await;
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi";
    client.send(post).await;
    let (mut app, _) = within("a connection", listener.accept()).await.unwrap();
    let len = within("a request", until_more_than(&app, 0)).await;
    let mut there = len;
    // Nobody can see that ebb waits. Should it only be slow, nothing is shown, and nothing fails.
    loop {
        app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        assert_eq!(client.response().await.text(), "ok");
        client.send(post).await;
        match timeout(Duration::from_millis(500), until_more_than(&app, there)).await {
            Ok(more) => there = more,
            Err(_) => break,
        }
    }
    assert_eq!(there % len, 0, "part of a request went out");
    let mut all = vec![0; there + len];
    within("all of the requests", app.read_exact(&mut all)).await.unwrap();
    drop(app);
    tokio::select! {
        response = client.response() => response.assert_error(502, "upstream-reset"),
        _ = listener.accept() => panic!("the app gets the POST again"),
    }
    std::fs::remove_file(&path).unwrap();
}

/// Guards: a target that is none is hyper's, which refuses it, or takes off what is not for the app.
#[tokio::test]
async fn targets_mean_the_same_on_both_ways() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/a?b#c").await;
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.target(), "/a?b");
    exchange.answer("200 OK", "").await.unwrap();
    exchange.keep();
    assert_eq!(client.response().await.status(), 200);
    client.get("/<script>").await.assert_error(400, "bad-request");
}

/// Has ebb's only worker go round once, so that it has dealt with all that came before.
async fn go_round(ebb: &Ebb, app: &mut App) {
    let mut client = ebb.client().await;
    client.send_get("/round").await;
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.target(), "/round");
    exchange.answer("200 OK", "round").await.unwrap();
    assert_eq!(client.response().await.text(), "round");
    exchange.keep();
}

/// Guards: what has been read of a head that came in pieces is not lost, and the request not sent anew.
#[tokio::test]
async fn a_head_in_pieces_is_a_head() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--workers", "1"]).await;
    let mut client = ebb.client().await;
    let answer = "HTTP/1.1 200 OK\r\nX-Name: value\r\nContent-Length: 6\r\n\r\nanswer";
    for cut in [1, 8, 16, 20, answer.len() - 7, answer.len() - 6, answer.len() - 1] {
        client.send(format!("POST /{cut} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody")).await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.body().await.unwrap().bytes, b"body");
        exchange.wire.send(&answer[..cut]).await.unwrap();
        go_round(&ebb, &mut app).await;
        exchange.wire.send(&answer[cut..]).await.unwrap();
        let response = client.response().await;
        assert_eq!((response.text(), response.head.get("x-name")), ("answer", Some("value")), "{cut}");
        exchange.keep();
        assert!(app.request_now().is_none(), "cut at {cut}, the request came again");
    }
}

/// Guards: each response that is not plain is hyper's, on the connection where the request was sent already: it reaches
/// the client whole, the request reaches the app once, and both are counted once.
#[tokio::test]
async fn what_is_not_plain_is_handed_over_whole() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--workers", "1"]).await;
    let mut client = ebb.client().await;
    let answers = [
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfour", 200, "four"),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", 200, "to the end"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour", 200, "four"),
        ("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nno", 404, "no"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
            200,
            "x",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             9\r\ndata: 1\n\n\r\n0\r\n\r\n",
            200,
            "data: 1\n\n",
        ),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, ""),
        ("HTTP/1.1 200 OK\nContent-Length: 4\n\nfour", 200, "four"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, ""),
        ("no HTTP at all\r\n\r\n", 502, ""),
    ];
    let body = "b".repeat(15_000);
    let posts = answers.iter().flat_map(|answer| [(answer, ""), (answer, &*body)]);
    for ((answer, status, text), body) in posts.clone() {
        let length = body.len();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.body().await.unwrap().bytes, body.as_bytes(), "{answer:?}");
        exchange.wire.send(answer).await.unwrap();
        // Some end with the connection.
        within("a FIN to leave", exchange.wire.finish()).await.unwrap();
        let response = client.response().await;
        assert_eq!(response.status(), *status, "{answer:?}: {}", response.head);
        if *status != 502 {
            assert_eq!(response.text(), *text, "{answer:?}");
        }
        let (more, _) = within("ebb to let go", exchange.wire.rest()).await;
        assert_eq!(String::from_utf8_lossy(&more), "", "{answer:?}: part of a request came again");
    }
    let count = posts.count() as f64;
    ebb.until_metric(&["ebb_requests_total"], count).await;
    for gauge in [&["ebb_requests_in_flight"][..], &["ebb_upstream_connections", "active"]] {
        ebb.until_metric(gauge, 0.0).await;
    }
}

/// Guards: a pooled connection is taken in turns by both ways, and each finds it as it should be.
#[tokio::test]
async fn both_ways_share_the_pool() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--workers", "1"]).await;
    let mut client = ebb.client().await;
    let mut peer = None;
    for round in 0..6 {
        // A request that says TE is hyper's from the beginning.
        let te = if round % 3 == 0 { "TE: trailers\r\n" } else { "" };
        client.send(format!("GET /{round} HTTP/1.1\r\nHost: app.test\r\n{te}\r\n")).await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.head.target(), format!("/{round}"));
        let first = *peer.get_or_insert(exchange.peer());
        assert_eq!(exchange.peer(), first, "{round}: a connection was left in the pool");
        // An interim response is for hyper, after the request was not.
        if round % 3 == 1 {
            exchange.wire.send("HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
        }
        exchange.answer("200 OK", "hello").await.unwrap();
        assert_eq!(client.response().await.text(), "hello");
        exchange.keep();
    }
    ebb.until_metric(&["ebb_upstream_connections", "idle"], 1.0).await;
}
