//! Shows that the fuzzer is guided: a bug that no amount of undirected random bytes would find.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // One comparison after the other: each one met is new coverage, so a guided fuzzer gets there
    // step by step. Unguided, it takes 2^64 attempts.
    let secret = b"Segue 64";
    let mut equal = 0;
    for (byte, wanted) in data.iter().zip(secret) {
        if byte != wanted {
            return;
        }
        equal += 1;
        std::hint::black_box(equal);
        reached(equal);
    }
    assert!(equal < secret.len(), "the planted bug");
});

/// An edge for every step.
#[inline(never)]
fn reached(equal: usize) {
    match equal {
        1 => std::hint::black_box(1),
        2 => std::hint::black_box(22),
        3 => std::hint::black_box(333),
        4 => std::hint::black_box(4444),
        5 => std::hint::black_box(55555),
        6 => std::hint::black_box(666_666),
        7 => std::hint::black_box(7_777_777),
        _ => std::hint::black_box(0),
    };
}
