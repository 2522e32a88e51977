//! Prints through the kernel's debug console.

use core::fmt;

/// The kernel's console; only a kernel built with printing has one.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            sel4::syscall::debug_put_char(byte);
        }
        Ok(())
    }
}

/// Prints a line.
macro_rules! println {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        // The console never fails.
        let _ = writeln!($crate::console::Console, $($argument)*);
    }};
}
pub(crate) use println;
