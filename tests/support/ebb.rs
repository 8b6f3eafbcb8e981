//! The real binary as a child process.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, ChildStdout, Command};

use super::app::App;
use super::client::Client;
use super::log::Log;
use super::message::Response;
use super::{process, within};

/// Short times that still show every phase; a test's own flags win over them. The deadline is 8 s after
/// the trigger.
const TIMES: [(&str, &str); 5] = [
    ("EBB_GRACE_PERIOD", "10s"),
    ("EBB_APP_SHUTDOWN", "1s"),
    ("EBB_LAME_DUCK_MIN", "200ms"),
    ("EBB_LAME_DUCK_MAX", "1s"),
    ("EBB_QUIET", "100ms"),
];

/// A running `ebb proxy`. Dropping it kills it; when the test fails, its log is printed.
pub(crate) struct Ebb {
    child: Child,
    log: Log,
    phases_seen: AtomicUsize,
    /// Where clients connect, one address a `--forward`.
    pub(crate) forwards: Vec<SocketAddr>,
    /// The admin port.
    pub(crate) admin: SocketAddr,
}

impl Ebb {
    /// Starts ebb in front of an app.
    pub(crate) async fn start(app: &App) -> Self {
        Self::start_with(app, &[]).await
    }

    /// Starts ebb in front of an app, with flags.
    pub(crate) async fn start_with(app: &App, flags: &[&str]) -> Self {
        Self::start_at(app.addr(), flags).await
    }

    /// Starts ebb in front of whatever is at this address, with flags.
    pub(crate) async fn start_at(app: SocketAddr, flags: &[&str]) -> Self {
        let forward = format!("127.0.0.1:0={app}");
        Self::start_bare(&[&["--forward", &forward, "--admin", "127.0.0.1:0"], flags].concat()).await
    }

    /// Starts ebb with these flags only.
    pub(crate) async fn start_bare(flags: &[&str]) -> Self {
        Self::spawn(command(flags), forwards_in(flags)).await
    }

    /// Starts ebb in front of an app with a limit, given as the shell's `ulimit` takes it.
    pub(crate) async fn start_with_ulimit(app: &App, ulimit: &str, flags: &[&str]) -> Self {
        let forward = format!("127.0.0.1:0={}", app.addr());
        let limited = format!("ulimit {ulimit} && exec \"$0\" \"$@\"");
        let mut shell = prepared(Command::new("/bin/sh"));
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_ebb"), "proxy", "--log-format", "json"]);
        shell.args(["--forward", &forward, "--admin", "127.0.0.1:0"]).args(flags);
        Self::spawn(shell, 1).await
    }

    /// Starts the webhook with these flags, and with variables.
    #[allow(dead_code, reason = "for tests/webhook.rs")]
    pub(crate) async fn start_webhook(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = prepared(Command::new(env!("CARGO_BIN_EXE_ebb")));
        command.args(["webhook", "--log-format", "json"]).args(flags).envs(variables.iter().copied());
        Self::spawn(command, 1).await
    }

    async fn spawn(mut command: Command, forwards: usize) -> Self {
        let mut child = command.spawn().expect("ebb starts");
        let log = Log::collect(child.stderr.take().expect("a piped log"));
        let none = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let phases_seen = AtomicUsize::new(0);
        let mut ebb = Self { child, log, phases_seen, forwards: Vec::new(), admin: none };
        let mut next = 0;
        while ebb.forwards.len() < forwards || ebb.admin == none {
            let (number, line) =
                ebb.log.line("where ebb listens", next, |line| line["message"] == "listening").await;
            next = number + 1;
            match (line["forward"].as_str().or(line["webhook"].as_str()), line["admin"].as_str()) {
                (Some(url), _) => ebb.forwards.push(address(url)),
                (_, Some(admin)) => ebb.admin = address(admin),
                _ => panic!("listening, but where? {line}"),
            }
        }
        ebb
    }

    /// Runs ebb with flags that it must refuse; returns its exit code and what it said.
    pub(crate) async fn refused(flags: &[&str]) -> (Option<i32>, String) {
        let output = within("ebb to refuse its flags", command(flags).output()).await.expect("ebb runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.forwards[0]
    }

    /// A new client connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr()).await
    }

    /// Waits for a log line.
    pub(crate) async fn logged(&self, what: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
        self.log.line(what, 0, wanted).await.1
    }

    /// How many log lines so far are like this.
    pub(crate) fn count_logged(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.log.count(wanted)
    }

    /// Waits until ebb has entered this phase, after the one that was waited for last.
    pub(crate) async fn phase(&self, name: &str) {
        let start = self.phases_seen.load(Ordering::Relaxed);
        let wanted = |line: &Value| line["message"] == "phase" && line["phase"] == name;
        let (number, _) = self.log.line(&format!("phase {name}"), start, wanted).await;
        self.phases_seen.store(number + 1, Ordering::Relaxed);
    }

    /// A GET on the admin port.
    pub(crate) async fn admin_get(&self, target: &str) -> Response {
        Client::connect(self.admin).await.get(target).await
    }

