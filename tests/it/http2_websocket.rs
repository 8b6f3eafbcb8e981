//! WebSockets on HTTP/2 streams (RFC 8441).

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};

use crate::support::frames::{self, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::support::http2::{Http2Client, write};
use crate::support::{App, CLOSE, Ebb, End, Exchange, Frame, SWITCHING, TEXT, within};

fn request() -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri("http://app.test/chat")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "superchat")
        .body(())
        .unwrap()
}

/// A WebSocket as the client has it.
struct Socket {
    incoming: RecvStream,
    outgoing: SendStream<Bytes>,
    read: Vec<u8>,
}

impl Socket {
    async fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.read.len() < n {
            let data = within("more of the stream", self.incoming.data()).await.expect("no end").unwrap();
            self.incoming.flow_control().release_capacity(data.len()).unwrap();
            self.read.extend_from_slice(&data);
        }
        self.read.drain(..n).collect()
    }

    async fn expect(&mut self, frame: Frame) {
        let bytes = frame.bytes();
        assert_eq!(self.exactly(bytes.len()).await, bytes);
    }

    async fn send(&mut self, frame: Frame) {
        write(&mut self.outgoing, &frame.bytes(), false).await.unwrap();
    }

    async fn expect_end(&mut self) {
        assert!(self.read.is_empty());
        while let Some(data) = within("the stream's end", self.incoming.data()).await {
            assert_eq!(data.unwrap(), "", "the end says so with an empty frame");
        }
    }
}

async fn open(app: &mut App, client: &mut Http2Client) -> (Socket, Exchange, Response<()>) {
    client.until_extended_connect().await;
    let (response, outgoing) = client.send(request(), false).await;
    let mut exchange = app.request().await;
    exchange.wire.send(SWITCHING).await.unwrap();
    let response = within("the response", response).await.unwrap();
    let (head, incoming) = response.into_parts();
    (Socket { incoming, outgoing, read: Vec::new() }, exchange, Response::from_parts(head, ()))
}

/// The same for a client that decides on every frame, on stream 1.
async fn open_raw(app: &mut App, ebb: &Ebb) -> (Frames, Exchange) {
    let mut client = Frames::connect(ebb.addr()).await;
    let mut block = Vec::new();
    frames::field(&mut block, ":protocol", "websocket");
    block.extend(frames::head("CONNECT", "/chat", &[("sec-websocket-version", "13")]));
    client.send(HEADERS, END_HEADERS, 1, &block).await;
    let mut exchange = app.request().await;
    exchange.wire.send(SWITCHING).await.unwrap();
    client.frame(HEADERS, 1).await;
    (client, exchange)
}

/// Guards: the upgrade that the app sees, the head that the client sees, bytes both ways, and the ends of both.
#[tokio::test]
async fn a_websocket_on_a_stream_is_an_upgrade_to_the_app() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let (mut socket, mut exchange, head) = open(&mut app, &mut client).await;
    let asked = &exchange.head;
    assert_eq!(asked.target(), "/chat");
    assert_eq!((asked.get("host"), asked.get("upgrade")), (Some("app.test"), Some("websocket")));
    assert_eq!(asked.get("sec-websocket-protocol"), Some("superchat"));
    assert!(asked.has("connection", "upgrade"), "{asked}");
    let key = asked.get("sec-websocket-key").unwrap();
    assert!(key.len() == 24 && key.ends_with("=="), "{key}");
    assert_eq!(head.status(), 200);
    for name in ["connection", "upgrade", "sec-websocket-accept"] {
        assert!(!head.headers().contains_key(name), "{name}: {head:?}");
    }
    socket.send(Frame::client(TEXT, "ping")).await;
    exchange.wire.expect_frame(Frame::client(TEXT, "ping")).await;
    let large = vec![7; 300_000];
    let sending = exchange.wire.send_frame(Frame::app(TEXT, large.clone()));
    let ((), ()) = tokio::join!(sending, socket.expect(Frame::app(TEXT, large)));
    socket.outgoing.send_data(Bytes::new(), true).unwrap();
    assert_eq!(within("the client's end", exchange.wire.rest()).await, (Vec::new(), End::Fin));
    drop(exchange);
    socket.expect_end().await;
    ebb.until_metric(&["ebb_connections{", "websocket"], 0.0).await;
}

