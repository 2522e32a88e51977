//! Test: starts, and is never ready.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use sel4_microkit::{Handler, Infallible, protection_domain};

struct Waits;

#[protection_domain]
fn init() -> Waits {
    Waits
}

impl Handler for Waits {
    type Error = Infallible;

    fn is_ready(&self) -> bool {
        false
    }
}
