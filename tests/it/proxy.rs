//! Requests and responses: versions, keep-alive, pipelining, statuses without a body, `Expect`.

use std::time::Duration;

use crate::support::{App, Client, Ebb, End, let_time_pass, within};

/// Guards: the client's keep-alive, and the pool of connections to the app.
#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let mut peers = Vec::new();
    for i in 0..3 {
        client.send_get(&format!("/{i}")).await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.head.start, format!("GET /{i} HTTP/1.1"));
        peers.push(exchange.peer());
        exchange.answer("200 OK", &format!("answer {i}")).await.unwrap();
        exchange.keep();
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, format!("answer {i}").as_str()));
        assert!(!response.closes());
    }
    assert!(peers.iter().all(|peer| *peer == peers[0]), "one connection to the app: {peers:?}");
}

/// Guards: the end of a connection whose client asked for it.
#[tokio::test]
async fn a_client_that_says_close_is_closed() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text(), response.closes()), (200, "hello", true));
    client.expect_fin().await;
}

/// Guards: HTTP/1.0 clients, with their connection's end after one response.
#[tokio::test]
async fn http10_ends_after_one_response() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "hello"));
    client.expect_fin().await;
}

/// Guards: keep-alive for the HTTP/1.0 clients that ask for it and are told that they have it.
#[tokio::test]
async fn http10_may_keep_its_connection() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert!(response.head.has("connection", "keep-alive"), "{}", response.head);
    }
}

/// Guards: a chunked body is not sent to a client of HTTP/1.0, which has no chunks.
#[tokio::test]
async fn http10_gets_a_streamed_body_unchunked() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n").await;
    let mut exchange = app.request().await;
    exchange.begin_chunked().await.unwrap();
    exchange.chunk("one").await.unwrap();
    exchange.chunk("two").await.unwrap();
    exchange.chunk("").await.unwrap();
    let response = client.response().await;
    assert_eq!(response.head.get("transfer-encoding"), None);
    assert_eq!(response.text(), "onetwo");
}

/// Guards: an app of HTTP/1.0, whose body ends with its connection.
#[tokio::test]
async fn an_app_of_http10_is_understood() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/").await;
    let mut exchange = app.request().await;
    exchange.wire.send("HTTP/1.0 200 OK\r\nX-App: old\r\n\r\nup to the end").await.unwrap();
    drop(exchange);
    let response = client.response().await;
    assert_eq!((response.text(), response.head.get("x-app")), ("up to the end", Some("old")));
    // The client's own connection goes on.
    client.send_get("/next").await;
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.target(), "/next");
    exchange.answer("200 OK", "new").await.unwrap();
    assert_eq!(client.response().await.text(), "new");
}

/// Guards: requests sent ahead are answered, each once and in their order.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::answering(|mut exchange| async move {
        let body = exchange.body().await?.bytes;
        let echo = format!("{} {}", exchange.head.target(), String::from_utf8_lossy(&body));
        exchange.answer("200 OK", &echo).await?;
        exchange.keep();
        Ok(())
    });
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let mut ahead = String::new();
    for i in 0..20 {
        ahead += &format!("POST /{i} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nno{i:02}");
    }
    client.send(ahead).await;
    for i in 0..20 {
        assert_eq!(client.response().await.text(), format!("/{i} no{i:02}"));
    }
}

/// Guards: responses that have a length but no body, after which the connection goes on.
#[tokio::test]
async fn head_and_204_and_304_have_no_body() {
    let app = App::answering(|mut exchange| async move {
        let response = match exchange.head.target() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 1234\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast",
        };
        exchange.wire.send(response).await?;
        exchange.keep();
        Ok(())
    });
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let response = client.get("/204").await;
    assert_eq!((response.status(), response.head.get("content-length")), (204, None));
    let response = client.get("/304").await;
    assert_eq!((response.status(), response.head.get("etag")), (304, Some("\"1\"")));
    for target in ["/head", "/head-chunked"] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
        let response = client.response_to("HEAD").await;
        assert_eq!(response.status(), 200);
        if target == "/head" {
            assert_eq!(response.head.get("content-length"), Some("1234"), "{}", response.head);
        }
    }
    assert_eq!(client.get("/get").await.text(), "last");
}

