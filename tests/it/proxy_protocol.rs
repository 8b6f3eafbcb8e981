//! The PROXY protocol, in front of ebb and behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{App, Client, Ebb, End, let_time_pass, within};

/// A header of version 1 for a client that there is not.
const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.8 5678 443\r\n";

/// A header of version 2.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, body].concat()
}

/// The addresses of [`V1`] in version 2.
const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 8, 0x16, 0x2e, 1, 0xbb];

fn tcp6() -> Vec<u8> {
    let (client, server): ([u8; 16], [u8; 16]) = ([0x20; 16], [0xfd; 16]);
    [&client[..], &server, &[0x16, 0x2e, 1, 0xbb]].concat()
}

const CLIENT6: &str = "2020:2020:2020:2020:2020:2020:2020:2020";

/// An app that answers with the `X-Forwarded-For` that it got.
fn telling_app() -> App {
    App::answering(|mut exchange| async move {
        let client = exchange.head.get("x-forwarded-for").unwrap_or("none").to_owned();
        exchange.answer("200 OK", &client).await?;
        exchange.keep();
        Ok(())
    })
}

async fn accepting(app: &App, flags: &[&str]) -> Ebb {
    Ebb::start_with(app, &[&["--accept-proxy"], flags].concat()).await
}

/// What the metrics say; labels and all.
async fn metric(ebb: &Ebb, name: &str) -> String {
    let metrics = ebb.admin_get("/metrics").await;
    let line = metrics.text().lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

async fn errors(ebb: &Ebb) -> String {
    metric(ebb, "ebb_proxy_protocol_errors_total").await
}

/// Guards: the client's address comes from the header, for X-Forwarded-For and for the access log, when the header
/// and the request come in one packet; and requests that follow on the connection have it as well.
#[tokio::test]
async fn the_client_is_who_the_header_says() {
    let app = telling_app();
    let mut ebb = accepting(&app, &["--access-log", "json"]).await;
    let mut log = BufReader::new(ebb.stdout()).lines();
    for (header, client) in [
        (V1.as_bytes().to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY UNKNOWN and so on\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &TCP4), "192.0.2.7"),
        (v2(0x21, 0x21, &tcp6()), CLIENT6),
        (v2(0x21, 0x11, &[&TCP4[..], &[7; 4000]].concat()), "192.0.2.7"),
        (v2(0x20, 0x00, &[]), "127.0.0.1"),
        (v2(0x21, 0x00, &[]), "127.0.0.1"),
        (v2(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
    ] {
        let mut connection = ebb.client().await;
        connection.send([&header, &b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n"[..]].concat()).await;
        assert_eq!(connection.response().await.text(), client);
        assert_eq!(connection.get("/b").await.text(), client);
        for path in ["/a", "/b"] {
            let line = within("a log line", log.next_line()).await.unwrap().expect("a log line");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((line["client"].as_str(), line["path"].as_str()), (Some(client), Some(path)));
        }
    }
    assert_eq!(errors(&ebb).await, "0");
}

/// Guards: a header may come in any portions, the request right behind it or later, and an idle connection keeps what
/// its header said.
#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    let app = telling_app();
    let ebb = accepting(&app, &[]).await;
    for header in [V1.as_bytes().to_vec(), v2(0x21, 0x11, &[&TCP4[..], &[4, 0, 1, 0]].concat())] {
        let mut connection = ebb.client().await;
        for byte in &header {
            connection.send([*byte]).await;
            // An answer from ebb: the byte before has been read by itself, or will be with this one.
            assert_eq!(ebb.admin_get("/livez").await.status(), 200);
        }
        assert_eq!(connection.get("/").await.text(), "192.0.2.7");
        // Long enough to be parked.
        let_time_pass(Duration::from_millis(1500)).await;
        assert_eq!(connection.get("/").await.text(), "192.0.2.7");
    }
}

/// Guards: waiting for the rest of a header costs nothing.
#[tokio::test]
async fn half_a_header_does_not_spin() {
    let app = telling_app();
    let ebb = accepting(&app, &[]).await;
    let mut halves = Vec::new();
    for header in [V1.as_bytes().to_vec(), v2(0x21, 0x11, &TCP4)] {
        for at in [1, 5, 14, 20] {
            let mut connection = ebb.client().await;
            connection.send(&header[..at]).await;
            halves.push((connection, header[at..].to_vec()));
        }
    }
    let before = ebb.cpu_ticks();
    let_time_pass(Duration::from_secs(1)).await;
    let spent = ebb.cpu_ticks() - before;
    assert!(spent <= 10, "{spent} of 100 ticks while nothing happens");
    for (mut connection, rest) in halves {
        connection.send(rest).await;
        assert_eq!(connection.get("/").await.text(), "192.0.2.7");
    }
}

/// Guards: what is no header is reset without an answer, at once, and counted; nothing of it reaches the app.
#[tokio::test]
async fn what_is_no_header_is_reset() {
    let mut app = App::scripted();
    let ebb = accepting(&app, &["--log-level", "debug"]).await;
    let mut count = 0;
    for bad in [
        b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.8 5678 0443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.8 5678 443\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 ::1 5678 443\r\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        v2(0x21, 0x11, &TCP4[..11]),
        v2(0x21, 0x11, &[0; 5000]),
        v2(0x31, 0x11, &TCP4),
    ] {
        let mut connection = ebb.client().await;
        connection.send(&bad).await;
        assert_eq!(connection.rest().await, (Vec::new(), End::Reset), "{:?}", String::from_utf8_lossy(&bad));
        count += 1;
        assert_eq!(errors(&ebb).await, count.to_string());
    }
    ebb.logged("why", |line| line["message"] == "a connection without a PROXY protocol header").await;
    // A client that gives up in the middle.
    let mut connection = ebb.client().await;
    connection.send("PROXY TCP4 1").await;
    connection.finish().await;
    assert_eq!(connection.rest().await, (Vec::new(), End::Reset));
    assert_eq!(errors(&ebb).await, (count + 1).to_string());
    assert!(app.request_now().is_none());
}

/// Guards: `--header-timeout` bounds the header, whether it has begun or not, and also while it drips.
#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for() {
    let app = telling_app();
    let ebb = accepting(&app, &["--header-timeout", "300ms"]).await;
    let (mut silent, mut begun) = (ebb.client().await, ebb.client().await);
    begun.send("PROXY TC").await;
    for connection in [&mut silent, &mut begun] {
        assert_eq!(connection.rest().await, (Vec::new(), End::Reset));
    }
    let mut dripping = ebb.client().await;
    let mut header = v2(0x21, 0x11, &[0; 4000]).into_iter();
    let drip = async {
        while let Some(byte) = header.next()
            && dripping.wire.send([byte]).await.is_ok()
        {
            let_time_pass(Duration::from_millis(5)).await;
        }
    };
    within("the reset", drip).await;
    assert!(header.len() > 0, "the whole header was taken in spite of its time");
    assert_eq!(errors(&ebb).await, "3");
    // The time is the header's alone: after it the connection may be idle.
    let mut idle = ebb.client().await;
    idle.send(V1).await;
    let_time_pass(Duration::from_millis(700)).await;
    assert_eq!(idle.get("/").await.text(), "192.0.2.7");
}

/// Guards: a tcpSocket probe, which says nothing, is neither an error nor an arrival; nor is a header alone.
#[tokio::test]
async fn a_probe_of_the_port_is_no_error() {
    let app = telling_app();
    let ebb = accepting(&app, &[]).await;
    drop(ebb.client().await);
    ebb.client().await.wire.reset();
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    drop(ebb.client().await);
    ebb.client().await.wire.reset();
    let mut header_alone = ebb.client().await;
    header_alone.send(V1).await;
    header_alone.finish().await;
    header_alone.expect_fin().await;
    assert_eq!(errors(&ebb).await, "0");
    let report = hook.report().await;
    assert!(report["last_arrival_seconds"].is_null(), "{report}");
    assert_eq!(errors(&ebb).await, "0");
}

/// Guards: in a drain the rest of a header is waited for like the rest of a head, for 5 s, and then its request like
/// that of any idle connection.
#[tokio::test]
async fn a_drain_waits_for_a_header_but_not_for_long() {
    let app = telling_app();
    let ebb = accepting(&app, &[]).await;
    let (mut silent, mut stuck, mut slow) = (ebb.client().await, ebb.client().await, ebb.client().await);
    stuck.send("PROXY TCP4 192.0").await;
    slow.send("PROXY TCP4 192.0").await;
    let hook = ebb.drain().await;
    ebb.phase("draining").await;
    // After a second a connection counts as idle; one whose header has just come does not.
    let_time_pass(Duration::from_millis(1200)).await;
    slow.send(&V1[16..]).await;
    let_time_pass(Duration::from_millis(200)).await;
    let response = slow.get("/").await;
    assert_eq!((response.text(), response.closes()), ("192.0.2.7", true));
    slow.expect_fin().await;
    drop(slow);
    for connection in [&mut silent, &mut stuck] {
        assert_eq!(connection.rest().await, (Vec::new(), End::Reset));
    }
    let report = hook.report().await;
    let http1 = &report["connections"]["http1"];
    assert_eq!(
        (&http1["cut"], &http1["closed_idle"], &http1["told"]),
        (&1.into(), &1.into(), &1.into()),
        "{report}"
    );
    let seconds = report["seconds"]["draining"].as_f64().unwrap();
    assert!(seconds < 6.5, "{report}");
    assert_eq!(errors(&ebb).await, "1");
}

/// An app that expects a header, taken apart by hand.
struct Behind(TcpListener);

impl Behind {
    async fn new() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port"))
    }

    async fn ebb(&self, flags: &[&str]) -> Ebb {
        let forward = format!("127.0.0.1:0={}", self.0.local_addr().unwrap());
        Ebb::start_bare(&[&["--forward", &forward, "--admin", "127.0.0.1:0"], flags].concat()).await
    }

    /// The next connection: its header as version 1, then what follows.
    async fn accept(&self) -> (String, Client) {
        let (header, stream) = self.accept_stream().await;
        (header, Client::over(stream))
    }

    async fn accept_stream(&self) -> (String, TcpStream) {
        let (mut stream, _) = within("a connection to the app", self.0.accept()).await.unwrap();
        let header = within("a header", header(&mut stream)).await;
        (header, stream)
    }

    /// Nobody has connected that was not accepted.
    async fn expect_no_other(&self) {
        let other = tokio::time::timeout(Duration::ZERO, self.0.accept()).await;
        assert!(other.is_err(), "a connection too many");
    }
}

/// Reads a header of either version, which must be whole, and nothing behind it.
async fn header(stream: &mut TcpStream) -> String {
    let mut bytes = vec![stream.read_u8().await.unwrap()];
    if bytes[0] == b'P' {
        while !bytes.ends_with(b"\r\n") {
            bytes.push(stream.read_u8().await.unwrap());
        }
        return String::from_utf8(bytes).unwrap();
    }
    bytes.resize(16, 0);
    stream.read_exact(&mut bytes[1..]).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([bytes[14], bytes[15]]))];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(bytes[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match bytes[12..14] {
        [0x21, 0x11] => {
            let ip = |at: usize| body[at..at + 4].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            format!("v2 TCP4 {} {} {} {}", ip(0), ip(4), port(8), port(10))
        }
        [0x21, 0x21] => format!("v2 TCP6 {:x?} {:x?} {} {}", &body[..16], &body[16..32], port(32), port(34)),
        _ => format!("v2 {:x} {:x}", bytes[12], bytes[13]),
    }
}

/// What the header should say of a connection from `client` to ebb.
fn expected(version: &str, client: &Client, ebb: SocketAddr) -> String {
    let client = client.wire.stream().local_addr().unwrap();
    let rest = format!("TCP4 127.0.0.1 127.0.0.1 {} {}", client.port(), ebb.port());
    if version == "v1" { format!("PROXY {rest}\r\n") } else { format!("v2 {rest}") }
}

/// Answers one request on a connection to the app.
async fn answer(app: &mut Client, target: &str) {
    let head = within("a request", app.wire.head()).await.unwrap().expect("a request");
    assert_eq!(head.start, format!("GET {target} HTTP/1.1"));
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len())).await;
}