/// Guards: Close 1001 to both ends, on a connection that has been told to go by GOAWAY.
#[tokio::test]
async fn a_drain_says_goodbye_on_a_stream() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    let (mut socket, mut exchange, _) = open(&mut app, &mut client).await;
    let hook = ebb.drain().await;
    socket.expect(Frame::going_away(false)).await;
    socket.send(Frame::client(TEXT, "one more")).await;
    socket.send(Frame::client(CLOSE, 1001u16.to_be_bytes())).await;
    exchange.wire.expect_frame(Frame::client(TEXT, "one more")).await;
    exchange.wire.expect_frame(Frame::client(CLOSE, 1001u16.to_be_bytes())).await;
    exchange.wire.send_frame(Frame::app(CLOSE, 1001u16.to_be_bytes())).await;
    drop(exchange);
    socket.expect_end().await;
    socket.outgoing.send_data(Bytes::new(), true).unwrap();
    let report = hook.report().await;
    assert_eq!(report["outcome"], "clean", "{report}");
    assert_eq!(report["connections"]["websocket"]["told"], 1, "{report}");
    assert_eq!(report["connections"]["http2"]["told"], 1, "{report}");
    client.ended().await.unwrap();
}

/// Guards: what the app answers instead of a 101.
#[tokio::test]
async fn a_websocket_may_be_refused() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    client.until_extended_connect().await;
    let (response, _outgoing) = client.send(request(), false).await;
    let mut exchange = app.request().await;
    exchange.answer("403 Forbidden", "no").await.unwrap();
    assert_eq!(within("the response", response).await.unwrap().status(), 403);
}

/// Guards: a length of what follows is not said to the app, which would take the next request for it.
#[tokio::test]
async fn an_upgrade_has_no_length() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1"]).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    client.until_extended_connect().await;
    let mut head = request();
    head.headers_mut().insert("content-length", http::HeaderValue::from_static("30"));
    let (response, _outgoing) = client.send(head, false).await;
    let mut exchange = app.request().await;
    assert_eq!(exchange.head.get("content-length"), None, "{}", exchange.head);
    exchange.answer("404 Not Found", "").await.unwrap();
    exchange.keep();
    assert_eq!(within("the response", response).await.unwrap().status(), 404);
    // Nor does the app's 101 say how long the stream is, though some have a length there.
    let response = client.send(request(), false).await.0;
    let mut exchange = app.request().await;
    let head = SWITCHING.replacen("\r\n", "\r\nContent-Length: 0\r\n", 1);
    exchange.wire.send(head).await.unwrap();
    let head = within("the response", response).await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers().get("content-length")), (200, None));
}

/// Guards: what the app said before it broke off reaches the client.
#[tokio::test]
async fn last_words_before_a_reset_reach_the_client() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = Http2Client::connect(ebb.addr()).await;
    for _ in 0..3 {
        let (mut socket, mut exchange, _) = open(&mut app, &mut client).await;
        ebb.freeze().await;
        let words = Frame::app(TEXT, vec![b'w'; 20_000]);
        exchange.wire.send_frame(words.clone()).await;
        exchange.reset();
        ebb.unfreeze();
        socket.expect(words).await;
    }
}

/// Guards: a WebSocket hears of the end of its client's connection, though it goes on in a task of its own.
#[tokio::test]
async fn a_dead_client_has_no_websocket() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1", "--http2-keepalive", "200ms"]).await;
    let (mut dead, mut exchange) = open_raw(&mut app, &ebb).await;
    // It answers no ping.
    dead.rest().await;
    ebb.until_metric(&["ebb_connections{", "websocket"], 0.0).await;
    within("the app to hear of it", exchange.wire.rest()).await;
}

/// Guards: a connection is idle when its last WebSocket is over, whoever ends it last.
#[tokio::test]
async fn after_a_websocket_a_connection_is_idle() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--upstream-protocol", "http1", "--idle-timeout", "300ms"]).await;
    let (mut client, exchange) = open_raw(&mut app, &ebb).await;
    drop(exchange);
    let over = |frame: &frames::Frame| frame.flags & END_STREAM != 0 || frame.kind == RST_STREAM;
    client.until("the app's end", |frame| frame.stream == 1 && over(frame)).await;
    client.send(DATA, END_STREAM, 1, &[]).await;
    client.until("to be told to go", |frame| frame.kind == GOAWAY).await;
}
