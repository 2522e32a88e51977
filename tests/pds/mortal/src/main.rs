//! Test: a server that dies in the way it is asked to.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sel4_microkit::{
    Channel, Handler, Infallible, MessageInfo, exit, progress, protection_domain, set_mr, trace,
};

/// Calls answered in this life.
static ANSWERED: AtomicU64 = AtomicU64::new(0);
struct Mortal;

// A heap that takes large pages, too.
#[protection_domain(heap_size = 0x50_0000)]
fn init() -> Mortal {
    assert_eq!(ANSWERED.load(Relaxed), 0, "the memory of an earlier life");
    Mortal
}

impl Handler for Mortal {
    type Error = Infallible;

    fn protected(&mut self, _: Channel, call: MessageInfo) -> Result<MessageInfo, Infallible> {
        trace("asked", call.label());
        match call.label() {
            0 => {}
            1 => panic!("asked to panic"),
            2 => loop {
                core::hint::spin_loop();
            },
            3 => exit(),
            // Longer than the heartbeat, but with progress.
            4 => (0..200_000_000u64).for_each(|step| {
                if step % 1024 == 0 {
                    progress();
                }
                core::hint::black_box(step);
            }),
            _ => return Ok(MessageInfo::REFUSED),
        }
        set_mr(0, ANSWERED.fetch_add(1, Relaxed));
        Ok(MessageInfo::new(0, 1))
    }
}
