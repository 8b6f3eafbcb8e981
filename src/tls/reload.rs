//! Looks at the files of every `https://` forward again and again.
//!
//! They are read, not watched: a Secret's mount swaps a symlink two directories up, others rename or rewrite in
//! place, and a few kilobytes now and then cost nothing.

use tokio::time::{Duration, MissedTickBehavior, interval};

use super::Source;

/// What became of files that had changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They are in use.
    Loaded,
    /// They can't be used; what was in use before still is.
    Failed,
}

impl Outcome {
    /// The `outcome` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Failed => "failed",
        }
    }
}

/// The forwards' labels and files.
#[derive(Debug)]
pub struct Reloader {
    /// Each with the `forward` label.
    pub sources: Vec<(String, Source)>,
    /// The pause between two looks.
    pub interval: Duration,
}

impl Reloader {
    /// Looks until it is dropped; `count` hears of each change.
    pub async fn run(mut self, count: impl Fn(&str, Outcome)) {
        if self.sources.is_empty() {
            return;
        }
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (forward, source) in &mut self.sources {
                let outcome = match source.reload() {
                    None => continue,
                    Some(Ok(())) => {
                        tracing::info!(forward, "certificates loaded again");
                        Outcome::Loaded
                    }
                    Some(Err(error)) => {
                        tracing::warn!(forward, %error, "changed certificates can't be used, the old ones stay");
                        Outcome::Failed
                    }
                };
                count(forward, outcome);
            }
        }
    }
}
