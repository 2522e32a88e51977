//! The high precision event timer: a 64-bit counter and one comparator.
//!
//! Responsible for: reading the counter, and one interrupt when it passes a
//! given value. Never: decides who waits for what (that is the timer protection
//! domain's queue). It knows no seL4 and reaches the registers through
//! [`segue_device::Mmio`].
//!
//! Limits: one timer, one-shot, edge-triggered, on a pin of the IO APIC.
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

/// The device.
#[derive(Debug)]
pub struct Hpet<M> {
    registers: M,
    timer: usize,
    pin: u8,
    /// Femtoseconds in a tick.
    period: u64,
}

impl<M: Mmio> Hpet<M> {
    /// Starts the counter and takes the first timer that can interrupt on the
    /// IO APIC's pin `pin`. All other timers are silenced.
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
        let mut chosen = None;
        for timer in 0..timers {
            let offset = registers::timer_configuration(timer);
            let configuration =
                LocalRegisterCopy::<u64, Timer::Register>::new(read(&registers, offset));
            // Whatever the firmware left running must not interrupt.
            registers.write32(offset, 0);
            if configuration.is_set(Timer::WIDE) {
                let routes = configuration.read(Timer::ROUTES) as u32;
                available |= routes;
                if chosen.is_none() && pin < 32 && routes >> pin & 1 != 0 {
                    chosen = Some(timer);
                }
            }
        }
        let timer = chosen.ok_or(Error::PinUnavailable { pin, available })?;
        registers.write32(
            registers::CONFIGURATION,
            (Configuration::ENABLE::SET + Configuration::LEGACY_REPLACEMENT::CLEAR).value as u32,
        );
        let hpet = Self {
            registers,
            timer,
            pin,
            period,
        };
        hpet.configure(false);
        Ok(hpet)
    }

    fn configure(&self, interrupt: bool) {
        let mut configuration = LocalRegisterCopy::<u64, Timer::Register>::new(0);
        configuration.write(
            Timer::ROUTE.val(u64::from(self.pin)) + Timer::INTERRUPT.val(u64::from(interrupt)),
        );
        // The upper half is read-only.
        self.registers.write32(
            registers::timer_configuration(self.timer),
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

    /// Makes the timer interrupt once when the counter reaches `deadline`,
    /// instead of what was set before. An interrupt for an earlier deadline may
    /// still come.
    pub fn arm(&self, deadline: u64) -> Arming {
        // The comparator is written in two halves, between which it has a value
        // that nobody asked for.
        self.configure(false);
        let comparator = registers::timer_comparator(self.timer);
        self.registers
            .write32(comparator + 4, (deadline >> 32) as u32);
        self.registers.write32(comparator, deadline as u32);
        self.configure(true);
        // The comparator fires when the counter *becomes* equal. If that was
        // before this point, the interrupt may never come (section 2.3.9.2).
        if self.now() >= deadline {
            self.configure(false);
            return Arming::Passed;
        }
        Arming::Pending
    }

    /// Makes the timer silent.
    pub fn disarm(&self) {
        self.configure(false);
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
