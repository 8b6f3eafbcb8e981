//! `ebb proxy`: the flags, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::client::read_token;
use super::tls::TlsArgs;
use crate::config::{
    AccessLog, AdminConfig, Budget, Config, Forward, Forwarded, Limits, Upstream, UpstreamConfig,
    UpstreamProtocol, parse_addr, parse_bytes, parse_duration, parse_duration_above_zero,
};
use crate::proxy_protocol;
use crate::sidecar::{Sidecar, StartError};
use crate::telemetry::{self, LogFormat};

/// File descriptors kept back for listeners, the admin port, logs and the runtime itself.
const RESERVED_FDS: u64 = 64;

/// The kernel lets a user have so many of the size that we ask for (`pipe-user-pages-soft`).
const PIPES_MAX: u64 = 256;

/// The flags of `ebb proxy`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// What to listen on and where it goes, like 8080=3000; may be given several times
    #[arg(
        long = "forward",
        env = "EBB_FORWARD",
        required = true,
        value_name = "[SCHEME://][ADDR:]PORT=UPSTREAM",
        value_delimiter = ','
    )]
    forwards: Vec<Forward>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Where /drain, probes and metrics are served
    #[arg(long, env = "EBB_ADMIN", default_value = "[::]:9900", value_name = "ADDR:PORT", value_parser = parse_addr)]
    admin: SocketAddr,

    /// A file with the bearer token that callers from other addresses need for /drain and /undrain
    #[arg(long, env = "EBB_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// Lets every address drain, without a token
    #[arg(long, env = "EBB_ADMIN_OPEN")]
    admin_open: bool,

    /// The pod's terminationGracePeriodSeconds
    #[arg(long, env = "EBB_GRACE_PERIOD", default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    grace_period: Duration,

    /// Kept back from the grace period for the app's own shutdown
    #[arg(long, env = "EBB_APP_SHUTDOWN", default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    app_shutdown: Duration,

    /// New connections are accepted at least this long after the drain began
    #[arg(long, env = "EBB_LAME_DUCK_MIN", default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    lame_duck_min: Duration,

    /// New connections are accepted at most this long after the drain began
    #[arg(long, env = "EBB_LAME_DUCK_MAX", default_value = "15s", value_name = "DURATION", value_parser = parse_duration)]
    lame_duck_max: Duration,

    /// Between the two, this long without a new connection ends lame duck
    #[arg(long, env = "EBB_QUIET", default_value = "3s", value_name = "DURATION", value_parser = parse_duration)]
    quiet: Duration,

    /// A User-Agent prefix of a prober whose requests do not count as arrivals; may be given several times
    #[arg(
        long = "probe-user-agent",
        env = "EBB_PROBE_USER_AGENT",
        value_name = "PREFIX",
        value_delimiter = ','
    )]
    probe_user_agents: Vec<String>,

    /// Event loops, each one thread [default: the CPUs it may use, at most 2]
    #[arg(long, env = "EBB_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,

    /// A keep-alive connection without a request is closed after this
    #[arg(long, env = "EBB_IDLE_TIMEOUT", default_value = "620s", value_name = "DURATION", value_parser = parse_duration_above_zero)]
    idle_timeout: Duration,

    /// A request head must be complete this long after its first byte
    #[arg(long, env = "EBB_HEADER_TIMEOUT", default_value = "30s", value_name = "DURATION", value_parser = parse_duration_above_zero)]
    header_timeout: Duration,

    /// An HTTP/2 client that has been silent for this long is pinged, and dropped when it does not answer within 20 s or four times this; 0 turns that off
    #[arg(long, env = "EBB_HTTP2_KEEPALIVE", default_value = "60s", value_name = "DURATION", value_parser = parse_duration)]
    http2_keepalive: Duration,

    /// Unused connections to the app are dropped after this; keep it below the app's own keep-alive
    #[arg(long, env = "EBB_UPSTREAM_IDLE", default_value = "1s", value_name = "DURATION", value_parser = parse_duration)]
    upstream_idle: Duration,

    /// A connection to the app must stand within this
    #[arg(long, env = "EBB_CONNECT_TIMEOUT", default_value = "5s", value_name = "DURATION", value_parser = parse_duration_above_zero)]
    connect_timeout: Duration,

    /// What the app is spoken to in [default: what the client speaks]
    #[arg(long, env = "EBB_UPSTREAM_PROTOCOL", value_enum)]
    upstream_protocol: Option<UpstreamProtocol>,

    /// Client connections at a time [default: from the file descriptor limit]
    #[arg(long, env = "EBB_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// The largest request head
    #[arg(long, env = "EBB_MAX_HEADER_BYTES", default_value = "64KiB", value_name = "BYTES", value_parser = parse_header_bytes)]
    max_header_bytes: usize,

    /// Every client connection begins with a PROXY protocol header (version 1 or 2), as a load balancer sends it
    #[arg(long, env = "EBB_ACCEPT_PROXY")]
    accept_proxy: bool,

    /// Every connection to the app begins with a PROXY protocol header that names the client; without a value: v1
    #[arg(
        long,
        env = "EBB_SEND_PROXY",
        value_name = "VERSION",
        value_enum,
        num_args = 0..=1,
        default_missing_value = "v1"
    )]
    send_proxy: Option<proxy_protocol::Version>,

    /// What becomes of X-Forwarded-For, -Proto and -Host
    #[arg(long, env = "EBB_FORWARDED", default_value = "append", value_enum)]
    forwarded: Forwarded,

    /// One line a request on standard output
    #[arg(long, env = "EBB_ACCESS_LOG", default_value = "off", value_enum)]
    access_log: AccessLog,

    /// The format of ebb's own log [default: text on a terminal, else json]
    #[arg(long, env = "EBB_LOG_FORMAT", value_enum)]
    log_format: Option<LogFormat>,

    /// How much ebb's own log says
    #[arg(long, env = "EBB_LOG_LEVEL", default_value = "info", value_enum)]
    log_level: LogLevel,
}

