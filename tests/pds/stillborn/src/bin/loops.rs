//! Test: never ends its start.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use sel4_microkit::{NullHandler, protection_domain};

#[protection_domain]
fn init() -> NullHandler {
    loop {
        core::hint::spin_loop();
    }
}
