//! Copying and comparing memory where musl is the C library, as in the image.
//!
//! musl's `memcpy` for x86-64 is `rep movsq`, which takes some 30 cycles to begin, and its `memcmp` goes byte by byte. A
//! proxy copies mostly what is done in fewer: heads, frames, names of fields. With these, which take 16 bytes at a time as
//! glibc's for any x86-64 do, an HTTP/2 request costs a tenth less (bench/NOTES.md). For other processors musl has its own.
//!
//! Assembly, because a compiler makes a loop that copies into a call of `memcpy`.

use std::arch::global_asm;

// memmove(to: rdi, from: rsi, length: rdx) -> to. Up to 128 bytes are all read before the first is written, so it does not
// matter how the two lie. Beyond, blocks of 64 are copied in the direction in which nothing is written over that is still
// to be read, to addresses that are multiples of 16; both ends, read before, are written last.
global_asm!(
    ".pushsection .text.ebb_memmove,\"ax\",@progbits",
    ".globl ebb_memmove",
    ".hidden ebb_memmove",
    ".type ebb_memmove,@function",
    ".p2align 6",
    "ebb_memmove:",
    ".cfi_startproc",
    "    mov rax, rdi",
    "    cmp rdx, 16",
    "    jb 20f",
    "    movups xmm0, [rsi]",
    "    movups xmm1, [rsi + rdx - 16]",
    "    cmp rdx, 32",
    "    ja 30f",
    "    movups [rdi], xmm0",
    "    movups [rdi + rdx - 16], xmm1",
    "    ret",
    // Fewer than 16.
    "20: cmp edx, 8",
    "    jb 21f",
    "    mov rcx, [rsi]",
    "    mov r8, [rsi + rdx - 8]",
    "    mov [rdi], rcx",
    "    mov [rdi + rdx - 8], r8",
    "    ret",
    "21: cmp edx, 4",
    "    jb 22f",
    "    mov ecx, [rsi]",
    "    mov r8d, [rsi + rdx - 4]",
    "    mov [rdi], ecx",
    "    mov [rdi + rdx - 4], r8d",
    "    ret",
    "22: cmp edx, 2",
    "    jb 23f",
    "    movzx ecx, word ptr [rsi]",
    "    movzx r8d, word ptr [rsi + rdx - 2]",
    "    mov [rdi], cx",
    "    mov [rdi + rdx - 2], r8w",
    "    ret",
    "23: test edx, edx",
    "    je 24f",
    "    movzx ecx, byte ptr [rsi]",
    "    mov [rdi], cl",
    "24: ret",
    // 33 to 128.
    "30: cmp rdx, 128",
    "    ja 40f",
    "    movups xmm2, [rsi + 16]",
    "    movups xmm3, [rsi + rdx - 32]",
    "    cmp edx, 64",
    "    jbe 31f",
    "    movups xmm4, [rsi + 32]",
    "    movups xmm5, [rsi + 48]",
    "    movups xmm6, [rsi + rdx - 64]",
    "    movups xmm7, [rsi + rdx - 48]",
    "    movups [rdi + 32], xmm4",
    "    movups [rdi + 48], xmm5",
    "    movups [rdi + rdx - 64], xmm6",
    "    movups [rdi + rdx - 48], xmm7",
    "31: movups [rdi], xmm0",
    "    movups [rdi + 16], xmm2",
    "    movups [rdi + rdx - 32], xmm3",
    "    movups [rdi + rdx - 16], xmm1",
    "    ret",
    // More. Forwards, unless `to` lies within `from`.
    "40: mov rcx, rdi",
    "    sub rcx, rsi",
    "    cmp rcx, rdx",
    "    jb 50f",
    "    movups xmm5, [rsi + rdx - 64]",
    "    movups xmm6, [rsi + rdx - 48]",
    "    movups xmm7, [rsi + rdx - 32]",
    "    lea r8, [rdi + rdx - 64]", // where the last block goes
    "    lea r9, [rdi + 16]",
    "    and r9, -16",
    "    sub r9, rdi", // 1 to 16 bytes to the first such address
    "    add rsi, r9",
    "    add rdi, r9",
    ".p2align 4",
    "41: movups xmm2, [rsi]",
    "    movups xmm3, [rsi + 16]",
    "    movups xmm4, [rsi + 32]",
    "    movups xmm8, [rsi + 48]",
    "    movaps [rdi], xmm2",
    "    movaps [rdi + 16], xmm3",
    "    movaps [rdi + 32], xmm4",
    "    movaps [rdi + 48], xmm8",
    "    add rsi, 64",
    "    add rdi, 64",
    "    cmp rdi, r8",
    "    jb 41b",
    "    movups [r8], xmm5",
    "    movups [r8 + 16], xmm6",
    "    movups [r8 + 32], xmm7",
    "    movups [r8 + 48], xmm1",
    "    movups [rax], xmm0",
    "    ret",
    // Backwards.
    "50: movups xmm5, [rsi + 16]",
    "    movups xmm6, [rsi + 32]",
    "    movups xmm7, [rsi + 48]",
    "    lea r8, [rdi + 64]", // where the first block ends
    "    lea r10, [rdi + rdx]",
    "    lea r9, [r10 - 1]",
    "    and r9, -16", // the last such address, 1 to 16 bytes before the end
    "    mov rdi, r9",
    "    sub r9, rax",
    "    add rsi, r9",
    ".p2align 4",
    "51: movups xmm2, [rsi - 16]",
    "    movups xmm3, [rsi - 32]",
    "    movups xmm4, [rsi - 48]",
    "    movups xmm8, [rsi - 64]",
    "    movaps [rdi - 16], xmm2",
    "    movaps [rdi - 32], xmm3",
    "    movaps [rdi - 48], xmm4",
    "    movaps [rdi - 64], xmm8",
    "    sub rsi, 64",
    "    sub rdi, 64",
    "    cmp rdi, r8",
    "    ja 51b",
    "    movups [rax], xmm0",
    "    movups [rax + 16], xmm5",
    "    movups [rax + 32], xmm6",
    "    movups [rax + 48], xmm7",
    "    movups [r10 - 16], xmm1",
    "    ret",
    ".cfi_endproc",
    ".size ebb_memmove, . - ebb_memmove",
    ".popsection",
);

