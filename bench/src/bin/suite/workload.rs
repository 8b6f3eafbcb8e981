//! What the proxies are made to do.

use std::sync::Arc;

use ebb_bench::ask::{Answered, Ask, Http1, Http1Options, Http2, Tcp, WebSocket, What};
use ebb_bench::bulk::Direction;
use ebb_bench::client::Failure;
use ebb_bench::peer::{Peer, Serve};
use ebb_bench::tls::Identity;

use crate::args::Args;

/// Bytes.
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Connections with large bodies; each has one in memory at the app.
const LARGE: usize = 16;

/// Messages in a gRPC stream.
const MESSAGES: u8 = 100;

/// gRPC streams at a time on a connection.
const STREAMS: usize = 4;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Workload {
    Http1,
    Http1Of64K,
    Http1Of1M,
    OneShot,
    Upload,
    Tls,
    Http2,
    Http2ToHttp1,
    Grpc,
    GrpcStream,
    WebSocket,
    PingPong,
    BulkUp,
    BulkDown,
}

/// What the processor time is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    Message,
    GiB,
}

impl Unit {
    /// What a turn costs in it: microseconds each, or seconds for a GiB.
    pub(crate) fn cost(self) -> &'static str {
        match self {
            Self::Request => "us per request",
            Self::Message => "us per message",
            Self::GiB => "CPU s per GiB",
        }
    }

    /// How many of it there are in a second.
    pub(crate) fn rate(self) -> &'static str {
        match self {
            Self::Request => "requests/s",
            Self::Message => "messages/s",
            Self::GiB => "GiB/s",
        }
    }
}

impl Workload {
    pub(crate) const ALL: [Self; 14] = [
        Self::Http1,
        Self::Http1Of64K,
        Self::Http1Of1M,
        Self::OneShot,
        Self::Upload,
        Self::Tls,
        Self::Http2,
        Self::Http2ToHttp1,
        Self::Grpc,
        Self::GrpcStream,
        Self::WebSocket,
        Self::PingPong,
        Self::BulkUp,
        Self::BulkDown,
    ];

