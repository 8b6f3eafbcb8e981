//! Writing several buffers with one system call.

use std::io::IoSlice;
use std::mem::MaybeUninit;

use tokio::io::ReadBuf;

/// Up to this much is copied together. `send(2)` takes a shorter way through the kernel than `writev(2)`, by far
/// more than such a copy costs; larger bodies are not copied.
pub const SMALL: usize = 4096;

/// Room for that much. Not zeroed, which would cost as much as it saves.
pub type Room = [MaybeUninit<u8>; SMALL];

/// `bufs` as one slice, for a plain write: itself if there is but one, a copy in `room` if they are small. None
/// when a vectored write is the better way.
pub fn together<'a>(bufs: &'a [IoSlice<'_>], room: &'a mut ReadBuf<'_>) -> Option<&'a [u8]> {
    if let [only] = bufs {
        return Some(only);
    }
    let len: usize = bufs.iter().map(|buf| buf.len()).sum();
    if len > room.remaining() {
        return None;
    }
    for buf in bufs {
        room.put_slice(buf);
    }
    Some(room.filled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ones_are_copied_together_and_large_ones_are_not() {
        let data: Vec<u8> = (0..=255).cycle().take(2 * SMALL).collect();
        let check = |lens: &[usize], together_expected: bool| {
            let bufs: Vec<_> = lens.iter().map(|&len| IoSlice::new(&data[..len])).collect();
            let expected: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            let mut room: Room = [MaybeUninit::uninit(); SMALL];
            let mut room = ReadBuf::uninit(&mut room);
            let got = together(&bufs, &mut room);
            assert_eq!(got, together_expected.then_some(&*expected), "{lens:?}");
        };
        check(&[100, 28], true);
        check(&[100, 0, SMALL - 100], true);
        check(&[100, SMALL], false);
        check(&[SMALL + 1], true);
        check(&[], true);
    }
}
