//! What we receive.

use std::task::{Context, Poll};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::script::{Script, Task, put, run, woken};
use super::super::support::pattern;
use super::{Opened, cuts, opened, role, size};
use crate::http2::core::Role;
use crate::http2::frame::{self, PAYLOAD_MAX, flag, kind};
use crate::http2::{CONNECTION_WINDOW, RecvStream, STREAM_WINDOW};

/// What becomes of bodies that are sent to us.
#[derive(Debug, Clone)]
enum Move {
    /// So much of a stream is sent, with so much padding, if it may be.
    Send(usize, usize, Option<u8>),
    /// A stream is looked at.
    Look(usize),
    /// So much of what has been seen is passed on.
    Release(usize, usize),
    /// So much of what we say is read.
    Read(usize),
}

fn step() -> impl Strategy<Value = Move> {
    let stream = || 0..3_usize;
    let len = || prop_oneof![select(vec![0, 1, 100, 16_384]), 0..16_384_usize];
    prop_oneof![
        6 => (stream(), len(), proptest::option::of(any::<u8>())).prop_map(|(at, len, pad)| Move::Send(at, len, pad)),
        3 => stream().prop_map(Move::Look),
        3 => (stream(), 0..70_000_usize).prop_map(|(at, len)| Move::Release(at, len)),
        1 => (1..1_000_usize).prop_map(Move::Read),
    ]
}

/// A body that is sent to us.
struct Incoming {
    stream: RecvStream,
    body: bytes::Bytes,
    sent: usize,
    window: i64,
    got: Vec<u8>,
    unreleased: usize,
    ended: bool,
}

/// Somebody who sends bodies, and keeps to the windows; and whoever reads them.
struct Giver {
    script: Script,
    streams: Vec<Incoming>,
    window: i64,
    tasks: Vec<Task>,
}

impl Giver {
    fn step(&mut self, step: &Move) {
        match *step {
            Move::Send(at, len, pad) => self.send(at % self.streams.len(), len, pad),
            Move::Look(at) => self.look(at % self.streams.len()),
            Move::Release(at, len) => {
                let at = at % self.streams.len();
                let stream = &mut self.streams[at];
                let len = len.min(stream.unreleased);
                stream.unreleased -= len;
                stream.stream.release(len);
            }
            Move::Read(bytes) => self.script.allow(bytes),
        }
        run(&mut self.tasks);
        for frame in self.script.frames() {
            match (frame.kind, frame.stream) {
                (kind::WINDOW_UPDATE, 0) => self.window += i64::from(frame.number()),
                (kind::WINDOW_UPDATE, number) => {
                    self.streams[number as usize / 2].window += i64::from(frame.number());
                }
                (kind::RST_STREAM | kind::GOAWAY, _) => panic!("{frame:?}"),
                _ => {}
            }
        }
    }

    fn send(&mut self, at: usize, len: usize, pad: Option<u8>) {
        let stream = &mut self.streams[at];
        let padding = pad.map_or(0, |pad| 1 + usize::from(pad));
        let window = usize::try_from(stream.window.min(self.window)).unwrap_or(0).min(PAYLOAD_MAX);
        if stream.sent == stream.body.len() || padding > window {
            return;
        }
        let len = len.min(stream.body.len() - stream.sent).min(window - padding);
        let data = &stream.body[stream.sent..stream.sent + len];
        stream.sent += len;
        let end = if stream.sent == stream.body.len() { flag::END_STREAM } else { 0 };
        let padded = [&pad.into_iter().collect::<Vec<_>>(), data, &[0; 256][..padding.saturating_sub(1)]];
        let flags = end | if pad.is_some() { flag::PADDED } else { 0 };
        stream.window -= (len + padding) as i64;
        self.window -= (len + padding) as i64;
        self.script.feed(&put(kind::DATA, flags, at as u32 * 2 + 1, &padded.concat()));
    }

    /// Looks at a stream; it is woken if there is nothing, and something comes.
    fn look(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let (woken, waker) = woken();
        woken.take();
        match stream.stream.poll_data(&Context::from_waker(&waker)) {
            Poll::Ready(Some(data)) => {
                let data = data.unwrap();
                stream.got.extend_from_slice(&data);
                stream.unreleased += data.len();
            }
            Poll::Ready(None) => stream.ended = true,
            Poll::Pending => {
                assert!(!woken.take());
                self.send(at, 1, None);
                run(&mut self.tasks);
                let stream = &self.streams[at];
                assert!(woken.take() || stream.window.min(self.window) <= 0 || stream.ended);
            }
        }
    }
}

fn receive_all(role: Role, bodies: &[usize], cuts: Vec<usize>, steps: &[Move]) {
    let Opened { script, tasks, streams, unannounced } = opened(role, bodies.len(), &[], cuts);
    let streams = streams.into_iter().zip(bodies);
    let (streams, senders): (Vec<_>, Vec<_>) = streams
        .map(|((stream, sender), &len)| {
            let (body, window) = (pattern(len), STREAM_WINDOW.into());
            let got = Vec::new();
            (Incoming { stream, body, sent: 0, window, got, unreleased: 0, ended: len == 0 }, sender)
        })
        .unzip();
    let mut giver = Giver { script, streams, window: frame::WINDOW.into(), tasks };
    steps.iter().for_each(|step| giver.step(step));
    giver.step(&Move::Read(usize::MAX));
    // As many rounds as it takes when each moves a window's quarter.
    for _ in 0..40 {
        for at in 0..bodies.len() {
            for step in [Move::Send(at, PAYLOAD_MAX, None), Move::Look(at), Move::Release(at, usize::MAX)] {
                giver.step(&step);
            }
        }
    }
    for (stream, &len) in giver.streams.iter().zip(bodies) {
        assert!(stream.ended && stream.got == pattern(len), "{} bytes of {len}", stream.got.len());
    }
    assert_eq!(giver.window + i64::from(unannounced()), i64::from(CONNECTION_WINDOW));
    drop(senders);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn bodies_that_we_receive(
        role in role(),
        bodies in vec(size(), 1..4),
        cuts in cuts(),
        steps in vec(step(), 0..100),
    ) {
        receive_all(role, &bodies, cuts, &steps);
    }
}