    /// Its name as a flag's value.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http1Of64K => "http1-64k",
            Self::Http1Of1M => "http1-1m",
            Self::OneShot => "one-shot",
            Self::Upload => "upload",
            Self::Tls => "tls",
            Self::Http2 => "h2",
            Self::Http2ToHttp1 => "h2-h1",
            Self::Grpc => "grpc",
            Self::GrpcStream => "grpc-stream",
            Self::WebSocket => "websocket",
            Self::PingPong => "ping-pong",
            Self::BulkUp => "bulk-up",
            Self::BulkDown => "bulk-down",
        }
    }

    /// Its name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1 keep-alive",
            Self::Http1Of64K => "HTTP/1.1, 64 KiB bodies",
            Self::Http1Of1M => "HTTP/1.1, 1 MiB bodies",
            Self::OneShot => "HTTP/1.1, one connection per request",
            Self::Upload => "HTTP/1.1, uploads of 1 MiB",
            Self::Tls => "HTTP/1.1 over TLS 1.3",
            Self::Http2 => "HTTP/2 to HTTP/2",
            Self::Http2ToHttp1 => "HTTP/2 to HTTP/1.1",
            Self::Grpc => "gRPC, unary",
            Self::GrpcStream => "gRPC, streams of 100 messages",
            Self::WebSocket => "WebSocket echo",
            Self::PingPong => "TCP round trips",
            Self::BulkUp => "TCP in bulk, to the app",
            Self::BulkDown => "TCP in bulk, to the client",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Http1Of64K | Self::Http1Of1M | Self::Upload | Self::BulkUp | Self::BulkDown => Unit::GiB,
            Self::GrpcStream | Self::WebSocket | Self::PingPong => Unit::Message,
            _ => Unit::Request,
        }
    }

    /// Whether the short version has it.
    pub(crate) fn in_short(self) -> bool {
        use Workload::{BulkDown, BulkUp, Http1, Http1Of1M, Http2, OneShot, Tls, WebSocket};
        matches!(self, Http1 | Http1Of1M | OneShot | Tls | Http2 | WebSocket | BulkUp | BulkDown)
    }

    /// Whether its latency is measured: not that of large bodies, or of streams.
    pub(crate) fn has_latency(self, quick: bool) -> bool {
        match self {
            Self::Http1 | Self::Http2 => true,
            Self::GrpcStream => false,
            _ => !quick && self.unit() != Unit::GiB,
        }
    }

    /// Which way the bytes go, where that is all.
    pub(crate) fn bulk(self) -> Option<Direction> {
        match self {
            Self::BulkUp => Some(Direction::Up),
            Self::BulkDown => Some(Direction::Down),
            _ => None,
        }
    }

    /// What a proxy has to pass on.
    pub(crate) fn serve(self, identity: &Arc<Identity>) -> Serve {
        match self {
            Self::Http1 | Self::Http1Of64K | Self::Http1Of1M | Self::OneShot | Self::Upload => Serve::Http1,
            Self::Tls => Serve::Tls(Arc::clone(identity)),
            Self::Http2 => Serve::Http2,
            Self::Http2ToHttp1 => Serve::Http2ToHttp1,
            Self::Grpc | Self::GrpcStream => Serve::Grpc,
            Self::WebSocket => Serve::WebSocket,
            Self::PingPong | Self::BulkUp | Self::BulkDown => Serve::Tcp,
        }
    }

    /// The size of the app's bodies.
    pub(crate) fn body(self, args: &Args) -> usize {
        match self {
            Self::Http1Of64K => 64 * KIB,
            Self::Http1Of1M => MIB,
            _ => args.body,
        }
    }

    /// Clients for it, not for what goes in bulk: there, threads of their own move the bytes.
    pub(crate) async fn clients(
        self,
        args: &Args,
        peer: &Peer,
        identity: &Identity,
    ) -> Result<Vec<Client>, Failure> {
        let (addr, body, small) = (peer.addr(), self.body(args), args.connections);
        let http1 = |options: Http1Options, count| {
            options.clients(count).into_iter().map(Client::Http1).collect::<Vec<_>>()
        };
        let plain = Http1Options { addr, body, upload: None, one_shot: false, tls: None };
        let http2 = async |what, streams| {
            let clients = Http2::clients(addr, what, args.h2_connections, streams).await?;
            Ok(clients.into_iter().map(Client::Http2).collect())
        };
        Ok(match self {
            Self::Http1 => http1(plain, small),
            Self::Http1Of64K | Self::Http1Of1M => http1(plain, small.min(LARGE)),
            Self::OneShot => http1(Http1Options { one_shot: true, ..plain }, small),
            Self::Upload => http1(Http1Options { upload: Some(MIB), ..plain }, small.min(LARGE)),
            Self::Tls => {
                let tls = Some(identity.trust().map_err(|_| Failure::NotConnected)?);
                http1(Http1Options { tls, ..plain }, small)
            }
            Self::Http2 | Self::Http2ToHttp1 => http2(What::Page(body), args.streams).await?,
            Self::Grpc => http2(What::Unary(args.body), args.streams).await?,
            Self::GrpcStream => http2(What::Stream(args.body, MESSAGES), STREAMS.min(args.streams)).await?,
            Self::WebSocket => {
                let clients = WebSocket::clients(addr, args.body, small).await?;
                clients.into_iter().map(Client::WebSocket).collect()
            }
            Self::PingPong | Self::BulkUp | Self::BulkDown => {
                Tcp::clients(addr, args.body, small).await?.into_iter().map(Client::Tcp).collect()
            }
        })
    }
}

/// A client of any kind.
pub(crate) enum Client {
    Http1(Http1),
    Http2(Http2),
    WebSocket(WebSocket),
    Tcp(Tcp),
}

impl Ask for Client {
    async fn ask(&mut self) -> Result<Answered, Failure> {
        match self {
            Self::Http1(client) => client.ask().await,
            Self::Http2(client) => client.ask().await,
            Self::WebSocket(client) => client.ask().await,
            Self::Tcp(client) => client.ask().await,
        }
    }
}
