//! However frames are cut into chunks and whenever the goodbye comes: what goes out is whole.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TEXT: u8 = 0x1;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const FIN: u8 = 0x80;
const WRITTEN: Written = Written { to_client: true, to_app: true };
const BLOCKED: Written = Written { to_client: false, to_app: false };
const MILLI: Duration = Duration::from_millis(1);

/// A frame as `from` sends it, with a payload that looks like frames itself.
fn frame(from: Side, first: u8, payload: usize) -> Vec<u8> {
    let mask = if from == Side::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload {
        0..126 => bytes.push(mask | payload as u8),
        126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend((payload as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((payload as u64).to_be_bytes());
        }
    }
    if from == Side::Client {
        bytes.extend([0x88, 0x80, 0x88, 0x02]);
    }
    bytes.extend([0x88, 0x00, 0x81, 0x7f].into_iter().cycle().take(payload));
    bytes
}

fn message(from: Side) -> Vec<u8> {
    frame(from, FIN | TEXT, 5)
}

/// Whether this is a Close 1001 as `from` has to send it.
fn is_going_away(from: Side, bytes: &[u8]) -> bool {
    match (from, bytes) {
        (Side::App, bytes) => *bytes == [0x88, 2, 0x03, 0xe9],
        (Side::Client, &[0x88, 0x82, a, b, _, _, high, low]) => [high ^ a, low ^ b] == [0x03, 0xe9],
        _ => false,
    }
}

/// A WebSocket with the bytes that came out of it on each side.
#[derive(Default)]
struct Rig {
    socket: WebSocket,
    to_client: Vec<u8>,
    to_app: Vec<u8>,
}

impl Rig {
    fn out(&mut self, to: Side) -> &mut Vec<u8> {
        match to {
            Side::Client => &mut self.to_client,
            Side::App => &mut self.to_app,
        }
    }

    fn pass(&mut self, from: Side, chunk: &[u8]) {
        let step = self.socket.pass(from, chunk);
        let out = self.out(from.other());
        out.extend(&chunk[..step.pass]);
        out.extend(step.inject.iter().flat_map(|close| close.as_ref()));
    }

    fn look(&mut self, written: Written, now: Instant) {
        let sends = self.socket.look(written, now);
        self.to_client.extend(sends.to_client.iter().flat_map(|close| close.as_ref()));
        self.to_app.extend(sends.to_app.iter().flat_map(|close| close.as_ref()));
    }

    fn take(&mut self, to: Side) -> Vec<u8> {
        std::mem::take(self.out(to))
    }

    /// Fails unless exactly our Close has gone to this side since the last look.
    #[track_caller]
    fn expect_close(&mut self, to: Side) {
        let out = self.take(to);
        assert!(is_going_away(to.other(), &out), "to {to:?}: {out:02x?}");
    }

    #[track_caller]
    fn expect_nothing(&mut self) {
        assert_eq!((self.take(Side::Client), self.take(Side::App)), (Vec::new(), Vec::new()));
    }

    /// One that was told at the returned instant, with the client's Close already out.
    fn told() -> (Self, Instant) {
        let (mut rig, now) = (Self::default(), Instant::now());
        rig.socket.tell();
        rig.look(WRITTEN, now);
        rig.expect_close(Side::Client);
        rig.look(WRITTEN, now);
        rig.expect_nothing();
        (rig, now)
    }
}

#[test]
fn both_answer() {
    let (mut rig, now) = Rig::told();
    assert!(rig.socket.has_said_goodbye() && !rig.socket.is_over_for_client());
    rig.pass(Side::App, &message(Side::App));
    rig.expect_nothing();
    let said = [message(Side::Client), frame(Side::Client, FIN | CLOSE, 2)].concat();
    rig.pass(Side::Client, &said);
    assert_eq!(rig.take(Side::App), said, "what the client says goes on, and so does its Close");
    rig.look(WRITTEN, now + 2 * MILLI);
    assert!(rig.socket.is_over_for_client() && !rig.socket.is_over(now + 2 * MILLI));
    rig.pass(Side::App, &[message(Side::App), frame(Side::App, FIN | CLOSE, 2)].concat());
    rig.look(WRITTEN, now + 3 * MILLI);
    assert!(rig.socket.is_over(now + 3 * MILLI));
    rig.look(WRITTEN, now + 10 * ECHO);
    rig.expect_nothing();
}

#[test]
fn a_client_that_does_not_answer() {
    let (mut rig, now) = Rig::told();
    rig.look(WRITTEN, now + ANSWER - MILLI);
    rig.expect_nothing();
    rig.look(WRITTEN, now + ANSWER);
    rig.expect_close(Side::App);
    rig.look(WRITTEN, now + ANSWER);
    rig.pass(Side::Client, &message(Side::Client));
    rig.expect_nothing();
    rig.pass(Side::App, &frame(Side::App, FIN | CLOSE, 2));
    rig.expect_nothing();
    assert!(!rig.socket.is_over(now + ECHO - MILLI));
    assert!(rig.socket.is_over(now + ECHO) && !rig.socket.is_over_for_client());
    rig.pass(Side::Client, &frame(Side::Client, FIN | CLOSE, 2));
    rig.expect_nothing();
    assert!(rig.socket.is_over_for_client() && rig.socket.is_over(now + 2 * ANSWER));
}

#[test]
fn an_app_that_does_not_answer() {
    let (mut rig, now) = Rig::told();
    rig.pass(Side::Client, &frame(Side::Client, FIN | CLOSE, 2));
    rig.take(Side::App);
    rig.look(WRITTEN, now + MILLI);
    assert!(!rig.socket.is_over(now + ECHO));
    assert!(rig.socket.is_over(now + MILLI + ECHO));
}

#[test]
fn the_apps_close_is_first() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    let close = frame(Side::App, FIN | CLOSE, 9);
    rig.pass(Side::App, &close);
    assert_eq!(rig.take(Side::Client), close);
    rig.socket.tell();
    rig.look(WRITTEN, now);
    rig.look(WRITTEN, now + ANSWER - MILLI);
    rig.expect_nothing();
    rig.look(WRITTEN, now + ANSWER);
    rig.expect_close(Side::App);
    assert!(!rig.socket.is_over(now + ANSWER));
    rig.pass(Side::Client, &frame(Side::Client, FIN | CLOSE, 9));
    rig.look(WRITTEN, now + ANSWER);
    rig.expect_nothing();
    assert!(rig.socket.is_over(now + ANSWER));
}

