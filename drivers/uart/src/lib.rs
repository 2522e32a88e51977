//! The 16550 serial port.
//!
//! Responsible for: setting the line up, moving bytes in and out without ever
//! waiting for the line, and saying why it interrupted. Never: queues bytes, or
//! knows what they mean. It knows no seL4 and reaches the device through
//! [`Ports`].
//!
//! Limits: 8 data bits, no parity, one stop bit, no flow control.
//! Data sheet: National Semiconductor PC16550D.
#![no_std]
#![forbid(unsafe_code)]

mod registers;

use core::fmt;
use registers::{
    DATA, FIFO_CONTROL, FifoControl, INTERRUPT_ENABLE, INTERRUPT_IDENTIFICATION, InterruptEnable,
    InterruptIdentification, LINE_CONTROL, LINE_STATUS, LineControl, LineStatus, MODEM_CONTROL,
    MODEM_STATUS, ModemControl, SCRATCH,
};
use tock_registers::LocalRegisterCopy;

/// The device's eight 8-bit ports, by number from 0.
pub trait Ports {
    /// Reads a port.
    fn read8(&self, port: u16) -> u8;
    /// Writes a port.
    fn write8(&self, port: u16, value: u8);
}

/// Frequency that the divisor divides, in bits a second.
pub const BASE_RATE: u32 = 115_200;

/// Bytes that the transmitter takes at once.
const FIFO_LENGTH: usize = 16;

/// Why the device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no device at the ports.
    NotPresent,
    /// The rate does not divide [`BASE_RATE`].
    RateImpossible {
        /// In bits a second.
        rate: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent => write!(formatter, "there is no serial port at its IO ports"),
            Self::RateImpossible { rate } => {
                write!(
                    formatter,
                    "the serial port cannot run at {rate} bits a second"
                )
            }
        }
    }
}

impl core::error::Error for Error {}

/// The device.
#[derive(Debug)]
pub struct Uart<P> {
    ports: P,
    fifo_length: usize,
    transmit_interrupt: bool,
}

impl<P: Ports> Uart<P> {
    /// Sets the line up for `rate` bits a second and lets received bytes
    /// interrupt. A line that a predecessor has set up the same way goes on: what it
    /// has received waits, and what it was given to send goes out.
    ///
    /// # Errors
    ///
    /// If there is no device or the rate is impossible.
    pub fn new(ports: P, rate: u32) -> Result<Self, Error> {
        let divisor = BASE_RATE
            .checked_div(rate)
            .filter(|divisor| divisor * rate == BASE_RATE)
            .and_then(|divisor| u16::try_from(divisor).ok())
            .ok_or(Error::RateImpossible { rate })?;
        // Absent ports read as all ones and keep nothing.
        for pattern in [0x5a, 0xa5] {
            ports.write8(SCRATCH, pattern);
            if ports.read8(SCRATCH) != pattern {
                return Err(Error::NotPresent);
            }
        }
        let line = LineControl::WORD::EightBits;
        let divisor = divisor.to_le_bytes();
        let is_format_set = ports.read8(LINE_CONTROL) == line.value;
        ports.write8(LINE_CONTROL, (line + LineControl::DIVISOR::SET).value);
        let is_set_up = [ports.read8(DATA), ports.read8(INTERRUPT_ENABLE)] == divisor;
        if !is_set_up {
            let [low, high] = divisor;
            ports.write8(DATA, low);
            ports.write8(INTERRUPT_ENABLE, high);
        }
        ports.write8(LINE_CONTROL, line.value);
        ports.write8(INTERRUPT_ENABLE, 0);
        // What others left in the transmitter still goes out. What was received otherwise than
        // now means nothing.
        let mut fifo = FifoControl::ENABLE::SET + FifoControl::TRIGGER::Eight;
        if !(is_format_set && is_set_up) {
            fifo += FifoControl::CLEAR_RECEIVER::SET;
        }
        ports.write8(FIFO_CONTROL, fifo.value);
        let identification = identification(&ports);
        let fifo_length = if identification.read(InterruptIdentification::FIFO) == 3 {
            FIFO_LENGTH
        } else {
            1
        };
        ports.write8(
            MODEM_CONTROL,
            (ModemControl::TERMINAL_READY::SET
                + ModemControl::REQUEST_TO_SEND::SET
                + ModemControl::OUT2::SET)
                .value,
        );
        let uart = Self {
            ports,
            fifo_length,
            transmit_interrupt: false,
        };
        uart.enable_interrupts();
        Ok(uart)
    }

    fn enable_interrupts(&self) {
        let enable = InterruptEnable::RECEIVED::SET
            + InterruptEnable::TRANSMITTER_EMPTY.val(u8::from(self.transmit_interrupt));
        self.ports.write8(INTERRUPT_ENABLE, enable.value);
    }

    fn line_status(&self) -> LocalRegisterCopy<u8, LineStatus::Register> {
        LocalRegisterCopy::new(self.ports.read8(LINE_STATUS))
    }

    /// Takes a received byte.
    pub fn read(&self) -> Option<u8> {
        self.line_status()
            .is_set(LineStatus::RECEIVED)
            .then(|| self.ports.read8(DATA))
    }

    /// Hands bytes to the transmitter, as many as it takes now: 0 while it is
    /// busy, else up to 16. Returns how many.
    pub fn write(&self, bytes: impl IntoIterator<Item = u8>) -> usize {
        if !self.line_status().is_set(LineStatus::TRANSMITTER_EMPTY) {
            return 0;
        }
        let mut count = 0;
        for byte in bytes.into_iter().take(self.fifo_length) {
            self.ports.write8(DATA, byte);
            count += 1;
        }
        count
    }

    /// Chooses whether the device interrupts when the transmitter can take more.
    pub fn set_transmit_interrupt(&mut self, wanted: bool) {
        if wanted != self.transmit_interrupt {
            self.transmit_interrupt = wanted;
            self.enable_interrupts();
        }
    }

    /// Makes the interrupt line rise anew if there is still a reason to
    /// interrupt. For an edge-triggered line that was not served to the end.
    pub fn interrupt_again(&self) {
        self.ports.write8(INTERRUPT_ENABLE, 0);
        self.enable_interrupts();
    }

    /// Takes back the causes of the interrupt that reading and writing bytes do
    /// not; to be called for each interrupt, or an edge-triggered line stays
    /// high. Bounded: a device that never tires is left alone after a while.
    pub fn acknowledge(&self) {
        for _ in 0..8 {
            let identification = identification(&self.ports);
            if identification.is_set(InterruptIdentification::NONE_PENDING) {
                return;
            }
            match identification.read_as_enum(InterruptIdentification::CAUSE) {
                // Reading the identification has taken this one back.
                Some(InterruptIdentification::CAUSE::Value::TransmitterEmpty) => {}
                Some(InterruptIdentification::CAUSE::Value::LineStatus) => {
                    self.line_status();
                }
                Some(InterruptIdentification::CAUSE::Value::ModemStatus) => {
                    self.ports.read8(MODEM_STATUS);
                }
                // The caller reads the bytes.
                _ => return,
            }
        }
    }
}

fn identification<P: Ports>(ports: &P) -> LocalRegisterCopy<u8, InterruptIdentification::Register> {
    LocalRegisterCopy::new(ports.read8(INTERRUPT_IDENTIFICATION))
}

#[cfg(test)]
mod tests;
