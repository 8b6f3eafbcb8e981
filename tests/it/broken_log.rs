//! A standard error that nobody reads any more.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::within;

/// Guards: a log line that can't be written is lost, and nothing else with it: the drain and its end come.
#[tokio::test]
async fn sigterm_is_obeyed_when_the_log_is_broken() {
    let mut ebb = Command::new(env!("CARGO_BIN_EXE_ebb"))
        .args(["proxy", "--forward", "127.0.0.1:0=9", "--admin", "127.0.0.1:0", "--log-format", "json"])
        .args(["--lame-duck-min", "0s", "--quiet", "0s"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(ebb.stderr.take().unwrap()).lines();
    while let Some(line) = within("the start", lines.next_line()).await.unwrap() {
        if line.contains("\"admin\"") {
            break;
        }
    }
    drop(lines);
    let pid = ebb.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert_eq!(within("the end", ebb.wait()).await.unwrap().code(), Some(0));
}
