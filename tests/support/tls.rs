//! Certificates for the tests, their files, and clients that speak TLS.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{Connect, TlsConnector};

use super::app::App;
use super::client::Client;
use super::ebb::Ebb;
use super::within;

/// The name that certificates are for, and that clients ask for.
pub(crate) const NAME: &str = "app.test";

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A new certificate for [`NAME`].
    pub(crate) fn identity(&self) -> Identity {
        self.certify(&KeyPair::generate().expect("a key"))
    }

    /// A certificate for [`NAME`] and this key.
    pub(crate) fn certify(&self, key: &KeyPair) -> Identity {
        let params = CertificateParams::new([NAME.to_owned()]).expect("parameters");
        let cert = params.signed_by(key, &self.issuer).expect("a certificate").pem();
        Identity { cert, key: key.serialize_pem() }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What a client begins with that trusts this authority.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_of(&[&rustls::version::TLS13, &rustls::version::TLS12], None)
    }

    /// The same with these versions of TLS and a certificate of the client's own.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        own: Option<&Identity>,
    ) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let cert = CertificateDer::from_pem_slice(own.cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![cert], key).expect("a certificate with its key")
            }
        }
    }
}

/// A folder that goes away with the test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ebb-tls-{}-{number}", std::process::id()));
        // What an earlier process with this id left behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, or puts it in place of the one that is there, whole: nobody sees half of it. Returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        fs::write(&new, text).expect("to write");
        fs::rename(new, &path).expect("to replace");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Puts certificate and key where the kubelet puts a Secret's files, and swaps the symlink as it does.
    pub(crate) fn mount(&self, version: &str, identity: &Identity) {
        let folder = self.path(version);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("tls.crt"), &identity.cert).expect("to write");
        fs::write(folder.join("tls.key"), &identity.key).expect("to write");
        std::os::unix::fs::symlink(version, self.path("..data_tmp")).expect("a symlink");
        fs::rename(self.path("..data_tmp"), self.path("..data")).expect("to swap");
        for name in ["tls.crt", "tls.key"] {
            // They are there from the second time on.
            let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), self.path(name));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// ebb with an `https://` forward, its files, and the authority behind them.
pub(crate) struct TlsEbb {
    pub(crate) ebb: Ebb,
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
}

impl TlsEbb {
    pub(crate) async fn start(app: &App, flags: &[&str]) -> Self {
        let authority = Authority::new();
        let identity = authority.identity();
        Self::start_as(app, authority, &identity, flags).await
    }

    /// With this certificate. Changes of the files are seen fast.
    pub(crate) async fn start_as(
        app: &App,
        authority: Authority,
        identity: &Identity,
        flags: &[&str],
    ) -> Self {
        let folder = Folder::new();
        folder.mount("first", identity);
        let forward = format!("https://127.0.0.1:0={}", app.addr());
        let (cert, key) = (folder.path("tls.crt"), folder.path("tls.key"));
        let own = [
            ["--forward", &forward],
            ["--admin", "127.0.0.1:0"],
            ["--tls-cert", cert.to_str().expect("UTF-8")],
            ["--tls-key", key.to_str().expect("UTF-8")],
            ["--tls-reload-interval", "20ms"],
        ];
        let ebb = Ebb::start_bare(&[own.as_flattened(), flags].concat()).await;
        Self { ebb, folder, authority }
    }

    /// A client after its handshake.
    pub(crate) async fn client(&self) -> Client {
        self.client_with(self.authority.client()).await
    }

    /// The same, beginning with this.
    pub(crate) async fn client_with(&self, config: ClientConfig) -> Client {
        let stream = within("a handshake", handshake(self.ebb.addr(), Arc::new(config))).await;
        Client::over_tls(stream.expect("a handshake"))
    }

    /// The same over a connection that stands already.
    pub(crate) async fn client_over(&self, stream: TcpStream) -> Client {
        let connect = TlsConnector::from(Arc::new(self.authority.client())).connect(server_name(), stream);
        Client::over_tls(within("a handshake", connect).await.expect("a handshake"))
    }
}

/// Connects and shakes hands.
pub(crate) async fn handshake(
    addr: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(server_name(), stream).await
}

/// A client's first flight, for tests that send it piece by piece.
pub(crate) fn hello(config: ClientConfig) -> (ClientConnection, Vec<u8>) {
    let mut connection = ClientConnection::new(Arc::new(config), server_name()).expect("a client");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("a hello");
    (connection, hello)
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a name")
}

/// These bytes as the records in which the client would send them. They have to be sent next, by [`send_raw`].
pub(crate) fn seal(client: &mut Client, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let (_, tls) = client.wire.tls().get_mut();
    tls.writer().write_all(bytes.as_ref()).expect("room");
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records).expect("a vector");
    }
    records
}

/// Sends bytes beneath TLS.
pub(crate) async fn send_raw(client: &mut Client, bytes: &[u8]) {
    let (socket, _) = client.wire.tls().get_mut();
    within("sending", socket.write_all(bytes)).await.expect("to send");
}

/// A client that has stopped in the middle of its first flight.
pub(crate) struct Halfway {
    connect: Connect<TcpStream>,
    rest: Vec<u8>,
}

impl Halfway {
    pub(crate) async fn begin(addr: SocketAddr, config: ClientConfig) -> Self {
        let stream = within("connecting", TcpStream::connect(addr)).await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut rest = Vec::new();
        let mut connect = TlsConnector::from(Arc::new(config)).connect_with(server_name(), stream, |tls| {
            tls.write_tls(&mut rest).expect("a hello");
        });
        let half: Vec<u8> = rest.drain(..rest.len() / 2).collect();
        let socket = connect.get_mut().expect("a handshake that has not begun");
        within("sending", socket.write_all(&half)).await.expect("to send");
        Self { connect, rest }
    }

    /// Says the rest.
    pub(crate) async fn finish(mut self) -> Client {
        let socket = self.connect.get_mut().expect("a handshake that has not ended");
        within("sending", socket.write_all(&self.rest)).await.expect("to send");
        Client::over_tls(within("a handshake", self.connect).await.expect("a handshake"))
    }

    /// Waits until ebb has no more patience.
    pub(crate) async fn expect_end(mut self) {
        let socket = self.connect.get_mut().expect("a handshake that has not ended");
        let end = within("the end", socket.read(&mut [0; 16])).await;
        assert_eq!(end.expect("a FIN"), 0);
    }
}
