//! One worker's counters for one forward.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency histogram, in microseconds; the last bucket has none.
pub(super) const BUCKETS_MICROS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// A number that only grows. One thread writes it, any may read it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`. Load and store instead of fetch-add: there is one writer, so nothing can come in between.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. One thread writes it, any may read it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A label whose values are known beforehand, so that each has its own slot in an array.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in slot order.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// The label's text.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// What a client connection speaks.
    Protocol {
        /// HTTP/1.0 and 1.1, and connections that have not said anything yet.
        Http1 = "http1",
        /// HTTP/2, gRPC among it.
        Http2 = "http2",
        /// After a 101 (or its like in HTTP/2) for `websocket`.
        WebSocket = "websocket",
        /// After any other 101.
        Upgrade = "upgrade",
        /// A `tcp://` forward.
        Tcp = "tcp",
    }
}

label! {
    /// How a connection that was open in a drain ended.
    End {
        /// By itself: the client went, or the exchange was over.
        Finished = "finished",
        /// By ebb, after it had been idle.
        ClosedIdle = "closed_idle",
        /// It was taken out of the accept queue after new connections had been turned away (it also has an
        /// end of its own).
        Rescued = "rescued",
        /// After a response that asked for it.
        Told = "told",
        /// By the deadline.
        Cut = "cut",
    }
}

label! {
    /// Which way bytes go through a tunnel.
    Toward {
        /// From the client.
        App = "to_app",
        /// From the app.
        Client = "to_client",
    }
}

label! {
    /// Why the app could not answer.
    UpstreamFailure {
        /// Nothing listens there.
        Refused = "upstream-refused",
        /// It can't be reached for another reason.
        Unreachable = "upstream-unreachable",
        /// No connection within `--connect-timeout`.
        Timeout = "upstream-timeout",
        /// The connection ended before the response did.
        Reset = "upstream-reset",
        /// What it sent is not HTTP.
        Invalid = "upstream-invalid",
    }
}

label! {
    /// Why a TLS handshake has failed.
    HandshakeFailure {
        /// The client speaks HTTP in the clear.
        PlainHttp = "plain-http",
        /// It took longer than `--tls-handshake-timeout`, or than a drain can wait.
        Timeout = "timeout",
        /// The client went away in the middle of it.
        Gone = "gone",
        /// Client and ebb have no version, cipher or protocol in common.
        NothingInCommon = "nothing-in-common",
        /// The client has no certificate, or not one of `--tls-client-ca`.
        ClientCertificate = "client-certificate",
        /// The client has refused, most often because it does not trust the certificate.
        RefusedByClient = "refused-by-client",
        /// What the client sent is not TLS.
        Invalid = "invalid",
    }
}

const STATUSES: usize = 900;

/// One worker's counters for one forward.
#[derive(Debug)]
#[repr(align(128))] // two cache lines: the prefetcher pairs them, so a neighbour's shard must not share either
pub struct Shard {
    /// The `forward` label.
    pub forward: String,
    /// Connections accepted.
    pub accepted: [Counter; Protocol::ALL.len()],
    /// Connections with an exchange under way.
    pub active: [Gauge; Protocol::ALL.len()],
    /// Connections without one.
    pub idle: [Gauge; Protocol::ALL.len()],
    /// Requests whose response has not ended.
    pub in_flight: Gauge,
    /// Requests that bytes arrived for after an idle close.
    pub raced: Counter,
    /// Connections whose PROXY protocol header was missing or bad.
    pub proxy_protocol_errors: Counter,
    /// How connections ended in drains.
    pub ends: [[Counter; End::ALL.len()]; Protocol::ALL.len()],
    /// Failures of the app.
    pub upstream_failures: [Counter; UpstreamFailure::ALL.len()],
    /// TLS handshakes that failed.
    pub handshake_failures: [Counter; HandshakeFailure::ALL.len()],
    /// Connections to the app that a request is using.
    pub upstream_active: Gauge,
    /// Connections to the app in the pool.
    pub upstream_idle: Gauge,
    /// Bytes that tunnels have passed on.
    pub tunnel_bytes: [[Counter; Toward::ALL.len()]; Protocol::ALL.len()],
    /// Requests by protocol (HTTP/1.1, HTTP/2) and status.
    statuses: Box<[[Counter; STATUSES]; 2]>,
    pub(super) buckets: [Counter; BUCKETS_MICROS.len() + 1],
    pub(super) micros: Counter,
}

impl Shard {
    pub(super) fn new(forward: &str) -> Self {
        Self {
            forward: forward.to_owned(),
            accepted: Default::default(),
            active: Default::default(),
            idle: Default::default(),
            in_flight: Gauge::default(),
            raced: Counter::default(),
            proxy_protocol_errors: Counter::default(),
            ends: Default::default(),
            upstream_failures: Default::default(),
            handshake_failures: Default::default(),
            upstream_active: Gauge::default(),
            upstream_idle: Gauge::default(),
            tunnel_bytes: Default::default(),
            statuses: Box::new([const { [const { Counter(AtomicU64::new(0)) }; STATUSES] }; 2]),
            buckets: Default::default(),
            micros: Counter::default(),
        }
    }

    /// Counts an ended request. `status` is 100 to 999.
    pub fn request(&self, protocol: Protocol, status: u16, took: Duration) {
        self.refused(protocol, status);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS_MICROS.len());
        self.buckets[bucket].inc();
        self.micros.add(micros);
    }

    /// Counts a response that never was a request (a head that could not be read).
    pub fn refused(&self, protocol: Protocol, status: u16) {
        let of_protocol = usize::from(protocol == Protocol::Http2);
        self.statuses[of_protocol][usize::from(status).saturating_sub(100).min(STATUSES - 1)].inc();
    }

    /// Requests with each protocol and status that occurred.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (Protocol, usize, u64)> {
        [Protocol::Http1, Protocol::Http2].into_iter().zip(&*self.statuses).flat_map(
            |(protocol, statuses)| {
                let counts = statuses.iter().enumerate().map(move |(i, n)| (protocol, i + 100, n.get()));
                counts.filter(|&(.., n)| n > 0)
            },
        )
    }
}
