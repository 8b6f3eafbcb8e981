//! Says goodbye on a WebSocket (RFC 6455) that is passed through: Close 1001 to both ends, at a boundary of frames.
//!
//! Pure: no IO, no clock, no allocation. It is fed with the bytes of both directions as they come and says what
//! becomes of them; payloads are neither decoded nor kept. Unless it is told to go, everything goes on as it came.
//!
//! ```text
//!  told ──▶ Close 1001 to the client, at the next gap between two messages; what the app says then goes nowhere
//!           what the client still says goes on to the app, up to and with its own Close
//!           no Close from it within 1 s: Close 1001 to the app; what the client says then goes nowhere
//!           over when each side has got a Close and sent one, or has had 5 s for that
//! ```
//!
//! What the ends say first wins: no direction ever carries two Closes, nor anything of ours after one of theirs. A
//! direction that does not look like WebSocket is left alone, and then nobody is told anything.

use tokio::time::{Duration, Instant};

mod direction;
mod frames;

pub use direction::Step;
use direction::{Direction, Gap};

/// "Going away" (RFC 6455, section 7.4.1).
const GOING_AWAY: [u8; 2] = 1001u16.to_be_bytes();

/// A side that has got a Close has this long to answer before the other side gets one from us.
const ANSWER: Duration = Duration::from_secs(1);

/// A message whose frames take longer than this is interrupted between two of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// A side that has got a Close from us is not waited for longer.
const ECHO: Duration = Duration::from_secs(5);

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client: its frames are masked.
    Client,
    /// The app: its frames are not.
    App,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::App,
            Self::App => Self::Client,
        }
    }
}

/// A whole Close frame with code 1001 and no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    bytes: [u8; 8],
    len: u8,
}

impl Close {
    /// As `from` would send it.
    fn going_away(from: Side) -> Self {
        let [high, low] = GOING_AWAY;
        match from {
            Side::App => Self { bytes: [0x88, 2, high, low, 0, 0, 0, 0], len: 4 },
            Side::Client => {
                // The key must be fresh, but hides nothing here: what it masks is known to everybody.
                let [a, b, c, d] = fastrand::u32(..).to_ne_bytes();
                Self { bytes: [0x88, 0x82, a, b, c, d, high ^ a, low ^ b], len: 8 }
            }
        }
    }
}

impl AsRef<[u8]> for Close {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Whether everything that is to go to a side has been written.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// To the client.
    pub to_client: bool,
    /// To the app.
    pub to_app: bool,
}

/// What is to be sent now, in the place where it is called for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sends {
    /// To the client.
    pub to_client: Option<Close>,
    /// To the app.
    pub to_app: Option<Close>,
}

/// Both directions of a WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    /// From the client to the app.
    up: Direction,
    /// From the app to the client.
    down: Direction,
    client: End,
    app: End,
    told: bool,
}

/// What is known of one of the two ends.
#[derive(Debug, Default)]
struct End {
    /// Since when it has had a Close to answer. Counted in a drain only.
    asked: Option<Instant>,
    /// Since when it is to get one from us.
    due: Option<Instant>,
    /// It has sent something since that was last looked at.
    heard: bool,
    /// When it last sent more of what goes on to the other end.
    spoke: Option<Instant>,
    /// Its stream has ended.
    ended: bool,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            up: Direction::new(Side::Client),
            down: Direction::new(Side::App),
            client: End::default(),
            app: End::default(),
            told: false,
        }
    }
}

impl WebSocket {
    /// Decides on the next bytes from one side.
    pub fn pass(&mut self, from: Side, chunk: &[u8]) -> Step {
        if from == Side::App {
            let step = self.down.pass(chunk);
            if !self.down.is_followed() {
                self.up.want_no_more();
            }
            return step;
        }
        self.client.heard = true;
        let step = self.up.pass(chunk);
        // The app's own answer to a Close is better than ours, if it comes soon; and who does not speak WebSocket
        // gets none.
        if self.up.source_has_closed() || !self.up.is_followed() {
            self.down.want_no_more();
        }
        step
    }

