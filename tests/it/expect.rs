//! `Expect: 100-continue` beside other requests on the same connection.

use std::time::Duration;

use crate::support::{App, Ebb, End, UnixApp, let_time_pass, within};

const EXPECTING: &str =
    "POST /expecting HTTP/1.1\r\nHost: app.test\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n";

/// Guards: after an answer that did not ask for the body nobody can tell whether it comes: the connection
/// closes, and so does the app's.
#[tokio::test]
async fn a_refusal_without_100_closes() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send(EXPECTING).await;
    let mut exchange = app.request().await;
    exchange.answer("401 Unauthorized", "no").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.status(), response.closes()), (401, true), "{}", response.head);
    assert_eq!(within("the app's connection to end", exchange.wire.rest()).await, (Vec::new(), End::Fin));
    // It takes the 401 for "don't send it", and asks for something else.
    client.send_get("/next").await;
    client.expect_fin().await;
    assert!(app.request_now().is_none());
}

/// Guards: whether a body is held back is this request's affair: the end of an earlier body, which reaches a slow
/// app only now, says nothing about it.
#[tokio::test]
async fn an_earlier_body_does_not_disturb_an_expectation() {
    let app = UnixApp::new();
    let ebb = app.start_ebb(&[]).await;
    // More than a Unix socket takes (or else the next request follows on the same connection), and step by step as
    // much as ebb takes in besides.
    for length in (256 << 10..4 << 20).step_by(16 << 10) {
        let mut client = ebb.client().await;
        client
            .send(format!("POST /slow HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n"))
            .await;
        client.send_filler(length as u64).await;
        let mut slow = app.request().await;
        assert_eq!(slow.head.target(), "/slow");
        slow.answer("202 Accepted", "early").await;
        assert_eq!(client.response().await.status(), 202);
        // So that what comes now is not read together with the end of the body.
        let_time_pass(Duration::from_millis(20)).await;
        client.send(EXPECTING).await;
        let mut expecting = tokio::select! {
            expecting = app.request() => expecting,
            // More than ebb takes in: it does not come to the next request.
            () = let_time_pass(Duration::from_secs(2)) => return,
        };
        assert_eq!(slow.read_body(length).await, length);
        expecting.answer("401 Unauthorized", "no").await;
        let response = client.response().await;
        assert_eq!((response.status(), response.closes()), (401, true), "after {length}: {}", response.head);
        client.expect_fin().await;
    }
    panic!("ebb takes in any amount");
}

/// Guards: a body that comes together with its head, behind the body of the request before, is here unasked and
/// goes on: an app may never say 100.
#[tokio::test]
async fn a_body_that_came_unasked_behind_another_goes_on() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("POST /first HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\n").await;
    let mut exchange = app.request().await;
    client.send(format!("first{EXPECTING}second")).await;
    assert_eq!(within("the first body", exchange.body()).await.unwrap().bytes, b"first");
    exchange.answer("200 OK", "one").await.unwrap();
    exchange.keep();
    assert_eq!(client.response().await.text(), "one");
    let mut exchange = app.request().await;
    assert_eq!(within("the second body", exchange.body()).await.unwrap().bytes, b"second");
    exchange.answer("200 OK", "two").await.unwrap();
    let mut response = client.response().await;
    if response.status() == 100 {
        response = client.response().await;
    }
    assert_eq!(response.text(), "two");
}

/// Guards: the same when the end of the head came in pieces, the last of them with the body.
#[tokio::test]
async fn a_body_that_came_unasked_with_the_end_of_its_head_goes_on() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    let (head, _) = EXPECTING.rsplit_once("\r\n").unwrap();
    for piece in [head, "\r", "\nsecond"] {
        client.send(piece).await;
        // A slow client: each piece is read by itself.
        let_time_pass(Duration::from_millis(100)).await;
    }
    let mut exchange = app.request().await;
    assert_eq!(within("the body", exchange.body()).await.unwrap().bytes, b"second");
    exchange.answer("200 OK", "done").await.unwrap();
    let mut response = client.response().await;
    if response.status() == 100 {
        response = client.response().await;
    }
    assert_eq!(response.text(), "done");
}
