//! From the wire.

use super::table::Table;
use super::{TABLE_MAX, huffman};
use crate::http2::fields::Fields;

/// What is no HPACK. The state that both sides share is lost with it, and so is the connection.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http2) struct NoHpack;

/// The state that decodes the heads of a connection.
#[derive(Debug)]
pub(in crate::http2) struct Decoder {
    table: Table,
}

impl Decoder {
    pub(in crate::http2) fn new() -> Self {
        Self { table: Table::new(TABLE_MAX) }
    }

    /// Adds what `block` says to `fields`.
    pub(in crate::http2) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), NoHpack> {
        let mut block = Block(block);
        let mut begun = false;
        while let Some(&first) = block.0.first() {
            match first {
                0x80.. => {
                    let index = block.integer(7)?;
                    let (name, value) = self.table.get(index).ok_or(NoHpack)?;
                    fields.add(name, value, false);
                }
                0x40.. => self.literal(&mut block, 6, fields)?,
                // Only before the first field (section 4.2).
                0x20.. if begun => return Err(NoHpack),
                0x20.. => {
                    let max = block.integer(5)?;
                    if max > TABLE_MAX {
                        return Err(NoHpack);
                    }
                    self.table.set_max(max);
                    continue;
                }
                _ => self.literal(&mut block, 4, fields)?,
            }
            begun = true;
        }
        Ok(())
    }

    /// A field whose value is spelled out, and its name perhaps.
    fn literal(&mut self, block: &mut Block<'_>, prefix: u32, fields: &mut Fields) -> Result<(), NoHpack> {
        let never = block.0[0] & 0xf0 == 0x10;
        let index = block.integer(prefix)?;
        let mut field = fields.begin();
        if index > 0 {
            let (name, _) = self.table.get(index).ok_or(NoHpack)?;
            field.bytes().extend_from_slice(name);
        } else {
            block.string(field.bytes())?;
        }
        field.name_ends();
        block.string(field.bytes())?;
        if prefix == 6 {
            let (bytes, name_len) = field.written();
            self.table.add(bytes, name_len);
        }
        field.end(never);
        Ok(())
    }
}

/// What is left of a block.
struct Block<'a>(&'a [u8]);

impl<'a> Block<'a> {
    fn byte(&mut self) -> Result<u8, NoHpack> {
        let (&first, rest) = self.0.split_first().ok_or(NoHpack)?;
        self.0 = rest;
        Ok(first)
    }

    /// An integer that begins in the last `prefix` bits of a byte (section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, NoHpack> {
        let mask = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        // Four more bytes are enough for anything that fits into a frame.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(NoHpack)
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), NoHpack> {
        let is_huffman = self.0.first().is_some_and(|&first| first >= 0x80);
        let len = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(len).ok_or(NoHpack)?;
        self.0 = rest;
        if is_huffman {
            huffman::decode(string, out).ok_or(NoHpack)
        } else {
            out.extend_from_slice(string);
            Ok(())
        }
    }
}
