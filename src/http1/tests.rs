//! What is plain, and what becomes of it.

use proptest::prelude::*;

use super::*;
use crate::config::Forwarded;
use crate::origin::Origin;

fn origin(forwarded: Forwarded) -> Origin {
    Origin { forwarded, client: b"10.0.0.9".to_vec(), proto: "http" }
}

/// The request as the app gets it; none when it is not plain.
fn asked_with(bytes: &str, forwarded: Forwarded) -> Option<String> {
    let mut out = Vec::new();
    let request = Request::rewrite(bytes.as_bytes(), &origin(forwarded), &mut out)?;
    assert!(request.len <= bytes.len());
    Some(String::from_utf8(out).unwrap())
}

fn asked(bytes: &str) -> Option<String> {
    asked_with(bytes, Forwarded::Off)
}

/// The response as the client gets it, with what is known of its body and whether the app closes.
fn answered(bytes: &str, is_head: bool, close: bool) -> Option<(String, Framing, bool)> {
    let mut out = Vec::new();
    let date = |out: &mut Vec<u8>| out.extend_from_slice(b"now");
    let response = Response::rewrite(bytes.as_bytes(), is_head, close, date, &mut out)?;
    Some((String::from_utf8(out).unwrap(), response.framing, response.close))
}

fn framing(fields: &str) -> Option<Framing> {
    answered(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), false, false).map(|(_, framing, _)| framing)
}

#[test]
fn what_concerns_one_connection_is_left_out_and_the_rest_stays_as_it_is() {
    let request = "GET /a?b HTTP/1.1\r\nHost:  shop \r\nConnection: Keep-Alive\r\nX-Odd:\ta  b\r\nX-Odd:\r\n\
                   keep-alive: timeout=5\r\nPROXY-CONNECTION: keep-alive\r\nAccept: */*\r\n\r\n";
    let expected = "GET /a?b HTTP/1.1\r\nHost:  shop \r\nX-Odd:\ta  b\r\nX-Odd:\r\nAccept: */*\r\n\r\n";
    assert_eq!(asked(request).unwrap(), expected);
    let response = "HTTP/1.1 200 Fine\r\nSERVER: x\r\nKeep-Alive: timeout=5\r\ncontent-length: 2\r\n\
                    Connection: close\r\nDate: then\r\n\r\nok";
    let expected = "HTTP/1.1 200 Fine\r\nSERVER: x\r\ncontent-length: 2\r\nDate: then\r\n\r\n";
    assert_eq!(answered(response, false, false), Some((expected.to_owned(), Framing::Length(2), true)));
}

