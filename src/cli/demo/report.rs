//! The result: a table for people, a document for machines.

use std::fmt::{self, Display};

use serde::Serialize;

use super::client::Protocol;
use super::delays::{DISTRIBUTION, Distribution, seconds};
use super::pod::GRACE_PERIOD;
use super::rollout::{Outcome, Plan, Replaced};
use super::strategy::{PRE_STOP_SLEEP, Strategy};
use super::tally::Counts;
use super::{NODES, PODS};

/// How wide the first column of the table is.
const TITLE: usize = 33;
/// How wide a protocol's column is.
const PROTOCOL: usize = 15;
/// How wide the last column is.
const SECONDS: usize = 7;

/// Everything that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    seed: u64,
    pods: usize,
    nodes: usize,
    grace_period_seconds: f64,
    pre_stop_sleep_seconds: f64,
    delay_distribution: Distribution,
    /// For each replacement, the delay of each node.
    delays_seconds: Vec<Vec<f64>>,
    strategies: &'a [Outcome],
}

impl<'a> Report<'a> {
    pub(super) fn new(plan: &Plan, outcomes: &'a [Outcome]) -> Self {
        let delays = plan.delays.iter();
        Self {
            seed: plan.seed,
            pods: PODS,
            nodes: NODES,
            grace_period_seconds: seconds(GRACE_PERIOD),
            pre_stop_sleep_seconds: seconds(PRE_STOP_SLEEP),
            delay_distribution: DISTRIBUTION,
            delays_seconds: delays
                .map(|delays| delays.by_node().iter().map(|delay| seconds(*delay)).collect())
                .collect(),
            strategies: outcomes,
        }
    }
}

/// What the demo is about to do.
pub(super) struct Intro<'a>(pub(super) &'a Plan);

impl Display for Intro<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(plan) = self;
        write!(
            f,
            "A rolling update of {PODS} pods under load, once for each way to end a pod, with real processes,\n\
             sockets and signals. Each of {NODES} nodes has clients of HTTP/1.1 (a new connection each time, or a\n\
             kept one), gRPC (calls and streams), WebSockets and server-sent events; some of the last two never\n\
             leave by themselves. The nodes learn of a change one by one; until then their clients make new\n\
             connections to the old pod as well. Each node's delay is drawn from\n\
             {DISTRIBUTION} (--seed {} draws the same again).\n\
             A cluster of 100 nodes takes 1.5 s (median) to 6.8 s (99%), and the usual preStop sleep is\n\
             5 s: both are scaled to 60% here.\n\n",
            plan.seed
        )?;
        for (i, delays) in plan.delays.iter().enumerate() {
            let (median, slowest) = (seconds(delays.median()), seconds(delays.slowest()));
            writeln!(
                f,
                "  pod {}: half of the nodes know after {median:.2} s, the last after {slowest:.2} s",
                i + 1
            )?;
        }
        writeln!(f)
    }
}

/// What became of the requests.
pub(super) struct Table<'a> {
    pub(super) outcomes: &'a [Outcome],
    /// Whether failures are painted.
    pub(super) color: bool,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:TITLE$}", "when a pod is deleted")?;
        Protocol::ALL.iter().try_for_each(|protocol| write!(f, "{:>PROTOCOL$}", protocol.title()))?;
        writeln!(f, "{:>SECONDS$}", "s/pod")?;
        writeln!(f, "{}", "─".repeat(TITLE + Protocol::ALL.len() * PROTOCOL + SECONDS))?;
        self.outcomes.iter().try_for_each(|outcome| self.row(f, outcome))?;
        f.write_str(
            "\nfailed, of all: HTTP/1.1 requests, gRPC calls (unary and streams), WebSocket connections, streams\n\
             of server-sent events; s/pod: seconds from a pod's deletion until it is gone\n\n",
        )?;
        write!(f, "{:TITLE$}", "how they failed")?;
        ["refused", "reset", "cut", "errors"].iter().try_for_each(|head| write!(f, "{head:>PROTOCOL$}"))?;
        writeln!(f)?;
        self.outcomes.iter().try_for_each(|outcome| kinds(f, outcome))?;
        f.write_str(
            "\nrefused: no connection; reset: it ended before the response began; cut: in the middle of the\n\
             response, or a WebSocket without a Close frame; errors: a wrong answer or none in time\n",
        )?;
        self.outcomes.iter().try_for_each(|outcome| killed(f, outcome))?;
        self.outcomes.iter().try_for_each(|outcome| measured(f, outcome))
    }
}

impl Table<'_> {
    fn row(&self, f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
        write!(f, "{:TITLE$}", outcome.strategy.title())?;
        for counts in outcome.protocols.each() {
            let (start, end) = match (self.color, counts.failed) {
                (false, _) => ("", ""),
                (true, 0) => ("\x1b[1;32m", "\x1b[0m"),
                (true, _) => ("\x1b[1;31m", "\x1b[0m"),
            };
            let text = format!("{} of {}", grouped(counts.failed), grouped(counts.requests));
            write!(f, "{start}{text:>PROTOCOL$}{end}")?;
        }
        writeln!(f, "{:>SECONDS$.1}", outcome.seconds_per_pod)
    }
}

fn kinds(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    let Counts { refused, reset, cut, errors, .. } = outcome.total;
    write!(f, "{:TITLE$}", outcome.strategy.title())?;
    for count in [refused, reset, cut, errors] {
        write!(f, "{:>PROTOCOL$}", grouped(count))?;
    }
    writeln!(f)
}

/// Pods that did not end in time would explain a lot.
fn killed(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome.pods.iter().filter(|pod| pod.killed).count() {
        0 => Ok(()),
        killed => writeln!(
            f,
            "{}: {killed} of {PODS} pods had to be killed after the grace period of {} s.",
            outcome.strategy.title(),
            GRACE_PERIOD.as_secs()
        ),
    }
}

/// The propagation that ebb measured, below the one that was drawn.
fn measured(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    if outcome.strategy != Strategy::Ebb {
        return Ok(());
    }
    let pods = &outcome.pods;
    let cell = |seconds: f64| format!("{seconds:.2} s");
    let last_arrival = |pod: &Replaced| pod.drain.as_ref()?.last_arrival_seconds.map(cell);
    writeln!(f)?;
    line(f, "ebb measures the propagation:", (1..=pods.len()).map(|number| format!("pod {number}")))?;
    line(f, "  the last node knew after", pods.iter().map(|pod| cell(pod.propagation_seconds)))?;
    line(
        f,
        "  the last new connection came after",
        pods.iter().map(|pod| last_arrival(pod).unwrap_or_default()),
    )?;
    line(
        f,
        "  drain",
        pods.iter().map(|pod| pod.drain.as_ref().map_or("", |drain| &drain.outcome).to_owned()),
    )
}

fn line(f: &mut fmt::Formatter<'_>, title: &str, mut cells: impl Iterator<Item = String>) -> fmt::Result {
    write!(f, "{title:36}")?;
    cells.try_for_each(|cell| write!(f, "{cell:>10}"))?;
    writeln!(f)
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
