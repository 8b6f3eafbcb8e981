//! `ebb status`: what a running sidecar is doing, for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::client::{AdminUrl, block_on};

/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The flags of `ebb status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminUrl,

    /// Goes on showing it until the sidecar ends
    #[arg(long)]
    watch: bool,

    /// Prints the JSON document of /status instead
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// Prints the status: exit 0, or 2 when it can't be had.
    pub(crate) fn run(self) -> ExitCode {
        match block_on(self.show()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(2)
            }
        }
    }

    async fn show(self) -> Result<(), String> {
        let mut seen = self.text().await?;
        print(&seen, false);
        if !self.watch {
            return Ok(());
        }
        loop {
            sleep(INTERVAL).await;
            // Once it has been seen, its end is an end and no error.
            let Ok(now) = self.text().await else {
                eprintln!("the sidecar is gone, or the way to it: its log has the drain's report");
                return Ok(());
            };
            if now != seen {
                print(&now, true);
                seen = now;
            }
        }
    }

    async fn text(&self) -> Result<String, String> {
        let (status, body) = self.admin.request(Method::GET, "/status", None).await?;
        let text = String::from_utf8_lossy(&body);
        if status != StatusCode::OK {
            return Err(format!("{} answered {status}: {}", self.admin.admin, text.trim_end()));
        }
        if self.json {
            return Ok(text.into_owned());
        }
        let status =
            serde_json::from_str(&text).map_err(|error| format!("the status can't be read: {error}"))?;
        Ok(render(&status))
    }
}

/// On a terminal, a new text takes the place of the old one.
fn print(text: &str, again: bool) {
    let mut out = io::stdout().lock();
    let clear = if again && out.is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    // A reader that has gone away has seen enough.
    let _ = write!(out, "{clear}{text}").and_then(|()| out.flush());
}

fn render(status: &Value) -> String {
    let mut text = String::new();
    let _ = write!(text, "{}", status["phase"].as_str().unwrap_or("?"));
    if let (Some(running), Some(left)) =
        (status["drain"]["running_seconds"].as_f64(), status["drain"]["deadline_in_seconds"].as_f64())
    {
        let _ = write!(text, "  {running:.1}s into the drain, deadline in {left:.1}s");
    }
    text.push('\n');
    for forward in status["forwards"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "  {} -> {}  connections: {} active, {} idle; {} requests in flight; to the app: {} active, {} idle",
            forward["listen"].as_str().unwrap_or("?"),
            forward["upstream"].as_str().unwrap_or("?"),
            forward["connections"]["active"],
            forward["connections"]["idle"],
            forward["requests_in_flight"],
            forward["upstream_connections"]["active"],
            forward["upstream_connections"]["idle"],
        );
    }
    if let Some(last) = status.get("last_drain") {
        let _ = write!(
            text,
            "  last drain: {} in {}s",
            last["outcome"].as_str().unwrap_or("?"),
            last["seconds"]["total"]
        );
        if let Some(arrival) = last["last_arrival_seconds"].as_f64() {
            let _ = write!(text, ", the last new connection came after {arrival}s");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_can_read_it() {
        let status = serde_json::json!({
            "phase": "lame-duck",
            "drain": {"running_seconds": 1.25, "deadline_in_seconds": 22.75},
            "forwards": [{
                "listen": "http://[::]:8080", "upstream": "127.0.0.1:3000", "requests_in_flight": 2,
                "connections": {"active": 2, "idle": 5}, "upstream_connections": {"active": 2, "idle": 1},
            }],
            "last_drain": {"outcome": "clean", "seconds": {"total": 5.5}, "last_arrival_seconds": 1.5},
        });
        assert_eq!(
            render(&status),
            "lame-duck  1.2s into the drain, deadline in 22.8s\n  http://[::]:8080 -> 127.0.0.1:3000  connections: \
             2 active, 5 idle; 2 requests in flight; to the app: 2 active, 1 idle\n  last drain: clean in 5.5s, \
             the last new connection came after 1.5s\n"
        );
    }
}
