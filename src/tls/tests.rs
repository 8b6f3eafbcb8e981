//! What files may hold. What happens with them is tested with the real binary.

use rcgen::{CertificateParams, KeyPair};

use super::*;

fn certified(cert: &str, key: &str) -> Result<CertifiedKey, Error> {
    let files = TlsFiles { cert: "/c".into(), key: "/k".into(), client_ca: None };
    let contents = Contents { cert: cert.into(), key: key.into(), client_ca: None };
    contents.certified(&files, &ring::default_provider())
}

fn pem(kind: &str, der: &[u8]) -> String {
    let body = base64(der);
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quads = bytes.chunks(3).flat_map(|three| {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0, |bits, &byte| bits << 8 | usize::from(byte));
        let digits = [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]));
        digits.into_iter().take(three.len() + 1).chain(std::iter::repeat_n('=', 3 - three.len()))
    });
    quads.collect()
}

/// What is in a PKCS#8 key (RFC 5958): the third element, after a version and an algorithm. All are short.
fn inner(pkcs8: &[u8]) -> &[u8] {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (header, len) = match der[1] {
            0x81 => (3, usize::from(der[2])),
            len => (2, usize::from(len)),
        };
        der[header..].split_at(len)
    }
    let (_, after_version) = element(element(pkcs8).0);
    element(element(after_version).1).0
}

#[test]
fn every_usual_kind_of_key_is_taken() {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    certified(&cert, &key.serialize_pem()).unwrap();
    let sec1 = pem("EC PRIVATE KEY", inner(key.serialized_der()));
    certified(&cert, &sec1).unwrap();
    // As openssl writes it: with the curve before it, and with the certificate in the same file.
    let curve = pem("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
    certified(&cert, &format!("{cert}{curve}{sec1}")).unwrap();
    // PKCS#1 is looked at as a key, though this is none.
    let error = certified(&cert, &pem("RSA PRIVATE KEY", b"?")).unwrap_err().to_string();
    assert!(error.contains("--tls-key /k: cannot use it"), "{error}");
}

#[test]
fn what_can_not_be_used_is_named() {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let refused = |cert: &str, key: &str, needle: &str| {
        let error = certified(cert, key).unwrap_err().to_string();
        assert!(error.contains(needle), "{error}");
    };
    refused("", &key, "--tls-cert /c: there is no certificate in it");
    refused(&key, &key, "--tls-cert /c: there is no certificate in it");
    refused(&cert, &cert, "--tls-key /k: there is no private key in it");
    refused(&cert, &pem("ENCRYPTED PRIVATE KEY", b"?"), "--tls-key /k: the private key is encrypted");
    refused(&cert, &pem("PRIVATE KEY", b"?"), "--tls-key /k: cannot use it");
    refused(&pem("CERTIFICATE", b"?"), &key, "--tls-cert /c: cannot use it");
    refused(&cert[..cert.len() / 2], &key, "--tls-cert /c: it is damaged");
}