#[test]
fn the_clients_close_is_first() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    rig.pass(Side::Client, &frame(Side::Client, FIN | CLOSE, 2));
    rig.take(Side::App);
    rig.socket.tell();
    rig.look(WRITTEN, now);
    rig.look(WRITTEN, now + ANSWER - MILLI);
    rig.expect_nothing();
    // The app still has something to say, and answers by itself.
    let said = [message(Side::App), frame(Side::App, FIN | CLOSE, 2)].concat();
    rig.pass(Side::App, &said);
    assert_eq!(rig.take(Side::Client), said);
    rig.look(WRITTEN, now + ANSWER);
    rig.expect_nothing();
    assert!(rig.socket.is_over(now + ANSWER) && !rig.socket.has_said_goodbye());
}

#[test]
fn an_app_that_leaves_the_clients_close_unanswered() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    rig.socket.tell();
    rig.pass(Side::App, &frame(Side::App, FIN | TEXT, 5)[..3]);
    rig.look(WRITTEN, now);
    rig.pass(Side::Client, &frame(Side::Client, FIN | CLOSE, 2));
    rig.pass(Side::App, &frame(Side::App, FIN | TEXT, 5)[3..]);
    assert_eq!(rig.take(Side::Client), message(Side::App), "there was a gap, but the app's answer may come");
    rig.look(WRITTEN, now);
    rig.take(Side::App);
    rig.look(WRITTEN, now + ANSWER);
    rig.expect_close(Side::Client);
    rig.look(WRITTEN, now + ANSWER);
    assert!(rig.socket.is_over_for_client());
}

