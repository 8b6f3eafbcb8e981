//! A child process of this same binary that never outlives the demo.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use super::error::DemoError;
use crate::sys;

/// How many lines are kept of what a child writes to its standard error.
const LOG_LINES: usize = 8;

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Runs this binary with these arguments. Who asks for a pipe as its standard output must read it.
    pub(super) fn spawn(args: &[String], stdout: Stdio) -> Result<Self, DemoError> {
        let binary = std::env::current_exe().map_err(DemoError::Process)?;
        let mut command = Command::new(binary);
        command.args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        // Flags can come from the environment as well: those are meant for somebody else.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EBB_"))
        {
            command.env_remove(name);
        }
        // Ctrl-C goes to a whole process group; what it means for a pod is the demo's decision.
        command.process_group(0).kill_on_drop(true);
        sys::die_with_parent(command.as_std_mut());
        let mut child = command.spawn().map_err(DemoError::Process)?;
        let log = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_last_lines(stderr, Arc::clone(&log)));
        }
        Ok(Self { child, log })
    }

    /// The child's standard output, if it is a pipe; only once.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until the child has ended on its own, which it should not.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("it ended with {status}"),
            Err(error) => error.to_string(),
        }
    }

    /// Sends SIGTERM and waits until the deadline, then kills. Says whether it had to.
    pub(super) async fn terminate(&mut self, deadline: Instant) -> Result<bool, DemoError> {
        // Without an id the child has been waited for: it is gone already.
        if let Some(pid) = self.child.id() {
            sys::terminate(pid).map_err(DemoError::Process)?;
        }
        if let Ok(exited) = timeout_at(deadline, self.child.wait()).await {
            exited.map_err(DemoError::Process)?;
            return Ok(false);
        }
        self.child.kill().await.map_err(DemoError::Process)?;
        Ok(true)
    }

    /// The last lines that the child wrote, indented under the message that they explain.
    pub(super) fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(|line| format!("\n  | {line}")).collect()
    }
}

async fn keep_last_lines(from: impl AsyncRead + Unpin, log: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_back(line);
        if log.len() > LOG_LINES {
            log.pop_front();
        }
    }
}
