//! A pod: the app, and the real ebb in front of it.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::app::App;

/// The deadline is 5 s after the trigger.
const TIMES: [&str; 10] = [
    "--grace-period",
    "7s",
    "--app-shutdown",
    "1s",
    "--lame-duck-min",
    "2s",
    "--lame-duck-max",
    "3s",
    "--quiet",
    "500ms",
];

/// A running pod; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Pod {
    app: Option<App>,
    ebb: Child,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    /// Kept open: ebb goes on writing its log.
    _log: Lines<BufReader<ChildStderr>>,
}

impl Pod {
    /// Starts a pod whose app says `name`.
    pub(crate) async fn start(name: u8) -> io::Result<Self> {
        let app = App::start(name)?;
        let mut ebb = Command::new(binary()?)
            .args(["proxy", "--admin", "127.0.0.1:0", "--log-format", "json", "--forward"])
            .arg(format!("127.0.0.1:0={}", app.addr))
            .args(TIMES)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = ebb.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut log = BufReader::new(stderr).lines();
        let (mut addr, mut admin) = (None, None);
        while let (None, _) | (_, None) = (addr, admin) {
            let line = log.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let line: Value = serde_json::from_str(&line)?;
            addr = addr.or_else(|| address(&line["forward"]));
            admin = admin.or_else(|| address(&line["admin"]));
        }
        let (Some(addr), Some(admin)) = (addr, admin) else { return Err(io::ErrorKind::InvalidData.into()) };
        Ok(Self { app: Some(app), ebb, addr, admin, _log: log })
    }

    /// How many messages the app has echoed.
    pub(crate) fn answered(&self) -> Arc<AtomicUsize> {
        self.app.as_ref().map_or_else(Arc::default, |app| Arc::clone(&app.answered))
    }

    /// The hook: returns the report when the drain is over.
    pub(crate) async fn drain(&self) -> io::Result<Value> {
        let mut hook = TcpStream::connect(self.admin).await?;
        hook.write_all(b"POST /drain HTTP/1.1\r\nHost: ebb\r\nContent-Length: 0\r\n\r\n").await?;
        let mut answer = Vec::new();
        hook.read_to_end(&mut answer).await?;
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        Ok(serde_json::from_slice(&answer[body..])?)
    }

    /// The app's process ends, whatever it was doing.
    pub(crate) fn crash_app(&mut self) {
        self.app = None;
    }

    /// The pod goes away as its kubelet has it: the hook, then the app, then its sidecar.
    pub(crate) async fn delete(mut self) -> io::Result<Value> {
        let report = self.drain().await?;
        self.crash_app();
        self.ebb.kill().await?;
        Ok(report)
    }
}

/// The address in `http://ADDR`, or `ADDR`.
fn address(value: &Value) -> Option<SocketAddr> {
    let url = value.as_str()?;
    url.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

fn binary() -> io::Result<std::path::PathBuf> {
    match std::env::var_os("EBB") {
        Some(path) => Ok(path.into()),
        None => Ok(std::env::current_exe()?.with_file_name("ebb")),
    }
}
