//! `--tls-cert`, `--tls-key` and `--tls-client-ca`, each `[PORT=]FILE`: which forward gets which files.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Forward, Scheme};

/// How TLS is spoken with clients.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// How often the files are looked at.
    pub reload_interval: Duration,
    /// The files of each forward, in the order of the forwards; `https://` ones have some.
    pub files: Vec<Option<TlsFiles>>,
}

/// What an `https://` forward proves its name with, and how its clients have to prove theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its intermediates, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities whose certificates clients must have, in PEM; without them clients need none.
    pub client_ca: Option<PathBuf>,
}

/// The value of one such flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFor {
    /// The forward that listens there; every one of `https://` when absent.
    pub port: Option<u16>,
    /// The file.
    pub file: PathBuf,
}

impl FromStr for FileFor {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let port = text.split_once('=').and_then(|(port, file)| Some((port.parse().ok()?, file)));
        Ok(match port {
            Some((port, file)) => Self { port: Some(port), file: file.into() },
            None => Self { port: None, file: text.into() },
        })
    }
}

impl fmt::Display for FileFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(port) = self.port {
            write!(f, "{port}=")?;
        }
        self.file.display().fmt(f)
    }
}

impl TlsFiles {
    /// Gives each forward its files.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub fn assign(
        forwards: &[Forward],
        certs: &[FileFor],
        keys: &[FileFor],
        client_cas: &[FileFor],
    ) -> Result<Vec<Option<Self>>, String> {
        for (flag, values) in [(CERT, certs), (KEY, keys), (CLIENT_CA, client_cas)] {
            check(flag, values, forwards)?;
        }
        forwards.iter().map(|forward| Self::of(forward, certs, keys, client_cas)).collect()
    }

    fn of(
        forward: &Forward,
        certs: &[FileFor],
        keys: &[FileFor],
        client_cas: &[FileFor],
    ) -> Result<Option<Self>, String> {
        if forward.scheme != Scheme::Https {
            return Ok(None);
        }
        let port = forward.listen.port;
        let needed = |flag, values| {
            find(values, port).ok_or_else(|| {
                format!(
                    "--forward https://{port}={} needs {CERT} and {KEY}, and there is no {flag} for it: write {flag} \
                     FILE, or {flag} {port}=FILE",
                    forward.upstream
                )
            })
        };
        let (cert, key) = (needed(CERT, certs)?, needed(KEY, keys)?);
        Ok(Some(Self { cert, key, client_ca: find(client_cas, port) }))
    }
}

/// As they are written, for errors.
pub const CERT: &str = "--tls-cert";
/// As above.
pub const KEY: &str = "--tls-key";
/// As above.
pub const CLIENT_CA: &str = "--tls-client-ca";

/// The file for a port: its own before the one for all.
fn find(values: &[FileFor], port: u16) -> Option<PathBuf> {
    let of = |wanted: Option<u16>| values.iter().find(|value| value.port == wanted);
    of(Some(port)).or_else(|| of(None)).map(|value| value.file.clone())
}

fn check(flag: &str, values: &[FileFor], forwards: &[Forward]) -> Result<(), String> {
    let https = || forwards.iter().filter(|forward| forward.scheme == Scheme::Https);
    for (i, value) in values.iter().enumerate() {
        if value.file.as_os_str().is_empty() {
            return Err(format!("{flag} '{value}' names no file: write {flag} FILE, or {flag} PORT=FILE"));
        }
        if https().next().is_none() {
            return Err(format!(
                "{flag} {value} is of no use, because no forward is https://: write --forward https://PORT=UPSTREAM, \
                 or leave {flag} out"
            ));
        }
        if let Some(port) = value.port
            && !https().any(|forward| forward.listen.port == port)
        {
            return Err(format!(
                "{flag} {value}: no https:// forward listens on port {port}: write the port of one, or {flag} {} for \
                 all of them",
                value.file.display()
            ));
        }
        if values[..i].iter().any(|other| other.port == value.port) {
            let whose = value.port.map_or("all forwards".to_owned(), |port| format!("port {port}"));
            return Err(format!("{flag} is given twice for {whose}: give each port one file"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(
        forwards: &[&str],
        certs: &[&str],
        keys: &[&str],
        cas: &[&str],
    ) -> Result<Vec<Option<TlsFiles>>, String> {
        let forwards: Vec<_> = forwards.iter().map(|text| text.parse().unwrap()).collect();
        let files = |texts: &[&str]| -> Vec<FileFor> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        TlsFiles::assign(&forwards, &files(certs), &files(keys), &files(cas))
    }

    #[test]
    fn each_forward_gets_its_own_or_the_common_files() {
        let forwards = ["https://443=1", "80=2", "https://8443=3"];
        let given = assign(&forwards, &["/c", "8443=/c2"], &["443=/k", "8443=/k=2"], &["8443=/ca"]).unwrap();
        let files = |cert: &str, key: &str, ca: Option<&str>| {
            Some(TlsFiles { cert: cert.into(), key: key.into(), client_ca: ca.map(PathBuf::from) })
        };
        assert_eq!(given, [files("/c", "/k", None), None, files("/c2", "/k=2", Some("/ca"))]);
        // A name with a '=' that follows no port is a name.
        assert_eq!("a=b".parse(), Ok(FileFor { port: None, file: "a=b".into() }));
    }

    #[test]
    fn what_is_refused_and_why() {
        let refused = |forwards: &[&str], certs: &[&str], keys: &[&str], cas: &[&str], needle: &str| {
            let error = assign(forwards, certs, keys, cas).unwrap_err();
            assert!(error.contains(needle), "{error}");
        };
        refused(&["https://443=1"], &["/c"], &[], &[], "there is no --tls-key for it");
        refused(&["https://443=1"], &[], &["/k"], &[], "there is no --tls-cert for it");
        refused(&["443=1"], &["/c"], &[], &[], "--tls-cert /c is of no use");
        refused(&["443=1"], &[], &[], &["/ca"], "--tls-client-ca /ca is of no use");
        refused(&["https://443=1"], &["444=/c"], &["/k"], &[], "no https:// forward listens on port 444");
        refused(&["https://443=1"], &["443=/c", "443=/d"], &["/k"], &[], "given twice for port 443");
        refused(&["https://443=1"], &["/c", "/d"], &["/k"], &[], "given twice for all forwards");
        refused(&["https://443=1"], &["443="], &["/k"], &[], "names no file");
    }
}
