//! Where the proxies' binaries are, and which versions.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Kind;

/// Where to look for binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// ebb's own.
    pub ebb: PathBuf,
    /// Another build of ebb.
    pub ebb2: Option<PathBuf>,
    /// A directory that goes before `PATH`: what is in no distribution is unpacked there.
    pub peers: PathBuf,
}

impl Binaries {
    /// ebb next to the running program, and the peers where `bench/peers.sh` puts them: in `target/peers`.
    ///
    /// # Errors
    /// When nobody knows where the running program is.
    pub fn next_to_this_one() -> io::Result<Self> {
        let this = env::current_exe()?;
        let target = this.ancestors().nth(2).unwrap_or(Path::new("."));
        Ok(Self { ebb: this.with_file_name("ebb"), ebb2: None, peers: target.join("peers") })
    }

    /// The binary of this proxy, if there is one.
    #[must_use]
    pub fn find(&self, kind: Kind) -> Option<PathBuf> {
        let found = match kind {
            Kind::Ebb => self.ebb.clone(),
            Kind::Ebb2 => self.ebb2.clone()?,
            Kind::Relay => env::current_exe().ok()?.with_file_name("relay"),
            Kind::Nginx | Kind::Haproxy | Kind::Envoy | Kind::Caddy => {
                let path = env::var_os("PATH").unwrap_or_default();
                // Debian keeps both of its own where not everybody's PATH leads.
                let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
                let all = std::iter::once(self.peers.clone()).chain(env::split_paths(&path)).chain(system);
                all.map(|dir| dir.join(kind.name())).find(|file| file.is_file())?
            }
        };
        found.is_file().then_some(found)
    }
}

/// What a proxy says of its version, in one line without a path.
pub async fn version(kind: Kind, binary: &Path) -> String {
    let flag = match kind {
        Kind::Ebb | Kind::Ebb2 | Kind::Envoy => "--version",
        Kind::Nginx | Kind::Haproxy => "-v",
        Kind::Caddy => "version",
        Kind::Relay => return "of this crate".to_owned(),
    };
    let Ok(output) = Command::new(binary).arg(flag).output().await else {
        return "cannot be run".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    short(&String::from_utf8_lossy(&text))
}

/// The version in what a program prints with its name, its path, its hash or its home page around it.
fn short(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no version");
    let parts = line.split([' ', '/']).map(|part| part.trim_start_matches('v'));
    let mut numbers =
        parts.filter(|part| part.contains('.') && part.starts_with(|c: char| c.is_ascii_digit()));
    numbers.next().unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_among_names_and_paths() {
        for (text, version) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/01/28 - https://haproxy.org/\nStatus: x",
                "2.6.12-1+deb12u4",
            ),
            ("\n/some/dir/envoy  version: 0123abc/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0"),
            ("v2.11.7 h1:abc=\n", "2.11.7"),
            ("ebb 0.1.0\n", "0.1.0"),
            ("", "no version"),
        ] {
            assert_eq!(short(text), version);
        }
    }
}
