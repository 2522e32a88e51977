//! The network server's verdict on what an application sends, against a slow, obvious
//! reference. `reference::check::sent` says what the bytes mean.
#![no_main]

#[path = "../reference/mod.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| reference::check::sent(data));
