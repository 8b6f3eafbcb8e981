//! What we send.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::script::{Frame, Script, Task, put_number, put_settings, run};
use super::super::support::{Pieces, pattern, send};
use super::{Opened, cuts, opened, role, size};
use crate::http2::Error;
use crate::http2::core::Role;
use crate::http2::frame::{self, PAYLOAD_MAX, flag, kind, setting};

/// What somebody does who is sent bodies.
#[derive(Debug, Clone)]
enum Grant {
    /// Opens the window of a stream by so much.
    Stream(usize, u32),
    /// Or that of all of them.
    Connection(u32),
    /// Says another window for each of them.
    Setting(u32),
    /// Reads so much.
    Read(usize),
}

fn grant() -> impl Strategy<Value = Grant> {
    let by = || prop_oneof![select(vec![1, 2, 100, 16_384, 65_535]), 1..50_000_u32];
    prop_oneof![
        4 => (0..3_usize, by()).prop_map(|(stream, by)| Grant::Stream(stream, by)),
        4 => by().prop_map(Grant::Connection),
        2 => select(vec![0, 1, 100, 16_384, 65_535, 100_000]).prop_map(Grant::Setting),
        4 => (1..60_000_usize).prop_map(Grant::Read),
    ]
}

/// What has come of a body, and how much more may.
#[derive(Debug, Default)]
struct Taken {
    window: i64,
    bytes: Vec<u8>,
    ended: bool,
}

/// Somebody who is sent bodies, and counts.
struct Taker {
    script: Script,
    streams: Vec<Taken>,
    window: i64,
    initial: i64,
    /// What has been said of it, and not been agreed on yet.
    settings: VecDeque<u32>,
}

impl Taker {
    fn new(script: Script, streams: usize, initial: u32) -> Self {
        let initial = i64::from(initial);
        let streams = (0..streams).map(|_| Taken { window: initial, ..Taken::default() }).collect();
        let settings = VecDeque::from([initial as u32]);
        Self { script, streams, window: frame::WINDOW.into(), initial, settings }
    }

    fn grant(&mut self, grant: &Grant) {
        match *grant {
            Grant::Stream(stream, by) => {
                let stream = stream % self.streams.len();
                self.streams[stream].window += i64::from(by);
                self.script.feed(&put_number(kind::WINDOW_UPDATE, stream as u32 * 2 + 1, by));
            }
            Grant::Connection(by) => {
                self.window += i64::from(by);
                self.script.feed(&put_number(kind::WINDOW_UPDATE, 0, by));
            }
            Grant::Setting(window) => {
                self.settings.push_back(window);
                self.script.feed(&put_settings(&[(setting::INITIAL_WINDOW_SIZE, window)]));
            }
            Grant::Read(bytes) => self.script.allow(bytes),
        }
    }

    fn take(&mut self) {
        for frame in self.script.frames() {
            match frame.kind {
                kind::DATA => self.data(&frame),
                kind::SETTINGS if frame.has(flag::ACK) => {
                    let agreed = i64::from(self.settings.pop_front().unwrap());
                    let by = agreed - std::mem::replace(&mut self.initial, agreed);
                    self.streams.iter_mut().for_each(|stream| stream.window += by);
                }
                kind::RST_STREAM | kind::GOAWAY => panic!("{frame:?}"),
                _ => {}
            }
        }
    }

    fn data(&mut self, frame: &Frame) {
        let len = frame.payload.len() as i64;
        let stream = &mut self.streams[frame.stream as usize / 2];
        stream.window -= len;
        self.window -= len;
        assert!(len == 0 || (stream.window >= 0 && self.window >= 0), "more than there is room for");
        assert!(!stream.ended && frame.payload.len() <= PAYLOAD_MAX);
        stream.bytes.extend_from_slice(&frame.payload);
        stream.ended = frame.has(flag::END_STREAM);
    }

    /// Nobody has anything to do, though there would be.
    fn check_nobody_waits(&self) {
        // More would be taken: all that was to be written has been.
        if self.script.has_room() && self.window > 0 {
            for (at, stream) in self.streams.iter().enumerate() {
                assert!(stream.ended || stream.window <= 0, "stream {at} waits for what is there");
            }
        }
    }
}

fn send_all(role: Role, bodies: &[(usize, usize)], initial: u32, cuts: Vec<usize>, grants: &[Grant]) {
    let settings = [(setting::INITIAL_WINDOW_SIZE, initial)];
    let Opened { script, mut tasks, streams, .. } = opened(role, bodies.len(), &settings, cuts);
    let mut receiving = Vec::new();
    for ((incoming, outgoing), &(len, piece)) in streams.into_iter().zip(bodies) {
        receiving.push(incoming);
        let body = Pieces::new(&pattern(len), piece, None);
        tasks.push(Task::new(async { assert!(send(body, outgoing).await) }));
    }
    let mut taker = Taker::new(script, bodies.len(), initial);
    let mut turn = |grant: &Grant| {
        taker.grant(grant);
        run(&mut tasks);
        taker.take();
        taker.check_nobody_waits();
    };
    grants.iter().for_each(&mut turn);
    // In the end there is room for everything.
    turn(&Grant::Read(usize::MAX));
    turn(&Grant::Setting(200_000));
    turn(&Grant::Connection(1 << 20));
    assert!(tasks[1..].iter().all(Task::is_over));
    for (stream, &(len, _)) in taker.streams.iter().zip(bodies) {
        assert!(stream.ended && stream.bytes == pattern(len), "{} bytes of {len}", stream.bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn bodies_that_we_send(
        role in role(),
        bodies in vec((size(), 1_000..70_000_usize), 1..4),
        initial in select(vec![0, 1, 1_000, 65_535, 131_072]),
        cuts in cuts(),
        grants in vec(grant(), 0..60),
    ) {
        send_all(role, &bodies, initial, cuts, &grants);
    }
}

/// Guards: the end of a connection that has failed reaches whoever waits for room.
#[test]
fn whoever_waits_for_room_hears_of_the_end() {
    let Opened { script, mut tasks, streams, .. } =
        opened(Role::Server, 1, &[(setting::INITIAL_WINDOW_SIZE, 0)], vec![usize::MAX]);
    let [(_incoming, mut outgoing)] = <[_; 1]>::try_from(streams).unwrap();
    let error: Rc<RefCell<Option<Error>>> = Rc::default();
    let heard = Rc::clone(&error);
    let mut waiting = vec![Task::new(async move {
        *heard.borrow_mut() = std::future::poll_fn(|cx| outgoing.poll_room(cx)).await.err();
    })];
    run(&mut waiting);
    assert!(!waiting[0].is_over());
    script.end();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut tasks))).unwrap_err();
    run(&mut waiting);
    assert_eq!(error.take(), Some(Error::Gone(std::io::ErrorKind::UnexpectedEof)));
}
