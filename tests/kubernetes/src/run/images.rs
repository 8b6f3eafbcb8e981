//! Images: whoever runs the test knows how they get into the cluster.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Runs the command for one image.
pub(super) async fn load(command: &str, tag: &str, name: &str, binary: &Path) -> io::Result<()> {
    let entrypoint = format!("/{name}");
    let line = command
        .replace("{tag}", tag)
        .replace("{binary}", &binary.to_string_lossy())
        .replace("{entrypoint}", &entrypoint);
    super::tell(&format!("loading {tag}"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(Duration::from_secs(120), shell.output()).await??;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{line}: {}", String::from_utf8_lossy(&done.stderr))))
}
