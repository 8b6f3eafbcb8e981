//! What happens to a connection.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::peer::{Peer, peer};
use crate::http2::core::Role;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The other side says something.
    Peer(Peer),
    /// Something is done with a stream.
    Op(usize, Op),
    /// Or with the connection.
    Act(Act),
    /// The other side takes so much.
    Allow(usize),
    /// The connection moves.
    Turn,
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Look,
    Release(usize),
    Head,
    TakeTrailers,
    Respond(bool),
    Continue,
    Send(usize, bool),
    Trailers,
    Reset(u32),
    Error,
    Beside,
    DropIncoming,
    DropOutgoing,
    DropBeside,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Go,
    /// A client opens nothing more.
    Cut(u32),
    Ping,
    Ask {
        end: bool,
        head: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Look),
        6 => (0..40_000_usize).prop_map(Op::Release),
        3 => Just(Op::Head),
        1 => Just(Op::TakeTrailers),
        3 => proptest::bool::weighted(0.2).prop_map(Op::Respond),
        1 => Just(Op::Continue),
        6 => (0..70_000_usize, proptest::bool::weighted(0.2)).prop_map(|(len, end)| Op::Send(len, end)),
        1 => Just(Op::Trailers),
        1 => (0..15_u32).prop_map(Op::Reset),
        2 => Just(Op::Error),
        1 => Just(Op::Beside),
        1 => Just(Op::DropIncoming),
        1 => Just(Op::DropOutgoing),
        1 => Just(Op::DropBeside),
    ]
}

fn act(role: Role) -> impl Strategy<Value = Act> {
    let seldom = prop_oneof![
        2 => Just(Act::Go),
        1 => select(vec![0, 0, 2, 11]).prop_map(Act::Cut),
        2 => Just(Act::Ping),
    ];
    let often = if role == Role::Client { 20 } else { 1 };
    prop_oneof![
        2 => seldom,
        often => any::<(bool, bool)>().prop_map(|(end, head)| Act::Ask { end, head: end && head }),
    ]
}

/// What happens, one after the other.
pub(super) fn script(role: Role) -> impl Strategy<Value = Vec<Step>> {
    let acts = if role == Role::Client { 8 } else { 1 };
    let step = prop_oneof![
        30 => peer(role).prop_map(Step::Peer),
        25 => (0..8_usize, op()).prop_map(|(at, op)| Step::Op(at, op)),
        acts => act(role).prop_map(Step::Act),
        6 => (0..50_000_usize).prop_map(Step::Allow),
        25 => Just(Step::Turn),
    ];
    vec(step, 0..120)
}

/// How much is read at a time.
pub(super) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(select(vec![1, 3, 9, 10, 1_000, 40_000]), 0..6).prop_map(|cuts| [cuts, vec![20_000]].concat())
}
