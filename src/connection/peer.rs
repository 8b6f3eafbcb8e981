//! Whether the other end of a TCP connection is still there.
//!
//! A RST is heard of only where somebody reads, so it is looked for. And a peer that has lost its network says nothing
//! at all: what was sent to it is sent again for a quarter of an hour (`tcp_retries2`). That is too long for a drain, and
//! `TCP_USER_TIMEOUT` is no help: it strikes a client, too, that only pauses its download.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use tokio::time::{Duration, Instant};

use crate::sys::{self, Health};

/// A peer that has answered nothing for this long, though it was asked again and again, is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks that lie further apart than this say nothing of the time between them.
const LOOKS: Duration = Duration::from_secs(5);

/// The other end, as far as TCP knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    /// It has reset the connection.
    Closed,
    /// Nothing is heard of it any more.
    Vanished,
}

/// What earlier looks at a connection have found.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Hardly anybody is silent, so hardly anybody has room for it.
    silence: RefCell<Option<Box<Silence>>>,
}

/// How long a peer has not answered.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// When it was looked at last.
    last: Instant,
}

impl Peer {
    /// Looks, which is to be done every second or so while something matters that the peer has not acknowledged.
    pub(super) fn look(&self, socket: BorrowedFd<'_>, now: Instant) -> Presence {
        self.judge(sys::health(socket), now)
    }

    /// A peer that merely does not read answers each probe of its closed window, which takes the count of probes back
    /// to zero; and it acknowledges what it has room for. So neither count stands for a minute unless nothing comes
    /// back. (One probe is always on its way, hence two.)
    fn judge(&self, health: Health, now: Instant) -> Presence {
        if health.closed {
            return Presence::Closed;
        }
        if health.retransmits == 0 && health.probes < 2 {
            self.silence.take();
            return Presence::There;
        }
        let before = self.silence.take().filter(|it| now.saturating_duration_since(it.last) <= LOOKS);
        let since = before.map_or(now, |silence| silence.since);
        self.silence.replace(Some(Box::new(Silence { since, last: now })));
        let vanished = now.saturating_duration_since(since) >= PATIENCE && health.unheard >= PATIENCE;
        if vanished { Presence::Vanished } else { Presence::There }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACKNOWLEDGED: Health = Health { closed: false, retransmits: 0, probes: 0, unheard: Duration::ZERO };

    /// What a look finds each second, until one finds that the peer is not there; returns that second.
    fn gone_after(looks: impl Iterator<Item = Health>) -> Option<(usize, Presence)> {
        let (peer, start) = (Peer::default(), Instant::now());
        let found =
            looks.zip(0..).map(|(health, second)| peer.judge(health, start + Duration::from_secs(second)));
        found.enumerate().find(|&(_, presence)| presence != Presence::There)
    }

    fn seconds(n: u32) -> Duration {
        Duration::from_secs(n.into())
    }

    #[test]
    fn a_peer_that_does_not_answer_is_given_up_after_a_minute() {
        let silent = |second: u32| Health { retransmits: 3, unheard: seconds(second), ..ACKNOWLEDGED };
        assert_eq!(gone_after((0..100).map(silent)), Some((60, Presence::Vanished)));
        let probed = |second: u32| Health { probes: 2, unheard: seconds(second), ..ACKNOWLEDGED };
        assert_eq!(gone_after((0..100).map(probed)), Some((60, Presence::Vanished)));
        assert_eq!(
            gone_after([Health { closed: true, ..ACKNOWLEDGED }].into_iter()),
            Some((0, Presence::Closed))
        );
    }

    /// As seen with a client that stops reading: with each answered probe the next one comes later, at last two
    /// minutes, and one is on its way for a moment.
    #[test]
    fn a_peer_that_pauses_is_not() {
        let paused = |second: u32| Health {
            probes: u8::from(second % 120 == 119),
            unheard: seconds(second % 120),
            ..ACKNOWLEDGED
        };
        assert_eq!(gone_after((0..1000).map(paused)), None);
        // The answer to one probe is lost, so that the next one is the second without an answer.
        let unlucky = |second: u32| Health {
            probes: if second < 120 { 1 } else { u8::from(second == 120) * 2 },
            unheard: seconds(if second <= 120 { second } else { second - 120 }),
            ..ACKNOWLEDGED
        };
        assert_eq!(gone_after((0..240).map(unlucky)), None);
    }

    #[test]
    fn one_lost_packet_after_a_long_silence_is_no_sign() {
        let lossy = |second: u32| Health {
            retransmits: u8::from(second % 10 == 9),
            unheard: seconds(600 + second),
            ..ACKNOWLEDGED
        };
        assert_eq!(gone_after((0..200).map(lossy)), None);
        let peer = Peer::default();
        let (start, lost) =
            (Instant::now(), Health { retransmits: 1, unheard: seconds(600), ..ACKNOWLEDGED });
        assert_eq!(peer.judge(lost, start), Presence::There);
        // Nobody has looked meanwhile.
        assert_eq!(peer.judge(lost, start + seconds(300)), Presence::There);
    }

    #[test]
    fn a_peer_that_answers_something_is_there() {
        let lossy = |second: u32| Health { retransmits: 2, unheard: seconds(second % 20), ..ACKNOWLEDGED };
        assert_eq!(gone_after((0..300).map(lossy)), None);
    }
}
