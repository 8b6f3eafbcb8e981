//! Certificates and keys: what is refused at the start, and what happens when the files change.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::tls::metrics;
use crate::support::tls::{Authority, Folder, Identity, TlsEbb, handshake};
use crate::support::{App, Client, Ebb, within};

/// Guards: the secret's files are swapped as the kubelet does it, and new handshakes begin with the new ones.
#[tokio::test]
async fn a_swapped_mount_is_loaded() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let mut old = ebb.client().await;
    let first = certificate(&mut old);
    let renewed = ebb.authority.identity();
    ebb.folder.mount("second", &renewed);
    until_served(&ebb, &renewed).await;
    expect_reloads(&ebb, "loaded", 1).await;
    // Who was there before is not disturbed.
    assert_eq!(old.get("/").await.text(), "hello");
    assert_eq!(certificate(&mut old), first);
}

/// Guards: the files are replaced one after the other: between the two they do not fit.
#[tokio::test]
async fn replaced_files_are_loaded_when_they_fit() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let before = certificate(&mut ebb.client().await);
    let renewed = ebb.authority.identity();
    ebb.folder.write("tls.crt", &renewed.cert);
    expect_reloads(&ebb, "failed", 1).await;
    assert_eq!(certificate(&mut ebb.client().await), before);
    ebb.folder.write("tls.key", &renewed.key);
    until_served(&ebb, &renewed).await;
    expect_reloads(&ebb, "loaded", 1).await;
    expect_reloads(&ebb, "failed", 1).await;
}

/// Guards: what can't be used changes nothing, and is said once for each change, not at every look.
#[tokio::test]
async fn a_broken_change_keeps_the_old() {
    let app = App::hello();
    let ebb = TlsEbb::start(&app, &[]).await;
    let before = certificate(&mut ebb.client().await);
    std::fs::remove_file(ebb.folder.path("..data")).unwrap();
    expect_reloads(&ebb, "failed", 1).await;
    ebb.folder.mount("broken", &Identity { cert: "nonsense".into(), key: "nonsense".into() });
    expect_reloads(&ebb, "failed", 2).await;
    assert_eq!(certificate(&mut ebb.client().await), before);
    let renewed = ebb.authority.identity();
    ebb.folder.mount("good", &renewed);
    until_served(&ebb, &renewed).await;
    let complaints = |line: &serde_json::Value| line.to_string().contains("can't be used, the old ones stay");
    assert_eq!(ebb.ebb.count_logged(complaints), 2);
    expect_reloads(&ebb, "failed", 2).await;
}

/// Guards: new authorities for clients count at once, also for those who come back with a ticket.
#[tokio::test]
async fn new_client_authorities_are_loaded() {
    let app = App::hello();
    let (before, after) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    let ca = folder.write("ca.crt", before.pem());
    let ebb = TlsEbb::start(&app, &["--tls-client-ca", &ca]).await;
    let own = before.identity();
    let config = ebb.authority.client_of(&[&rustls::version::TLS12], Some(&own));
    assert_eq!(ebb.client_with(config.clone()).await.get("/").await.text(), "hello");
    folder.write("ca.crt", after.pem());
    expect_reloads(&ebb, "loaded", 1).await;
    let refused = handshake(ebb.ebb.addr(), Arc::new(config)).await.unwrap_err();
    assert!(refused.to_string().contains("received fatal alert"), "{refused}");
    let own = after.identity();
    let config = ebb.authority.client_of(&[&rustls::version::TLS12], Some(&own));
    assert_eq!(ebb.client_with(config).await.get("/").await.text(), "hello");
}

