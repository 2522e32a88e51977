//! Random numbers from the processor.

use core::arch::x86_64::{__cpuid, __cpuid_count, _rdrand64_step, _rdseed64_step};

/// How often an instruction is tried: it may have no number ready (SDM
/// volume 1, 7.3.17, recommends ten).
const ATTEMPTS: usize = 10;

/// A random number that nobody outside can predict: from the processor's
/// entropy source (RDSEED), or from its generator (RDRAND). `None` if the
/// processor has neither, or both are exhausted.
pub fn hardware_random() -> Option<u64> {
    seed().or_else(random)
}

fn seed() -> Option<u64> {
    // SDM volume 2, CPUID: leaf 0 says the last leaf, leaf 7 EBX bit 18 is RDSEED.
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).ebx >> 18 & 1 == 0 {
        return None;
    }
    attempt(|number| {
        // SAFETY: the processor has the instruction, as was just asked.
        unsafe { rdseed(number) }
    })
}

fn random() -> Option<u64> {
    // Leaf 1 ECX bit 30 is RDRAND.
    if __cpuid(1).ecx >> 30 & 1 == 0 {
        return None;
    }
    attempt(|number| {
        // SAFETY: the processor has the instruction, as was just asked.
        unsafe { rdrand(number) }
    })
}

/// The first number that `step` gives; it returns 1 if it gave one. Some
/// processors claim success with all bits alike after a sleep: that is none.
fn attempt(step: impl Fn(&mut u64) -> i32) -> Option<u64> {
    let mut number = 0;
    (0..ATTEMPTS)
        .any(|_| step(&mut number) == 1 && number != 0 && number != u64::MAX)
        .then_some(number)
}

#[target_feature(enable = "rdseed")]
fn rdseed(number: &mut u64) -> i32 {
    _rdseed64_step(number)
}

#[target_feature(enable = "rdrand")]
fn rdrand(number: &mut u64) -> i32 {
    _rdrand64_step(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn an_exhausted_source_is_tried_again_but_not_for_ever() {
        let tries = Cell::new(0);
        let third = attempt(|number| {
            tries.set(tries.get() + 1);
            *number = 7;
            i32::from(tries.get() == 3)
        });
        assert_eq!((third, tries.get()), (Some(7), 3));
        let broken = attempt(|number| {
            *number = u64::MAX;
            1
        });
        assert_eq!(broken, None);
        tries.set(0);
        let never = attempt(|_| {
            tries.set(tries.get() + 1);
            0
        });
        assert_eq!((never, tries.get()), (None, ATTEMPTS));
    }

    #[test]
    fn numbers_differ() {
        // A processor without a source gives none, always.
        let first = hardware_random();
        assert_eq!(first.is_some(), hardware_random().is_some());
        assert!(first.is_none() || first != hardware_random());
    }
}
