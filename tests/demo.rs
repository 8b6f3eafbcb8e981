//! The demo's app as a process: it says where it listens, and ends on SIGTERM in the way it was told to.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

const SIGTERM: i32 = 15;

/// Starts the app, connects to it, sends SIGTERM, and waits for the end.
fn terminated(on_sigterm: &str) -> ExitStatus {
    let mut app = Command::new(env!("CARGO_BIN_EXE_ebb"))
        .args(["demo-app", "--ip", "127.0.0.1", "--on-sigterm", on_sigterm])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(app.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr: SocketAddr = line.trim().parse().unwrap();
    drop(TcpStream::connect(addr).unwrap());
    ebb::sys::terminate(app.id()).unwrap();
    app.wait().unwrap()
}

#[test]
fn an_app_that_just_exits_dies_of_the_signal() {
    assert_eq!(terminated("exit").signal(), Some(SIGTERM));
}

#[test]
fn a_graceful_app_exits_by_itself() {
    assert!(terminated("graceful").success());
}
