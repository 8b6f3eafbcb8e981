//! `ebb drain`, `ebb undrain` and `ebb status`, as people and hooks call them.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{App, Ebb};

/// Calls a command of the real binary against this ebb.
fn ebb(command: &[&str], admin: SocketAddr) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebb"));
    child.args(command).arg("--admin").arg(format!("http://{admin}")).kill_on_drop(true);
    child.env_remove("EBB_ADMIN_TOKEN").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Exit code, standard output and standard error.
async fn outcome(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Guards: the report on standard output, and a drain that is taken back by a command.
#[tokio::test]
async fn a_drain_and_the_way_back() {
    let app = App::hello();
    let served = Ebb::start(&app).await;
    let (code, report, error) = outcome(ebb(&["drain"], served.admin)).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["outcome"], "clean");
    assert_eq!(
        outcome(ebb(&["undrain"], served.admin)).await,
        (Some(0), "serving\n".to_owned(), String::new())
    );
    served.phase("serving").await;
}

/// Guards: what can't be undone is an error, and so is an ebb that is not there.
#[tokio::test]
async fn errors_say_what_is_wrong() {
    let mut app = App::scripted();
    let served = Ebb::start(&app).await;
    let mut client = served.client().await;
    client.send_get("/held").await;
    let _held = app.request().await;
    served.signal(libc::SIGTERM);
    served.phase("lame-duck").await;
    let (code, _, error) = outcome(ebb(&["undrain"], served.admin)).await;
    assert!(code == Some(2) && error.contains("answered 409 Conflict"), "{error}");

    let app = App::hello();
    let mut gone = Ebb::start(&app).await;
    let mut watch = ebb(&["status", "--watch"], gone.admin);
    let mut shown = BufReader::new(watch.stdout.take().unwrap());
    shown.read_line(&mut String::new()).await.unwrap();
    gone.signal(libc::SIGINT);
    gone.signal(libc::SIGINT);
    let (code, _, error) = outcome(watch).await;
    assert!(code == Some(0) && error.starts_with("the sidecar is gone"), "{error}");
    let admin = gone.admin;
    gone.exit().await;
    let (code, _, error) = outcome(ebb(&["status"], admin)).await;
    assert!(code == Some(2) && error.contains("is ebb there? --admin says where"), "{error}");
}
