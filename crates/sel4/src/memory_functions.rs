//! The memory functions that compiled code expects.
//!
//! For `x86_64-unknown-linux-gnu` the compiler emits calls to `memcpy` and its
//! kin and takes them from the C library, which Segue's programs do not have.

/// Defines `memcpy`, `memmove`, `memset`, `memcmp`, `bcmp`,
/// `rust_eh_personality` and `_Unwind_Resume` in a program that has no C library. To be used once,
/// in the program's own crate.
///
/// Up to 16 bytes are copied by two overlapping moves, all loads before all
/// stores; more by `rep movsq`, with the last eight bytes loaded first and
/// stored last. No vector register is touched: a program that only copies does
/// not pay for the kernel's lazy switch of the floating point state. Copies to
/// a higher overlapping address run backwards in a plain loop, since the
/// kernel must not be entered with the direction flag set.
#[macro_export]
macro_rules! memory_functions {
    () => {
        ::core::arch::global_asm!($crate::memory_functions_assembly!());

        /// Prebuilt `core` refers to this; nothing unwinds here.
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn rust_eh_personality() {}

        /// Prebuilt `alloc` has landing pads that end in a call of this; since
        /// nothing unwinds, none is ever entered.
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn _Unwind_Resume() -> ! {
            ::core::unreachable!("unwinding")
        }
    };
}

/// The assembly of [`memory_functions!`](crate::memory_functions).
#[doc(hidden)]
#[macro_export]
macro_rules! memory_functions_assembly {
    () => {
        concat!(
            ".pushsection .text.memory_functions, \"ax\", @progbits\n",
            $crate::memory_functions_text!(""),
            ".popsection\n",
        )
    };
}

