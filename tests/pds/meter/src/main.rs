//! Test: says now and then how far the spinners have counted.
//!
//! It runs at a higher priority than they do, so its lines are one moment each.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use segue_shared_memory::Region;
use segue_timer_core::protocol;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, MessageInfo, channel, protection_domain,
    region, set_mr,
};

/// Between two lines.
const NANOSECONDS: u64 = 100_000_000;
/// Spinners that there may be.
const PLACES: usize = 4;

struct Meter {
    clock: Clock,
    progress: Region,
    timer: Channel,
}

#[protection_domain]
fn init() -> Meter {
    let meter = Meter {
        clock: Clock::new(region!(tsc_frequency)),
        progress: region!(progress),
        timer: channel!(timer_channel),
    };
    meter.wait();
    meter
}

impl Meter {
    fn wait(&self) {
        // A timer that died meanwhile signals when it is there again.
        set_mr(0, NANOSECONDS);
        let answer = self.timer.pp_call(MessageInfo::new(protocol::SET, 1));
        assert!(
            answer.is_gone() || !answer.is_refused(),
            "the timer refuses"
        );
    }
}

impl Handler for Meter {
    type Error = Infallible;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        let counts: [u64; PLACES] =
            core::array::from_fn(|place| self.progress.load64(place * 8, Relaxed));
        let now = self.clock.now_nanoseconds();
        let [a, b, c, d] = counts;
        log::info!("at {now} ns: {a} {b} {c} {d}");
        self.wait();
        Ok(())
    }
}
