//! Test: lists every capability in its CSpace, as the debug kernel sees it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use sel4_microkit::{Handler, Infallible, debug_println, protection_domain};

/// Slots of the CNode that small addresses reach.
const SLOTS: u64 = 512;
/// Slots of the CNode above it; the first leads to the other one.
const ROOT_SLOTS: u64 = 64;
/// Where the index into the upper CNode is in an address.
const ROOT_SHIFT: u32 = 58;

struct Prober;

#[protection_domain]
fn init() -> Prober {
    for slot in 0..SLOTS {
        let kind = sel4::syscall::debug_cap_identify(slot);
        if kind != 0 {
            debug_println!("prober: slot {slot} kind {kind}");
        }
    }
    for slot in 1..ROOT_SLOTS {
        let kind = sel4::syscall::debug_cap_identify(slot << ROOT_SHIFT);
        if kind != 0 {
            debug_println!("prober: upper slot {slot} kind {kind}");
        }
    }
    debug_println!("prober: done");
    Prober
}

impl Handler for Prober {
    type Error = Infallible;
}
