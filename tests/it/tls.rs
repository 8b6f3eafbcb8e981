//! `https://` forwards: what is agreed on, and that bytes pass as they do in the clear.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

use crate::support::tls::{Authority, NAME, TlsEbb, handshake, hello};
use crate::support::{App, Client, End, let_time_pass, within};

/// Guards: TLS itself, in both versions, and that the app hears of it.
#[tokio::test]
async fn tls_12_and_13_are_spoken() {
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &[]).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = ebb.client_with(ebb.authority.client_of(&[version], None)).await;
        assert_eq!(client.wire.tls().get_ref().1.protocol_version(), Some(version.version));
        client.send_get("/").await;
        let mut exchange = app.request().await;
        assert_eq!(exchange.head.get("x-forwarded-proto"), Some("https"));
        assert_eq!(exchange.head.get("x-forwarded-for"), Some("127.0.0.1"));
        exchange.answer("200 OK", "hello").await.unwrap();
        assert_eq!(client.response().await.text(), "hello");
        exchange.keep();
    }
}

/// Guards: what is offered (RFC 7301), and that a client with nothing in common hears so.
#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let asking = |protocols: &[&str]| {
        let mut config = ebb.authority.client();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let mut client = ebb.client_with(asking(&["spdy/1", "http/1.1"])).await;
    assert_eq!(client.wire.tls().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.get("/").await.text(), "hello");
    let refused = handshake(ebb.ebb.addr(), Arc::new(asking(&["spdy/1"]))).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    expect_failure(&ebb, "nothing-in-common", 1).await;
}

/// Guards: HTTP/2 over TLS, and that its GOAWAY and the end are said as they should be.
#[tokio::test]
async fn http2_is_agreed_on_and_spoken() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &["--upstream-protocol", "http1"]).await;
    let mut config = ebb.authority.client();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = within("a handshake", handshake(ebb.ebb.addr(), Arc::new(config))).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = within("a preface", h2::client::handshake(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut sender = within("settings", sender.ready()).await.unwrap();
    for _ in 0..3 {
        let request = http::Request::get(format!("https://{NAME}/")).body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let mut response = within("a response", response).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = within("a body", response.body_mut().data()).await.unwrap().unwrap();
        assert_eq!(body, "hello");
    }
    let hook = ebb.ebb.drain().await;
    within("GOAWAY and the end", driving).await.unwrap().unwrap();
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: session tickets, in both versions and on every worker.
#[tokio::test]
async fn sessions_are_resumed() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &["--workers", "2"]).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ebb.authority.client_of(&[version], None);
        for round in 0..8 {
            let mut client = ebb.client_with(config.clone()).await;
            // The tickets of TLS 1.3 come with the first response.
            assert_eq!(client.get("/").await.text(), "hello");
            let kind = client.wire.tls().get_ref().1.handshake_kind();
            let expected = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(kind, Some(expected), "{version:?}, connection {round}");
        }
    }
}

/// Guards: `--tls-client-ca`.
#[tokio::test]
async fn a_client_certificate_is_demanded() {
    let app = App::hello();
    let (clients, strangers) = (Authority::new(), Authority::new());
    let folder = crate::support::tls::Folder::new();
    let ca = folder.write("ca.crt", clients.pem());
    let ebb = TlsEbb::start(&app, &["--tls-client-ca", &ca]).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let own = clients.identity();
        let mut client = ebb.client_with(ebb.authority.client_of(&[version], Some(&own))).await;
        assert_eq!(client.get("/").await.text(), "hello");
        for own in [None, Some(strangers.identity())] {
            let config = ebb.authority.client_of(&[version], own.as_ref());
            // In TLS 1.3 a client learns of that when it is done itself.
            let refused = match handshake(ebb.ebb.addr(), Arc::new(config)).await {
                Ok(stream) => {
                    let mut client = Client::over_tls(stream);
                    let _ = client.wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
                    client.wire.head().await.map(|head| head.is_none()).unwrap_err()
                }
                Err(error) => error,
            };
            assert!(refused.to_string().contains("received fatal alert"), "{refused}");
        }
    }
    expect_failure(&ebb, "client-certificate", 4).await;
}

