//! The protection domain that owns the HPET: one-shot timeouts for the others.
//!
//! A protected call (see `segue_timer_core::protocol`) sets or cancels the
//! caller's timeout; when it passes, the caller's channel is signalled. Never:
//! calls another protection domain, or waits for one.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_hpet_driver::{Arming, Hpet};
use segue_shared_memory::Region;
use segue_timer_core::{Request, Timeouts, protocol};
use sel4_microkit::{
    Channel, ChannelSet, Handler, IrqAckError, MessageInfo, channel, get_mr, protection_domain,
    region, var,
};

struct Timer {
    hpet: Hpet<Region>,
    interrupt: Channel,
    timeouts: Timeouts,
    /// The deadline that the device is armed for.
    armed: Option<u64>,
}

#[protection_domain]
fn init() -> Timer {
    // The pin of the <irq> element with setvar_id="hpet_irq".
    let pin = u8::try_from(*var!(hpet_pin: u64 = 16)).unwrap_or(u8::MAX);
    let hpet = match Hpet::new(region!(hpet_registers), pin) {
        Ok(hpet) => hpet,
        Err(error) => panic!("{error}"),
    };
    log::info!(
        "counting in steps of {} ns, interrupts on pin {pin}",
        hpet.nanoseconds(1)
    );
    Timer {
        hpet,
        interrupt: channel!(hpet_irq),
        timeouts: Timeouts::new(),
        armed: None,
    }
}

impl Timer {
    /// Signals everyone whose time has come and arms the device for the next.
    fn update(&mut self) {
        loop {
            let now = self.hpet.now();
            while let Some(client) = self.timeouts.expire(now) {
                Channel::new(client).notify();
            }
            let next = self.timeouts.next();
            if next == self.armed {
                return;
            }
            self.armed = next;
            match next {
                None => return self.hpet.disarm(),
                Some(deadline) => match self.hpet.arm(deadline) {
                    Arming::Pending => return,
                    Arming::Passed => self.armed = None,
                },
            }
        }
    }
}

impl Handler for Timer {
    type Error = IrqAckError;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
        if channels.contains(self.interrupt) {
            self.interrupt.irq_ack()?;
            // The comparator has fired, or soon will again for what it is armed for.
            self.armed = None;
        }
        self.update();
        Ok(())
    }

    fn protected(
        &mut self,
        channel: Channel,
        call: MessageInfo,
    ) -> Result<MessageInfo, IrqAckError> {
        let request = Request::parse(call.label(), call.count(), get_mr(0));
        match request {
            // A client that cannot be signalled cannot be told that time is up.
            Some(Request::Set { nanoseconds }) if channel.may_notify() => {
                let ticks = self.hpet.ticks(nanoseconds);
                self.timeouts
                    .set(channel.index(), self.hpet.now().saturating_add(ticks));
            }
            Some(Request::Cancel) => self.timeouts.cancel(channel.index()),
            _ => return Ok(MessageInfo::REFUSED),
        }
        self.update();
        Ok(MessageInfo::new(protocol::DONE, 0))
    }
}
