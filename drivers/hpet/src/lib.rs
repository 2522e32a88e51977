//! The high precision event timer: a 64-bit counter and one comparator, or two.
//!
//! Responsible for: reading the counter, and one interrupt when it passes a
//! given value. A driver that takes over from another one goes on with its counter. Never: decides who waits for what (that is the timer protection
//! domain's queue). It knows no seL4 and reaches the registers through
//! [`segue_device::Mmio`].
//!
//! Limits: one-shot, edge-triggered, on one pin of the IO APIC.
//! Specification: IA-PC HPET 1.0a.
#![no_std]
#![forbid(unsafe_code)]

mod registers;

use core::fmt;
use registers::{Capabilities, Configuration, Timer};
use segue_device::Mmio;
use tock_registers::LocalRegisterCopy;

/// Femtoseconds in a nanosecond.
const FEMTOSECONDS: u128 = 1_000_000;

/// The longest period that the specification allows, in femtoseconds.
const LONGEST_PERIOD: u64 = 100_000_000;

/// Why the device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no device, or not a sane one.
    NotPresent {
        /// What the capabilities register reads.
        capabilities: u64,
    },
    /// The counter has 32 bits only.
    NarrowCounter,
    /// No timer of 64 bits can interrupt on the pin.
    PinUnavailable {
        /// The pin asked for.
        pin: u8,
        /// The pins that there are, one bit each.
        available: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent { capabilities } => write!(
                formatter,
                "there is no high precision event timer at its address: \
                 its capabilities read {capabilities:#x}"
            ),
            Self::NarrowCounter => {
                write!(
                    formatter,
                    "the high precision event timer counts 32 bits only, not 64"
                )
            }
            Self::PinUnavailable { pin, available } => write!(
                formatter,
                "no 64-bit timer can interrupt on IO APIC pin {pin}; the pins it offers are {available:#x}"
            ),
        }
    }
}

impl core::error::Error for Error {}

/// What became of an attempt to arm the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arming {
    /// The interrupt will come.
    Pending,
    /// The time has already passed; no interrupt is promised.
    Passed,
}

/// One of the two comparators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparator {
    /// The one that every device has.
    First,
    /// A second one on the same pin.
    Second,
}

/// No counter gets so far by counting: at 10 ns a tick it takes 2,900 years.
const IMPLAUSIBLE: u64 = 1 << 63;

/// The device.
#[derive(Debug)]
pub struct Hpet<M> {
    registers: M,
    /// The number of the first comparator, and of the second if there is one.
    timers: [Option<usize>; 2],
    pin: u8,
    /// Femtoseconds in a tick.
    period: u64,
}

impl<M: Mmio> Hpet<M> {
    /// Takes the first two timers that can interrupt on the IO APIC's pin `pin`; one is
    /// enough. All timers are silenced: what a predecessor, or the firmware, has armed does
    /// not come. A counter that runs goes on where it is, unless its value is one that
    /// nobody can have counted to; else it is started.
    ///
    /// # Errors
    ///
    /// If the device is absent or cannot do what is needed.
    pub fn new(registers: M, pin: u8) -> Result<Self, Error> {
        let raw = read(&registers, registers::CAPABILITIES);
        let capabilities = LocalRegisterCopy::<u64, Capabilities::Register>::new(raw);
        let period = capabilities.read(Capabilities::PERIOD);
        if period == 0 || period > LONGEST_PERIOD {
            return Err(Error::NotPresent { capabilities: raw });
        }
        if !capabilities.is_set(Capabilities::WIDE_COUNTER) {
            return Err(Error::NarrowCounter);
        }
        let timers = capabilities.read(Capabilities::LAST_TIMER) as usize + 1;
        let mut available = 0;
        let mut chosen = [None; 2];
        for timer in 0..timers {
            let offset = registers::timer_configuration(timer);
            let configuration =
                LocalRegisterCopy::<u64, Timer::Register>::new(read(&registers, offset));
            // Whatever the firmware left running must not interrupt.
            registers.write32(offset, 0);
            if configuration.is_set(Timer::WIDE) {
                let routes = configuration.read(Timer::ROUTES) as u32;
                available |= routes;
                if pin < 32
                    && routes >> pin & 1 != 0
                    && let Some(free) = chosen.iter_mut().find(|place| place.is_none())
                {
                    *free = Some(timer);
                }
            }
        }
        if chosen[0].is_none() {
            return Err(Error::PinUnavailable { pin, available });
        }
        // A bit is taken back by writing it; those of edge-triggered timers mean nothing.
        registers.write32(registers::INTERRUPT_STATUS, u32::MAX);
        if read(&registers, registers::COUNTER) >= IMPLAUSIBLE {
            // It may be written only while it stands.
            registers.write32(registers::CONFIGURATION, 0);
            registers.write32(registers::COUNTER, 0);
            registers.write32(registers::COUNTER + 4, 0);
        }
        registers.write32(
            registers::CONFIGURATION,
            (Configuration::ENABLE::SET + Configuration::LEGACY_REPLACEMENT::CLEAR).value as u32,
        );
        let hpet = Self {
            registers,
            timers: chosen,
            pin,
            period,
        };
        for timer in hpet.timers.into_iter().flatten() {
            hpet.configure(timer, false);
        }
        Ok(hpet)
    }

