//! Sentences on the first serial port, for as long as `console` cannot.

use core::fmt;

use crate::root;

/// First port of COM1.
const PORT: u16 = 0x3f8;
/// Line status register; bit 5: ready for the next byte (16550 data sheet).
const LINE_STATUS: u16 = PORT + 5;
const READY: u8 = 1 << 5;
/// How often to ask before a byte is dropped: without a serial port, `init`
/// must not wait for ever.
const PATIENCE: u32 = 100_000;

/// Writes to the serial port by polling.
pub(crate) struct Serial;

impl Serial {
    fn put(byte: u8) {
        for _ in 0..PATIENCE {
            if root::IO_PORT
                .in8(LINE_STATUS)
                .is_ok_and(|status| status & READY != 0)
            {
                break;
            }
        }
        // Nowhere to complain if this fails.
        let _ = root::IO_PORT.out8(u64::from(PORT), u64::from(byte));
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                Serial::put(b'\r');
            }
            Serial::put(byte);
        }
        Ok(())
    }
}

/// Writes a line to the serial port.
#[macro_export]
macro_rules! serial_line {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // Serial::write_str does not fail.
        let _ = writeln!($crate::serial::Serial, $($argument)*);
    }};
}
