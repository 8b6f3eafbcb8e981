//! The page for people.

use std::fmt::Write as _;

use super::status::Status;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884}\
.phase{font-size:1.4rem;font-weight:600}code{font-size:.95em}:root{color-scheme:light dark}";

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
            "<p>Draining for {:.1} s; what is left is cut in {:.1} s.</p>",
            drain.running_seconds, drain.deadline_in_seconds
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
