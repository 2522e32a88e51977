//! Test: uses the timer in every way and says what happened, then panics, so
//! that there is a crash report.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_timer_core::protocol;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, MessageInfo, channel, protection_domain,
    region, set_mr, var,
};

/// Timeouts to wait for, in microseconds: from none to longer than a time slice.
const TIMEOUTS: [u64; 6] = [0, 1, 100, 1_000, 20_000, 100_000];

struct Ticker {
    clock: Clock,
    timer: Channel,
    step: usize,
    started: u64,
    panics: bool,
}

#[protection_domain]
fn init() -> Ticker {
    let clock = Clock::new(region!(tsc_frequency));
    let timer = channel!(timer_channel);
    let panics = *var!(ticker_panics: u64 = 0) != 0;
    let mut ticker = Ticker {
        clock,
        timer,
        step: 0,
        started: 0,
        panics,
    };
    for (label, count) in [(0, 0), (protocol::SET, 0), (protocol::SET, 2), (77, 1)] {
        let answer = timer.pp_call(MessageInfo::new(label, count));
        assert!(
            answer.is_refused(),
            "call {label} with {count} words was served"
        );
    }
    // A timeout that was taken back must not come; the next one replaces it.
    ticker.set(1_000);
    assert_eq!(
        timer.pp_call(MessageInfo::new(protocol::CANCEL, 0)).label(),
        protocol::DONE
    );
    ticker.set(50_000);
    ticker.start();
    ticker
}

impl Ticker {
    fn set(&self, microseconds: u64) {
        set_mr(0, microseconds * 1000);
        let answer = self.timer.pp_call(MessageInfo::new(protocol::SET, 1));
        assert_eq!((answer.label(), answer.count()), (protocol::DONE, 0));
    }

    fn start(&mut self) {
        self.started = self.clock.now_microseconds();
        self.set(TIMEOUTS[self.step]);
    }
}

impl Handler for Ticker {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        let passed = self.clock.now_microseconds() - self.started;
        let wanted = TIMEOUTS[self.step];
        assert!(
            channels.contains(self.timer),
            "signal on {}",
            channels.display()
        );
        // Two clocks: the counter's rate is measured at boot and may be a little off.
        assert!(
            passed >= wanted - wanted / 10,
            "{passed} us instead of {wanted}"
        );
        log::info!("{wanted} us took {passed} us");
        self.step += 1;
        if self.step < TIMEOUTS.len() {
            self.start();
        } else {
            log::warn!("done");
            assert!(!self.panics, "as asked for");
        }
        Ok(())
    }
}
