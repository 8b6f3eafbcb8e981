//! A connection of a `tcp://` forward: bytes in both directions, from the first to the last.
//!
//! The app is connected to at once, not at the client's first byte: in many protocols the server speaks first. There
//! are no words of ours in such a connection, so whatever goes wrong is a RST.

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use tokio::time::Instant;

use super::peer::Presence;
use super::roster::{Member, Order, Stage};
use super::stream::ClientStream;
use super::tunnel::Tunnel;
use super::{Site, linger};
use crate::drain::Phase;
use crate::metrics::End;
use crate::proxy::Caller;
use crate::upstream::Stream;

/// Serves one connection, to its end.
pub(super) async fn serve(site: Rc<Site>, member: Member, caller: Rc<Caller>, client: ClientStream) {
    let Some(app) = connect(&site, &member, &caller, &client).await else {
        client.abort();
        return;
    };
    let tunnel = Tunnel::new(client, Bytes::new(), app, Bytes::new(), &member);
    let mut silent = true;
    // A kubelet's tcpSocket probe connects and says nothing.
    let heard = || {
        if std::mem::take(&mut silent) && member.view().phase() != Phase::Serving {
            site.arrivals.note(member.seat.accepted);
        }
    };
    if let Some(client) = tunnel.run(&member, heard).await {
        linger::after_response(&member, client).await;
    }
}

/// Connects to the app; none when that can't be done, when the client has gone meanwhile, or at the drain's deadline.
async fn connect(site: &Site, member: &Member, caller: &Caller, client: &ClientStream) -> Option<Stream> {
    let seat = &member.seat;
    seat.enter(Stage::Tunnel, Instant::now());
    seat.watched.set(true);
    let connecting = site.route.pool.open(caller.preamble());
    let given_up = poll_fn(|cx| {
        seat.register(cx.waker());
        match seat.take_order() {
            Some(Order::Close | Order::Cut) => {
                member.ends(End::Cut);
                Poll::Ready(())
            }
            Some(Order::Probe) if seat.peer.look(client.as_fd(), Instant::now()) != Presence::There => {
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    });
    tokio::select! {
        biased;
        () = given_up => None,
        connected = connecting => connected
            .inspect_err(|failure| tracing::debug!(reason = failure.name(), "cannot connect to the app"))
            .ok(),
    }
}
