//! Whatever comes, and whatever is done with the handles: nothing panics, what we say makes sense, and in the end nothing
//! is left of any stream.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use http::Response;
use proptest::collection::vec;
use proptest::prelude::*;

use super::script::{Frame, Script, frames_of, greeting, put, put_settings, turn};
use super::support::{HEAD_MAX, one_trailer, request};
use crate::http2::core::{Core, Role};
use crate::http2::frame::{PAYLOAD_MAX, PREFACE, WINDOW, flag, kind};
use crate::http2::server::{Accepted, Connection};
use crate::http2::{Reason, RecvStream, SendStream, client};

mod peer;
mod steps;

use peer::Peer;
use steps::{Act, Op, Step, script};

/// Streams that a client may have open.
const STREAMS: u32 = 4;

enum Side {
    Server(Box<Connection<Script>>),
    Client(Box<client::Connection<Script>>, Option<client::SendRequest>),
}

/// The handles of a stream that are left.
#[derive(Default)]
struct Stream {
    incoming: Option<RecvStream>,
    outgoing: Option<SendStream>,
    beside: Option<SendStream>,
    /// Handed out and not released.
    unreleased: usize,
}

struct World {
    script: Script,
    side: Side,
    core: Weak<RefCell<Core>>,
    window: u32,
    streams: Vec<Stream>,
    /// The streams that the client has opened, whoever that is.
    opened: u32,
    fed: Vec<u8>,
    said: Said,
    over: bool,
}

impl World {
    fn new(role: Role, window: u32, cuts: Vec<usize>, greeted: bool) -> Self {
        let script = Script::new(cuts, 0);
        let (side, core, window, hello) = match role {
            Role::Server => {
                let connection = Box::new(Connection::new(script.clone(), STREAMS, HEAD_MAX));
                let core = Rc::downgrade(&connection.driver.core);
                (Side::Server(connection), core, crate::http2::CONNECTION_WINDOW, greeting(&[]))
            }
            Role::Client => {
                let (sender, connection) = client::connect(script.clone(), window, HEAD_MAX);
                let core = Rc::downgrade(&sender.core);
                (Side::Client(Box::new(connection), Some(sender)), core, window, put_settings(&[]))
            }
        };
        let (streams, fed, said) = (Vec::new(), Vec::new(), Said::default());
        let mut this = Self { script, side, core, window, streams, opened: 0, fed, said, over: false };
        if greeted {
            this.feed(&hello);
        }
        this
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.fed.extend_from_slice(bytes);
        self.script.feed(bytes);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Peer(peer) => self.peer(peer),
            Step::Op(at, op) if !self.streams.is_empty() => {
                let at = at % self.streams.len();
                self.streams[at].op(op);
            }
            Step::Act(act) => self.act(act),
            Step::Allow(bytes) => self.script.allow(*bytes),
            Step::Op(..) | Step::Turn => self.turn(),
        }
        self.check();
    }

    fn peer(&mut self, peer: &Peer) {
        match (peer, &self.side) {
            // An app opens nothing.
            (Peer::Open { .. }, Side::Client(..)) => return,
            // There has been none.
            (peer, _) if self.opened == 0 && peer.has_stream() => return,
            _ => {}
        }
        let bytes = peer.bytes(self.opened);
        self.opened += u32::from(matches!(peer, Peer::Open { .. }));
        self.feed(&bytes);
    }

    fn act(&mut self, act: &Act) {
        match (&mut self.side, *act) {
            (Side::Server(connection), Act::Go) => connection.graceful_shutdown(),
            (Side::Server(connection), Act::Cut(reason)) => connection.abrupt_shutdown(Reason(reason)),
            (Side::Server(connection), Act::Ping) => connection.ping(),
            (Side::Client(_, Some(sender)), Act::Ask { end, head }) => {
                let mut request = request("/");
                if head {
                    *request.method_mut() = http::Method::HEAD;
                }
                if let Ok((incoming, outgoing)) = sender.send_request(&request, end) {
                    self.opened += 1;
                    self.streams.push(Stream::new(incoming, outgoing));
                }
            }
            (Side::Client(_, sender), Act::Cut(_)) => *sender = None,
            _ => {}
        }
    }

    fn turn(&mut self) {
        if self.over {
            return;
        }
        let cx = &mut Context::from_waker(Waker::noop());
        self.over = match &mut self.side {
            Side::Server(connection) => turn(connection, cx, |Accepted { body, respond, .. }| {
                self.streams.push(Stream::new(body, respond));
            }),
            Side::Client(connection, _) => Pin::new(connection).poll(cx),
        }
        .is_ready();
        for frame in self.script.frames() {
            self.said.take(&frame);
        }
    }

    fn check(&self) {
        // The client's is gone with its last handle.
        if let Some(core) = self.core.upgrade() {
            core.borrow().check();
        }
    }

    fn drop_handles(&mut self, last_first: bool) {
        while !self.streams.is_empty() {
            let at = if last_first { self.streams.len() - 1 } else { 0 };
            drop(self.streams.swap_remove(at));
            self.check();
        }
    }

    /// Ends everything, and looks at what is left.
    fn finish(mut self, last_first: bool) {
        self.script.allow(usize::MAX);
        for _ in 0..3 {
            self.turn();
            self.drop_handles(last_first);
        }
        self.turn();
        self.check();
        self.check_window();
        self.script.end();
        if let Side::Client(_, sender) = &mut self.side {
            *sender = None;
        }
        self.turn();
        assert!(self.over);
        if let Side::Server(connection) = &mut self.side {
            // Those that came before a breach can still be had.
            let _ = turn(connection, &mut Context::from_waker(Waker::noop()), drop);
        }
        let core = self.core.upgrade().unwrap();
        core.borrow().check();
        assert!(core.borrow().slots.is_empty(), "{:?}", core.borrow().slots);
    }

    /// What came has been announced again, as far as it is worth a frame.
    fn check_window(&self) {
        let Some(core) = self.core.upgrade() else { return };
        let core = core.borrow();
        if core.gone.is_some() || self.over {
            return;
        }
        assert!(core.slots.is_empty(), "{:?}", core.slots);
        if !self.script.is_read() {
            return;
        }
        let came = frames_of(self.fed.strip_prefix(PREFACE).unwrap_or(&self.fed)).0;
        let came =
            came.iter().filter(|frame| frame.kind == kind::DATA).map(|frame| frame.payload.len() as u64);
        let window = u64::from(WINDOW) + self.said.announced - came.sum::<u64>();
        assert_eq!(window + u64::from(core.unannounced()), u64::from(self.window));
    }
}