async fn two_clients(version: &str, flags: &[&str]) {
    let app = Behind::new().await;
    let ebb = app.ebb(&[&["--workers", "1", "--upstream-idle", "60s"], flags].concat()).await;
    let (mut one, mut two) = (ebb.client().await, ebb.client().await);
    one.send_get("/1").await;
    let (header, mut for_one) = app.accept().await;
    assert_eq!(header, expected(version, &one, ebb.addr()));
    answer(&mut for_one, "/1").await;
    assert_eq!(one.response().await.text(), "/1");
    // The connection is idle now, and still not for somebody else.
    two.send_get("/2").await;
    let (header, mut for_two) = app.accept().await;
    assert_eq!(header, expected(version, &two, ebb.addr()));
    answer(&mut for_two, "/2").await;
    assert_eq!(two.response().await.text(), "/2");
    for round in ["/3", "/4"] {
        for (client, app) in [(&mut one, &mut for_one), (&mut two, &mut for_two)] {
            client.send_get(round).await;
            answer(app, round).await;
            assert_eq!(client.response().await.text(), round);
        }
    }
    // The app closes an idle connection: the next begins with a header again.
    drop(for_one);
    one.send_get("/5").await;
    let (header, mut for_one) = app.accept().await;
    assert_eq!(header, expected(version, &one, ebb.addr()));
    answer(&mut for_one, "/5").await;
    assert_eq!(one.response().await.text(), "/5");
    // Without its client a connection is of no use to anybody.
    drop(one);
    for_one.expect_fin().await;
    app.expect_no_other().await;
    assert_eq!(metric(&ebb, "ebb_upstream_connections{forward=\"").await, "0");
    answer_after(&mut two, &mut for_two).await;
}

