//! What `https://` forwards speak TLS with: certificates, keys and client authorities, read at the start and again
//! when the files change.
//!
//! A forward's files are read together, and what they come to replaces what is in use only when it can be used as
//! a whole. Handshakes take what is there when they begin; connections that stand keep what they began with.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::config::TlsFiles;
use crate::config::tls::{CERT, CLIENT_CA, KEY};

mod error;
mod expiry;
mod reload;

pub use error::Error;
pub use reload::{Outcome, Reloader};

/// Protocols that are offered, best first (RFC 7301).
pub type Protocols = &'static [&'static [u8]];

/// What a forward speaks.
pub const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What our own doors speak.
pub const HTTP1: [&[u8]; 1] = [b"http/1.1"];

/// What is read of a file. Chains have a few kilobytes; a file of authorities may have some hundred.
const MAX_FILE: u64 = 4 << 20;

/// Whether a changed file is caught in the middle of its change is tried so often at a look.
const SETTLING: usize = 3;

/// What a forward's handshakes begin with: always the newest that could be used.
#[derive(Debug, Clone)]
pub struct Current(watch::Receiver<Loaded>);

/// Files that could be used.
#[derive(Debug, Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    expires: Option<SystemTime>,
}

impl Current {
    /// As of now.
    #[must_use]
    pub fn get(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.borrow().config)
    }

    /// When the certificate of now is no longer valid, if it says so in a way that we understand.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.borrow().expires
    }
}

/// A forward's files, and what they came to.
#[derive(Debug)]
pub struct Source {
    files: TlsFiles,
    protocols: Protocols,
    /// What was tried last, whether it could be used or not.
    tried: Result<Contents, Error>,
    /// The authorities of `tickets`.
    client_ca: Option<Vec<u8>>,
    tickets: Arc<dyn ProducesTickets>,
    current: watch::Sender<Loaded>,
}

impl Source {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`Error`], which names the flag and the file.
    pub fn load(files: TlsFiles, protocols: Protocols) -> Result<Self, Error> {
        let contents = Contents::read(&files)?;
        let tickets = tickets()?;
        let current = watch::Sender::new(contents.load(&files, protocols, &tickets)?);
        let client_ca = contents.client_ca.clone();
        Ok(Self { files, protocols, client_ca, tried: Ok(contents), tickets, current })
    }

    /// What handshakes begin with, now and later.
    #[must_use]
    pub fn current(&self) -> Current {
        Current(self.current.subscribe())
    }

    /// Uses the files as they are now, if they have changed since they were tried last; none when they have not.
    pub fn reload(&mut self) -> Option<Result<(), Error>> {
        let contents = self.settled()?;
        let used = contents.as_ref().map_err(Error::clone).and_then(|contents| self.use_these(contents));
        self.tried = contents;
        Some(used)
    }

    /// What the files hold if that has changed, and not while it is changing: one file may be the new one already,
    /// and the next still the old one.
    fn settled(&self) -> Option<Result<Contents, Error>> {
        // A pipe can be read but once.
        let files = [Some(&self.files.cert), Some(&self.files.key), self.files.client_ca.as_ref()];
        if files.into_iter().flatten().any(|file| fs::metadata(file).is_ok_and(|file| !file.is_file())) {
            return None;
        }
        let mut contents = Contents::read(&self.files);
        for _ in 0..SETTLING {
            if contents == self.tried {
                return None;
            }
            let again = Contents::read(&self.files);
            if again == contents {
                return Some(contents);
            }
            contents = again;
        }
        None
    }

    fn use_these(&mut self, contents: &Contents) -> Result<(), Error> {
        // A ticket stands for a client certificate that was checked: with the authorities it loses its worth.
        let tickets =
            if contents.client_ca == self.client_ca { Arc::clone(&self.tickets) } else { tickets()? };
        let loaded = contents.load(&self.files, self.protocols, &tickets)?;
        self.client_ca.clone_from(&contents.client_ca);
        self.tickets = tickets;
        self.current.send_replace(loaded);
        Ok(())
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, Error> {
        Ok(Self {
            cert: read(CERT, &files.cert)?,
            key: read(KEY, &files.key)?,
            client_ca: files.client_ca.as_ref().map(|file| read(CLIENT_CA, file)).transpose()?,
        })
    }

    fn load(
        &self,
        files: &TlsFiles,
        protocols: Protocols,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Loaded, Error> {
        let provider = Arc::new(ring::default_provider());
        let certified = self.certified(files, &provider)?;
        let expires = certified.cert.first().and_then(|own| expiry::not_after(own));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(Error::setup)?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(pem), Some(file)) => {
                let roots = Arc::new(authorities(pem, file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(Error::setup)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // Sessions are kept by the clients, in tickets: nothing to hold here, nothing to share among workers.
        config.ticketer = Arc::clone(tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Loaded { config: Arc::new(config), expires })
    }

    fn certified(&self, files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let chain = certificates(CERT, &files.cert, &self.cert)?;
        let key = match PrivateKeyDer::from_pem_slice(&self.key) {
            Ok(key) => key,
            Err(rustls_pki_types::pem::Error::NoItemsFound) => {
                let encrypted = memchr::memmem::find(&self.key, b"ENCRYPTED PRIVATE KEY").is_some();
                let file = files.key.clone();
                return Err(if encrypted { Error::Encrypted { file } } else { Error::NoKey { file } });
            }
            Err(error) => return Err(Error::pem(KEY, &files.key, &error)),
        };
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| Error::unusable(KEY, &files.key, &error))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(Error::Mismatch { key: files.key.clone(), cert: files.cert.clone() })
            }
            Ok(()) | Err(rustls::Error::InconsistentKeys(_)) => Ok(certified),
            Err(error) => Err(Error::unusable(CERT, &files.cert, &error)),
        }
    }
}

fn tickets() -> Result<Arc<dyn ProducesTickets>, Error> {
    ring::Ticketer::new().map_err(Error::setup)
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path);
    match file.and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
        Ok(n) if n as u64 > MAX_FILE => {
            Err(Error::read(flag, path, &io::Error::other("it has more than 4 MiB")))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::read(flag, path, &error)),
    }
}

fn certificates(flag: &'static str, file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Error::NoCertificate { flag, file: file.to_owned() }),
        Ok(found) => Ok(found),
        Err(error) => Err(Error::pem(flag, file, &error)),
    }
}

fn authorities(pem: &[u8], file: &Path) -> Result<rustls::RootCertStore, Error> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in certificates(CLIENT_CA, file, pem)? {
        roots.add(authority).map_err(|error| Error::unusable(CLIENT_CA, file, &error))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