#[test]
fn a_large_frame_is_waited_for_in_either_direction() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    let large = frame(Side::App, FIN | TEXT, 100_000);
    rig.pass(Side::App, &large[..50_000]);
    rig.socket.tell();
    rig.look(WRITTEN, now + 10 * ECHO);
    rig.look(WRITTEN, now + 20 * ECHO);
    assert!(!rig.socket.is_over(now + 30 * ECHO) && !rig.socket.has_said_goodbye());
    assert_eq!(rig.to_client, large[..50_000]);
    rig.pass(Side::App, &[&large[50_000..], &message(Side::App)].concat());
    let out = rig.take(Side::Client);
    assert_eq!(out[..large.len()], large);
    assert!(is_going_away(Side::App, &out[large.len()..]), "{:02x?}", &out[large.len()..]);

    let (mut rig, mut now) = Rig::told();
    let large = frame(Side::Client, FIN | TEXT, 100_000);
    for part in large[..99_000].chunks(1000) {
        rig.pass(Side::Client, part);
        now += ANSWER;
        rig.look(WRITTEN, now);
        assert!(!rig.socket.is_over(now + ECHO - MILLI), "it goes on sending");
    }
    assert!(rig.socket.is_over(now + ECHO), "it has left off");
    rig.pass(Side::Client, &large[99_000..]);
    let out = rig.take(Side::App);
    assert_eq!(out[..large.len()], large);
    assert!(is_going_away(Side::Client, &out[large.len()..]), "{:02x?}", &out[large.len()..]);
}

#[test]
fn a_fragmented_message_is_waited_for_but_not_for_ever() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    rig.pass(Side::App, &frame(Side::App, TEXT, 5));
    rig.take(Side::Client);
    rig.socket.tell();
    rig.look(WRITTEN, now);
    rig.look(WRITTEN, now + PATIENCE - MILLI);
    rig.pass(Side::App, &frame(Side::App, CONTINUATION, 0));
    assert_eq!(rig.take(Side::Client), frame(Side::App, CONTINUATION, 0));
    rig.look(WRITTEN, now + PATIENCE);
    rig.expect_close(Side::Client);
}

#[test]
fn what_is_not_written_has_not_been_asked() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    rig.socket.tell();
    rig.look(BLOCKED, now);
    rig.expect_close(Side::Client);
    rig.look(BLOCKED, now + ECHO);
    rig.expect_nothing();
    assert!(!rig.socket.is_over(now + 10 * ECHO));
    rig.look(WRITTEN, now + ECHO);
    rig.look(WRITTEN, now + ECHO + ANSWER);
    rig.expect_close(Side::App);
}

#[test]
fn what_is_no_websocket_is_left_alone() {
    for bad in [Side::Client, Side::App] {
        let (mut rig, now) = (Rig::default(), Instant::now());
        let noise = [message(bad), b"\x83 this is something else".to_vec()].concat();
        rig.pass(bad, &noise);
        rig.pass(bad, &message(bad));
        let out = [noise, message(bad)].concat();
        assert_eq!(rig.take(bad.other()), out);
        rig.socket.tell();
        for seconds in 0..20 {
            rig.look(WRITTEN, now + seconds * ANSWER);
        }
        rig.expect_nothing();
        assert!(!rig.socket.is_over(now + 100 * ECHO), "it ends like any other upgrade");
    }
}

