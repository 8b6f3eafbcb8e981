//! One direction of a tunnel: what its source says goes to its target.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::ReadBuf;

use super::bulk::Bulk;
use super::side::{Side, Socket};
use super::tools::{Pipe, Tools};
use crate::metrics::Counter;

/// Moved at a time, before others have their turn.
const TURN: usize = 1 << 20;

/// How a direction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Half {
    /// Its source has said all, and its target has got all.
    Done,
    /// Its source has broken off; its target has got all until then.
    SourceGone,
    /// Its target takes no more.
    TargetGone,
}

/// What becomes of a chunk: its first bytes go on, and after them what is injected; the rest goes nowhere.
#[derive(Debug)]
pub(in crate::connection) struct Step {
    pub(in crate::connection) pass: usize,
    pub(in crate::connection) inject: Option<Bytes>,
}

/// Looks at everything on its way, which is therefore not spliced. This is where a WebSocket's frames are followed.
pub(in crate::connection) trait Filter: std::fmt::Debug {
    fn pass(&mut self, chunk: &[u8]) -> Step;

    /// The source has ended. What is returned goes to the target before it is told so.
    fn ended(&mut self) -> Option<Bytes>;

    /// The target is not to be told yet that the source has ended. Whoever changes that has to poll.
    fn holds_end(&self) -> bool;

    /// That the source breaks off is no more than its end.
    fn may_break_off(&self) -> bool;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// What is held goes on, then the target gets a FIN.
    Ending,
    /// What the source still says goes nowhere.
    Deaf,
    Over,
}

/// One direction.
#[derive(Debug)]
pub(in crate::connection) struct Direction {
    stage: Stage,
    half: Option<Half>,
    /// The source has ended its side.
    eof: bool,
    /// Read, but not taken by the target yet.
    rest: Bytes,
    /// The same, in the kernel; goes after `rest`.
    pipe: Option<Pipe>,
    /// The target may have bytes that it has not sent on.
    unflushed: bool,
    /// The target has been heard to break off, which its own direction may not get to hear.
    target_reset: bool,
    bulk: Bulk,
    filter: Option<Box<dyn Filter>>,
    /// Since the last look: bytes have come, bytes have gone.
    heard: bool,
    wrote: bool,
}

impl Direction {
    /// Begins with what has been read from the source already.
    pub(in crate::connection) fn new(first: Bytes) -> Self {
        Self {
            stage: Stage::Open,
            half: None,
            eof: false,
            rest: first,
            pipe: None,
            unflushed: false,
            target_reset: false,
            bulk: Bulk::default(),
            filter: None,
            heard: false,
            wrote: false,
        }
    }

    /// Has everything looked at from here on, and what is held already.
    pub(super) fn follow(&mut self, mut filter: Box<dyn Filter>) {
        let step = filter.pass(&self.rest);
        self.rest.truncate(step.pass);
        if let Some(words) = step.inject {
            self.say(&words);
        }
        self.filter = Some(filter);
    }

    /// Nothing is looked at any more.
    pub(super) fn unfollow(&mut self) {
        self.filter = None;
    }

    /// How it has ended, as soon as that is clear. In a direction without a target its source may still be talking.
    pub(super) fn half(&self) -> Option<Half> {
        self.half
    }

    /// Whether nothing is to be done any more.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether it holds something for its target.
    pub(super) fn holds(&self) -> bool {
        !self.rest.is_empty() || self.pipe.is_some()
    }

    /// Whether the source has ended its side. Then nobody reads from it any more.
    pub(super) fn eof(&self) -> bool {
        self.eof
    }