/// The functions, with a prefix to their names: tests must not replace the
/// C library's.
///
/// System V calling convention: rdi, rsi, rdx; result in rax.
#[doc(hidden)]
#[macro_export]
macro_rules! memory_functions_text {
    ($prefix:literal) => {
        concat!(
            // memmove(rdi = to, rsi = from, rdx = length)
            ".globl ",
            $prefix,
            "memmove\n",
            ".type ",
            $prefix,
            "memmove, @function\n",
            $prefix,
            "memmove:\n",
            "mov rax, rdi\n",
            "sub rax, rsi\n",
            // To below from, or no overlap: forwards.
            "cmp rax, rdx\n",
            "jae ",
            $prefix,
            "memcpy\n",
            "mov rax, rdi\n",
            "cmp rdx, 16\n",
            "jbe 20f\n",
            // Backwards, 16 bytes at a time, the first 16 kept for last.
            "mov r8, [rsi]\n",
            "mov r9, [rsi + 8]\n",
            "40:\n",
            "mov r10, [rsi + rdx - 8]\n",
            "mov r11, [rsi + rdx - 16]\n",
            "mov [rdi + rdx - 8], r10\n",
            "mov [rdi + rdx - 16], r11\n",
            "sub rdx, 16\n",
            "cmp rdx, 16\n",
            "ja 40b\n",
            "mov [rdi], r8\n",
            "mov [rdi + 8], r9\n",
            "ret\n",
            ".size ",
            $prefix,
            "memmove, . - ",
            $prefix,
            "memmove\n",
            // memcpy(rdi = to, rsi = from, rdx = length)
            ".globl ",
            $prefix,
            "memcpy\n",
            ".type ",
            $prefix,
            "memcpy, @function\n",
            $prefix,
            "memcpy:\n",
            "mov rax, rdi\n",
            "cmp rdx, 16\n",
            "jbe 20f\n",
            "mov r8, [rsi + rdx - 8]\n",
            "lea r9, [rdi + rdx - 8]\n",
            "lea rcx, [rdx - 1]\n",
            "shr rcx, 3\n",
            "rep movsq\n",
            "mov [r9], r8\n",
            "ret\n",
            // At most 16 bytes, overlapping or not.
            "20:\n",
            "cmp rdx, 8\n",
            "jb 21f\n",
            "mov r8, [rsi]\n",
            "mov r9, [rsi + rdx - 8]\n",
            "mov [rdi], r8\n",
            "mov [rdi + rdx - 8], r9\n",
            "ret\n",
            "21:\n",
            "cmp rdx, 4\n",
            "jb 22f\n",
            "mov r8d, [rsi]\n",
            "mov r9d, [rsi + rdx - 4]\n",
            "mov [rdi], r8d\n",
            "mov [rdi + rdx - 4], r9d\n",
            "ret\n",
            "22:\n",
            "test rdx, rdx\n",
            "je 24f\n",
            "movzx r8d, byte ptr [rsi]\n",
            "movzx r9d, byte ptr [rsi + rdx - 1]\n",
            "cmp rdx, 3\n",
            "jne 23f\n",
            "movzx r10d, byte ptr [rsi + 1]\n",
            "mov [rdi + 1], r10b\n",
            "23:\n",
            "mov [rdi], r8b\n",
            "mov [rdi + rdx - 1], r9b\n",
            "24:\n",
            "ret\n",
            ".size ",
            $prefix,
            "memcpy, . - ",
            $prefix,
            "memcpy\n",
            // memset(rdi = to, esi = byte, rdx = length)
            ".globl ",
            $prefix,
            "memset\n",
            ".type ",
            $prefix,
            "memset, @function\n",
            $prefix,
            "memset:\n",
            "mov r9, rdi\n",
            "movzx eax, sil\n",
            "mov rcx, 0x0101010101010101\n",
            "imul rax, rcx\n",
            "cmp rdx, 8\n",
            "jb 30f\n",
            "mov [rdi + rdx - 8], rax\n",
            "lea rcx, [rdx - 1]\n",
            "shr rcx, 3\n",
            "rep stosq\n",
            "mov rax, r9\n",
            "ret\n",
            "30:\n",
            "mov rcx, rdx\n",
            "rep stosb\n",
            "mov rax, r9\n",
            "ret\n",
            ".size ",
            $prefix,
            "memset, . - ",
            $prefix,
            "memset\n",
            // memcmp(rdi, rsi, rdx = length); bcmp only has to say whether they differ.
            ".globl ",
            $prefix,
            "memcmp\n",
            ".type ",
            $prefix,
            "memcmp, @function\n",
            ".globl ",
            $prefix,
            "bcmp\n",
            ".type ",
            $prefix,
            "bcmp, @function\n",
            $prefix,
            "memcmp:\n",
            $prefix,
            "bcmp:\n",
            "cmp rdx, 8\n",
            "jb 51f\n",
            "50:\n",
            "mov rax, [rdi]\n",
            "mov rcx, [rsi]\n",
            "cmp rax, rcx\n",
            "jne 53f\n",
            "add rdi, 8\n",
            "add rsi, 8\n",
            "sub rdx, 8\n",
            "cmp rdx, 8\n",
            "jae 50b\n",
            "51:\n",
            "test rdx, rdx\n",
            "je 52f\n",
            "movzx eax, byte ptr [rdi]\n",
            "movzx ecx, byte ptr [rsi]\n",
            "inc rdi\n",
            "inc rsi\n",
            "dec rdx\n",
            "sub eax, ecx\n",
            "je 51b\n",
            "ret\n",
            "52:\n",
            "xor eax, eax\n",
            "ret\n",
            // The first byte that differs decides: compare as big-endian numbers.
            "53:\n",
            "bswap rax\n",
            "bswap rcx\n",
            "cmp rax, rcx\n",
            "sbb eax, eax\n",
            "or eax, 1\n",
            "ret\n",
            ".size ",
            $prefix,
            "memcmp, . - ",
            $prefix,
            "memcmp\n",
            ".size ",
            $prefix,
            "bcmp, . - ",
            $prefix,
            "bcmp\n",
        )
    };
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    core::arch::global_asm!(crate::memory_functions_text!("segue_test_"));

    unsafe extern "C" {
        fn segue_test_memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
        fn segue_test_memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
        fn segue_test_memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
        fn segue_test_memcmp(one: *const u8, other: *const u8, length: usize) -> i32;
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length)
            .map(|index| (index * 7 + index / 256) as u8)
            .collect()
    }

    #[test]
    fn every_short_copy_is_exact() {
        for length in 0..150 {
            for offset in 0..9 {
                let from = pattern(length + offset);
                let mut to = std::vec![0xee; length + offset + 16];
                let start = to[offset..].as_mut_ptr();
                // SAFETY: both buffers are that long.
                let result = unsafe { segue_test_memcpy(start, from[offset..].as_ptr(), length) };
                assert_eq!(result, start);
                assert_eq!(to[offset..][..length], from[offset..]);
                assert!(to[..offset].iter().all(|byte| *byte == 0xee));
                assert!(to[offset + length..].iter().all(|byte| *byte == 0xee));
            }
        }
    }

    #[test]
    fn overlapping_moves_behave_as_if_through_a_copy() {
        for length in 0..100 {
            for from in 0..40 {
                for to in 0..40 {
                    let mut memory = pattern(160);
                    let mut expected = memory.clone();
                    expected.copy_within(from..from + length, to);
                    // SAFETY: both ranges lie inside `memory`.
                    unsafe {
                        let base = memory.as_mut_ptr();
                        segue_test_memmove(base.add(to), base.add(from), length);
                    }
                    assert_eq!(memory, expected, "length {length}, {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn fills_are_exact() {
        for length in 0..100 {
            for byte in [0, 0x5a, 0xff] {
                let mut memory = std::vec![0x11_u8; length + 9];
                // SAFETY: inside `memory`.
                unsafe { segue_test_memset(memory[3..].as_mut_ptr(), byte, length) };
                assert!(
                    memory[3..3 + length]
                        .iter()
                        .all(|have| i32::from(*have) == byte)
                );
                assert!(
                    memory[..3]
                        .iter()
                        .chain(&memory[3 + length..])
                        .all(|have| *have == 0x11)
                );
            }
        }
    }

    #[test]
    fn comparisons_order_as_slices_do() {
        for length in 0..40 {
            let one = pattern(length);
            for position in 0..length {
                for change in [1, 0x80, 0xff] {
                    let mut other = one.clone();
                    other[position] = other[position].wrapping_add(change);
                    // SAFETY: both are `length` bytes long.
                    let result = unsafe { segue_test_memcmp(one.as_ptr(), other.as_ptr(), length) };
                    assert_eq!(result.cmp(&0), one.cmp(&other));
                }
            }
            // SAFETY: as above.
            let same = unsafe { segue_test_memcmp(one.as_ptr(), one.as_ptr(), length) };
            assert_eq!(same, 0);
        }
    }
}
