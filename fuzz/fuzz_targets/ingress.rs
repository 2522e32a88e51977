//! The network server's decision whose a frame is, against a slow, obvious reference, and
//! its answers. `reference::check::received` says what the bytes mean.
#![no_main]

#[path = "../reference/mod.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| reference::check::received(data));
