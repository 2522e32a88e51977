//! The protection domain that owns the HPET: one-shot timeouts.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, MessageInfo, channel, protection_domain,
    region,
};

struct Timer {
    interrupt: Channel,
    clock: Clock,
    times: alloc::vec::Vec<u64>,
}

#[protection_domain(heap_size = 0x4000)]
fn init() -> Timer {
    let clock = Clock::new(region!(tsc_frequency));
    let _ = region!(hpet_registers);
    log::info!("ready after {} microseconds", clock.now_microseconds());
    Timer {
        interrupt: channel!(hpet_irq),
        clock,
        times: alloc::vec::Vec::new(),
    }
}

impl Handler for Timer {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        if channels.contains(self.interrupt) {
            self.times.push(self.clock.now_nanoseconds());
        }
        Ok(())
    }

    fn protected(&mut self, _: Channel, call: MessageInfo) -> Result<MessageInfo, Infallible> {
        Ok(MessageInfo::new(call.label(), self.times.len()))
    }
}
