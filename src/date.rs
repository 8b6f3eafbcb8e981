//! The `Date` field (RFC 9110, section 6.6.1).

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time as HTTP writes it, which changes once a second and is not written anew before.
#[derive(Debug)]
pub struct Date {
    second: Cell<Duration>,
    text: Cell<[u8; LEN]>,
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
const LEN: usize = 29;

impl Default for Date {
    fn default() -> Self {
        Self { second: Cell::new(Duration::MAX), text: Cell::new([b' '; LEN]) }
    }
}

impl Date {
    /// Appends the present time.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_at(SystemTime::now(), out);
    }

    fn put_at(&self, now: SystemTime, out: &mut Vec<u8>) {
        let second = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        if self.second.replace(second) != second {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + second);
            self.text.set(text.as_bytes().try_into().unwrap_or([b' '; LEN]));
        }
        out.extend_from_slice(&self.text.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_second() {
        let date = Date::default();
        let at = |millis| {
            let mut out = b"date: ".to_vec();
            date.put_at(UNIX_EPOCH + Duration::from_millis(millis), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at(784_111_777_000), "date: Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777_999), "date: Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778_000), "date: Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(0), "date: Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
