//! The frames of somebody who may be mistaken, or worse.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::script::{block, put, put_number, put_settings};
use crate::http2::core::Role;
use crate::http2::frame::{WINDOW_MAX, flag, kind};
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

/// The number of a stream that there has been, nearly always.
fn number(at: u8, opened: u32) -> u32 {
    match at {
        253 => opened * 2 + 1,
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

fn settings() -> impl Strategy<Value = Peer> {
    let value = prop_oneof![
        8 => select(vec![0, 1, 2, 100, 16_384, 65_535, 100_000]),
        1 => select(vec![u32::MAX >> 1, 1 << 31, u32::MAX]),
    ];
    vec((1..9_u16, value), 0..4).prop_map(Peer::Settings)
}

pub(super) fn peer(role: Role) -> impl Strategy<Value = Peer> {
    let code = || 0..15_u32;
    // An app opens nothing.
    let heads = if role == Role::Server { REQUESTS } else { HEADS.len() };
    let by = prop_oneof![10 => 1..100_000_u32, 1 => select(vec![0, WINDOW_MAX as u32, u32::MAX])];
    let len = prop_oneof![select(vec![0, 1, 5_000, 10_000, 16_000]), 0..16_000_usize];
    prop_oneof![
        8 => (0..heads, any::<bool>(), split()).prop_map(|(fields, end, split)| Peer::Open { fields, end, split }),
        8 => (any::<u8>(), 0..HEADS.len(), any::<bool>(), split())
            .prop_map(|(at, fields, end, split)| Peer::Head { at, fields, end, split }),
        20 => (any::<u8>(), len, option::weighted(0.2, any::<u8>()), proptest::bool::weighted(0.2))
            .prop_map(|(at, len, pad, end)| Peer::Data { at, len, pad, end }),
        8 => (option::of(any::<u8>()), by).prop_map(|(at, by)| Peer::Update { at, by }),
        4 => (any::<u8>(), code()).prop_map(|(at, code)| Peer::Reset { at, code }),
        4 => settings(),
        2 => any::<(bool, bool)>().prop_map(|(ack, going)| Peer::Ping { ack, going }),
        1 => (any::<u8>(), code()).prop_map(|(last, code)| Peer::Away { last, code }),
        1 => (0..12_u8, any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, at, payload)| Peer::Any { kind, flags, at, payload }),
        1 => vec(any::<u8>(), 1..30).prop_map(Peer::Bytes),
    ]
}
