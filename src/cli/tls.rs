//! The flags of `ebb proxy` that concern TLS.

use std::time::Duration;

use clap::Args;

use crate::config::tls::FileFor;
use crate::config::{Forward, TlsConfig, TlsFiles, parse_duration_above_zero};

/// What `https://` forwards need.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// The certificate of https:// forwards in PEM, followed by its intermediates; with PORT= that of one forward
    #[arg(long = "tls-cert", env = "EBB_TLS_CERT", value_name = "[PORT=]FILE", value_delimiter = ',')]
    certs: Vec<FileFor>,

    /// The private key of the certificate in PEM; with PORT= that of one forward
    #[arg(long = "tls-key", env = "EBB_TLS_KEY", value_name = "[PORT=]FILE", value_delimiter = ',')]
    keys: Vec<FileFor>,

    /// Clients need a certificate that one of these authorities has signed; with PORT= those of one forward
    #[arg(
        long = "tls-client-ca",
        env = "EBB_TLS_CLIENT_CA",
        value_name = "[PORT=]FILE",
        value_delimiter = ','
    )]
    client_cas: Vec<FileFor>,

    /// A TLS handshake must be complete this long after the connection was accepted
    #[arg(long = "tls-handshake-timeout", env = "EBB_TLS_HANDSHAKE_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = parse_duration_above_zero)]
    pub(super) handshake_timeout: Duration,

    /// How often the files of the three flags above are looked at; what has changed is used from then on
    #[arg(long = "tls-reload-interval", env = "EBB_TLS_RELOAD_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = parse_duration_above_zero)]
    reload_interval: Duration,
}

impl TlsArgs {
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub(super) fn config(&self, forwards: &[Forward]) -> Result<TlsConfig, String> {
        let files = TlsFiles::assign(forwards, &self.certs, &self.keys, &self.client_cas)?;
        Ok(TlsConfig { reload_interval: self.reload_interval, files })
    }
}