impl Stream {
    fn new(incoming: RecvStream, outgoing: SendStream) -> Self {
        Self { incoming: Some(incoming), outgoing: Some(outgoing), ..Self::default() }
    }

    fn op(&mut self, op: &Op) {
        let cx = &Context::from_waker(Waker::noop());
        match (op, &mut self.incoming, &mut self.outgoing) {
            (Op::Look, Some(incoming), _) => {
                if let Poll::Ready(Some(Ok(data))) = incoming.poll_data(cx) {
                    assert!(!data.is_empty());
                    self.unreleased += data.len();
                }
                let _ = (incoming.is_end_stream(), incoming.take_continue());
            }
            (Op::Release(len), Some(incoming), _) => {
                let len = (*len).min(self.unreleased);
                self.unreleased -= len;
                incoming.release(len);
            }
            (Op::Head, Some(incoming), _) => drop(incoming.poll_head(cx)),
            (Op::TakeTrailers, Some(incoming), _) => drop(incoming.take_trailers()),
            (Op::Respond(end), _, Some(outgoing)) => drop(outgoing.send_response(&Response::new(()), *end)),
            (Op::Continue, _, Some(outgoing)) => drop(outgoing.send_continue()),
            (Op::Send(len, end), _, Some(outgoing)) => {
                if let Poll::Ready(Ok(room)) = outgoing.poll_room(cx) {
                    outgoing.send_data(&vec![0; (*len).min(room)], *end);
                }
            }
            (Op::Trailers, _, Some(outgoing)) => drop(outgoing.send_trailers(&one_trailer("x-end", "here"))),
            (Op::Reset(code), _, Some(outgoing)) => outgoing.reset(Reason(*code)),
            (Op::Error, _, Some(outgoing)) => drop((outgoing.poll_error(cx), outgoing.poll_open(cx))),
            (Op::Beside, _, Some(outgoing)) => self.beside = Some(outgoing.beside()),
            (Op::DropIncoming, incoming, _) => drop(incoming.take()),
            (Op::DropOutgoing, _, outgoing) => drop(outgoing.take()),
            (Op::DropBeside, ..) => drop(self.beside.take()),
            _ => {}
        }
    }
}

/// What we have said.
#[derive(Default)]
struct Said {
    /// Whether we have ended, and reset, each stream.
    streams: BTreeMap<u32, (bool, bool)>,
    /// How much of the connection's window has been announced.
    announced: u64,
}

impl Said {
    fn take(&mut self, frame: &Frame) {
        assert!(frame.payload.len() <= PAYLOAD_MAX);
        let (ended, reset) = self.streams.entry(frame.stream).or_default();
        match frame.kind {
            kind::HEADERS | kind::DATA => {
                assert!(frame.stream > 0 && !*ended && !*reset, "{} {}", frame.kind, frame.stream);
                *ended = frame.has(flag::END_STREAM);
            }
            kind::RST_STREAM => {
                assert!(frame.stream > 0 && !std::mem::replace(reset, true), "reset of {}", frame.stream);
            }
            kind::WINDOW_UPDATE => {
                assert!(frame.number() > 0 && !*reset);
                self.announced += if frame.stream == 0 { frame.number().into() } else { 0 };
            }
            kind::SETTINGS | kind::PING | kind::GOAWAY => assert_eq!(frame.stream, 0),
            _ => panic!("{frame:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_server_gets_over_anything(cuts in steps::cuts(), steps in script(Role::Server), last_first: bool) {
        let mut world = World::new(Role::Server, 0, cuts, true);
        steps.iter().for_each(|step| world.step(step));
        world.finish(last_first);
    }

    #[test]
    fn a_client_gets_over_anything(
        window in 65_535..200_000_u32,
        cuts in steps::cuts(),
        steps in script(Role::Client),
        last_first: bool,
    ) {
        let mut world = World::new(Role::Client, window, cuts, true);
        steps.iter().for_each(|step| world.step(step));
        world.finish(last_first);
    }

    #[test]
    fn bytes_that_mean_nothing(
        server: bool,
        greeted: bool,
        frames in vec((0..12_u8, any::<u8>(), 0..4_u32, vec(any::<u8>(), 0..40)), 0..4),
        bytes in vec(any::<u8>(), 0..200),
        cuts in steps::cuts(),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let mut world = World::new(role, 65_535, cuts, greeted);
        // Those can be taken apart, at least.
        for (kind, flags, stream, payload) in frames {
            world.feed(&put(kind, flags, stream, &payload));
        }
        world.feed(&bytes);
        world.turn();
        world.check();
        world.finish(false);
    }
}
