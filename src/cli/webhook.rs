//! `ebb webhook`: the flags, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::proxy::LogLevel;
use super::settings::{SettingsArgs, new_token};
use crate::config::{TlsFiles, parse_addr, parse_duration, parse_duration_above_zero};
use crate::telemetry::{self, LogFormat};
use crate::webhook::{Config, Reviewer, Webhook};

/// A setting is wrong.
const WRONG: u8 = 2;

/// The flags of `ebb webhook`.
#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    /// Where the API server calls: POST /mutate, over HTTPS
    #[arg(long, env = "EBB_WEBHOOK_LISTEN", default_value = "[::]:8443", value_name = "ADDR:PORT", value_parser = parse_addr)]
    listen: SocketAddr,

    /// The webhook's certificate in PEM, followed by its intermediates
    #[arg(long, env = "EBB_TLS_CERT", value_name = "FILE")]
    tls_cert: PathBuf,

    /// The private key of the certificate in PEM
    #[arg(long, env = "EBB_TLS_KEY", value_name = "FILE")]
    tls_key: PathBuf,

    /// How often the files of the two flags above are looked at; what has changed is used from then on
    #[arg(long, env = "EBB_TLS_RELOAD_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = parse_duration_above_zero)]
    tls_reload_interval: Duration,

    /// Where probes and metrics are served, in the clear
    #[arg(long, env = "EBB_ADMIN", default_value = "[::]:9900", value_name = "ADDR:PORT", value_parser = parse_addr)]
    admin: SocketAddr,

    /// The webhook's own namespace, whose pods are never injected
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// After SIGTERM, connections are still accepted for this long
    #[arg(long, env = "EBB_WEBHOOK_SHUTDOWN_DELAY", default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    shutdown_delay: Duration,

    /// The format of ebb's own log [default: text on a terminal, else json]
    #[arg(long, env = "EBB_LOG_FORMAT", value_enum)]
    log_format: Option<LogFormat>,

    /// How much ebb's own log says
    #[arg(long, env = "EBB_LOG_LEVEL", default_value = "info", value_enum)]
    log_level: LogLevel,

    #[command(
        flatten,
        next_help_heading = "What pods get, as of ebb inject; a pod's annotations count more"
    )]
    settings: SettingsArgs,
}

impl WebhookArgs {
    /// Runs the webhook until it is told to end: exit 0, 2 when a setting is wrong, 130 after a second Ctrl-C.
    pub(crate) fn run(self) -> ExitCode {
        telemetry::init(self.log_format, self.log_level.into());
        self.serve().unwrap_or_else(|error| {
            eprintln!("error: {error}");
            ExitCode::from(WRONG)
        })
    }

    fn serve(self) -> Result<ExitCode, String> {
        let config = self.config()?;
        super::client::block_on(async {
            let webhook = Webhook::bind(config).await.map_err(|error| error.to_string())?;
            webhook.run().await.map_err(|error| error.to_string())
        })
    }

    /// # Errors
    /// A sentence that says what would be right.
    fn config(self) -> Result<Config, String> {
        let namespace = self.namespace.filter(|namespace| !namespace.is_empty());
        Ok(Config {
            listen: self.listen,
            admin: self.admin,
            tls: TlsFiles { cert: self.tls_cert, key: self.tls_key, client_ca: None },
            tls_reload_interval: self.tls_reload_interval,
            shutdown_delay: self.shutdown_delay,
            reviewer: Reviewer::new(self.settings.into(), namespace, new_token)?,
        })
    }
}