/// How much ebb's own log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogLevel {
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// The phases of a drain, too.
    Info,
    /// Every connection that breaks, too.
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

fn parse_header_bytes(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    // Below 8 KiB hyper refuses the size; above 1 MiB one client could hold that much for nothing.
    if (8 << 10..=1 << 20).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("it must lie between 8KiB and 1MiB".to_owned())
    }
}

impl ProxyArgs {
    /// Runs the sidecar until it has been drained and told to end.
    pub(crate) fn run(self) -> ExitCode {
        telemetry::init(self.log_format, self.log_level.into());
        self.config().and_then(|config| run(config).map_err(|error| error.to_string())).unwrap_or_else(
            |error| {
                eprintln!("error: {error}");
                ExitCode::from(2)
            },
        )
    }

    /// # Errors
    /// A sentence that says what would be right.
    pub(super) fn config(self) -> Result<Config, String> {
        let budget = Budget::new(
            self.grace_period,
            self.app_shutdown,
            self.lame_duck_min,
            self.lame_duck_max,
            self.quiet,
        )
        .map_err(|error| error.to_string())?;
        for (i, forward) in self.forwards.iter().enumerate() {
            let same = |other: &&Forward| other.listen == forward.listen && forward.listen.port != 0;
            if self.forwards[..i].iter().any(|other| same(&other)) {
                let port = forward.listen.port;
                return Err(format!("--forward listens on port {port} twice: give each port once"));
            }
        }
        let listens = self.forwards.iter().map(|forward| forward.listen.port).chain([self.admin.port()]);
        let own: Vec<u16> = listens.filter(|&port| port != 0).collect();
        for forward in &self.forwards {
            if let Upstream::Tcp { host, port } = &forward.upstream
                && matches!(host.as_str(), "127.0.0.1" | "::1" | "localhost")
                && own.contains(port)
            {
                return Err(format!(
                    "--forward to {}: ebb listens on port {port} itself: name the port that the app listens on",
                    forward.upstream
                ));
            }
        }
        let fds = crate::sys::raise_fd_limit();
        let workers = self.workers.map_or_else(default_workers, usize::from);
        let tls = self.tls.config(&self.forwards)?;
        Ok(Config {
            workers,
            budget,
            probe_user_agents: self.probe_user_agents,
            limits: Limits {
                idle_timeout: self.idle_timeout,
                header_timeout: self.header_timeout,
                handshake_timeout: self.tls.handshake_timeout,
                max_connections: max_connections(self.max_connections, fds),
                max_header_bytes: self.max_header_bytes,
                http2_keepalive: self.http2_keepalive,
                max_pipes: usize::try_from(pipes(fds)).unwrap_or(0) / workers,
            },
            accept_proxy: self.accept_proxy,
            upstream: UpstreamConfig {
                idle: self.upstream_idle,
                connect_timeout: self.connect_timeout,
                protocol: self.upstream_protocol,
                send_proxy: self.send_proxy,
            },
            tls,
            forwarded: self.forwarded,
            access_log: self.access_log,
            admin: AdminConfig {
                addr: self.admin,
                token: read_token("--admin-token-file", self.admin_token_file.as_deref())?,
                open: self.admin_open,
            },
            forwards: self.forwards,
        })
    }
}

/// The main thread serves the admin port and decides the drain; the workers have threads of their own.
fn run(config: Config) -> Result<ExitCode, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Sidecar::bind(config).await?.run().await })
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(2)
}

/// Pipes that tunnels may splice through, of two file descriptors each: few, and none where these are scarce.
fn pipes(fds: u64) -> u64 {
    (fds / 256).min(PIPES_MAX)
}

/// What was asked for, as far as the file descriptors go: each client may need a connection to the app as well.
fn max_connections(asked: Option<u32>, fds: u64) -> usize {
    let reserved = RESERVED_FDS + 2 * pipes(fds);
    let possible = usize::try_from(fds.saturating_sub(reserved) / 2).unwrap_or(usize::MAX).max(1);
    match asked {
        Some(asked) if asked as usize > possible => {
            tracing::warn!(
                "--max-connections {asked} needs {} file descriptors, and the limit is {fds}: taking {possible}; \
                 raise the limit on open files (ulimit -n)",
                2 * u64::from(asked) + reserved
            );
            possible
        }
        Some(asked) => asked as usize,
        None => possible,
    }
}