    /// `/status`.
    pub(crate) async fn status(&self) -> Value {
        let response = self.admin_get("/status").await;
        serde_json::from_slice(&response.body.bytes).expect("/status is JSON")
    }

    /// The sum of the samples in `/metrics` that begin with the first of these and have the others as values of
    /// labels: whole ones, because a port may well have another label's digits in it.
    pub(crate) async fn metric(&self, parts: &[&str]) -> f64 {
        let (name, values) = parts.split_first().expect("a metric's name");
        let values: Vec<_> = values.iter().map(|value| format!("=\"{value}\"")).collect();
        let response = self.admin_get("/metrics").await;
        let named = response.text().lines().filter(|line| line.starts_with(name));
        let samples = named.filter(|line| values.iter().all(|value| line.contains(value)));
        samples
            .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().expect("a number"))
            .sum()
    }

    /// Waits until that sum is this.
    pub(crate) async fn until_metric(&self, parts: &[&str], wanted: f64) {
        let reached = async { while self.metric(parts).await != wanted {} };
        within(&format!("{parts:?} to be {wanted}"), reached).await;
    }

    /// How many pipes ebb has open.
    pub(crate) fn pipes(&self) -> usize {
        process::pipes(self.pid())
    }

    /// Calls `/drain` as a hook does.
    pub(crate) async fn drain(&self) -> Hook {
        Hook::call(self.admin, "").await
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        process::signal(self.pid(), signal);
    }

    /// Stops every thread of ebb and returns when they stand still. Whatever happens until
    /// [`Ebb::unfreeze`] is there all at once, as far as ebb can tell.
    pub(crate) async fn freeze(&self) {
        let pid = self.pid();
        process::signal(pid, libc::SIGSTOP);
        let stopped = tokio::task::spawn_blocking(move || process::wait_stopped(pid));
        within("ebb to stand still", stopped).await.expect("ebb stopped");
    }

    /// Lets ebb run again.
    pub(crate) fn unfreeze(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Waits until ebb has ended by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("ebb to end", self.child.wait()).await.expect("ebb's exit status")
    }

    /// Waits until ebb has ended by itself, or kills it after this time.
    pub(crate) async fn exit_or_kill(&mut self, after: Duration) -> ExitStatus {
        if tokio::time::timeout(after, self.child.wait()).await.is_err() {
            self.child.start_kill().expect("SIGKILL");
        }
        self.exit().await
    }

    /// Whether ebb still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ebb's state").is_none()
    }

    /// Standard output, where the access log goes; once.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("standard output, asked for once")
    }

    /// The most memory that ebb has held so far, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        process::peak_memory_kib(self.pid())
    }

    /// The memory that ebb holds now, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        process::memory_kib(self.pid())
    }

    /// The processor time that ebb has used so far, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        process::cpu_ticks(self.pid())
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("ebb still runs")
    }
}

impl Drop for Ebb {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ebb's log:\n{}", self.log);
        }
    }
}

fn command(flags: &[&str]) -> Command {
    let mut command = prepared(Command::new(env!("CARGO_BIN_EXE_ebb")));
    command.args(["proxy", "--log-format", "json"]).args(flags);
    command
}

fn prepared(mut command: Command) -> Command {
    command.envs(TIMES).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn forwards_in(flags: &[&str]) -> usize {
    flags.iter().filter(|flag| **flag == "--forward").count()
}

fn address(text: &str) -> SocketAddr {
    let addr = text.rsplit('/').next().unwrap_or_default();
    addr.parse().unwrap_or_else(|_| panic!("no address: {text}"))
}

/// A `/drain` call that waits for its answer, as the kubelet makes it: the doubled slash is the kubelet's.
#[derive(Debug)]
pub(crate) struct Hook {
    client: Client,
}

impl Hook {
    /// Sends the request, with these header lines (each with its line end).
    pub(crate) async fn call(admin: SocketAddr, headers: &str) -> Self {
        Self::get(admin, "//drain", headers).await
    }

    /// The same with another target.
    pub(crate) async fn get(admin: SocketAddr, target: &str, headers: &str) -> Self {
        let mut client = Client::connect(admin).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {admin}\r\n{headers}\r\n")).await;
        Self { client }
    }

    /// Reads the answer to its end.
    pub(crate) async fn answer(mut self) -> Response {
        let response = self.client.response().await;
        self.client.expect_fin().await;
        response
    }

    /// Reads the answer and fails unless it is a report.
    pub(crate) async fn report(self) -> Value {
        let response = self.answer().await;
        assert_eq!(response.status(), 200, "{}{}", response.head, response.text());
        assert!(response.closes(), "a /drain answer says Connection: close: {}", response.head);
        assert!(response.head.get("content-length").is_some(), "no Content-Length: {}", response.head);
        serde_json::from_slice(&response.body.bytes).expect("the report is JSON")
    }

    /// Hangs up without waiting for the answer.
    pub(crate) fn hang_up(self) {
        self.client.wire.reset();
    }
}

/// An address of this machine that is not loopback: the one it would speak to the world from. Nothing is sent.
pub(crate) fn own_address() -> std::net::IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).expect("a route out of this machine");
    socket.local_addr().expect("its address").ip()
}