async fn answer_after(client: &mut Client, app: &mut Client) {
    client.send_get("/last").await;
    answer(app, "/last").await;
    assert_eq!(client.response().await.text(), "/last");
}

/// Guards: each connection to the app has exactly one header, and carries the requests of the client that it names.
#[tokio::test]
async fn each_client_has_connections_of_its_own_v1() {
    two_clients("v1", &["--send-proxy"]).await;
}

/// Guards: the same in version 2.
#[tokio::test]
async fn each_client_has_connections_of_its_own_v2() {
    two_clients("v2", &["--send-proxy", "v2"]).await;
}

/// Guards: what was accepted is what is sent, in the version that is asked for.
#[tokio::test]
async fn an_accepted_header_is_passed_on() {
    let app = Behind::new().await;
    let ebb = app.ebb(&["--accept-proxy", "--send-proxy=v2"]).await;
    let v6 = format!("v2 TCP6 {:x?} {:x?} 5678 443", [0x20; 16], [0xfd; 16]);
    for (header, sent) in [
        (V1.as_bytes().to_vec(), Some("v2 TCP4 192.0.2.7 198.51.100.8 5678 443")),
        (v2(0x21, 0x21, &tcp6()), Some(v6.as_str())),
        (v2(0x20, 0, &[]), None),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
    ] {
        let mut client = ebb.client().await;
        let own = expected("v2", &client, ebb.addr());
        client.send(header).await;
        client.send_get("/").await;
        let (header, mut for_client) = app.accept().await;
        assert_eq!(header, sent.unwrap_or(&own));
        answer(&mut for_client, "/").await;
        assert_eq!(client.response().await.text(), "/");
    }
}