#[test]
fn noise_after_our_close() {
    let (mut rig, now) = Rig::told();
    rig.pass(Side::App, b"\xff\xff\xff");
    rig.pass(Side::App, &frame(Side::App, FIN | CLOSE, 2));
    rig.expect_nothing();
    rig.pass(Side::Client, b"noise");
    assert_eq!(rig.take(Side::App), b"noise");
    rig.look(WRITTEN, now + ANSWER);
    rig.expect_nothing();
    rig.look(WRITTEN, now + ANSWER + ECHO);
    assert!(rig.socket.is_over(now + ANSWER + 2 * ECHO));
}

#[test]
fn an_end_of_stream_ends_the_waiting() {
    // The client hangs up on our Close.
    let (mut rig, now) = Rig::told();
    let close = rig.socket.ended(Side::Client).unwrap();
    assert!(is_going_away(Side::Client, close.as_ref()));
    rig.look(WRITTEN, now + MILLI);
    assert!(!rig.socket.is_over(now + MILLI), "the app may still answer");
    assert_eq!(rig.socket.ended(Side::App), None);
    rig.look(WRITTEN, now + 10 * ECHO);
    rig.expect_nothing();
    assert!(rig.socket.is_over(now + MILLI));
    // The same, in the middle of a frame: the app can't be told.
    let (mut rig, now) = Rig::told();
    rig.pass(Side::Client, &message(Side::Client)[..4]);
    assert_eq!(rig.socket.ended(Side::Client), None);
    assert!(rig.socket.is_over(now));
    // The app has gone, its client has not: it has time to answer.
    let (mut rig, now) = Rig::told();
    assert_eq!(rig.socket.ended(Side::App), None);
    assert!(!rig.socket.is_over(now + ECHO - MILLI));
    assert!(rig.socket.is_over(now + ECHO));
    // After an end of its own, no direction gets anything from us.
    let (mut rig, now) = (Rig::default(), Instant::now());
    rig.pass(Side::App, &frame(Side::App, TEXT, 1));
    rig.take(Side::Client);
    assert_eq!(rig.socket.ended(Side::App), None);
    rig.socket.tell();
    rig.look(WRITTEN, now);
    rig.look(WRITTEN, now + 10 * ECHO);
    rig.expect_nothing();
}

/// What the source sends: whole messages in fragments with pings between them, and perhaps a Close with something
/// behind it. With each frame comes whether a message is open after it.
fn stream(from: Side) -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let length = prop_oneof![
        4 => 0usize..40,
        2 => 120usize..132,
        1 => 65_530usize..65_540,
    ];
    let fragment = (length, 0usize..3, 0u8..8);
    let message = vec(fragment, 1..4);
    (vec(message, 0..5), any::<bool>()).prop_map(move |(messages, closes)| {
        let mut frames = Vec::new();
        for message in messages {
            let last = message.len() - 1;
            for (i, (length, pings, rsv)) in message.into_iter().enumerate() {
                let opcode = if i == 0 { TEXT } else { CONTINUATION };
                let fin = if i == last { FIN } else { 0 };
                frames.push((frame(from, fin | opcode | rsv << 4, length), i != last));
                for _ in 0..pings {
                    frames.push((frame(from, FIN | PING, length.min(125)), i != last));
                }
            }
        }
        if closes {
            frames.push((frame(from, FIN | CLOSE, 2), false));
        }
        frames
    })
}

/// Feeds a direction chunk by chunk, asks for our Close before one of them, and returns what goes out.
fn goodbye(from: Side, input: &[u8], cuts: &[usize], at: usize, gap: Gap) -> (Vec<u8>, usize, Direction) {
    let mut direction = Direction::new(from);
    let (mut out, mut position, mut asked_at) = (Vec::new(), 0, input.len());
    for (i, &cut) in cuts.iter().chain([&usize::MAX]).enumerate() {
        if i == at {
            asked_at = position;
            out.extend(direction.want(gap).iter().flat_map(|close| close.as_ref()));
        }
        let chunk = &input[position..position.saturating_add(cut).min(input.len())];
        let step = direction.pass(chunk);
        out.extend(&chunk[..step.pass]);
        out.extend(step.inject.iter().flat_map(|close| close.as_ref()));
        position += chunk.len();
    }
    (out, asked_at, direction)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![4 => 0usize..12, 2 => 0usize..300, 1 => 0usize..70_000], 0..60)
}

