//! Test: fills its log with rubbish for ever, and now and then lies about how
//! much it wrote.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;
use segue_log_ring::Writer;
use sel4_microkit::{_private, Channel, NullHandler, abi, protection_domain};

/// What another protection domain's line would look like, if a terminal obeyed.
const FORGED: &[u8] = b"\r\x1b[2K\x1b[1Aticker: all is well\x07\n";

#[protection_domain]
fn init() -> NullHandler {
    let console = Channel::new(abi::CONSOLE_CHANNEL);
    // The runtime's own log ring, written past the runtime.
    let ring = _private::ring().expect("a system with a console");
    let mut state = 1_u64;
    for round in 0_u64.. {
        let mut writer = Writer::new(ring);
        let mut bytes = [0; 200];
        for byte in &mut bytes {
            // xorshift64: rubbish, but the same each time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        writer.write(FORGED);
        writer.write(&bytes);
        if round % 64 == 0 {
            ring.store64(0, state, Ordering::Relaxed);
            ring.store64(8, state.rotate_left(17), Ordering::Relaxed);
        }
        console.notify();
    }
    NullHandler::new()
}
