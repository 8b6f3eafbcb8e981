//! ebb's own log, and the access log.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Version};
use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{config, http1, http2};

/// The format of ebb's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
}

/// Starts ebb's own log, on standard error: in `format`, or by what standard error is.
///
/// Called once by the program, before anything is logged; a second call changes nothing.
pub fn init(format: Option<LogFormat>, level: LevelFilter) {
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // A line that can't be written is lost. Complaining about it, on the same broken standard error, would
        // panic, and take the drain with it.
        .log_internal_errors(false)
        .with_max_level(level)
        .with_target(false);
    // What the libraries beneath have to say (every frame, every handshake) is no news for a user.
    let ours = Targets::new().with_target(env!("CARGO_PKG_NAME"), level).with_default(LevelFilter::ERROR);
    let _ = match format {
        LogFormat::Json => set_global_default(log.json().flatten_event(true).finish().with(ours)),
        LogFormat::Text => set_global_default(log.with_ansi(terminal).finish().with(ours)),
    };
}

/// The access log: one line a request on standard output.
///
/// Lines are written by a thread of their own. When nobody reads them, they are dropped rather than let a
/// full pipe stop the traffic.
#[derive(Debug, Clone)]
pub struct AccessLog {
    json: bool,
    out: NonBlocking,
}

impl AccessLog {
    /// Starts the access log, if one is wanted. What is still to be written when the guard is dropped is.
    #[must_use]
    pub fn start(how: config::AccessLog) -> Option<(Self, WorkerGuard)> {
        let json = match how {
            config::AccessLog::Off => return None,
            config::AccessLog::Json => true,
            config::AccessLog::Text => false,
        };
        let (out, guard) = tracing_appender::non_blocking(io::stdout());
        Some((Self { json, out }, guard))
    }

    /// Writes the line of a request that has ended.
    pub fn write(&self, line: &LogLine, forward: &str, status: u16, sent: u64, took: Duration) {
        let text = self.format(line, forward, status, sent, took);
        // Never blocks; a full queue drops the line.
        let _ = io::Write::write_all(&mut self.out.clone(), text.as_bytes());
    }

    fn format(&self, line: &LogLine, forward: &str, status: u16, sent: u64, took: Duration) -> String {
        let time = humantime::format_rfc3339_millis(line.time).to_string();
        let (ms, client) = (took.as_secs_f64() * 1e3, line.client.ip().to_canonical().to_string());
        let mut text = String::new();
        if self.json {
            let entry = JsonLine {
                time: &time,
                client: &client,
                forward,
                method: &line.method,
                path: &line.path,
                host: line.host.as_deref(),
                user_agent: line.user_agent.as_deref(),
                protocol: line.protocol,
                status,
                bytes_sent: sent,
                duration_ms: (ms * 1e3).round() / 1e3,
            };
            text = serde_json::to_string(&entry).unwrap_or_default();
        } else {
            let host = line.host.as_deref().unwrap_or("-");
            let agent = line.user_agent.as_deref().unwrap_or("-");
            // Debug formatting escapes control characters and quotes, so a client can't forge lines.
            let _ = write!(
                text,
                "{time} {client} {host:?} \"{} {} {}\" {status} {sent}B {ms:.3}ms {agent:?}",
                line.method,
                line.path.escape_debug(),
                line.protocol
            );
        }
        text.push('\n');
        text
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    client: &'a str,
    forward: &'a str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    protocol: &'static str,
    status: u16,
    bytes_sent: u64,
    duration_ms: f64,
}

/// What the access log keeps of a request's head.
#[derive(Debug)]
pub struct LogLine {
    time: SystemTime,
    client: SocketAddr,
    method: String,
    path: String,
    host: Option<String>,
    user_agent: Option<String>,
    protocol: &'static str,
}

impl LogLine {
    /// Of an HTTP/1.1 request as the client sent it.
    #[must_use]
    pub fn of_http1(request: &http1::Request<'_>, client: SocketAddr) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Self {
            time: SystemTime::now(),
            client,
            method: request.method.to_owned(),
            path: request.target.to_owned(),
            host: Some(text(request.host)),
            user_agent: request.user_agent.map(text),
            protocol: "HTTP/1.1",
        }
    }

    /// Of an HTTP/2 request as the client sent it.
    #[must_use]
    pub fn of_http2(request: &http2::Plain<'_>, client: SocketAddr) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Self {
            time: SystemTime::now(),
            client,
            method: text(request.method()),
            path: text(request.path()),
            host: Some(text(request.authority())),
            user_agent: request.user_agent().map(text),
            protocol: "HTTP/2",
        }
    }

    /// Of a request as the client sent it.
    #[must_use]
    pub fn new<B>(request: &Request<B>, client: SocketAddr) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            time: SystemTime::now(),
            client,
            method: request.method().to_string(),
            path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            host: match request.uri().authority() {
                Some(authority) => Some(authority.to_string()),
                None => request.headers().get(HOST).map(text),
            },
            user_agent: request.headers().get(USER_AGENT).map(text),
            protocol: match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> LogLine {
        let request = Request::get("/a?b=c")
            .header(HOST, "shop")
            .header(USER_AGENT, HeaderValue::from_bytes(b"x\"\xffy").unwrap())
            .body(())
            .unwrap();
        LogLine { time: SystemTime::UNIX_EPOCH, ..LogLine::new(&request, ([10, 0, 0, 9], 1).into()) }
    }

    #[tokio::test]
    async fn a_line_can_be_read_by_machines_and_not_forged() {
        let (out, _guard) = tracing_appender::non_blocking(io::sink());
        let took = Duration::from_micros(1500);
        let json = AccessLog { json: true, out: out.clone() }.format(&line(), "8080", 200, 12, took);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["path"], "/a?b=c");
        assert_eq!(value["duration_ms"], 1.5);
        assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
        let text = AccessLog { json: false, out }.format(&line(), "8080", 200, 12, took);
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z 10.0.0.9 \"shop\" \"GET /a?b=c HTTP/1.1\" 200 12B 1.500ms \"x\\\"\u{fffd}y\"\n"
        );
    }
}
