//! To the wire.

use super::TABLE_MAX;

/// The state that encodes the heads of a connection.
#[derive(Debug, Default)]
pub(in crate::http2) struct Encoder {
    /// The other side wants a smaller table than every connection begins with, and has to hear that it has one.
    shrinks: bool,
    /// It has heard so.
    said: bool,
}

impl Encoder {
    /// The other side's table may be so large, in bytes.
    pub(in crate::http2) fn set_table_max(&mut self, max: u32) {
        self.shrinks |= (max as usize) < TABLE_MAX;
    }

    /// Before the fields of each head.
    pub(in crate::http2) fn begin(&mut self, out: &mut Vec<u8>) {
        if self.shrinks && !std::mem::replace(&mut self.said, true) {
            // A table of nothing: whatever size the other side asks for later is not below it, so it never has to be
            // told again (RFC 7541, section 4.2).
            out.push(0x20);
        }
    }

    /// A field; one that `never` may be added to any table has come like that.
    pub(in crate::http2) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8], never: bool) {
        let index = match index_of(name, value) {
            Known::Whole(index) => {
                out.push(0x80 | index);
                return;
            }
            Known::Name(index) => index,
        };
        integer(out, if never { 0x10 } else { 0 }, 4, usize::from(index));
        if index == 0 {
            string(out, name);
        }
        string(out, value);
    }

    /// The status of a response.
    pub(in crate::http2) fn status(out: &mut Vec<u8>, status: u16) {
        let digits = [status / 100, status / 10 % 10, status % 10]
            .map(|digit| b'0' + u8::try_from(digit).unwrap_or(0));
        Self::field(out, b":status", &digits, false);
    }
}

/// What the static table knows of a field.
enum Known {
    Whole(u8),
    /// 0 is none.
    Name(u8),
}

fn index_of(name: &[u8], value: &[u8]) -> Known {
    let index = match name {
        b":authority" => 1,
        b":method" => match value {
            b"GET" => return Known::Whole(2),
            b"POST" => return Known::Whole(3),
            _ => 2,
        },
        b":path" => match value {
            b"/" => return Known::Whole(4),
            _ => 4,
        },
        b":scheme" => match value {
            b"http" => return Known::Whole(6),
            b"https" => return Known::Whole(7),
            _ => 6,
        },
        b":status" => match value {
            b"200" => return Known::Whole(8),
            b"204" => return Known::Whole(9),
            b"206" => return Known::Whole(10),
            b"304" => return Known::Whole(11),
            b"400" => return Known::Whole(12),
            b"404" => return Known::Whole(13),
            b"500" => return Known::Whole(14),
            _ => 8,
        },
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept" => 19,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-encoding" => 26,
        b"content-length" => 28,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"last-modified" => 44,
        b"location" => 46,
        b"referer" => 51,
        b"server" => 54,
        b"set-cookie" => 55,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        _ => 0,
    };
    Known::Name(index)
}

/// An integer that begins in the last `prefix` bits of a byte (RFC 7541, section 5.1).
#[expect(clippy::cast_possible_truncation, reason = "what is pushed has at most eight bits")]
fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, mut value: usize) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    value -= mask;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn string(out: &mut Vec<u8>, string: &[u8]) {
    integer(out, 0, 7, string.len());
    out.extend_from_slice(string);
}
