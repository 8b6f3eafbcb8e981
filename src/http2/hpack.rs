//! Heads as HTTP/2 has them on the wire (HPACK, RFC 7541).
//!
//! What comes is decoded in full. What goes out refers to the static table and to nothing else: no field is added to
//! the other side's table and no string is Huffman coded, which costs some bytes on the wire and saves both sides the
//! work. The app is in the same pod, and the client's side of it is a small part of any response.

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(super) use decoder::Decoder;
pub(super) use encoder::Encoder;

/// The size of the table that every connection begins with, in each direction (RFC 9113, section 6.5.2).
const TABLE_MAX: usize = 4096;

#[cfg(test)]
mod tests;