/// Guards: the tests' own client is not the only one that ebb understands.
#[tokio::test]
async fn curl_and_openssl_get_an_answer() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let ca = ebb.folder.write("ca.crt", ebb.authority.pem());
    let port = ebb.ebb.addr().port();
    let (url, to) = (format!("https://{NAME}:{port}/"), format!("{NAME}:{port}:127.0.0.1"));
    for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--http1.1", "--cacert", &ca, "--resolve", &to]).args(version).args([&url, &url]);
        assert_eq!(said(curl, "hellohello").await, Some(()), "no curl here");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-CAfile",
            &ca,
            "-servername",
            NAME,
            version,
        ]);
        openssl.args(["-connect", &format!("127.0.0.1:{port}")]);
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        assert_eq!(said_to(openssl, &request, "hello").await, Some(()), "no openssl here");
    }
}

/// Runs a program and fails unless it says something that ends so; none when there is no such program.
async fn said(command: Command, end: &str) -> Option<()> {
    said_to(command, "", end).await
}

async fn said_to(mut command: Command, input: &str, end: &str) -> Option<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().ok()?;
    // It may end without reading.
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await;
    let output = within("a program to end", child.wait_with_output()).await.unwrap();
    drop(stdin);
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with(end), "{command:?}: {said}{complained}");
    Some(())
}

/// Guards: a client that forgot the `s` is told so, in its own words.
#[tokio::test]
async fn http_in_the_clear_is_400() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let mut client = ebb.ebb.client().await;
    let response = client.get("/").await;
    response.assert_error(400, "bad-request");
    assert!(response.text().contains("https://"), "{}", response.text());
    assert!(response.closes());
    client.expect_fin().await;
    expect_failure(&ebb, "plain-http", 1).await;
}

/// Guards: what is no TLS ends with an alert and a FIN, and costs nobody else anything.
#[tokio::test]
async fn garbage_ends_with_an_alert() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let oversized = [&[22, 3, 1, 0xff, 0xff][..], &[0; 512]].concat();
    let not_a_hello = [22, 3, 1, 0, 4, 20, 0, 0, 0];
    let alert_first = [21, 3, 3, 0, 2, 2, 40];
    let garbage: [&[u8]; 5] =
        [b"\0\x01\x02 nothing at all", &oversized, &not_a_hello, &[0xff; 64], &alert_first];
    for bytes in garbage {
        let mut client = ebb.ebb.client().await;
        client.send(bytes).await;
        let (rest, end) = client.rest().await;
        assert_eq!(end, End::Fin, "{bytes:?}");
        let alerted = rest.len() == 7 && rest[0] == 21;
        assert!(alerted || (rest.is_empty() && bytes == alert_first), "{bytes:?}: {rest:?}");
    }
    // Somebody who only looked whether the port is open has done nothing wrong.
    let mut silent = ebb.ebb.client().await;
    silent.finish().await;
    silent.expect_fin().await;
    assert_eq!(ebb.client().await.get("/").await.text(), "hello");
    expect_failure(&ebb, "refused-by-client", 1).await;
    expect_failure(&ebb, "invalid", 4).await;
    assert!(!metrics(&ebb).await.contains("reason=\"gone\""));
}

/// Guards: the end is said (`close_notify`), and not only by a FIN that anybody could have sent.
#[tokio::test]
async fn the_end_is_said() {
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &["--idle-timeout", "400ms"]).await;
    // After the last response, after an error of ours, after idleness; what is checked is `expect_fin`.
    let mut last = ebb.client().await;
    last.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    app.request().await.answer("200 OK", "bye").await.unwrap();
    assert_eq!(last.response().await.text(), "bye");
    last.expect_fin().await;
    let mut wrong = ebb.client().await;
    wrong.send("GARBAGE\r\n\r\n").await;
    wrong.response().await.assert_error(400, "bad-request");
    wrong.expect_fin().await;
    let mut idle = ebb.client().await;
    idle.expect_fin().await;
    // And the client's own is answered.
    let mut gone = ebb.client().await;
    gone.finish().await;
    gone.expect_fin().await;
}

/// Guards: a response that breaks off does not end like a whole one.
#[tokio::test]
async fn a_truncated_response_has_no_proper_end() {
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &[]).await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"] {
        let mut client = ebb.client().await;
        client.send(request).await;
        let mut exchange = app.request().await;
        exchange.begin_chunked().await.unwrap();
        exchange.chunk("the first half").await.unwrap();
        client.head().await;
        assert!(!client.wire.exactly(5).await.unwrap().is_empty());
        exchange.reset();
        let (_, end) = client.rest().await;
        assert_ne!(end, End::Fin, "{request}");
    }
}

