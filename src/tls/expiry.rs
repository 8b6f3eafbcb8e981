//! When a certificate ends: the one thing that we want to know of it, and no library that is here already tells. One that
//! reads all of X.509 would be larger than the rest of this module with everything beneath.

use std::time::SystemTime;

/// Tags of DER (X.690).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` (RFC 5280, section 4.1); none when it can't be told.
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(certificate, SEQUENCE)?;
    let (_, mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = any(fields)?.2;
    }
    // The serial number, the signature's algorithm and the issuer come first.
    for _ in 0..3 {
        fields = any(fields)?.2;
    }
    let (_, validity, _) = element(fields, SEQUENCE)?;
    let (tag, time, _) = any(any(validity)?.2)?;
    let time = std::str::from_utf8(time).ok()?;
    let full = match tag {
        // Two digits are 1950 to 2049.
        UTC_TIME => format!("{}{time}", if time.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => time.to_owned(),
        _ => return None,
    };
    let part = |at: usize, len: usize| full.get(at..at + len);
    let (year, month, day) = (part(0, 4)?, part(4, 2)?, part(6, 2)?);
    let (hour, minute, second) = (part(8, 2)?, part(10, 2)?, part(12, 2)?);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

/// The first element: its tag, what is in it, and what follows it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (inside, after) = rest.split_at_checked(len)?;
    Some((tag, inside, after))
}

fn element(der: &[u8], wanted: u8) -> Option<(u8, &[u8], &[u8])> {
    any(der).filter(|&(tag, ..)| tag == wanted)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Guards: both ways to write a time, and a certificate that is cut anywhere.
    #[test]
    fn the_end_is_told() {
        let key = KeyPair::generate().unwrap();
        for (year, end) in [(2031, "2031-02-03T00:00:00Z"), (2051, "2051-02-03T00:00:00Z")] {
            let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 2, 3);
            let cert = params.self_signed(&key).unwrap();
            assert_eq!(not_after(cert.der()), humantime::parse_rfc3339(end).ok());
            for cut in 0..cert.der().len() {
                assert_eq!(not_after(&cert.der()[..cut]), None);
            }
        }
    }
}
