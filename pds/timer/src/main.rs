//! The protection domain that owns the HPET: one-shot timeouts for the others.
//!
//! A protected call (see `segue_timer_core::protocol`) sets or cancels the
//! caller's timeout; when it passes, the caller's channel is signalled. Never:
//! calls another protection domain, or waits for one.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_fault_points::{Point, reached};
use segue_hpet_driver::{Arming, Comparator, Hpet};
use segue_shared_memory::Region;
use segue_timer_core::{Alarm, CLIENTS, Request, Timer, protocol};
use sel4_microkit::{
    Channel, ChannelSet, Handler, IrqAckError, MessageInfo, channel, get_mr, protection_domain,
    region, var,
};

/// How late a timeout may come whose interrupt is lost.
const WATCH_NANOSECONDS: u64 = 100_000_000;

struct Program {
    device: Device,
    interrupt: Channel,
    timer: Timer,
}

/// The HPET: one comparator for the next timeout, one in case an interrupt is lost.
struct Device(Hpet<Region>);

impl Alarm for Device {
    fn now(&self) -> u64 {
        self.0.now()
    }

    fn arm(&mut self, deadline: u64) -> bool {
        self.0.arm(Comparator::First, deadline) == Arming::Pending
    }

    fn disarm(&mut self) {
        self.0.disarm(Comparator::First);
    }

    fn watch(&mut self, deadline: u64) -> bool {
        self.0.has_second() && self.0.arm(Comparator::Second, deadline) == Arming::Pending
    }
}

#[protection_domain]
fn init() -> Program {
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
    // A predecessor's timeouts are lost: whoever had one sets it anew. Nothing is armed before
    // the interrupt can come.
    for client in (0..CLIENTS).map(Channel::new) {
        signal(client);
        reached(Point::TimerStartSignalled);
    }
    Program {
        timer: Timer::new(hpet.ticks(WATCH_NANOSECONDS)),
        device: Device(hpet),
        interrupt: channel!(hpet_irq),
    }
}

/// Signals a client. One that cannot be signalled has no timeouts.
fn signal(client: Channel) {
    if client.may_notify() {
        client.notify();
    }
}

/// Signals the client with this number.
fn notify(client: usize) {
    signal(Channel::new(client));
}

impl Handler for Program {
    type Error = IrqAckError;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
        if channels.contains(self.interrupt) {
            self.interrupt.irq_ack()?;
            reached(Point::TimerAcknowledged);
        }
        self.timer.interrupted(&mut self.device, notify);
        Ok(())
    }

    fn protected(
        &mut self,
        channel: Channel,
        call: MessageInfo,
    ) -> Result<MessageInfo, IrqAckError> {
        let client = channel.index();
        match Request::parse(call.label(), call.count(), get_mr(0)) {
            // A client that cannot be signalled cannot be told that time is up.
            Some(Request::Set { nanoseconds }) if channel.may_notify() => {
                let ticks = self.device.0.ticks(nanoseconds);
                self.timer.set(client, ticks, &mut self.device, notify);
            }
            Some(Request::Cancel) => self.timer.cancel(client, &mut self.device, notify),
            _ => return Ok(MessageInfo::REFUSED),
        }
        Ok(MessageInfo::new(protocol::DONE, 0))
    }
}