/// Guards: PORT= in the flags: each forward has its own certificate.
#[tokio::test]
async fn each_forward_has_its_own_certificate() {
    let app = App::hello();
    let authority = Authority::new();
    let folder = Folder::new();
    let (one, other) = (authority.identity(), authority.identity());
    // The kernel's choice can't be named beforehand, but "whatever the kernel chooses" can.
    let certs = [folder.write("1.crt", &one.cert), folder.write("2.crt", &other.cert)];
    let keys = [folder.write("1.key", &one.key), folder.write("2.key", &other.key)];
    let flags = [
        ["--forward", &format!("https://127.0.0.1:0={}", app.addr())],
        ["--admin", "127.0.0.1:0"],
        ["--tls-cert", &certs[0]],
        ["--tls-cert", &format!("0={}", certs[1])],
        ["--tls-key", &keys[0]],
        ["--tls-key", &format!("0={}", keys[1])],
    ];
    let ebb = Ebb::start_bare(flags.as_flattened()).await;
    let stream = within("a handshake", handshake(ebb.addr(), Arc::new(authority.client()))).await.unwrap();
    assert_eq!(certificate(&mut Client::over_tls(stream)), der(&other));
}

/// Guards: flags and files that can't work are refused before anything listens, by name.
#[tokio::test]
async fn what_cannot_work_is_refused() {
    let authority = Authority::new();
    let folder = Folder::new();
    let (one, other) = (authority.identity(), authority.identity());
    let cert = folder.write("a.crt", &one.cert);
    let key = folder.write("a.key", &one.key);
    let wrong_key = folder.write("b.key", &other.key);
    let empty = folder.write("empty", "");
    let torn = folder.write("torn", &one.cert[..one.cert.len() / 2]);
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let encrypted = folder.write("encrypted", &encrypted);
    let missing = folder.path("missing").display().to_string();
    let https = "https://127.0.0.1:0=3000";
    let cases: [(&str, &[&str], &str); 11] = [
        (https, &[], "there is no --tls-cert for it"),
        (https, &["--tls-cert", &cert], "there is no --tls-key for it"),
        ("127.0.0.1:0=3000", &["--tls-cert", &cert, "--tls-key", &key], "no forward is https://"),
        (
            https,
            &["--tls-cert", &cert, "--tls-key", &key, "--tls-key", "8443=x"],
            "no https:// forward listens on port 8443",
        ),
        (https, &["--tls-cert", &missing, "--tls-key", &key], "cannot read it: No such file"),
        (https, &["--tls-cert", &empty, "--tls-key", &key], "there is no certificate in it"),
        (https, &["--tls-cert", &cert, "--tls-key", &cert], "there is no private key in it"),
        (https, &["--tls-cert", &torn, "--tls-key", &key], "it is damaged"),
        (https, &["--tls-cert", &cert, "--tls-key", &encrypted], "is encrypted"),
        (https, &["--tls-cert", &cert, "--tls-key", &wrong_key], "does not belong to --tls-cert"),
        (
            https,
            &["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &empty],
            "there is no certificate in it",
        ),
    ];
    for (forward, flags, needle) in cases {
        let flags = [&["--forward", forward, "--admin", "127.0.0.1:0"], flags].concat();
        let (code, said) = Ebb::refused(&flags).await;
        assert_eq!(code, Some(2), "{flags:?}: {said}");
        assert!(said.contains(needle) && said.contains("--tls-"), "{flags:?}: {said}");
    }
}

/// Waits until new handshakes show this certificate.
async fn until_served(ebb: &TlsEbb, identity: &Identity) {
    let served = async { while certificate(&mut ebb.client().await) != der(identity) {} };
    within("the new certificate", served).await;
}

fn certificate(client: &mut Client) -> CertificateDer<'static> {
    client.wire.tls().get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn der(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()
}

/// Waits until `ebb_tls_reloads_total` stands at `count` for this outcome.
async fn expect_reloads(ebb: &TlsEbb, outcome: &str, count: u32) {
    let forward = ebb.ebb.addr();
    let line = format!("ebb_tls_reloads_total{{forward=\"{forward}\",outcome=\"{outcome}\"}} {count}");
    let shown = async { while !metrics(ebb).await.lines().any(|shown| shown == line) {} };
    within(&format!("the metric {line}"), shown).await;
}
