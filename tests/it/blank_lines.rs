//! Empty lines before a request, which are nothing (RFC 9112 section 2.2).

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{App, Client, Ebb};

/// A POST as some old clients end it.
const POST_AND_LINE: &str = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody\r\n";

/// Guards: a connection on which only an empty line came is as idle as one without.
#[tokio::test]
async fn an_empty_line_does_not_outlive_the_idle_timeout() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--idle-timeout", "300ms", "--header-timeout", "60s"]).await;
    let mut unused = ebb.client().await;
    unused.send("\r\n").await;
    unused.expect_fin().await;
    let mut used = ebb.client().await;
    used.send(POST_AND_LINE).await;
    assert_eq!(used.response().await.text(), "hello");
    used.expect_fin().await;
}

/// Guards: the same in a drain.
#[tokio::test]
async fn an_empty_line_does_not_hold_a_drain() {
    let app = App::hello();
    let ebb = Ebb::start_with(&app, &["--grace-period", "30s"]).await;
    let mut unused = ebb.client().await;
    unused.send("\r\n").await;
    let mut used = ebb.client().await;
    used.send(POST_AND_LINE).await;
    assert_eq!(used.response().await.text(), "hello");
    let begin = Instant::now();
    let hook = ebb.drain().await;
    for mut client in [unused, used] {
        client.expect_fin().await;
    }
    assert_eq!(hook.report().await["outcome"], "clean");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

/// Guards: empty lines are not taken for requests that still have to be answered: the client is told to go on the
/// very next response.
#[tokio::test]
async fn a_client_that_begins_with_empty_lines_is_told_to_go() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send("\r\n\r\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut exchange = app.request().await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    Client::until_refused(ebb.addr()).await;
    exchange.answer("200 OK", "the last").await.unwrap();
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("the last", true), "{}", response.head);
    client.expect_fin().await;
    drop((client, exchange));
    assert_eq!(hook.report().await["outcome"], "clean");
}