// memcmp(a: rdi, b: rsi, length: rdx) -> less than, equal to or greater than 0, by the first byte that differs.
global_asm!(
    ".pushsection .text.ebb_memcmp,\"ax\",@progbits",
    ".globl ebb_memcmp",
    ".hidden ebb_memcmp",
    ".type ebb_memcmp,@function",
    ".p2align 6",
    "ebb_memcmp:",
    ".cfi_startproc",
    "    cmp rdx, 16",
    "    jb 30f",
    "    lea r8, [rdx - 16]", // where the last block begins; it may overlap the one before
    "    xor ecx, ecx",
    ".p2align 4",
    "20: movups xmm0, [rdi + rcx]",
    "    movups xmm1, [rsi + rcx]",
    "    pcmpeqb xmm0, xmm1",
    "    pmovmskb eax, xmm0",
    "    xor eax, 0xffff",
    "    jne 21f",
    "    add rcx, 16",
    "    cmp rcx, r8",
    "    jb 20b",
    "    mov rcx, r8",
    "    movups xmm0, [rdi + rcx]",
    "    movups xmm1, [rsi + rcx]",
    "    pcmpeqb xmm0, xmm1",
    "    pmovmskb eax, xmm0",
    "    xor eax, 0xffff",
    "    jne 21f",
    "    ret",
    "21: bsf eax, eax",
    "    add rcx, rax",
    "    movzx eax, byte ptr [rdi + rcx]",
    "    movzx edx, byte ptr [rsi + rcx]",
    "    sub eax, edx",
    "    ret",
    // Fewer than 16: as numbers of which the first byte is the greatest part.
    "30: cmp edx, 8",
    "    jb 31f",
    "    mov rax, [rdi]",
    "    mov rcx, [rsi]",
    "    cmp rax, rcx",
    "    jne 32f",
    "    mov rax, [rdi + rdx - 8]",
    "    mov rcx, [rsi + rdx - 8]",
    "    cmp rax, rcx",
    "    jne 32f",
    "    xor eax, eax",
    "    ret",
    "31: cmp edx, 4",
    "    jb 33f",
    "    mov eax, [rdi]",
    "    mov ecx, [rsi]",
    "    cmp eax, ecx",
    "    jne 32f",
    "    mov eax, [rdi + rdx - 4]",
    "    mov ecx, [rsi + rdx - 4]",
    "    cmp eax, ecx",
    "    jne 32f",
    "    xor eax, eax",
    "    ret",
    "32: bswap rax",
    "    bswap rcx",
    "    cmp rax, rcx",
    "    sbb eax, eax",
    "    or eax, 1",
    "    ret",
    // Up to 3: the first, the middle and the last byte are all of them.
    "33: test edx, edx",
    "    je 34f",
    "    movzx eax, byte ptr [rdi]",
    "    movzx ecx, byte ptr [rsi]",
    "    sub eax, ecx",
    "    jne 35f",
    "    mov r8d, edx",
    "    shr r8d, 1",
    "    movzx eax, byte ptr [rdi + r8]",
    "    movzx ecx, byte ptr [rsi + r8]",
    "    sub eax, ecx",
    "    jne 35f",
    "    movzx eax, byte ptr [rdi + rdx - 1]",
    "    movzx ecx, byte ptr [rsi + rdx - 1]",
    "    sub eax, ecx",
    "    ret",
    "34: xor eax, eax",
    "35: ret",
    ".cfi_endproc",
    ".size ebb_memcmp, . - ebb_memcmp",
    ".popsection",
);

