//! Clients of every protocol at once.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::http2::{self, Call};
use crate::load;
use crate::session::Running;
use crate::tally::Tally;
use crate::tls::Trust;

mod tcp;
pub(crate) mod websocket;

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one-shot and keep-alive.
    Http1,
    /// The same over TLS.
    Tls,
    /// Requests over HTTP/2, on connections with many streams, and on one for each.
    Http2,
    /// Unary gRPC calls and streams.
    Grpc,
    /// Messages that come back.
    WebSocket,
    /// Conversations over TCP.
    Tcp,
}

/// Loads of all protocols against one proxy.
#[derive(Debug, Clone)]
pub struct Mix {
    /// Where it speaks HTTP/1.1 and HTTP/2.
    pub http: SocketAddr,
    /// Where it speaks TLS.
    pub tls: SocketAddr,
    /// Where it passes on TCP.
    pub tcp: SocketAddr,
    /// What its certificate is trusted for.
    pub trust: Trust,
    /// The size of the app's bodies.
    pub body: usize,
    /// What the clients speak.
    pub protocols: Vec<Protocol>,
}

/// A mix under way.
#[must_use]
#[derive(Debug)]
pub struct RunningMix(Vec<(Protocol, Running)>);

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Http1, Self::Tls, Self::Http2, Self::Grpc, Self::WebSocket, Self::Tcp];

    /// Its name as a flag's value.
    fn flag(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::WebSocket => "websocket",
            Self::Tcp => "tcp",
        }
    }

    /// Its name in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC",
            Self::WebSocket => "WebSocket",
            Self::Tcp => "TCP",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|protocol| protocol.flag() == text);
        found.ok_or_else(|| format!("write {}", Self::ALL.map(Self::flag).join(", ")))
    }
}

impl Mix {
    /// Starts all clients as tasks of the current runtime.
    pub fn start(&self) -> RunningMix {
        RunningMix(self.protocols.iter().map(|protocol| (*protocol, self.start_one(*protocol))).collect())
    }

    fn start_one(&self, protocol: Protocol) -> Running {
        let think = Duration::from_millis(30);
        let one_shot_and_keep_alive =
            load::Load { one_shot: 16, keep_alive: 50, ..load::Load::new(self.http, self.body) };
        let streams = |call, connections, streams| {
            let addr = self.http;
            http2::Load { addr, call, connections, streams, one_shot: false, think }
        };
        let mut running = Running::new();
        match protocol {
            Protocol::Http1 => return one_shot_and_keep_alive.start(),
            Protocol::Tls => {
                let tls = Some(self.trust.clone());
                return load::Load { addr: self.tls, one_shot: 8, tls, ..one_shot_and_keep_alive }.start();
            }
            Protocol::Http2 => {
                streams(Call::Get(self.body), 8, 8).add_to(&mut running);
                http2::Load { one_shot: true, ..streams(Call::Get(self.body), 8, 1) }.add_to(&mut running);
            }
            Protocol::Grpc => {
                streams(Call::Unary, 8, 4).add_to(&mut running);
                streams(Call::Stream, 8, 2).add_to(&mut running);
            }
            Protocol::WebSocket => return websockets(self.http, 24),
            Protocol::Tcp => {
                (0..24).for_each(|id| running.spawn(|session| tcp::client(session, self.tcp, id)))
            }
        }
        running
    }
}

impl RunningMix {
    /// Waits until a connection of each protocol was refused.
    pub async fn refused(&self) {
        for (_, running) in &self.0 {
            running.refused().await;
        }
    }

    /// Lets every client end what it is at, and returns what became of all of them.
    ///
    /// # Panics
    /// When a client panicked.
    pub async fn stop(self) -> Vec<(Protocol, Tally)> {
        let mut stopping = tokio::task::JoinSet::new();
        for (n, (protocol, running)) in self.0.into_iter().enumerate() {
            stopping.spawn(async move { (n, protocol, running.stop().await) });
        }
        let mut tallies = stopping.join_all().await;
        tallies.sort_by_key(|(n, ..)| *n);
        tallies.into_iter().map(|(_, protocol, tally)| (protocol, tally)).collect()
    }
}

/// So many clients with WebSockets, as tasks of the current runtime.
pub fn websockets(addr: SocketAddr, clients: u64) -> Running {
    let mut running = Running::new();
    (0..clients).for_each(|id| running.spawn(|session| websocket::client(session, addr, id)));
    running
}

#[cfg(test)]
mod tests;
