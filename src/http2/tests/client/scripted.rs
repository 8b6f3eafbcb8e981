//! An app that says frame by frame what the test has it say.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Method, Request};

use super::super::script::{self, Frame, OK, Script, block, put, put_number, put_settings};
use super::super::support::{HEAD_MAX, Pieces, one_trailer, request, send};
use crate::http2::client::{self, Connection, SendRequest};
use crate::http2::frame::{flag, kind, setting};
use crate::http2::{Error, Reason};

/// A connection to an app that says what the test has it say.
struct Scripted {
    script: Script,
    sender: SendRequest,
    connection: Connection<Script>,
}

impl Scripted {
    fn new(settings: &[(u16, u32)]) -> Self {
        let script = Script::new(Vec::new(), usize::MAX);
        let (sender, connection) = client::connect(script.clone(), 1 << 20, HEAD_MAX);
        let mut this = Self { script, sender, connection };
        this.hears(&put_settings(settings));
        this
    }

    /// What we say to these bytes.
    fn hears(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.script.feed(bytes);
        let _ = pin!(&mut self.connection).poll(&mut Context::from_waker(Waker::noop()));
        self.sender.core.borrow().check();
        self.script.frames()
    }

    fn says(&mut self) -> Vec<Frame> {
        self.hears(&[])
    }
}

/// The numbers of the streams that are opened.
fn opened(frames: &[Frame]) -> Vec<u32> {
    frames.iter().filter(|frame| frame.kind == kind::HEADERS).map(|frame| frame.stream).collect()
}

fn max_streams(max: u32) -> Vec<u8> {
    put_settings(&[(setting::MAX_CONCURRENT_STREAMS, max)])
}

#[test]
fn none_one_and_another_number_of_streams() {
    let mut app = Scripted::new(&[(setting::MAX_CONCURRENT_STREAMS, 0)]);
    let mut streams: Vec<_> =
        (0..6).map(|_| Some(app.sender.send_request(&request("/"), true).unwrap())).collect();
    assert!(opened(&app.says()).is_empty());
    assert_eq!(opened(&app.hears(&max_streams(1))), [1]);
    // One that is given up before its turn is never seen.
    streams[1] = None;
    assert!(opened(&app.says()).is_empty());
    let ok = |number| put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, number, &block(OK));
    assert_eq!(opened(&app.hears(&ok(1))), [3]);
    assert_eq!(opened(&app.hears(&max_streams(3))), [5, 7]);
    // Fewer than there are: those go on.
    assert!(opened(&app.hears(&max_streams(2))).is_empty());
    assert_eq!(opened(&app.hears(&[ok(3), ok(5)].concat())), [9]);
    app.hears(&[ok(7), ok(9)].concat());
    assert_eq!(
        opened(&{
            streams.push(app.sender.send_request(&request("/"), true).ok());
            app.says()
        }),
        [11]
    );
    streams.clear();
    assert!(app.sender.core.borrow().slots.is_empty());
}

/// Guards: a body that has no bytes does not end, or bring its trailers, before its request has been sent.
#[test]
fn a_request_that_waits_keeps_its_end() {
    let mut cx = Context::from_waker(Waker::noop());
    for trailers in [None, Some(one_trailer("x-end", "here"))] {
        let mut app = Scripted::new(&[(setting::MAX_CONCURRENT_STREAMS, 0)]);
        let (_incoming, outgoing) = app.sender.send_request(&request("/"), false).unwrap();
        let kinds: &[_] = if trailers.is_some() { &[kind::HEADERS; 2] } else { &[kind::HEADERS, kind::DATA] };
        let mut sending = pin!(send(Pieces::new(&Bytes::new(), 1, trailers), outgoing));
        assert!(sending.as_mut().poll(&mut cx).is_pending());
        assert_eq!(app.says(), []);
        let mut said = app.hears(&max_streams(1));
        assert_eq!(sending.as_mut().poll(&mut cx), Poll::Ready(true));
        said.extend(app.says());
        said.retain(|frame| frame.kind != kind::SETTINGS);
        assert_eq!(said.iter().map(|frame| frame.kind).collect::<Vec<_>>(), kinds);
        assert!(said.iter().all(|frame| frame.stream == 1));
        assert!(said[1].has(flag::END_STREAM));
    }
}

/// Guards: a GOAWAY that leaves out what has been sent makes no room for what waits.
#[test]
fn nothing_is_opened_once_the_app_goes() {
    let mut app = Scripted::new(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    let mut streams: Vec<_> = (0..3).map(|_| app.sender.send_request(&request("/"), true).unwrap()).collect();
    assert_eq!(opened(&app.says()), [1]);
    let said = app.hears(&put(kind::GOAWAY, 0, 0, &[0; 8]));
    assert!(opened(&said).is_empty());
    for (incoming, _) in &mut streams {
        let head = incoming.poll_head(&Context::from_waker(Waker::noop()));
        assert!(matches!(head, Poll::Ready(Err(Error::Unprocessed(Reason::NO_ERROR)))));
    }
}

/// Guards: RFC 9113, section 8.1.1: the length that there would be is no length of this response, however it ends.
#[test]
fn a_response_without_a_body_may_end_with_an_empty_frame() {
    for (method, status) in [(Method::HEAD, "200"), (Method::GET, "304")] {
        let mut app = Scripted::new(&[]);
        let request = Request::builder().method(&method).uri("http://shop/").body(()).unwrap();
        let (mut incoming, _outgoing) = app.sender.send_request(&request, true).unwrap();
        let head = block(&[(":status", status), ("content-length", "5")]);
        app.hears(&put(kind::HEADERS, flag::END_HEADERS, 1, &head));
        app.hears(&put(kind::DATA, flag::END_STREAM, 1, b""));
        let cx = &Context::from_waker(Waker::noop());
        assert!(matches!(incoming.poll_head(cx), Poll::Ready(Ok(_))));
        assert!(matches!(incoming.poll_data(cx), Poll::Ready(None)), "{method} {status}");
        let (mut incoming, _outgoing) = app.sender.send_request(&request, true).unwrap();
        app.hears(&put(kind::HEADERS, flag::END_HEADERS, 3, &head));
        let said = app.hears(&put(kind::DATA, flag::END_STREAM, 3, b"12345"));
        assert_eq!((said[0].kind, said[0].stream), (kind::RST_STREAM, 3), "{method} {status}");
        assert!(matches!(incoming.poll_head(cx), Poll::Ready(Ok(_))));
    }
}

/// Guards: a window that is opened by the settings alone wakes whoever waits for it, a window that is not open does not
/// let anything through.
#[test]
fn a_window_of_nothing() {
    let mut app = Scripted::new(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let (_incoming, mut outgoing) = app.sender.send_request(&request("/"), false).unwrap();
    let (woken, waker) = script::woken();
    woken.take();
    assert!(outgoing.poll_room(&Context::from_waker(&waker)).is_pending());
    app.hears(&put_number(kind::WINDOW_UPDATE, 0, 100));
    assert!(!woken.take());
    app.hears(&put_settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]));
    assert!(woken.take());
    assert_eq!(outgoing.poll_room(&Context::from_waker(&waker)), Poll::Ready(Ok(1)));
    app.hears(&put_settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]));
    assert!(outgoing.poll_room(&Context::from_waker(&waker)).is_pending());
}
