//! Test: calls `echo`, shares memory with it, waits for its notification, then
//! reads memory that it was not given.
//!
//! Prints what it sees through a debug kernel.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, channel, debug_println, get_mr,
    protection_domain, region, region_at, set_mr,
};

/// An address that no system description maps.
const NOT_GIVEN: u64 = 0xdead_0000;

/// What the image has as zeroes and as bytes; each life changes both.
static ZERO: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(7);

struct Hello {
    echo: Channel,
}

#[protection_domain(heap_size = 0x60_0000)]
fn init() -> Hello {
    let shared = region!(shared);
    let echo = channel!(echo_channel);
    debug_println!("hello: started");
    let (zero, bytes) = (
        ZERO.fetch_add(1, Ordering::Relaxed),
        BYTES.fetch_add(1, Ordering::Relaxed),
    );
    assert_eq!((zero, bytes), (0, 7), "the memory of an earlier life");
    shared.store64(0, 41, Ordering::Release);
    set_mr(0, 1000);
    let answer = echo.pp_call(MessageInfo::new(7, 1));
    debug_println!("hello: echo answered {} {}", answer.label(), get_mr(0));
    debug_println!(
        "hello: shared memory holds {}",
        shared.load64(0, Ordering::Acquire)
    );
    Hello { echo }
}

impl Handler for Hello {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        if channels.contains(self.echo) {
            debug_println!("hello: notified by echo");
            let outside = region_at!(NOT_GIVEN, 0x1000);
            debug_println!("hello: read {}", outside.load64(0, Ordering::Relaxed));
        }
        Ok(())
    }
}