    fn configure(&self, timer: usize, interrupt: bool) {
        let mut configuration = LocalRegisterCopy::<u64, Timer::Register>::new(0);
        configuration.write(
            Timer::ROUTE.val(u64::from(self.pin)) + Timer::INTERRUPT.val(u64::from(interrupt)),
        );
        // The upper half is read-only.
        self.registers.write32(
            registers::timer_configuration(timer),
            configuration.get() as u32,
        );
    }

    /// The counter, in ticks since it started.
    pub fn now(&self) -> u64 {
        read(&self.registers, registers::COUNTER)
    }

    /// Ticks in `nanoseconds`, rounded up; `u64::MAX` if there are more.
    pub fn ticks(&self, nanoseconds: u64) -> u64 {
        let ticks = (u128::from(nanoseconds) * FEMTOSECONDS).div_ceil(u128::from(self.period));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Nanoseconds in `ticks`, rounded down; `u64::MAX` if there are more.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * u128::from(self.period) / FEMTOSECONDS;
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// Whether there is a second comparator.
    pub fn has_second(&self) -> bool {
        self.timer(Comparator::Second).is_some()
    }

    fn timer(&self, comparator: Comparator) -> Option<usize> {
        match comparator {
            Comparator::First => self.timers[0],
            Comparator::Second => self.timers[1],
        }
    }

    /// Makes a comparator interrupt once when the counter reaches `deadline`,
    /// instead of what was set before. An interrupt for an earlier deadline may
    /// still come. One that does not exist never interrupts: as if the time had passed.
    pub fn arm(&self, comparator: Comparator, deadline: u64) -> Arming {
        let Some(timer) = self.timer(comparator) else {
            return Arming::Passed;
        };
        // The comparator is written in two halves, between which it has a value
        // that nobody asked for.
        self.configure(timer, false);
        let offset = registers::timer_comparator(timer);
        self.registers.write32(offset + 4, (deadline >> 32) as u32);
        self.registers.write32(offset, deadline as u32);
        self.configure(timer, true);
        // The comparator fires when the counter *becomes* equal. If that was
        // before this point, the interrupt may never come (section 2.3.9.2).
        if self.now() >= deadline {
            self.configure(timer, false);
            return Arming::Passed;
        }
        Arming::Pending
    }

    /// Makes a comparator silent.
    pub fn disarm(&self, comparator: Comparator) {
        if let Some(timer) = self.timer(comparator) {
            self.configure(timer, false);
        }
    }
}

/// Reads a 64-bit register by halves, so that the halves belong together.
fn read(registers: &impl Mmio, offset: usize) -> u64 {
    loop {
        let high = registers.read32(offset + 4);
        let low = registers.read32(offset);
        if registers.read32(offset + 4) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

#[cfg(test)]
mod tests;
