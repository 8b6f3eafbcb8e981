//! Our server and the h2 crate's client.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::Builder;
use http::{Method, StatusCode};
use tokio::io::duplex;
use tokio::task::spawn_local;

use super::script::{Frame, POST, Script, block, greeting, put, turn};
use super::support::{HEAD_MAX, h2_client, h2_read, local, one_trailer, pattern, request, serve};
use crate::http2::frame::{self, flag, kind};
use crate::http2::server::{Accepted, Connection};
use crate::http2::{Error, Reason};

type Sender = h2::client::SendRequest<Bytes>;

async fn echo(sender: &Sender, len: usize) -> Bytes {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(request("/echo"), false).unwrap();
    stream.send_data(pattern(len), true).unwrap();
    h2_read(response.await.unwrap().into_body()).await.unwrap().0
}

async fn get(sender: &Sender, path: &str) -> Result<http::Response<h2::RecvStream>, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    sender.send_request(request(path), true)?.0.await
}

#[tokio::test(start_paused = true)]
async fn bodies_of_many_sizes_come_and_go() {
    local(async {
        for window in [16_385, 65_535, 1 << 20] {
            let mut builder = Builder::new();
            builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
            let (sender, _serving) = h2_client(&builder, 10).await;
            for len in [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 131_072, 131_073, 300_000] {
                assert_eq!(echo(&sender, len).await, pattern(len), "{len} bytes, window {window}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_bodies_at_once() {
    local(async {
        let (sender, _serving) = h2_client(&Builder::new(), 50).await;
        let all = (0..20).map(|at| {
            let sender = &sender;
            async move { assert_eq!(echo(sender, at * 9_999).await, pattern(at * 9_999)) }
        });
        futures_util::future::join_all(all).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_window_of_one_byte() {
    local(async {
        let (sender, _serving) = h2_client(Builder::new().initial_window_size(1), 10).await;
        assert_eq!(echo(&sender, 300).await, pattern(300));
    })
    .await;
}

/// Guards: the windows of streams that are under way follow the settings, also below nothing.
#[tokio::test(start_paused = true)]
async fn windows_that_change_while_a_body_is_under_way() {
    local(async {
        let (near, far) = duplex(20_000);
        let _serving = serve(far, 10);
        let (sender, mut connection) = Builder::new().handshake::<_, Bytes>(near).await.unwrap();
        let (start, mut started) = tokio::sync::oneshot::channel::<()>();
        let mut left = vec![100_000, 65_535, 1, 70_000, 0];
        spawn_local(poll_fn(move |cx| {
            loop {
                let over = connection.poll_unpin(cx);
                let go_on = started.is_terminated() || started.poll_unpin(cx).is_ready();
                // The crate takes the next one only when this one has been agreed on.
                match left.last() {
                    Some(&size) if go_on && connection.set_initial_window_size(size).is_ok() => left.pop(),
                    _ => return over,
                };
            }
        }));
        let mut body = get(&sender, "/bytes/200000").await.unwrap().into_body();
        let mut all = body.data().await.unwrap().unwrap().to_vec();
        body.flow_control().release_capacity(all.len()).unwrap();
        start.send(()).unwrap();
        all.extend_from_slice(&h2_read(body).await.unwrap().0);
        assert_eq!(all, pattern(200_000));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers() {
    local(async {
        let (sender, _serving) = h2_client(&Builder::new(), 10).await;
        let response = get(&sender, "/bytes/70000?trailers").await.unwrap();
        let end = one_trailer("x-end", "here");
        assert_eq!(h2_read(response.into_body()).await.unwrap(), (pattern(70_000), Some(end)));
        for len in [0, 70_000] {
            let mut sender = sender.clone().ready().await.unwrap();
            let (response, mut stream) = sender.send_request(request("/echo"), false).unwrap();
            stream.send_data(pattern(len), false).unwrap();
            stream.send_trailers(one_trailer("x-mine", "there")).unwrap();
            let trailers = Some(one_trailer("x-mine", "there"));
            let body = response.await.unwrap().into_body();
            assert_eq!(h2_read(body).await.unwrap(), (pattern(len), trailers));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn resets_keep_their_codes() {
    local(async {
        let (sender, serving) = h2_client(&Builder::new(), 10).await;
        for code in [0, 1, 2, 7, 8, 11, 13] {
            let error = get(&sender, &format!("/reset/{code}")).await.unwrap_err();
            assert_eq!((error.is_remote(), error.reason()), (true, Some(code.into())));
            // What came before a reset need not arrive, but the reset does.
            let error = match get(&sender, &format!("/begun/{code}")).await {
                Ok(response) => h2_read(response.into_body()).await.map(|_| ()),
                Err(error) => Err(error),
            };
            if code != 0 {
                assert_eq!(error.unwrap_err().reason(), Some(code.into()));
            }
            let mut sender = sender.clone().ready().await.unwrap();
            let (_response, mut stream) =
                sender.send_request(request(&format!("/hold/{code}")), false).unwrap();
            stream.send_reset(code.into());
        }
        assert_eq!(get(&sender, "/none").await.unwrap_err().reason(), Some(h2::Reason::CANCEL));
        drop(sender);
        assert_eq!(serving.ended.await.unwrap(), Ok(()));
    })
    .await;
}

/// Guards: what has been opened is finished, what comes later is not, and then the connection ends.
#[tokio::test(start_paused = true)]
async fn told_to_go_a_client_finishes() {
    local(async {
        let (sender, serving) = h2_client(&Builder::new(), 10).await;
        let mut opening = sender.clone().ready().await.unwrap();
        let (response, mut stream) = opening.send_request(request("/echo"), false).unwrap();
        let body = response.await.unwrap().into_body();
        serving.order(|connection| connection.graceful_shutdown());
        stream.send_data(pattern(100_000), true).unwrap();
        assert_eq!(h2_read(body).await.unwrap().0, pattern(100_000));
        assert_eq!(serving.ended.await.unwrap(), Ok(()));
        let error = get(&sender, "/bytes/1").await.unwrap_err();
        assert!(error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR), "{error:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_continue_comes_before_the_response() {
    local(async {
        let (sender, _serving) = h2_client(&Builder::new(), 10).await;
        let mut sender = sender.ready().await.unwrap();
        let (mut response, mut stream) = sender.send_request(request("/continue"), false).unwrap();
        let informed = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(informed.status(), StatusCode::CONTINUE);
        stream.send_data(pattern(10), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(h2_read(response.into_body()).await.unwrap().0, pattern(10));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_response_to_a_head_has_a_length_and_no_body() {
    local(async {
        let (sender, _serving) = h2_client(&Builder::new(), 10).await;
        let mut sender = sender.ready().await.unwrap();
        let mut head = request("/head/12345");
        *head.method_mut() = Method::HEAD;
        let response = sender.send_request(head, true).unwrap().0.await.unwrap();
        assert_eq!(response.headers()["content-length"], "12345");
        assert_eq!(h2_read(response.into_body()).await.unwrap().0, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_stream_at_a_time() {
    local(async {
        let (sender, _serving) = h2_client(&Builder::new(), 1).await;
        let all = (0..5).map(|_| echo(&sender, 20_000));
        for body in futures_util::future::join_all(all).await {
            assert_eq!(body, pattern(20_000));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn heads_of_many_frames_and_too_many() {
    local(async {
        let (sender, _serving) = h2_client(Builder::new().max_header_list_size(1 << 20), 10).await;
        let with = async |len: usize| {
            let mut large = request("/echo");
            large.headers_mut().insert("x-large", "x".repeat(len).parse().unwrap());
            sender.clone().ready().await.unwrap().send_request(large, true).unwrap().0.await.unwrap()
        };
        let response = with(60_000).await;
        assert_eq!((response.status(), response.headers()["x-large"].len()), (StatusCode::OK, 60_000));
        assert_eq!(with(70_000).await.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(with(10).await.status(), StatusCode::OK);
    })
    .await;
}

// Frame by frame.

/// A connection from a client that says what the test has it say.
struct Scripted {
    script: Script,
    connection: Connection<Script>,
    accepted: Vec<Accepted>,
    over: Poll<Result<(), Error>>,
}

impl Scripted {
    fn new(streams: u32) -> Self {
        let script = Script::new(Vec::new(), usize::MAX);
        let connection = Connection::new(script.clone(), streams, HEAD_MAX);
        let mut this = Self { script, connection, accepted: Vec::new(), over: Poll::Pending };
        this.hears(&greeting(&[]));
        this
    }

    /// What we say to these bytes: kind, stream and the first number of each frame.
    fn hears(&mut self, bytes: &[u8]) -> Vec<(u8, u32, u32)> {
        self.answers(bytes).iter().map(|frame| (frame.kind, frame.stream, frame.number())).collect()
    }

    /// The same, and all of it.
    fn answers(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.script.feed(bytes);
        let cx = &mut Context::from_waker(Waker::noop());
        self.over = turn(&mut self.connection, cx, |new| self.accepted.push(new));
        self.connection.driver.core.borrow().check();
        self.script.frames()
    }
}

fn open(number: u32) -> Vec<u8> {
    put(kind::HEADERS, flag::END_HEADERS, number, &block(POST))
}

/// Guards: what is beyond is refused, counts for nothing, and there is room for as many later.
#[test]
fn more_streams_than_allowed() {
    let mut client = Scripted::new(1);
    let data = put(kind::DATA, flag::END_STREAM, 3, b"data");
    let said = client.hears(&[open(1), open(3), data].concat());
    assert_eq!(said, [(kind::RST_STREAM, 3, Reason::REFUSED_STREAM.0)]);
    client.accepted.clear();
    assert_eq!(client.hears(&open(5)), [(kind::RST_STREAM, 1, Reason::CANCEL.0)]);
    assert_eq!((client.accepted.len(), client.over), (1, Poll::Pending));
}

#[test]
fn a_connection_that_is_cut_says_why() {
    let mut client = Scripted::new(10);
    client.hears(&open(1));
    client.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let why = Error::Breach(Reason::ENHANCE_YOUR_CALM);
    assert_eq!(client.accepted[0].respond.poll_error(&Context::from_waker(Waker::noop())), Poll::Ready(why));
    assert_eq!(client.hears(&[]), [(kind::GOAWAY, 0, 1)]);
    assert_eq!(client.over, Poll::Ready(Err(why)));
}

/// Guards: a client that has been told to go may open streams until it has heard of it; those beyond are not looked at,
/// and the connection ends with the last of the others.
#[test]
fn the_last_stream_of_a_client_that_goes() {
    let mut client = Scripted::new(10);
    client.connection.graceful_shutdown();
    let told = client.hears(&[]);
    assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), [kind::GOAWAY, kind::PING]);
    assert_eq!(told[0].2, u32::MAX >> 1);
    let pong = put(kind::PING, flag::ACK, 0, crate::http2::server::GOING);
    let said = client.hears(&[open(1), pong, open(3), put(kind::DATA, 0, 3, b"data")].concat());
    assert_eq!(said, [(kind::GOAWAY, 0, 1)]);
    assert_eq!((client.accepted.len(), client.over), (1, Poll::Pending));
    let mut accepted = client.accepted.pop().unwrap();
    accepted.respond.send_response(&http::Response::new(()), true).unwrap();
    drop(accepted);
    assert_eq!(client.hears(&[])[1..], [(kind::RST_STREAM, 1, Reason::NO_ERROR.0)]);
    assert_eq!(client.over, Poll::Ready(Ok(())));
}

/// Guards: a client that has been told to go, and does what it may not do, hears so.
#[test]
fn a_connection_that_ends_well_may_end_badly() {
    for cut in [true, false] {
        let mut client = Scripted::new(10);
        client.connection.graceful_shutdown();
        let pong = put(kind::PING, flag::ACK, 0, crate::http2::server::GOING);
        client.hears(&[open(1), pong].concat());
        let (reason, bytes) = if cut {
            client.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            (Reason::ENHANCE_YOUR_CALM, Vec::new())
        } else {
            (Reason::PROTOCOL_ERROR, put(kind::PING, 0, 1, b"anything"))
        };
        let said = client.answers(&bytes);
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].kind, &said[0].payload[4..]), (kind::GOAWAY, &reason.0.to_be_bytes()[..]));
        assert_eq!(client.over, Poll::Ready(Err(Error::Breach(reason))));
    }
}

/// Guards: trailers arrive whole or not at all.
#[test]
fn trailers_that_are_too_large() {
    let mut client = Scripted::new(10);
    client.hears(&open(1));
    let large = "x".repeat(HEAD_MAX);
    let mut trailers = vec![0; frame::HEAD];
    trailers.extend(block(&[("x-first", "here"), ("x-large", &large), ("x-last", "here")]));
    frame::finish_headers(&mut trailers, 0, 1, true);
    assert_eq!(client.hears(&trailers), [(kind::RST_STREAM, 1, Reason::PROTOCOL_ERROR.0)]);
    let body = &mut client.accepted[0].body;
    let error = Error::Breach(Reason::PROTOCOL_ERROR);
    assert_eq!(body.poll_data(&Context::from_waker(Waker::noop())), Poll::Ready(Some(Err(error))));
}