/// A client that speaks HTTP/2.
async fn http2(ebb: &Ebb) -> (SendRequest<Bytes>, u16) {
    let stream = TcpStream::connect(ebb.addr()).await.unwrap();
    let port = stream.local_addr().unwrap().port();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    (sender, port)
}

async fn ask(client: &SendRequest<Bytes>, path: &str) -> u16 {
    let mut client = client.clone().ready().await.unwrap();
    let request = http::Request::get(format!("http://app.test{path}")).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    response.await.unwrap().status().as_u16()
}

/// Guards: HTTP/2 to the app: each client has a connection of its own, with one header, for all its streams; it ends
/// with the client.
#[tokio::test]
async fn each_http2_client_has_a_connection_of_its_own() {
    let app = Behind::new().await;
    let ebb = app.ebb(&["--workers", "1", "--upstream-idle", "60s", "--send-proxy"]).await;
    let (clients, ports) = {
        let ((one, first), (two, second)) = (http2(&ebb).await, http2(&ebb).await);
        ([one, two], [first, second])
    };
    let (connected, mut served) = tokio::sync::mpsc::unbounded_channel();
    let serving = async {
        for _ in 0..2 {
            let (header, stream) = app.accept_stream().await;
            let connected = connected.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut paths = Vec::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    paths.push(request.uri().path().to_owned());
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
                connected.send((header, paths)).unwrap();
            });
        }
    };
    let asking = async {
        for path in ["/1", "/2", "/3"] {
            for client in &clients {
                assert_eq!(ask(client, path).await, 200);
            }
        }
        drop(clients);
    };
    within("the requests", async { tokio::join!(serving, asking) }).await;
    let mut headers = Vec::new();
    for _ in 0..2 {
        let (header, paths) = within("a connection to end", served.recv()).await.unwrap();
        assert_eq!(paths, ["/1", "/2", "/3"]);
        headers.push(header);
    }
    for port in ports {
        let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", ebb.addr().port());
        assert!(headers.contains(&header), "{header} in {headers:?}");
    }
    app.expect_no_other().await;
}

/// Guards: what the app says to an upgrade, and the bytes after it, come over the connection that began with a header.
#[tokio::test]
async fn a_tunnel_begins_with_a_header_too() {
    let app = Behind::new().await;
    let ebb = app.ebb(&["--send-proxy"]).await;
    let mut client = ebb.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    let (header, mut for_client) = app.accept().await;
    assert_eq!(header, expected("v1", &client, ebb.addr()));
    within("a request", for_client.wire.head()).await.unwrap().expect("a request");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    for_client.send(format!("{switched}bytes")).await;
    assert_eq!(client.head().await.status(), 101);
    drop(for_client);
    assert_eq!(client.rest().await.0, b"bytes");
}

/// Guards: flags that make no sense are refused in words.
#[tokio::test]
async fn versions_that_there_are_not_are_refused() {
    let (code, text) = Ebb::refused(&["--forward", "0=1", "--send-proxy", "v3"]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("'v3'") && text.contains("v1, v2"), "{text}");
}
