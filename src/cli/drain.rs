//! `ebb drain`: calls `/drain`, waits, prints the report. For hooks that run a command instead of a GET.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::{Method, StatusCode};

use super::client::{AdminUrl, block_on, read_token};

/// Exit codes: 0 is a clean drain.
const FORCED: u8 = 1;
const ERROR: u8 = 2;

/// The flags of `ebb drain`.
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
        match block_on(self.drain()) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(ERROR)
            }
        }
    }

    #[allow(clippy::print_stdout)] // the report is this command's output
    async fn drain(self) -> Result<ExitCode, String> {
        let token = read_token("--token-file", self.token_file.as_deref())?;
        let (status, body) = self.admin.request(Method::POST, "/drain", token.as_deref()).await?;
        let text = String::from_utf8_lossy(&body);
        if status != StatusCode::OK {
            return Err(format!("{} answered {status}: {}", self.admin.admin, text.trim_end()));
        }
        println!("{}", text.trim_end());
        let report: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("the report can't be read: {error}"))?;
        match report["outcome"].as_str() {
            Some("clean") => Ok(ExitCode::SUCCESS),
            Some("forced") => Ok(ExitCode::from(FORCED)),
            other => Err(format!("the drain did not come to its end: {}", other.unwrap_or("no outcome"))),
        }
    }
}