#[test]
fn a_request_takes_its_body_along_and_nothing_that_follows() {
    let mut out = Vec::new();
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbodyGET /";
    let request = Request::rewrite(bytes, &origin(Forwarded::Off), &mut out).unwrap();
    assert_eq!(out, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!((request.len, request.close, request.is_repeatable()), (bytes.len() - 5, true, false));
    assert_eq!(asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbod"), None);
}

#[test]
fn only_what_may_be_sent_twice_is_repeatable() {
    let repeatable = |request: &str| {
        Request::rewrite(request.as_bytes(), &origin(Forwarded::Off), &mut Vec::new())
            .unwrap()
            .is_repeatable()
    };
    assert!(repeatable("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(repeatable("DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    assert!(!repeatable("POST / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!repeatable("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
    assert!(!repeatable("get / HTTP/1.1\r\nHost: a\r\n\r\n"));
}

#[test]
fn forwarded_fields() {
    let plain = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let ours = "x-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\nx-forwarded-host: shop\r\n\r\n";
    for how in [Forwarded::Append, Forwarded::Replace] {
        assert_eq!(asked_with(plain, how).unwrap(), format!("GET / HTTP/1.1\r\nHost: shop\r\n{ours}"));
    }
    let theirs =
        "X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front\r\n";
    let request = format!("GET / HTTP/1.1\r\n{theirs}Host: shop\r\n\r\n");
    assert_eq!(
        asked_with(&request, Forwarded::Append).unwrap(),
        "GET / HTTP/1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front\r\nHost: shop\r\n\
         x-forwarded-for: 1.2.3.4, 5.6.7.8, 10.0.0.9\r\n\r\n"
    );
    assert_eq!(
        asked_with(&request, Forwarded::Replace).unwrap(),
        format!("GET / HTTP/1.1\r\nHost: shop\r\n{ours}")
    );
    assert_eq!(asked_with(&request, Forwarded::Off).unwrap(), request);
    let empty = "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For:\r\n\r\n";
    assert!(asked_with(empty, Forwarded::Append).unwrap().contains("\r\nx-forwarded-for: 10.0.0.9\r\n"));
    let two = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\n\r\n";
    assert_eq!(asked_with(two, Forwarded::Append), None);
}

#[test]
fn requests_that_are_not_plain() {
    let with = |fields: &str| asked(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert!(with("").is_some());
    for fields in [
        "Host: b\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: 0, 0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Expect: 100-continue\r\n",
        "Connection: upgrade\r\n",
        "Connection: close, x-secret\r\n",
        "Upgrade: websocket\r\n",
        "TE: trailers\r\n",
        "A: b\n",
        "A: b\r\n c\r\n",
        "A : b\r\n",
        "A\r\n",
        "A: b\0c\r\n",
    ] {
        assert_eq!(with(fields), None, "{fields:?}");
    }
    assert_eq!(with(&"A: b\r\n".repeat(FIELDS_MAX)), None);
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a<b> HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "",
    ] {
        assert_eq!(asked(request), None, "{request:?}");
    }
}

#[test]
fn how_a_body_ends() {
    assert_eq!(framing("Content-Length: 12\r\n"), Some(Framing::Length(12)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Some(Framing::Chunked));
    for fields in [
        "",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Type: text/event-stream; charset=utf-8\r\n",
        "Transfer-Encoding: chunked\r\nTrailer: x\r\n",
        "Content-Length: 1\r\nUpgrade: h2c\r\n",
        "Content-Length: 1\r\nConnection: x-private\r\n",
        "Content-Length: 1\n",
    ] {
        assert_eq!(framing(fields), None, "{fields:?}");
    }
    let of = |status: u16, fields: &str, is_head: bool| {
        let response = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        answered(&response, is_head, false).map(|(_, framing, _)| framing)
    };
    assert_eq!(of(200, "Content-Length: 7\r\n", true), Some(Framing::Length(0)));
    assert_eq!(of(304, "Content-Length: 7\r\n", false), Some(Framing::Length(0)));
    assert_eq!(of(204, "", false), Some(Framing::Length(0)));
    assert_eq!(of(204, "Content-Length: 7\r\n", false), None);
    assert_eq!(of(200, "Transfer-Encoding: chunked\r\n", true), None);
    assert_eq!(of(101, "Content-Length: 0\r\n", false), None);
    assert_eq!(of(103, "", false), None);
    assert_eq!(answered("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, false), None);
    assert_eq!(answered("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n", false, false), None);
}

#[test]
fn what_is_added_to_a_response() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (head, ..) = answered(response, false, true).unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\ndate: now\r\nconnection: close\r\n\r\n");
}

/// How much of `bytes` is the body, however it is cut; none when it is none.
fn followed(bytes: &[u8], cut: usize) -> Option<(usize, bool)> {
    let (mut chunks, mut taken) = (Chunks::default(), 0);
    for piece in bytes.chunks(cut.max(1)) {
        let here = chunks.follow(piece).ok()?;
        taken += here;
        if here < piece.len() {
            break;
        }
    }
    Some((taken, chunks.is_over()))
}

#[test]
fn chunked_bodies_and_where_they_end() {
    for (body, rest) in [
        ("0\r\n\r\n", "HTTP/1.1"),
        ("5\r\nhello\r\n0\r\n\r\n", "x"),
        ("A;name=\"v\"\r\n0123456789\r\n000\r\n\r\n", ""),
        ("1 \t; a\r\nx\r\n0\r\n\r\n", ""),
        ("1 \r\nx\r\n0\r\nA: b\r\nC:d\r\n\r\n", "0\r\n\r\n"),
    ] {
        for cut in 1..=body.len() {
            let all = format!("{body}{rest}");
            assert_eq!(followed(all.as_bytes(), cut), Some((body.len(), true)), "{all:?} by {cut}");
        }
        assert_eq!(followed(&body.as_bytes()[..body.len() - 1], 3), Some((body.len() - 1, false)));
    }
    for body in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "5\nhello\r\n",
        "5\r\nhello0\r\n",
        "1\r\nx\n",
        "0\r\n\n",
        "0\r\n:\r\r",
        "5;\x01\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "0\r\n a: b\r\n\r\n",
    ] {
        assert_eq!(followed(body.as_bytes(), 100), None, "{body:?}");
    }
    assert_eq!(followed(format!("5;{}", "x".repeat(5000)).as_bytes(), 100), None);
    assert_eq!(followed(format!("0\r\n{}", "A: b\r\n".repeat(9000)).as_bytes(), 100), None);
}

proptest! {
    /// No input makes it panic, and what is accepted ends where it says.
    #[test]
    fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 1usize..40) {
        let mut out = Vec::new();
        let _ = Request::rewrite(&bytes, &origin(Forwarded::Append), &mut out);
        out.clear();
        let _ = Response::rewrite(&bytes, false, true, |_| {}, &mut out);
        prop_assert_eq!(followed(&bytes, cut), followed(&bytes, 1));
    }

    /// What has been rewritten is plain again, and says the same.
    #[test]
    fn rewritten_is_plain(
        names in proptest::collection::vec("[A-Za-z-]{1,18}", 0..12),
        values in proptest::collection::vec("[ -~\t]{0,20}", 12),
        body in 0usize..50,
    ) {
        let mut head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n");
        for (name, value) in names.iter().zip(&values) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let bytes = format!("{head}\r\n{}", "b".repeat(body));
        if let Some(once) = asked(&bytes) {
            prop_assert_eq!(asked(&once), Some(once.clone()));
            let end = format!("\r\n\r\n{}", "b".repeat(body));
            prop_assert!(once.ends_with(&end));
        }
    }
}