    /// One side's stream has ended. Returns what goes to the other one before it is told so.
    pub fn ended(&mut self, from: Side) -> Option<Close> {
        let told = self.told && self.is_followed();
        let (end, direction) = match from {
            Side::Client => (&mut self.client, &mut self.up),
            Side::App => (&mut self.app, &mut self.down),
        };
        end.ended = true;
        let close = if told { direction.want(Gap::Messages) } else { None };
        direction.end();
        close
    }

    /// The instant has come to say goodbye. The next [`WebSocket::look`] begins with it.
    pub fn tell(&mut self) {
        self.told = true;
    }

    /// Looks at what the time calls for; once told, to be called again and again. What it returns goes out behind
    /// everything that has been passed so far.
    pub fn look(&mut self, written: Written, now: Instant) -> Sends {
        if !self.told {
            return Sends::default();
        }
        if self.down.is_closed() && written.to_client {
            self.client.asked.get_or_insert(now);
        }
        if self.up.is_closed() && written.to_app {
            self.app.asked.get_or_insert(now);
        }
        if std::mem::take(&mut self.client.heard) && !self.up.is_closed() {
            self.client.spoke = Some(now);
        }
        if !self.is_followed() {
            return Sends::default();
        }
        // A client that has closed already gets its answer from the app, or else from us.
        let client_due = !self.up.source_has_closed() || self.app.has_had(ANSWER, now);
        let app_due = self.client.has_had(ANSWER, now);
        Sends {
            to_client: close_when(client_due, &mut self.down, &mut self.client.due, now),
            to_app: close_when(app_due, &mut self.up, &mut self.app.due, now),
        }
    }

    /// Whether a Close of ours has gone out, to either side.
    #[must_use]
    pub fn has_said_goodbye(&self) -> bool {
        self.down.is_closed_by_us() || self.up.is_closed_by_us()
    }

    /// Whether its frames can be followed, so that each side may get a Close.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.up.is_followed() && self.down.is_followed()
    }

    /// Whether it has been told to go.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// That this side breaks off is no more than its end: it has said what it had to say, or we have told it to go.
    #[must_use]
    pub fn may_break_off(&self, from: Side) -> bool {
        let direction = if from == Side::Client { &self.up } else { &self.down };
        self.told && (direction.is_closed() || self.has_said_goodbye())
    }

    /// The other side is not to see this side's end yet: a client that has got our Close still has to answer it.
    #[must_use]
    pub fn holds_end(&self, from: Side) -> bool {
        from == Side::App && self.down.is_closed_by_us() && !self.up.source_has_closed() && !self.client.ended
    }

    /// The client has got a Close and sent one: it is our turn to close its connection.
    #[must_use]
    pub fn is_over_for_client(&self) -> bool {
        self.client.asked.is_some() && self.up.source_has_closed()
    }

    /// Nothing more is to be waited for: the handshakes are done, or have had their time. Never before it is told.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        let client_had_time = self.client.ended || self.client.has_had_its_time(now);
        let client_done = self.client.asked.is_some() && (self.up.source_has_closed() || client_had_time);
        let app_done = if self.up.is_closed() {
            self.app.asked.is_some() && (self.down.source_has_closed() || self.app.has_had_its_time(now))
        } else {
            // The client has left off in the middle of something.
            client_had_time
        };
        client_done && (app_done || self.app.ended)
    }
}

impl End {
    fn has_had(&self, time: Duration, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= time)
    }

    /// It was asked long enough ago, and has said nothing since that should not be broken off.
    fn has_had_its_time(&self, now: Instant) -> bool {
        let since = self.asked.map(|asked| self.spoke.map_or(asked, |spoke| spoke.max(asked)));
        since.is_some_and(|since| now.saturating_duration_since(since) >= ECHO)
    }
}

/// Our Close in a direction in which it is due, when there is a gap for it.
fn close_when(
    due: bool,
    direction: &mut Direction,
    since: &mut Option<Instant>,
    now: Instant,
) -> Option<Close> {
    if !due {
        return None;
    }
    let since = *since.get_or_insert(now);
    let gap = if now.saturating_duration_since(since) < PATIENCE { Gap::Messages } else { Gap::Frames };
    direction.want(gap)
}

#[cfg(test)]
mod tests;