proptest! {
    /// The output is the input's frames, whole, up to the first gap after the instant, and then exactly one Close;
    /// or all of the input, if the source's own Close was first.
    #[test]
    fn a_goodbye_damages_nothing(
        (from, frames) in prop_oneof![Just(Side::Client), Just(Side::App)]
            .prop_flat_map(|from| (Just(from), stream(from))),
        cuts in cuts(),
        at in 0usize..40,
        gap in prop_oneof![Just(Gap::Messages), Just(Gap::Frames)],
    ) {
        let input: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes).copied().collect();
        let at = at.min(cuts.len());
        let (out, asked_at, direction) = goodbye(from, &input, &cuts, at, gap);
        let closes = frames.last().is_some_and(|(bytes, _)| bytes[0] == FIN | CLOSE);
        let mut boundary = Some(0).filter(|_| asked_at == 0);
        let mut end = 0;
        for (i, (bytes, open)) in frames.iter().enumerate() {
            end += bytes.len();
            let is_gap = gap == Gap::Frames || !open;
            let is_last_word = closes && i == frames.len() - 1;
            if boundary.is_none() && end >= asked_at && is_gap && !is_last_word {
                boundary = Some(end);
            }
        }
        if let Some(boundary) = boundary {
            prop_assert_eq!(&out[..boundary], &input[..boundary]);
            prop_assert!(is_going_away(from, &out[boundary..]), "{:02x?}", &out[boundary..]);
            prop_assert!(direction.is_closed_by_us());
            prop_assert_eq!(direction.source_has_closed(), closes, "it is seen in what goes nowhere");
        } else {
            prop_assert_eq!(&out, &input);
            prop_assert!(!direction.is_closed_by_us() && direction.source_has_closed());
        }
    }

    /// Whatever comes, all of it goes on as long as nobody says goodbye.
    #[test]
    fn without_a_goodbye_everything_goes_on(input in vec(any::<u8>(), 0..2000), cuts in cuts()) {
        let at = usize::MAX;
        prop_assert_eq!(goodbye(Side::App, &input, &cuts, at, Gap::Frames).0, input.clone());
        prop_assert_eq!(goodbye(Side::Client, &input, &cuts, at, Gap::Frames).0, input);
    }

    /// Whatever comes, what goes out is a prefix of it and then at most one Close.
    #[test]
    fn noise_does_no_harm(input in vec(any::<u8>(), 0..2000), cuts in cuts(), at in 0usize..20) {
        let (out, _, direction) = goodbye(Side::App, &input, &cuts, at, Gap::Frames);
        if direction.is_closed_by_us() {
            let (passed, close) = out.split_at(out.len() - 4);
            prop_assert!(input.starts_with(passed) && is_going_away(Side::App, close));
        } else {
            prop_assert_eq!(out, input);
        }
    }
}

/// Once one direction can't be followed, no Close that had to wait goes out in the other.
#[test]
fn what_is_no_websocket_gets_nothing_late() {
    let (mut rig, now) = (Rig::default(), Instant::now());
    let whole = message(Side::App);
    let (half, rest) = whole.split_at(4);
    rig.pass(Side::App, half);
    rig.socket.tell();
    rig.look(WRITTEN, now);
    rig.pass(Side::Client, &[0xff; 20]);
    assert!(!rig.socket.is_followed());
    rig.pass(Side::App, rest);
    rig.pass(Side::App, &whole);
    assert_eq!(rig.take(Side::Client), [&whole[..], &whole].concat());
}