/// Guards: a client that has no more to say and forgets to say so (FIN without `close_notify`) gets its answer.
#[tokio::test]
async fn a_fin_after_a_request_is_no_reason_to_go() {
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &[]).await;
    let mut client = ebb.client().await;
    client.send_get("/").await;
    let mut exchange = app.request().await;
    socket2::SockRef::from(client.wire.stream()).shutdown(std::net::Shutdown::Write).unwrap();
    let_time_pass(Duration::from_millis(300)).await;
    exchange.answer("200 OK", "hello").await.unwrap();
    assert_eq!(client.response().await.text(), "hello");
    client.expect_fin().await;
}

/// Guards: records in both directions, byte for byte, with a reader that makes every buffer fill up.
#[tokio::test]
async fn large_bodies_pass_unharmed() {
    const SIZE: usize = 8 << 20;
    let app = App::answering(|mut exchange| async move {
        let body = exchange.body().await?;
        let length = body.bytes.len();
        exchange.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await?;
        // Pieces of odd sizes, so that records and buffers never fall together.
        for piece in body.bytes.chunks(12_345) {
            exchange.wire.send(piece).await?;
        }
        exchange.keep();
        Ok(())
    });
    let ebb = TlsEbb::start(&app, &[]).await;
    let body: Vec<u8> = (0..SIZE).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = ebb.client_with(ebb.authority.client_of(&[version], None)).await;
        for _ in 0..2 {
            client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {SIZE}\r\n\r\n")).await;
            for piece in body.chunks(54_321) {
                client.send(piece).await;
            }
            assert_eq!(client.head().await.status(), 200);
            // The response has filled what there is of buffers by now.
            let_time_pass(Duration::from_millis(300)).await;
            let got = within("the body", client.wire.exactly(SIZE)).await.unwrap();
            assert!(got == body, "the body has come back changed");
        }
    }
}

/// Guards: the last bytes go out when the client takes them, with nothing more to push them: of a response, and of a
/// tunnel. Which size ends in a full socket is not known, so it is one of many.
#[tokio::test]
async fn the_last_bytes_are_not_forgotten() {
    const STEP: usize = 12 << 10;
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &[]).await;
    let mut waiting = Vec::new();
    for size in (STEP..60 * STEP).step_by(STEP) {
        for upgrade in [false, true] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let stream = within("connecting", socket.connect(ebb.ebb.addr())).await.unwrap();
            let mut client = ebb.client_over(stream).await;
            let fields = if upgrade { "Connection: upgrade\r\nUpgrade: x\r\n" } else { "" };
            client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")).await;
            let mut exchange = app.request().await;
            let head = if upgrade {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".to_owned()
            } else {
                // Its connection is not wanted again.
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n")
            };
            let body = vec![b'y'; size];
            let sending = tokio::spawn(async move {
                exchange.wire.send(head).await.unwrap();
                exchange.wire.send(body).await.unwrap();
                exchange
            });
            waiting.push((client, sending, size, upgrade));
        }
    }
    let_time_pass(Duration::from_millis(1500)).await;
    for (mut client, sending, size, upgrade) in waiting {
        client.head().await;
        let step = format!("{size} bytes, upgrade: {upgrade}");
        within(&step, client.wire.discard(size as u64)).await.unwrap();
        drop(within("the app", sending).await.unwrap());
    }
}

/// Guards: a PROXY protocol header comes before the handshake.
#[tokio::test]
async fn a_proxy_header_comes_first() {
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &["--accept-proxy"]).await;
    let mut stream = within("connecting", TcpStream::connect(ebb.ebb.addr())).await.unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n").await.unwrap();
    let mut client = ebb.client_over(stream).await;
    client.send_get("/").await;
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.get("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(exchange.head.get("x-forwarded-proto"), Some("https"));
    exchange.answer("200 OK", "hello").await.unwrap();
    assert_eq!(client.response().await.text(), "hello");
}

