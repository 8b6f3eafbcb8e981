//! Fields of heads, without a connection.

use super::*;

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for &(name, value) in fields {
        map.append(name, HeaderValue::from_static(value));
    }
    map
}

fn remove(headers: &mut HeaderMap, may_upgrade: bool) {
    let seen = Seen::new(headers);
    remove_hop_by_hop(headers, seen, may_upgrade);
}

#[test]
fn hop_by_hop_fields_go_and_others_stay() {
    let mut headers = map(&[
        ("connection", "close, X-Private"),
        ("connection", "keep-alive"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "gzip;q=0.5, Trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("accept", "*/*"),
    ]);
    remove(&mut headers, true);
    assert_eq!(headers, map(&[("accept", "*/*"), ("te", "trailers")]));
}

#[test]
fn an_upgrade_keeps_its_two_fields() {
    let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    remove(&mut headers, true);
    assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    remove(&mut headers, false);
    assert!(headers.is_empty());
}

#[test]
fn connection_cannot_name_what_every_request_needs() {
    let mut headers = map(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "3")]);
    remove(&mut headers, true);
    assert_eq!(headers, map(&[("host", "a"), ("content-length", "3")]));
}

#[test]
fn forwarded_appends_replaces_or_leaves() {
    let client = HeaderValue::from_static("10.0.0.9");
    let sent = || {
        map(&[
            ("host", "shop"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
        ])
    };
    let mut headers = sent();
    let host = Some(HeaderValue::from_static("shop"));
    forwarded(&mut headers, Forwarded::Append, &client, "http", host.clone());
    assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.9");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-host"], "shop");
    let mut headers = sent();
    forwarded(&mut headers, Forwarded::Replace, &client, "http", host.clone());
    assert_eq!(headers["x-forwarded-for"], "10.0.0.9");
    assert_eq!(headers["x-forwarded-proto"], "http");
    let mut headers = sent();
    forwarded(&mut headers, Forwarded::Off, &client, "http", host);
    assert_eq!(headers, sent());
}
