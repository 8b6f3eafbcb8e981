//! Why certificates and keys can't be used; each text names the flag and says what would be right.

use std::io;
use std::path::{Path, PathBuf};

/// Files that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("{flag} {}: cannot read it: {error}", .file.display())]
    Read {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        error: String,
    },
    /// A file is no PEM.
    #[error("{flag} {}: it is damaged: {error}; it has to hold PEM, as openssl and cert-manager write it", .file.display())]
    Pem {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// A file that should hold certificates holds none.
    #[error(
        "{flag} {}: there is no certificate in it: it has to hold PEM, which begins with -----BEGIN CERTIFICATE-----",
        .file.display()
    )]
    NoCertificate {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// A file that should hold a private key holds none.
    #[error(
        "--tls-key {}: there is no private key in it: it has to hold one in PEM, which begins with -----BEGIN PRIVATE \
         KEY----- (PKCS#8), RSA PRIVATE KEY (PKCS#1) or EC PRIVATE KEY (SEC1)",
        .file.display()
    )]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The private key is behind a pass phrase.
    #[error(
        "--tls-key {}: the private key is encrypted, and nobody can be asked for its pass phrase: give a plain one \
         (openssl pkey -in KEY -out PLAIN)",
        .file.display()
    )]
    Encrypted {
        /// The file.
        file: PathBuf,
    },
    /// What is in the file can't be used.
    #[error(
        "{flag} {}: cannot use it: {error}; keys may be RSA of 2048 bits or more, ECDSA (P-256, P-384) or Ed25519",
        .file.display()
    )]
    Unusable {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// Key and certificate do not belong together.
    #[error(
        "--tls-key {} does not belong to --tls-cert {}: give the key that its first certificate was made for",
        .key.display(), .cert.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Something that hardly ever fails.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Error {
    pub(super) fn read(flag: &'static str, file: &Path, error: &io::Error) -> Self {
        Self::Read { flag, file: file.to_owned(), error: error.to_string() }
    }

    pub(super) fn pem(flag: &'static str, file: &Path, error: &rustls_pki_types::pem::Error) -> Self {
        Self::Pem { flag, file: file.to_owned(), error: error.to_string() }
    }

    pub(super) fn unusable(flag: &'static str, file: &Path, error: &rustls::Error) -> Self {
        Self::Unusable { flag, file: file.to_owned(), error: error.to_string() }
    }

    pub(super) fn setup(error: impl std::fmt::Display) -> Self {
        Self::Setup(error.to_string())
    }
}
