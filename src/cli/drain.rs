//! `ebb drain`: calls `/drain`, waits, prints the report. For hooks that run a command instead of a GET. `ebb undrain` takes it back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::{Method, StatusCode};

use super::client::{AdminUrl, block_on, read_token};

/// Exit codes: 0 is a clean drain.
const FORCED: u8 = 1;
const ERROR: u8 = 2;

/// The flags of `ebb drain` and `ebb undrain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    admin: AdminUrl,

    /// A file with the bearer token; without it, EBB_ADMIN_TOKEN if set
    #[arg(long, env = "EBB_ADMIN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl DrainArgs {
    /// Drains and prints the report on standard output: exit 0 clean, 1 forced, 2 error.
    pub(crate) fn run(self) -> ExitCode {
        exit(block_on(self.drain()))
    }

    /// Takes a drain back: exit 0 when the sidecar serves again, 2 error.
    pub(crate) fn undo(self) -> ExitCode {
        exit(block_on(self.undrain()))
    }

    #[allow(clippy::print_stdout)] // the report is this command's output
    async fn drain(self) -> Result<ExitCode, String> {
        let text = self.call("/drain").await?;
        println!("{text}");
        let report: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("the report can't be read: {error}"))?;
        match report["outcome"].as_str() {
            Some("clean") => Ok(ExitCode::SUCCESS),
            Some("forced") => Ok(ExitCode::from(FORCED)),
            other => Err(format!("the drain did not come to its end: {}", other.unwrap_or("no outcome"))),
        }
    }

    #[allow(clippy::print_stdout)] // as above
    async fn undrain(self) -> Result<ExitCode, String> {
        println!("{}", self.call("/undrain").await?);
        Ok(ExitCode::SUCCESS)
    }

    async fn call(&self, path: &str) -> Result<String, String> {
        let token = read_token("--token-file", self.token_file.as_deref())?;
        let (status, body) = self.admin.request(Method::POST, path, token.as_deref()).await?;
        let text = String::from_utf8_lossy(&body).trim_end().to_owned();
        match status {
            StatusCode::OK => Ok(text),
            StatusCode::UNAUTHORIZED => Err(format!(
                "{} answered {status}: {text}; give the token by --token-file or EBB_ADMIN_TOKEN",
                self.admin.admin
            )),
            _ => Err(format!("{} answered {status}: {text}", self.admin.admin)),
        }
    }
}

fn exit(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(ERROR)
    })
}
