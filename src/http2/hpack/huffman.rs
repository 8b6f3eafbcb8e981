//! The Huffman code of RFC 7541, appendix B.
//!
//! It is canonical: codes of one length follow each other in the order of their symbols, and those of the next length
//! follow them. So the lengths say all of it.

/// The bits of each byte's code; the last one is the end of the string, which is never sent.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

const EOS: u16 = 256;
const SHORTEST: u32 = 5;
const LONGEST: usize = 30;

/// Codes up to this length are found with one look.
const SHORT: usize = 8;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    /// The first of them.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`Tables::symbols`].
    at: usize,
}

struct Tables {
    /// By the next eight bits: the symbol and its length; 0 when that is more.
    short: [(u8, u8); 1 << SHORT],
    groups: [Group; LONGEST + 1],
    /// All symbols by their codes.
    symbols: [u16; 257],
}

static TABLES: Tables = tables();

#[expect(clippy::cast_possible_truncation, reason = "symbols up to 256, lengths up to 30")]
const fn tables() -> Tables {
    let mut tables = Tables {
        short: [(0, 0); 1 << SHORT],
        groups: [Group { first: 0, count: 0, at: 0 }; LONGEST + 1],
        symbols: [0; 257],
    };
    let (mut code, mut at, mut len) = (0, 0, 1);
    while len <= LONGEST {
        tables.groups[len] = Group { first: code, count: 0, at };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == len {
                tables.symbols[at] = symbol as u16;
                if len <= SHORT {
                    let mut fill = 0;
                    while fill < 1 << (SHORT - len) {
                        tables.short[(code as usize) << (SHORT - len) | fill] = (symbol as u8, len as u8);
                        fill += 1;
                    }
                }
                code += 1;
                at += 1;
                tables.groups[len].count += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    tables
}

/// Bits that have been read and not been used.
struct Bits {
    bits: u64,
    have: u32,
}

impl Bits {
    /// The next `n`, filled up with ones where there are fewer, as padding is.
    fn peek(&self, n: u32) -> u32 {
        let mask = (1 << n) - 1;
        let bits = if self.have >= n {
            self.bits >> (self.have - n)
        } else {
            let missing = n - self.have;
            self.bits << missing | ((1 << missing) - 1)
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most 30 bits")]
        let bits = bits as u32;
        bits & mask
    }

    /// Only padding is left: less than a byte, all ones (RFC 7541, section 5.2).
    fn are_padding(&self) -> bool {
        self.have < 8 && self.peek(8) == 0xff
    }
}

/// Appends what `code` stands for to `out`; none when it is no such code. What has been appended then means nothing.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut bits = Bits { bits: 0, have: 0 };
    let mut rest = code.iter();
    loop {
        while bits.have <= 56
            && let Some(&byte) = rest.next()
        {
            bits.bits = bits.bits << 8 | u64::from(byte);
            bits.have += 8;
        }
        if bits.have < SHORTEST {
            break;
        }
        let (symbol, len) = TABLES.short[bits.peek(8) as usize];
        let (symbol, len) = if len > 0 { (u16::from(symbol), u32::from(len)) } else { long(bits.peek(30))? };
        if len > bits.have {
            break;
        }
        bits.have -= len;
        out.push(u8::try_from(symbol).ok()?);
    }
    bits.are_padding().then_some(())
}

/// The symbol whose code these 30 bits begin with, and its length.
fn long(window: u32) -> Option<(u16, u32)> {
    for len in SHORT + 1..=LONGEST {
        let group = &TABLES.groups[len];
        let nth = (window >> (LONGEST - len)).wrapping_sub(group.first);
        if nth < group.count {
            return Some((TABLES.symbols[group.at + nth as usize], u32::try_from(len).ok()?));
        }
    }
    Some((EOS, 30))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The slow and obvious way.
    pub(in super::super) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for &byte in text {
            let len = usize::from(LENGTHS[usize::from(byte)]);
            let group = TABLES.groups[len];
            let nth = (0..byte).filter(|&other| usize::from(LENGTHS[usize::from(other)]) == len).count();
            bits += &format!("{:0len$b}", group.first as usize + nth);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(code: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(code, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541, appendix C.4 and C.6.
        for (code, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], &b"www.example.com"[..]),
            (b"\xa8\xeb\x10\x64\x9c\xbf", b"no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"custom-key"),
            (b"\x64\x02", b"302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                b"Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ] {
            assert_eq!(decoded(code).as_deref(), Some(text));
            assert_eq!(encode(text), code);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for len in [1, 2, 3, 7, 256] {
            for first in 0..=255u8 {
                let text: Vec<u8> = (0..len).map(|i: usize| first.wrapping_add(i as u8)).collect();
                assert_eq!(decoded(&encode(&text)), Some(text));
            }
        }
    }

    #[test]
    fn what_is_no_code() {
        // Padding of a whole byte, of zeros, and the end of the string.
        for code in [&b"\xff"[..], b"\x1f\xff", b"\x18", b"\xff\xff\xff\xff", b"\xff\xff\xff\xfc"] {
            assert_eq!(decoded(code), None, "{code:x?}");
        }
        assert_eq!(decoded(b""), Some(Vec::new()));
        assert_eq!(decoded(b"\x1f"), Some(b"a".to_vec()));
    }
}
