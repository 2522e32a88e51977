//! How fast the time stamp counter runs, and an alarm of `init`'s own.
//!
//! The kernel measures it at boot, but is badly wrong if an emulator's host is
//! busy at that moment (205 MHz were seen for 2596). So `init` measures again,
//! against the interval timer (8254).

use segue_system_image::format::clock;
use sel4::cap::IrqHandler;
use sel4::{CapData, CapRights};

use crate::allocator::Allocator;
use crate::failure::{Doing, Failure};
use crate::root;
use crate::start::time_stamp;

/// Ports and commands of the interval timer (Intel 8254 data sheet).
const COUNTER_0: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Counter 0, both bytes, mode 2: counts down from its start value, for ever.
const MODE_2: u64 = 0x34;
/// Latches counter 0, so that both bytes are of one moment.
const LATCH_0: u64 = 0x00;
/// Steps per second.
const FREQUENCY: u64 = 1_193_182;

/// Attempts to read both clocks at one moment.
const ATTEMPTS: usize = 8;
/// How often to measure. If the emulator's host stops it in the middle for
/// longer than the counter takes to wrap, the result is too high: the lowest
/// counts.
const MEASUREMENTS: usize = 3;
/// How long each takes: 4 ms. The counter wraps after 54.9 ms.
const STEPS: u16 = (FREQUENCY / 250) as u16;
/// How often to look whether that time has passed; a counter that stands still
/// must not stop `init`.
const PATIENCE: usize = 100_000;

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Sample {
    time_stamp: u64,
    counter: u16,
}

fn counter() -> Option<u16> {
    let low = root::IO_PORT.in8(COUNTER_0).ok()?;
    let high = root::IO_PORT.in8(COUNTER_0).ok()?;
    Some(u16::from_le_bytes([low, high]))
}

fn latch() -> Option<()> {
    root::IO_PORT.out8(u64::from(COMMAND), LATCH_0).ok()
}

/// Reads both clocks as close together as a few attempts allow; `None` if the
/// ports do not answer.
fn sample() -> Option<Sample> {
    let mut best: Option<(u64, Sample)> = None;
    for _ in 0..ATTEMPTS {
        let before = time_stamp();
        latch()?;
        let width = time_stamp() - before;
        let counter = counter()?;
        if best.is_none_or(|(narrowest, _)| width < narrowest) {
            best = Some((
                width,
                Sample {
                    time_stamp: before + width / 2,
                    counter,
                },
            ));
        }
    }
    best.map(|(_, sample)| sample)
}

/// The time stamp counter's frequency in MHz, measured in 12 ms; `None` if there
/// is no interval timer that counts.
pub(crate) fn measure() -> Option<u32> {
    let first = measure_once()?;
    let others = (1..MEASUREMENTS).filter_map(|_| measure_once());
    Some(others.fold(first, u32::min))
}

fn measure_once() -> Option<u32> {
    root::IO_PORT.out8(u64::from(COMMAND), MODE_2).ok()?;
    for _ in 0..2 {
        root::IO_PORT.out8(u64::from(COUNTER_0), 0).ok()?;
    }
    let first = sample()?;
    (0..PATIENCE).find(|_| {
        let now = latch().and_then(|()| counter());
        now.is_some_and(|now| first.counter.wrapping_sub(now) >= STEPS)
    })?;
    let last = sample()?;
    let steps = u64::from(first.counter.wrapping_sub(last.counter));
    let ticks = last.time_stamp - first.time_stamp;
    // Ticks per microsecond, rounded.
    let divisor = steps * 1_000_000;
    let megahertz = (ticks * FREQUENCY + divisor / 2).checked_div(divisor)?;
    u32::try_from(megahertz)
        .ok()
        .filter(|megahertz| *megahertz > 0)
}

/// Mode 0: an interrupt when the counter, once it is set, has reached zero.
const MODE_0: u64 = 0x30;
/// Badge of its signal; above those of faults.
pub(crate) const ALARM_BADGE: u64 = 1 << 63;

/// `init`'s own clock: the interval timer's interrupt.
pub(crate) struct Alarm {
    handler: IrqHandler,
}

impl Alarm {
    /// Takes the interrupt, which signals `notification`, to be bound to this
    /// thread. Nothing may measure with the timer from now on.
    pub(crate) fn new(allocator: &mut Allocator, notification: u64) -> Result<Self, Failure> {
        let slot = allocator.slots(2)?;
        let handler = IrqHandler(slot);
        let (pin, vector) = (u64::from(clock::PIN), u64::from(clock::VECTOR));
        let depth = u64::from(root::DEPTH);
        root::IRQ_CONTROL
            .get_ioapic(root::CNODE, slot, depth, 0, pin, 0, 0, vector)
            .and_then(|()| {
                root::CNODE.mint(
                    slot + 1,
                    root::DEPTH,
                    root::CNODE,
                    notification,
                    root::DEPTH,
                    CapRights::WRITE,
                    CapData::badge(ALARM_BADGE),
                )
            })
            .and_then(|()| handler.set_notification(slot + 1))
            .and_then(|()| root::THREAD.bind_notification(notification))
            // Until the counter is set, this mode makes no interrupt.
            .and_then(|()| root::IO_PORT.out8(u64::from(COMMAND), MODE_0))
            .and_then(|()| handler.ack())
            .doing("the interval timer could not be had", "init")?;
        Ok(Self { handler })
    }

    /// Makes the alarm ring once, in so many microseconds or after the 54 ms that
    /// the timer can count, whichever is less.
    pub(crate) fn set(&self, microseconds: u64) {
        let steps = microseconds.min(1_000_000) * FREQUENCY / 1_000_000;
        let steps = steps.clamp(1, u64::from(u16::MAX));
        // The ports were there when it was made.
        let _ = root::IO_PORT.out8(u64::from(COMMAND), MODE_0);
        for byte in [steps & 0xff, steps >> 8] {
            let _ = root::IO_PORT.out8(u64::from(COUNTER_0), byte);
        }
    }

    /// Lets it ring again.
    pub(crate) fn acknowledge(&self) {
        // Fails only without the capability that `new` got.
        let _ = self.handler.ack();
    }
}
