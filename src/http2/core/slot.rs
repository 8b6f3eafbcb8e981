//! What is known of a stream.

use std::task::{Context, Waker};

use bytes::BytesMut;

use super::Limits;
use crate::http2::head::Head;
use crate::http2::reason::Error;

/// A stream.
#[derive(Debug)]
pub(in crate::http2) struct Slot {
    /// None yet: 0.
    pub(in crate::http2) number: u32,
    /// Handles to it.
    pub(in crate::http2) handles: u32,
    /// The other side has ended it.
    pub(in crate::http2) received: bool,
    /// We have ended it.
    pub(in crate::http2) sent: bool,
    /// Counts among those that are open.
    pub(in crate::http2) counted: bool,
    /// Nobody reads it.
    pub(in crate::http2) unread: bool,
    /// It waits for room or the connection's window.
    pub(super) waiting: bool,
    /// It has sent something since it waited last.
    pub(super) served: bool,
    /// A 100 (Continue) has come.
    pub(in crate::http2) continued: bool,
    /// The response to a HEAD has a length, but no body.
    pub(in crate::http2) is_head: bool,
    /// Why it is over before its end.
    pub(in crate::http2) error: Option<Error>,
    pub(in crate::http2) window: i64,
    pub(in crate::http2) receive_window: i64,
    /// Has come, and is not released.
    pub(super) held: u32,
    /// Released, and not announced.
    pub(super) owed: u32,
    /// What has to come still, by the head.
    pub(in crate::http2) left: Option<u64>,
    pub(in crate::http2) inbox: BytesMut,
    pub(in crate::http2) head: Option<Result<Head, TooLarge>>,
    /// The head of the response has come.
    pub(in crate::http2) has_head: bool,
    pub(in crate::http2) trailers: Option<Head>,
    /// A request that has to wait for others to end, and whether it has no body.
    pub(in crate::http2) unsent: Option<Box<(Vec<u8>, bool)>>,
    pub(in crate::http2) reader: Option<Waker>,
    pub(in crate::http2) writer: Option<Waker>,
}

/// The head is larger than allowed.
#[derive(Debug, Clone, Copy)]
pub(in crate::http2) struct TooLarge;

impl Slot {
    pub(super) fn new(number: u32, window: i64, limits: &Limits) -> Self {
        Self {
            number,
            handles: 0,
            received: false,
            sent: false,
            counted: false,
            unread: false,
            waiting: false,
            served: false,
            continued: false,
            is_head: false,
            error: None,
            window,
            receive_window: i64::from(limits.stream_window),
            held: 0,
            owed: 0,
            left: None,
            inbox: BytesMut::new(),
            head: None,
            has_head: false,
            trailers: None,
            unsent: None,
            reader: None,
            writer: None,
        }
    }

    pub(in crate::http2) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(in crate::http2) fn wake(&mut self) {
        self.wake_reader();
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// The head of the response has come.
    pub(in crate::http2) fn answered(&self) -> bool {
        self.has_head
    }

    pub(super) fn is_over(&self) -> bool {
        self.error.is_some() || (self.received && self.sent)
    }
}

/// Keeps who is to be woken.
pub(in crate::http2) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
