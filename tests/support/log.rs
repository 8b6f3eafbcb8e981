//! ebb's own log as the test's source of events.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use super::within;

/// Every line so far. A line that is no JSON is kept as a string.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    lines: watch::Receiver<Vec<Value>>,
}

impl Log {
    /// Starts to collect.
    pub(crate) fn collect(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut source = BufReader::new(source).lines();
            while let Ok(Some(line)) = source.next_line().await {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sender.send_modify(|lines| lines.push(value));
            }
        });
        Self { lines }
    }

    /// Waits for a line at or after `start` for which `wanted` holds; returns its number and the line.
    pub(crate) async fn line(
        &self,
        what: &str,
        start: usize,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> (usize, Value) {
        let mut lines = self.lines.clone();
        let mut find = |lines: &[Value]| (start..lines.len()).find(|&i| wanted(&lines[i]));
        let search = async {
            loop {
                let found = find(&lines.borrow_and_update());
                if found.is_some() || lines.changed().await.is_err() {
                    // A last look, for what came with the end.
                    return found.or_else(|| find(&lines.borrow()));
                }
            }
        };
        match within(&format!("the log to say {what}"), search).await {
            Some(number) => (number, self.lines.borrow()[number].clone()),
            None => panic!("the log ended before it said {what}:\n{self}"),
        }
    }

    /// The lines so far for which `wanted` holds.
    pub(crate) fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.lines.borrow().iter().filter(|line| wanted(line)).count()
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.borrow().iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
