//! Test: panics at its start.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use sel4_microkit::{NullHandler, protection_domain};

#[protection_domain]
fn init() -> NullHandler {
    panic!("born to fail")
}