/// Guards: requests that come in one record are all answered, in their order.
#[tokio::test]
async fn pipelined_requests_are_answered() {
    let app = App::answering(|mut exchange| async move {
        let target = exchange.head.target().to_owned();
        exchange.answer("200 OK", &target).await?;
        exchange.keep();
        Ok(())
    });
    let ebb = TlsEbb::start(&app, &[]).await;
    let mut client = ebb.client().await;
    let requests: String = (0..50).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: app.test\r\n\r\n")).collect();
    client.send(requests).await;
    for i in 0..50 {
        assert_eq!(client.response().await.text(), format!("/{i}"));
    }
}

/// Guards: a parked connection wakes up for data, and only for data.
#[tokio::test]
async fn a_parked_connection_wakes_up() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &["--header-timeout", "1s"]).await;
    let mut client = ebb.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
        let_time_pass(Duration::from_millis(1600)).await;
        // A record that is no data: new keys, and the answer to them goes out with the next response.
        client.wire.tls().get_mut().1.refresh_traffic_keys().unwrap();
        client.send("").await;
        let before = ebb.ebb.cpu_ticks();
        let_time_pass(Duration::from_millis(1200)).await;
        let spent = ebb.ebb.cpu_ticks() - before;
        assert!(spent < 30, "ebb spins: {spent} hundredths of a second");
    }
    assert_eq!(client.get("/").await.text(), "hello");
}

/// Guards: an upgraded connection's bytes go out at once, and each side's end reaches the other.
#[tokio::test]
async fn a_tunnel_passes_bytes_and_ends() {
    let mut app = App::scripted();
    let ebb = TlsEbb::start(&app, &[]).await;
    let mut client = ebb.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    let mut exchange = app.request().await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    exchange.wire.send(switching).await.unwrap();
    assert_eq!(client.head().await.status(), 101);
    for word in ["one", "two", "three"] {
        client.send(word).await;
        assert_eq!(
            within("the client's word", exchange.wire.exactly(word.len())).await.unwrap(),
            word.as_bytes()
        );
        exchange.wire.send(word).await.unwrap();
        assert_eq!(within("the app's word", client.wire.exactly(word.len())).await.unwrap(), word.as_bytes());
    }
    client.finish().await;
    assert_eq!(within("the client's end", exchange.wire.rest()).await, (Vec::new(), End::Fin));
    exchange.wire.send("last").await.unwrap();
    exchange.wire.finish().await.unwrap();
    assert_eq!(client.rest().await, (b"last".to_vec(), End::Fin));
}

/// Guards: `--tls-handshake-timeout`, for those who never begin, who stop, and who drip.
#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &["--tls-handshake-timeout", "600ms"]).await;
    let mut silent = ebb.ebb.client().await;
    let mut halfway = ebb.ebb.client().await;
    let (_, hello) = hello(ebb.authority.client());
    halfway.send(&hello[..hello.len() / 2]).await;
    silent.expect_fin().await;
    halfway.expect_fin().await;
    let mut dripping = ebb.ebb.client().await;
    let dripped = async {
        for byte in &hello {
            if dripping.wire.send([*byte]).await.is_err() || dripping.wire.stream().try_read(&mut [0]).is_ok()
            {
                return true;
            }
            let_time_pass(Duration::from_millis(50)).await;
        }
        false
    };
    assert!(within("the drip to end", dripped).await, "it was listened to, to its end");
    expect_failure(&ebb, "timeout", 3).await;
}

/// Guards: one connection too many hears so in words that its TLS understands.
#[tokio::test]
async fn one_connection_too_many_gets_an_alert() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &["--max-connections", "1"]).await;
    let mut first = ebb.client().await;
    let refused = handshake(ebb.ebb.addr(), Arc::new(ebb.authority.client())).await.unwrap_err();
    assert!(refused.to_string().contains("received fatal alert: InternalError"), "{refused}");
    assert_eq!(first.get("/").await.text(), "hello");
}

/// Waits until `ebb_tls_handshake_failures_total` stands at `count` for this reason.
pub(super) async fn expect_failure(ebb: &TlsEbb, reason: &str, count: u32) {
    let forward = ebb.ebb.addr();
    let line =
        format!("ebb_tls_handshake_failures_total{{forward=\"{forward}\",reason=\"{reason}\"}} {count}");
    let shown = async { while !metrics(ebb).await.lines().any(|shown| shown == line) {} };
    within(&format!("the metric {line}"), shown).await;
}

/// `/metrics`.
pub(super) async fn metrics(ebb: &TlsEbb) -> String {
    ebb.ebb.admin_get("/metrics").await.text().to_owned()
}
