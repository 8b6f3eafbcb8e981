//! What is going on, on standard error: one line that is redrawn, or a line per pod when nobody looks.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::PODS;
use super::report::grouped;
use super::rollout::Replaced;
use super::tally::Counts;

const REDRAW: Duration = Duration::from_millis(100);
/// Back to the first column, and everything in the line erased.
const CLEAR_LINE: &str = "\r\x1b[2K";
/// A line that is longer than the terminal is wide is clipped instead of wrapped...
const CLIP: &str = "\x1b[?7l";
/// ...but only this one.
const WRAP: &str = "\x1b[?7h";

/// Shows how far the demo is.
#[derive(Debug)]
pub(super) struct Progress {
    live: bool,
    strategy: String,
}

impl Progress {
    /// On standard error.
    pub(super) fn new() -> Self {
        Self { live: io::stderr().is_terminal(), strategy: String::new() }
    }

    /// The next strategy begins: the `number`th of `all`.
    pub(super) fn strategy(&mut self, number: usize, all: usize, title: &str) {
        self.strategy = format!("[{number}/{all}] {title}");
    }

    /// Shows what happens until `work` is done.
    pub(super) async fn during<W: Future>(
        &self,
        label: impl Fn() -> String,
        counts: impl Fn() -> Counts,
        work: W,
    ) -> W::Output {
        let mut work = pin!(work);
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = redraw.tick(), if self.live => {
                    let line = format!("{}: {}  {}", self.strategy, label(), in_short(counts()));
                    self.write(&format!("{CLEAR_LINE}{CLIP}{line}{WRAP}"));
                }
            }
        }
    }

    /// A pod has been replaced.
    pub(super) fn replaced(&self, pod: usize, replaced: &Replaced, counts: Counts) {
        if !self.live {
            self.write(&format!(
                "{}: pod {} of {PODS} gone after {:.1} s, the last node knew after {:.1} s; {}\n",
                self.strategy,
                pod + 1,
                replaced.seconds,
                replaced.propagation_seconds,
                in_short(counts)
            ));
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Progress that can't be shown is no reason to end the demo.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.write(if self.live { CLEAR_LINE } else { "\n" });
    }
}

fn in_short(counts: Counts) -> String {
    format!("{} of {} requests failed", grouped(counts.failed), grouped(counts.requests))
}