const EXPECTING: &str =
    "POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// Guards: the app's 100 reaches the client, which sends its body only then.
#[tokio::test]
async fn the_apps_100_asks_for_the_body() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(EXPECTING).await;
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.get("expect"), Some("100-continue"), "{}", exchange.head);
    exchange.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(client.response().await.status(), 100);
    client.send("hello").await;
    assert_eq!(within("the body", exchange.body()).await.unwrap().bytes, b"hello");
    exchange.answer("201 Created", "done").await.unwrap();
    exchange.keep();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (201, "done"));
}

/// Guards: ebb does not say 100 by itself; the app's refusal is the first thing that the client hears.
#[tokio::test]
async fn a_final_status_instead_of_100_is_passed_on() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(EXPECTING).await;
    let mut exchange = app.request().await;
    exchange.answer("417 Expectation Failed", "not here").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (417, "not here"));
}

/// Guards: the same, however long the app thinks about it.
#[tokio::test]
async fn a_slow_refusal_is_heard_before_the_body_is_asked_for() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(EXPECTING).await;
    let mut exchange = app.request().await;
    let_time_pass(Duration::from_millis(1500)).await;
    exchange.answer("417 Expectation Failed", "not here").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (417, "not here"));
}

/// Guards: an app that never says 100, and a client that gives up waiting for it: the body goes its way.
#[tokio::test]
async fn a_client_that_gives_up_waiting_for_100_is_served() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(EXPECTING).await;
    let mut exchange = app.request().await;
    client.send("hello").await;
    assert_eq!(within("the body", exchange.body()).await.unwrap().bytes, b"hello");
    exchange.answer("200 OK", "done").await.unwrap();
    let mut response = client.response().await;
    if response.status() == 100 {
        response = client.response().await;
    }
    assert_eq!((response.status(), response.text()), (200, "done"));
}

/// Guards: a client that does not wait for the 100 (RFC 9110 section 10.1.1 lets it) is served all the same.
#[tokio::test]
async fn a_client_that_does_not_wait_for_100_is_served() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(format!("{EXPECTING}hello")).await;
    let mut exchange = app.request().await;
    exchange.wire.send("HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(within("the body", exchange.body()).await.unwrap().bytes, b"hello");
    exchange.answer("200 OK", "done").await.unwrap();
    let mut response = client.response().await;
    if response.status() == 100 {
        response = client.response().await;
    }
    assert_eq!((response.status(), response.text()), (200, "done"));
}

/// Guards: a request that is given up by its client is given up towards the app too.
#[tokio::test]
async fn a_client_that_vanishes_frees_the_app() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/slow").await;
    let mut exchange = app.request().await;
    client.wire.reset();
    let (rest, _) = within("the app to be told", exchange.wire.rest()).await;
    assert_eq!(rest, b"");
}

/// Guards: a body that the app cut short does not look whole to the client.
#[tokio::test]
async fn a_cut_body_does_not_look_whole() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let heads = ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"];
    for head in heads {
        let mut client = ebb.client().await;
        client.send_get("/").await;
        let mut exchange = app.request().await;
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\n{head}")).await.unwrap();
        let got = client.head().await;
        drop(exchange);
        let (rest, end) = client.rest().await;
        let text = String::from_utf8_lossy(&rest);
        let chunked = got.has("transfer-encoding", "chunked");
        assert!(
            !text.contains("0\r\n\r\n"),
            "the end of a whole body: {text:?}, {end:?}, chunked: {chunked}"
        );
    }
}

/// Guards: a request that a client sent with its FIN right behind it is still answered.
#[tokio::test]
async fn a_half_closed_client_gets_its_response() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client: Client = ebb.client().await;
    client.send_get("/").await;
    client.finish().await;
    let mut exchange = app.request().await;
    exchange.answer("200 OK", "still here").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "still here"));
    assert_eq!(client.rest().await, (Vec::new(), End::Fin));
}
