//! The frames of somebody who may be mistaken, or worse.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::script::{block, put, put_number, put_settings};
use crate::http2::core::Role;
use crate::http2::frame::{WINDOW_MAX, flag, kind, setting};
use crate::http2::server::GOING;

/// What he may say.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A client opens its next stream.
    Open {
        fields: usize,
        end: bool,
        split: Option<usize>,
    },
    Head {
        at: u8,
        fields: usize,
        end: bool,
        split: Option<usize>,
    },
    Data {
        at: u8,
        len: usize,
        pad: Option<u8>,
        end: bool,
    },
    Update {
        at: Option<u8>,
        by: u32,
    },
    Reset {
        at: u8,
        code: u32,
    },
    Settings(Vec<(u16, u32)>),
    Ping {
        ack: bool,
        going: bool,
    },
    Away {
        last: u8,
        code: u32,
    },
    Any {
        kind: u8,
        flags: u8,
        at: u8,
        payload: Vec<u8>,
    },
    Bytes(Vec<u8>),
}

const LENGTH: (&str, &str) = ("content-length", "10000");

/// Heads: of requests first, then of anything.
const HEADS: &[&[(&str, &str)]] = &[
    &[(":method", "POST"), (":scheme", "http"), (":path", "/")],
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), LENGTH],
    &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "shop")],
    &[(":method", "CONNECT"), (":authority", "shop:1")],
    &[(":status", "200")],
    &[(":status", "200"), LENGTH],
    &[(":status", "204")],
    &[(":status", "100")],
    &[("x-end", "here")],
    &[("x-end", "here"), (":status", "200")],
    &[("Upper", "case")],
    &[(":status", "200"), ("connection", "close")],
    &[],
];

/// How many of them are requests.
const REQUESTS: usize = 4;

/// From here on there is no such stream.
const ODD: u8 = 253;

/// The number of a stream that there has been, nearly always.
fn number(at: u8, opened: u32) -> u32 {
    match at {
        ODD => opened * 2 + 1,
        254 => 0,
        255 => 2,
        _ => u32::from(at) % opened.max(1) * 2 + 1,
    }
}

fn head(number: u32, fields: usize, end: bool, split: Option<usize>) -> Vec<u8> {
    let block = block(HEADS[fields % HEADS.len()]);
    let end = if end { flag::END_STREAM } else { 0 };
    match split {
        None => put(kind::HEADERS, end | flag::END_HEADERS, number, &block),
        Some(at) => {
            let (first, rest) = block.split_at(at.min(block.len()));
            let rest = put(kind::CONTINUATION, flag::END_HEADERS, number, rest);
            [put(kind::HEADERS, end, number, first), rest].concat()
        }
    }
}

impl Peer {
    /// It is about a stream.
    pub(super) fn has_stream(&self) -> bool {
        matches!(
            self,
            Self::Head { .. } | Self::Data { .. } | Self::Update { at: Some(_), .. } | Self::Reset { .. }
        )
    }

    /// On the wire, when the client has opened so many streams.
    pub(super) fn bytes(&self, opened: u32) -> Vec<u8> {
        match *self {
            Self::Open { fields, end, split } => head(opened * 2 + 1, fields, end, split),
            Self::Head { at, fields, end, split } => head(number(at, opened), fields, end, split),
            Self::Data { at, len, pad, end } => {
                let padded = pad.map_or(0, |_| flag::PADDED);
                let mut payload: Vec<u8> = pad.into_iter().collect();
                payload.resize(payload.len() + len + usize::from(pad.unwrap_or(0)), 0);
                let flags = padded | if end { flag::END_STREAM } else { 0 };
                put(kind::DATA, flags, number(at, opened), &payload)
            }
            Self::Update { at, by } => {
                put_number(kind::WINDOW_UPDATE, at.map_or(0, |at| number(at, opened)), by)
            }
            Self::Reset { at, code } => put_number(kind::RST_STREAM, number(at, opened), code),
            Self::Settings(ref settings) => put_settings(settings),
            Self::Ping { ack, going } => {
                let payload = if going { GOING } else { b"anything" };
                put(kind::PING, if ack { flag::ACK } else { 0 }, 0, payload)
            }
            Self::Away { last, code } => {
                let last = if last > 100 { u32::MAX >> 1 } else { number(last, opened) };
                put(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
            }
            Self::Any { kind, flags, at, ref payload } => put(kind, flags, number(at, opened), payload),
            Self::Bytes(ref bytes) => bytes.clone(),
        }
    }
}

fn split() -> impl Strategy<Value = Option<usize>> {
    option::weighted(0.2, 0..10_usize)
}

/// What does not end the connection, unless it comes for a stream that is over.
fn polite(role: Role) -> impl Strategy<Value = Peer> {
    // Whatever comes behind the head of a request is trailers, or one too many.
    let (open, head) = if role == Role::Server { (10, 2) } else { (1, 12) };
    let at = || 0..ODD;
    let setting = (
        select(vec![
            setting::HEADER_TABLE_SIZE,
            setting::MAX_CONCURRENT_STREAMS,
            setting::INITIAL_WINDOW_SIZE,
        ]),
        select(vec![0, 1, 2, 100, 16_384, 65_535, 100_000]),
    );
    let len = prop_oneof![select(vec![0, 1, 5_000, 10_000, 16_000]), 0..16_000_usize];
    prop_oneof![
        open => (0..REQUESTS, any::<bool>(), split())
            .prop_map(|(fields, end, split)| Peer::Open { fields, end, split }),
        head => (at(), 0..HEADS.len(), any::<bool>(), split())
            .prop_map(|(at, fields, end, split)| Peer::Head { at, fields, end, split }),
        20 => (at(), len, option::weighted(0.2, any::<u8>()), proptest::bool::weighted(0.2))
            .prop_map(|(at, len, pad, end)| Peer::Data { at, len, pad, end }),
        8 => (option::of(at()), 1..100_000_u32).prop_map(|(at, by)| Peer::Update { at, by }),
        4 => (at(), 0..15_u32).prop_map(|(at, code)| Peer::Reset { at, code }),
        4 => vec(setting, 0..4).prop_map(Peer::Settings),
        2 => any::<(bool, bool)>().prop_map(|(ack, going)| Peer::Ping { ack, going }),
        1 => (at(), 0..15_u32).prop_map(|(last, code)| Peer::Away { last, code }),
    ]
}

/// What may end it.
fn rude() -> impl Strategy<Value = Peer> {
    let any_at = || any::<u8>();
    let values = select(vec![0, 1, 2, u32::MAX >> 1, 1 << 31, u32::MAX]);
    prop_oneof![
        2 => (0..12_u8, any::<u8>(), any_at(), vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, at, payload)| Peer::Any { kind, flags, at, payload }),
        1 => vec(any::<u8>(), 1..30).prop_map(Peer::Bytes),
        2 => vec((1..9_u16, values), 1..3).prop_map(Peer::Settings),
        2 => (option::of(any_at()), select(vec![0, WINDOW_MAX as u32, u32::MAX]))
            .prop_map(|(at, by)| Peer::Update { at, by }),
        2 => (ODD..=255, 0..HEADS.len(), any::<bool>(), split())
            .prop_map(|(at, fields, end, split)| Peer::Head { at, fields, end, split }),
        1 => (ODD..=255, 0..20_000_usize)
            .prop_map(|(at, len)| Peer::Data { at, len, pad: None, end: false }),
    ]
}

/// One is polite most of the time: what follows upon the end of the connection is soon told.
pub(super) fn peer(role: Role) -> impl Strategy<Value = Peer> {
    prop_oneof![60 => polite(role), 1 => rude()]
}
