//! The page for people.

use std::fmt::Write as _;

use super::status::Status;
use crate::drain::Phase;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884}\
.phase{font-size:1.4rem;font-weight:600}code{font-size:.95em;overflow-wrap:anywhere}:root{color-scheme:light dark}";

/// The page, with the numbers as of now; it reloads itself.
pub(super) fn page(status: &Status) -> String {
    let mut rows = String::new();
    for forward in &status.forwards {
        let _ = write!(
            rows,
            "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&forward.listen),
            escape(&forward.upstream),
            forward.connections.active,
            forward.connections.idle,
            forward.requests_in_flight,
        );
    }
    let drain = status.drain.as_ref().map_or_else(String::new, |drain| {
        format!(
            "<p>The drain began {:.1} s ago. {} What is left in {:.1} s is cut.</p>",
            drain.running_seconds,
            if status.phase == Phase::LameDuck.name() {
                "New connections are still taken."
            } else {
                "New connections are refused."
            },
            drain.deadline_in_seconds
        )
    });
    let last = status.last_drain.as_ref().map_or_else(String::new, |report| {
        format!("<h2>Last drain</h2><p>{}</p>", escape(&report.to_string()))
    });
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <meta http-equiv=refresh content=2><title>ebb: {phase}</title><style>{STYLE}</style>\
         <h1>ebb</h1><p class=phase>{phase}</p>{drain}\
         <table><tr><th>Listens</th><th>App</th><th>Active</th><th>Idle</th><th>Requests</th></tr>{rows}</table>\
         {last}<p><a href=/status>status</a> · <a href=/metrics>metrics</a> · version {version}</p></html>\n",
        phase = status.phase,
        version = status.version,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::status::DrainStatus;
    use super::*;

    /// Guards: a person can tell lame duck from draining, and the drain's time from the phase's.
    #[test]
    fn it_says_whether_new_connections_are_taken() {
        let text = |phase: Phase| {
            page(&Status {
                version: "0",
                phase: phase.name(),
                forwards: Vec::new(),
                drain: (phase != Phase::Drained)
                    .then_some(DrainStatus { running_seconds: 6.25, deadline_in_seconds: 17.75 }),
                last_drain: None,
            })
        };
        assert!(text(Phase::LameDuck).contains(
            "<p>The drain began 6.2 s ago. New connections are still taken. What is left in 17.8 s is cut.</p>"
        ));
        assert!(text(Phase::Draining).contains("New connections are refused."));
        assert!(!text(Phase::Drained).contains("New connections"));
    }
}