// All of those that stand in a file with memcpy or memmove in musl, so that the linker takes none of these files.
#[cfg(target_env = "musl")]
global_asm!(
    ".globl memcpy",
    ".globl memmove",
    ".globl memcmp",
    ".globl bcmp",
    ".set memcpy, ebb_memmove",
    ".set memmove, ebb_memmove",
    ".set memcmp, ebb_memcmp",
    ".set bcmp, ebb_memcmp",
);

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::ffi::{c_int, c_void};

    use proptest::prelude::*;

    unsafe extern "C" {
        fn ebb_memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
        fn ebb_memcmp(a: *const c_void, b: *const c_void, length: usize) -> c_int;
    }

    /// Bytes of which no two neighbouring ones are the same.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i % 251).expect("below 256")).collect()
    }

    fn moves(size: usize, to: usize, from: usize, length: usize) {
        let (mut ours, mut wanted) = (bytes(size), bytes(size));
        wanted.copy_within(from..from + length, to);
        assert!(from + length <= size && to + length <= size);
        let start = ours.as_mut_ptr();
        // SAFETY: both ranges lie within `ours`, as was asserted.
        let (target, returned) = unsafe {
            let target = start.add(to);
            (target, ebb_memmove(target.cast(), start.add(from).cast(), length))
        };
        assert_eq!(returned, target.cast());
        assert!(ours == wanted, "{length} bytes from {from} to {to}");
    }

    fn compares(a: &[u8], b: &[u8]) -> Ordering {
        assert_eq!(a.len(), b.len());
        // SAFETY: both are as long as that.
        unsafe { ebb_memcmp(a.as_ptr().cast(), b.as_ptr().cast(), a.len()) }.cmp(&0)
    }

    #[test]
    fn every_short_length_is_moved_to_every_place() {
        for length in 0..=300 {
            for shift in 0..=70 {
                moves(400, 16 + shift, 16, length);
                moves(400, 16, 16 + shift, length);
            }
            for place in 0..16 {
                moves(800, 400 + place, 3, length);
            }
        }
    }

    #[test]
    fn a_difference_at_every_place_of_every_length_is_found() {
        for length in 0..=100 {
            let a = bytes(length);
            assert_eq!(compares(&a, &a), Ordering::Equal, "{length}");
            for place in 0..length {
                let mut b = a.clone();
                b[place] ^= 0x80;
                // What comes behind says the opposite.
                b[place + 1..].iter_mut().for_each(|byte| *byte = if a[place] < 0x80 { 0 } else { 255 });
                assert_eq!(compares(&a, &b), a.cmp(&b), "{place} of {length}");
                assert_eq!(compares(&b, &a), b.cmp(&a), "{place} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn long_ones_are_moved(to in 0..20_000_usize, from in 0..20_000_usize, length in 0..80_000_usize) {
            moves(100_000, to, from, length);
        }

        #[test]
        fn they_compare_as_slices_do(a: Vec<u8>, b: Vec<u8>) {
            let length = a.len().min(b.len());
            prop_assert_eq!(compares(&a[..length], &b[..length]), a[..length].cmp(&b[..length]));
        }
    }
}