    pub(super) fn target_reset(&self) -> bool {
        self.target_reset
    }

    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    pub(super) fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// What is held goes on, then the target gets a FIN; what the source says from now on goes nowhere.
    pub(super) fn finish(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Ending;
        }
    }

    /// The target takes no more.
    pub(super) fn give_up(&mut self) {
        if matches!(self.stage, Stage::Open | Stage::Ending) {
            self.target_gone();
        }
    }

    /// Moves what can be moved; ready when it is over. `source_reset`: the other direction has heard the source break
    /// off.
    pub(super) fn poll<S: Side, T: Side>(
        &mut self,
        cx: &mut Context<'_>,
        (source, target): (&mut S, &mut T),
        source_reset: bool,
        tools: &Tools,
        count: &Counter,
    ) -> Poll<()> {
        let mut turn = TURN;
        loop {
            if turn == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.stage {
                Stage::Open | Stage::Ending => {
                    if ready!(self.poll_deliver(cx, target, tools, count)).is_err() {
                        self.target_gone();
                    } else if self.stage == Stage::Ending {
                        if self.eof && self.filter.as_ref().is_some_and(|filter| filter.holds_end()) {
                            if self.unflushed {
                                // Whoever takes nothing hears of that by other means.
                                let _ = ready!(Pin::new(&mut *target).poll_flush(cx));
                                self.unflushed = false;
                            }
                            return Poll::Pending;
                        }
                        // A target that takes no FIN has gone, and has got everything.
                        let _ = ready!(Pin::new(&mut *target).poll_shutdown(cx));
                        self.half = Some(Half::Done);
                        self.stage = if self.eof { Stage::Over } else { Stage::Deaf };
                    } else {
                        match ready!(self.poll_more(cx, source, target, tools, count)) {
                            Ok(0) if !source_reset => self.source_ended(),
                            Ok(0) | Err(Half::SourceGone) if self.may_break_off() => self.source_ended(),
                            Ok(0) => self.over(Half::SourceGone),
                            Ok(n) => turn = turn.saturating_sub(n),
                            Err(Half::TargetGone) => self.target_gone(),
                            Err(half) => self.over(half),
                        }
                    }
                }
                Stage::Deaf => turn = turn.saturating_sub(ready!(self.poll_deaf(cx, source, tools))),
                Stage::Over => return Poll::Ready(()),
            }
        }
    }

    /// Reads what goes nowhere.
    fn poll_deaf<S: Side>(&mut self, cx: &mut Context<'_>, source: &mut S, tools: &Tools) -> Poll<usize> {
        let mut buffer = tools.buffer();
        let read = ready!(poll_read(cx, source, &mut buffer));
        let n = *read.as_ref().unwrap_or(&0);
        if n == 0 {
            (self.eof, self.stage) = (read.is_ok(), Stage::Over);
        }
        if let Some(filter) = &mut self.filter {
            let _ = if n > 0 { filter.pass(&buffer[..n]).inject } else { filter.ended() };
        }
        Poll::Ready(n)
    }

    /// Passes on what is held.
    fn poll_deliver<T: Side>(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut T,
        tools: &Tools,
        count: &Counter,
    ) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let n = ready!(self.poll_write(cx, target, &self.rest.clone(), count))?;
            self.rest.advance(n);
            if self.rest.is_empty() {
                self.rest = Bytes::new();
            }
        }
        while let Some(pipe) = &mut self.pipe {
            let moved = match target.plain() {
                Some(socket) => ready!(socket.poll_write_with(cx, |fd| pipe.drain(fd))),
                None => Err(io::ErrorKind::InvalidInput.into()),
            };
            match moved {
                Ok(n) => {
                    count.add(n as u64);
                    self.wrote = true;
                    if pipe.held() == 0
                        && let Some(pipe) = self.pipe.take()
                    {
                        tools.give(pipe);
                    }
                }
                Err(error) if is_refusal(&error) => {
                    tools.refuse();
                    self.rest = pipe.read_out()?.into();
                    self.pipe = None;
                    return self.poll_deliver(cx, target, tools, count);
                }
                Err(error) => return Poll::Ready(Err(self.heard_from_target(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes more from the source: 0 at its end. What the target does not take at once is held.
    fn poll_more<S: Side, T: Side>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        target: &mut T,
        tools: &Tools,
        count: &Counter,
    ) -> Poll<Result<usize, Half>> {
        if self.filter.is_none()
            && self.bulk.is_worth_a_pipe()
            && let (Some(from), Some(_)) = (source.plain(), target.plain())
            && let Some(pipe) = tools.take()
        {
            match ready!(self.poll_splice(cx, from, pipe, tools)) {
                // Then there is nothing to be read, or urgent data, which a splice never gets past: reading will tell.
                Err(error) if is_passing(&error) => {}
                Err(error) if is_refusal(&error) => tools.refuse(),
                result => return Poll::Ready(result.map_err(|_| Half::SourceGone)),
            }
        }
        let mut buffer = tools.buffer();
        let n = match poll_read(cx, source, &mut buffer) {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Half::SourceGone)),
            Poll::Pending => {
                if self.unflushed {
                    let flushed = ready!(Pin::new(target).poll_flush(cx));
                    self.unflushed = false;
                    if flushed.is_err() {
                        return Poll::Ready(Err(Half::TargetGone));
                    }
                }
                return Poll::Pending;
            }
        };
        self.heard |= n > 0;
        self.bulk.read(n);
        let written = self.write_chunk(cx, target, &buffer[..n], count);
        Poll::Ready(written.map(|()| n).map_err(|_| Half::TargetGone))
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: Socket<'_>,
        mut pipe: Pipe,
        tools: &Tools,
    ) -> Poll<io::Result<usize>> {
        let filled = from.poll_read_with(cx, |fd| pipe.fill(fd));
        if let Poll::Ready(Ok(n)) = filled
            && n > 0
        {
            self.heard = true;
            self.bulk.filled(n);
            self.pipe = Some(pipe);
        } else {
            tools.give(pipe);
        }
        filled
    }

    /// Writes what the target takes of a chunk and keeps the rest.
    fn write_chunk<T: Side>(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut T,
        chunk: &[u8],
        count: &Counter,
    ) -> io::Result<()> {
        let (mut chunk, mut inject) = (chunk, None);
        if let Some(filter) = &mut self.filter {
            let step = filter.pass(chunk);
            (chunk, inject) = (&chunk[..step.pass], step.inject);
        }
        while !chunk.is_empty() {
            match self.poll_write(cx, target, chunk, count) {
                Poll::Ready(Ok(n)) => chunk = &chunk[n..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(chunk);
                    break;
                }
            }
        }
        if let Some(words) = inject {
            self.say(&words);
        }
        Ok(())
    }

    /// Has the target told something after all that is held.
    pub(in crate::connection) fn say(&mut self, words: &Bytes) {
        if !matches!(self.stage, Stage::Open | Stage::Ending) {
            return;
        }
        self.rest =
            if self.rest.is_empty() { words.clone() } else { [&self.rest[..], words].concat().into() };
    }

    fn poll_write<T: Side>(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut T,
        bytes: &[u8],
        count: &Counter,
    ) -> Poll<io::Result<usize>> {
        loop {
            match ready!(Pin::new(&mut *target).poll_write(cx, bytes)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    count.add(n as u64);
                    (self.wrote, self.unflushed) = (true, true);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(self.heard_from_target(error))),
            }
        }
    }

    /// A RST is reported once. If it comes after a FIN, it is reported as `EPIPE`, and the end was one.
    fn heard_from_target(&mut self, error: io::Error) -> io::Error {
        self.target_reset |= error.kind() == io::ErrorKind::ConnectionReset;
        error
    }

    /// What the source still says is read all the same: it may not listen before it has said everything.
    fn target_gone(&mut self) {
        (self.rest, self.pipe) = (Bytes::new(), None);
        self.half = Some(Half::TargetGone);
        self.stage = if self.eof { Stage::Over } else { Stage::Deaf };
    }

    /// The target gets what is held, and then a FIN.
    fn source_ended(&mut self) {
        if let Some(words) = self.filter.as_mut().and_then(|filter| filter.ended()) {
            self.say(&words);
        }
        (self.eof, self.stage) = (true, Stage::Ending);
    }

    fn may_break_off(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.may_break_off())
    }

    fn over(&mut self, half: Half) {
        (self.half, self.stage) = (Some(half), Stage::Over);
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// These can't be spliced; that says nothing about either end.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EPERM))
        || (error.raw_os_error().is_none() && error.kind() == io::ErrorKind::InvalidInput)
}

fn poll_read<S: Side>(cx: &mut Context<'_>, source: &mut S, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        let mut buffer = ReadBuf::new(buffer);
        match ready!(Pin::new(&mut *source).poll_read(cx, &mut buffer)) {
            Ok(()) => return Poll::Ready(Ok(buffer.filled().len())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
