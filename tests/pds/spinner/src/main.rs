//! Test: counts for ever, in its place of a region that others read, and never blocks for long.
//!
//! With `calls_every` it also makes a protected call after so many steps, as an application that
//! works does.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use segue_timer_core::protocol;
use sel4_microkit::{Channel, MessageInfo, NullHandler, protection_domain, region, var};

#[protection_domain]
fn init() -> NullHandler {
    let progress = region!(progress);
    let place = *var!(place: u64 = 0) as usize * 8;
    let calls_every = *var!(calls_every: u64 = 0);
    let timer = *var!(timer_channel: u64 = 0) as usize;
    let mut count = 0;
    let mut left = calls_every;
    loop {
        count += 1;
        progress.store64(place, count, Relaxed);
        if calls_every != 0 {
            left -= 1;
            if left == 0 {
                left = calls_every;
                Channel::new(timer).pp_call(MessageInfo::new(protocol::CANCEL, 0));
            }
        }
    }
}
