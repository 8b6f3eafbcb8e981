//! HTTP/1.1 that goes on as bytes, and its way from there to hyper and back: at each place something could be lost, sent
//! twice, or taken for something else.

use crate::support::{App, Ebb};

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
