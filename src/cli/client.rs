//! A small HTTP client for the admin port.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The admin port's answers are a few kilobytes.
const MAX_BODY: usize = 1 << 20;

/// To a port on the same machine or pod.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the admin port is, as `--admin` says it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AdminUrl {
    /// Where ebb's admin port is
    #[arg(long, env = "EBB_ADMIN_URL", default_value = "http://127.0.0.1:9900", value_name = "URL", value_parser = parse_url)]
    pub(crate) admin: Uri,
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let wrong = || "write http://HOST:PORT, like http://127.0.0.1:9900".to_owned();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = with_scheme.parse().map_err(|_| wrong())?;
    if uri.scheme_str() == Some("http") && uri.host().is_some() { Ok(uri) } else { Err(wrong()) }
}

impl AdminUrl {
    /// Asks for `path` and reads the answer to its end.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
    ) -> Result<(StatusCode, Bytes), String> {
        let failed = |what: &str| format!("{}: {what}", self.admin);
        let host = self.admin.host().unwrap_or_default();
        let address = (host.trim_matches(['[', ']']), self.admin.port_u16().unwrap_or(80));
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| failed("no connection in time"))?
            .map_err(|error| failed(&format!("{error}: is ebb there? --admin says where")))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error.to_string()))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.admin.authority().map_or("", |authority| authority.as_str()));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|error| failed(&error.to_string()))?;
        driver.abort();
        Ok((status, body.to_bytes()))
    }
}

/// Runs a command's future on a runtime of its own.
///
/// # Errors
/// When there is none to be had.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(future)
}

/// The token from `file` or, failing that, from `EBB_ADMIN_TOKEN`.
///
/// # Errors
/// A sentence that names `flag` or the variable.
pub(crate) fn read_token(flag: &str, file: Option<&Path>) -> Result<Option<String>, String> {
    let (source, text) = match file {
        Some(path) => {
            let name = format!("{flag} {}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
            (name, text)
        }
        None => match std::env::var("EBB_ADMIN_TOKEN") {
            Ok(text) => ("EBB_ADMIN_TOKEN".to_owned(), text),
            Err(_) => return Ok(None),
        },
    };
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{source}: the token must be one word of visible ASCII characters"));
    }
    Ok(Some(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(parse_url("localhost:9900").unwrap().to_string(), "http://localhost:9900/");
        assert_eq!(parse_url("http://[::1]:9900").unwrap().port_u16(), Some(9900));
        assert!(parse_url("https://localhost").is_err());
        assert!(parse_url("http://").is_err());
    }
}
