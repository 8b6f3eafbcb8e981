//! Bytes in both directions that are not ours to understand: after a 101, and on `tcp://` forwards.
//!
//! Each direction lives and ends by itself. A half-close is passed on; when one side does not take any more, what
//! it has said before is still delivered to the other. What breaks off on one side breaks off on the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::roster::{Member, Order, Stage};
use crate::drain::Phase;
use crate::metrics::End;
use crate::sys;

mod bulk;
mod direction;
mod goodbye;
mod relay;
mod side;
mod tools;

use direction::{Direction, Half};
use goodbye::{Progress, Shared};
use relay::{Ending, Relay};
pub(super) use side::{Side, Socket};
pub(super) use tools::Tools;

/// A side that is to be reset, and takes nothing of what it was sent before for this long, is not waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// Nor one that takes longer than this, unless there is a drain to wait for it.
const TOTAL: Duration = Duration::from_secs(30);

/// The two sides, and what was read past the heads.
#[derive(Debug)]
pub(super) struct Tunnel<C, A> {
    relay: Relay<C, A>,
    /// The app has not ended its side.
    in_use: Option<InUse>,
    finishing: bool,
    /// What it carries is followed, so that its ends can be told to go.
    websocket: Option<Shared>,
}

/// How the driving of a tunnel ends.
enum Driven {
    Ended(Ending),
    /// The app has ended its side a while ago, and the client says nothing more.
    ClientSilent,
    /// Both ends of a WebSocket have been told to go, and have answered or had their time.
    SaidGoodbye,
    /// The drain's deadline has come, and both have gone.
    Finished,
    Cut,
}

impl<C: Side, A: Side> Tunnel<C, A> {
    pub(super) fn new(client: C, from_client: Bytes, app: A, from_app: Bytes, member: &Member) -> Box<Self> {
        let relay = Relay::new(client, app, Direction::new(from_client), Direction::new(from_app));
        Box::new(Self { relay, in_use: Some(InUse::new(member)), finishing: false, websocket: None })
    }

    /// What it carries is a WebSocket.
    pub(super) fn follow(mut self: Box<Self>) -> Box<Self> {
        self.websocket = Some(Shared::follow(&mut self.relay));
        self
    }

    /// Copies until both directions have ended, or until the drain's deadline: then both sides get a FIN, and a
    /// moment later they are cut. Returns a client that has got everything and is to be ended in order.
    ///
    /// `heard` is called when the client has said something.
    pub(super) async fn run(mut self: Box<Self>, member: &Member, mut heard: impl FnMut()) -> Option<C> {
        let stage = if self.websocket.is_some() { Stage::WebSocket } else { Stage::Tunnel };
        member.seat.enter(stage, Instant::now());
        let driven = poll_fn(|cx| self.poll_run(member, &mut heard, cx)).await;
        drop(self.in_use.take());
        let Relay { client, app, up, down, .. } = self.relay;
        match driven {
            Driven::Ended(Ending::Over) | Driven::SaidGoodbye => return Some(client),
            Driven::ClientSilent => {
                // If the app is still there, it must not take what it has got for all that the client had to say.
                part(member, app).await;
                return Some(client);
            }
            Driven::Ended(Ending::ClientGone) => {
                client.abort();
                drop(client);
                part(member, app).await;
            }
            Driven::Ended(Ending::AppGone) => {
                app.abort();
                drop(app);
                if client.tcp().is_none() {
                    // A stream's reset would overtake what has been said before it. Without a Close, no end of a
                    // WebSocket looks like a proper one.
                    return Some(client);
                }
                part(member, client).await;
            }
            Driven::Finished => {}
            Driven::Cut => {
                // A FIN would make what is missing look like an end.
                if down.holds() {
                    client.abort();
                }
                if up.holds() {
                    app.abort();
                }
            }
        }
        None
    }

    fn poll_run(&mut self, member: &Member, heard: &mut impl FnMut(), cx: &mut Context<'_>) -> Poll<Driven> {
        let seat = &member.seat;
        seat.register(cx.waker());
        match seat.take_order() {
            Some(Order::Cut) => {
                member.ends(End::Cut);
                return Poll::Ready(Driven::Cut);
            }
            Some(Order::Close) if member.view().ended() => {
                member.ends(End::Cut);
                self.finishing = true;
                self.websocket = None;
                self.relay.finish();
            }
            Some(Order::Close) if !self.relay.up.holds() => return Poll::Ready(Driven::ClientSilent),
            Some(Order::Probe) => {
                if let Some(ending) = self.relay.look(&seat.peer, Instant::now()) {
                    return Poll::Ready(Driven::Ended(ending));
                }
            }
            Some(Order::Goodbye) => {
                if let Some(websocket) = &self.websocket
                    && !websocket.is_told()
                {
                    websocket.tell();
                    seat.enter(Stage::Goodbye, Instant::now());
                }
            }
            _ => {}
        }
        let mut driven = self.poll_relay(member, cx);
        if let Some(websocket) = self.websocket.clone().filter(Shared::is_told) {
            driven = self.poll_goodbye(&websocket, driven, member, cx);
        }
        if self.relay.up.take_heard() {
            heard();
            // Once the app has ended its side, a drain lets the client go when it is silent.
            if seat.stage.get() == Stage::HalfTunnel {
                seat.since.set(Instant::now());
            }
        }
        let down = self.relay.down.half();
        if down.is_some()
            && self.in_use.take().is_some()
            && down == Some(Half::Done)
            && seat.stage.get() != Stage::Goodbye
        {
            seat.enter(Stage::HalfTunnel, Instant::now());
        }
        seat.watched.set(self.relay.is_watched());
        driven
    }

    fn poll_relay(&mut self, member: &Member, cx: &mut Context<'_>) -> Poll<Driven> {
        let (tools, bytes) = (member.tools(), &member.shard.tunnel_bytes[member.protocol() as usize]);
        if self.finishing {
            self.relay.poll_finish(cx, tools, bytes).map(|()| Driven::Finished)
        } else {
            self.relay.poll(cx, tools, bytes).map(Driven::Ended)
        }
    }

    /// Says what is due, and sees how far the goodbye is.
    fn poll_goodbye(
        &mut self,
        websocket: &Shared,
        driven: Poll<Driven>,
        member: &Member,
        cx: &mut Context<'_>,
    ) -> Poll<Driven> {
        let broken = |driven: &Poll<Driven>| {
            matches!(driven, Poll::Ready(Driven::Ended(Ending::ClientGone | Ending::AppGone)))
        };
        if broken(&driven) {
            return driven;
        }
        let now = Instant::now();
        websocket.say(&mut self.relay, now);
        if websocket.has_said_goodbye() {
            member.ends(End::Told);
        }
        let driven = self.poll_relay(member, cx);
        if broken(&driven) {
            return driven;
        }
        match websocket.progress(now) {
            Progress::Over => Poll::Ready(Driven::SaidGoodbye),
            // The client has gone with its answer; the app may still want to give one.
            Progress::UnderWay if websocket.has_said_goodbye() && !self.relay.is_over() => Poll::Pending,
            Progress::UnderWay => driven,
            Progress::Impossible => {
                self.websocket = None;
                let half = self.relay.down.half() == Some(Half::Done);
                member.seat.enter(if half { Stage::HalfTunnel } else { Stage::Tunnel }, now);
                driven
            }
        }
    }
}

/// Resets one side, because the other has broken off: after it has taken what was sent to it before, which a RST would
/// destroy.
async fn part<S: Side>(member: &Member, mut side: S) {
    let start = Instant::now();
    member.seat.enter(Stage::Lingering, start);
    let (mut left, mut since, mut flushed) = (i32::MAX, start, false);
    poll_fn(|cx| {
        // The roster looks at a lingering connection at every tick.
        member.seat.register(cx.waker());
        let now = Instant::now();
        // Part of it may still be on our side of the socket.
        if !flushed {
            match Pin::new(&mut side).poll_flush(cx) {
                Poll::Ready(Ok(())) => (flushed, left) = (true, i32::MAX),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        let untaken = side.tcp().map_or(0, |socket| match sys::health(socket).closed {
            true => 0,
            false => sys::unacknowledged(socket).max(i32::from(!flushed)),
        });
        if untaken < left {
            (left, since) = (untaken, now);
        }
        let cut = member.seat.take_order() == Some(Order::Cut);
        if cut && untaken > 0 {
            member.ends(End::Cut);
        }
        let late =
            now - since >= SILENCE || (now - start >= TOTAL && member.view().phase() == Phase::Serving);
        if cut || late || untaken == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    side.abort();
}

/// Counts the connection to the app as in use while the app has not ended it.
#[derive(Debug)]
struct InUse(std::sync::Arc<crate::metrics::Shard>);

impl InUse {
    fn new(member: &Member) -> Self {
        member.shard.upstream_active.add(1);
        Self(std::sync::Arc::clone(&member.shard))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.upstream_active.add(-1);
    }
}
