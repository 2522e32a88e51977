//! Log lines and panics.

use crate::abi;
use crate::symbols::{has, kernel_printing, log_level, log_ring, microkit_notifications};
use core::cell::RefCell;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};
use segue_log_ring::{Line, REGION_SIZE, Writer};
use segue_shared_memory::Region;

/// Longest log line, in bytes.
const LINE_SIZE: usize = 256;

/// A protection domain has one thread.
pub(crate) struct SingleThread<T>(pub(crate) T);

// SAFETY: there is no second thread to share with.
unsafe impl<T> Sync for SingleThread<T> {}

static LOGGER: SingleThread<RingLogger> = SingleThread(RingLogger {
    ring: RefCell::new(None),
});

struct RingLogger {
    ring: RefCell<Option<Writer>>,
}

/// Makes the `log` macros write to the protection domain's log ring.
pub(crate) fn install() {
    *LOGGER.0.ring.borrow_mut() = ring().map(Writer::new);
    log::set_max_level(match *log_level.get() {
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        4 => LevelFilter::Debug,
        5 => LevelFilter::Trace,
        _ => LevelFilter::Info,
    });
    // The only error is that there is a logger already: the program's own.
    let _ = log::set_logger(&LOGGER);
}

/// The protection domain's log ring; public for a test that misuses it.
pub fn ring() -> Option<Region> {
    let base = NonNull::new(*log_ring.get() as *mut u8)?;
    // SAFETY: the image builder maps a log ring there, for the program's life.
    Some(unsafe { Region::new(base, REGION_SIZE) })
}

impl Log for SingleThread<RingLogger> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line::<LINE_SIZE>::new();
        let _ = write!(line, "{}{}", level_text(record.level()), record.args());
        // Formatting is done: nothing below can log in turn.
        if let Ok(mut ring) = self.0.ring.try_borrow_mut()
            && let Some(writer) = ring.as_mut()
        {
            writer.write(line.finish());
            wake_console();
        } else {
            // A system without a console, on a kernel that prints.
            crate::debug_println!(
                "{}: {}{}",
                name(),
                level_text(record.level()),
                record.args()
            );
        }
    }

    fn flush(&self) {}
}

fn name() -> &'static str {
    crate::pd_name().unwrap_or("?")
}

fn level_text(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}

fn wake_console() {
    if has(&microkit_notifications, abi::CONSOLE_CHANNEL) {
        sel4::syscall::signal(abi::slot::notification(abi::CONSOLE_CHANNEL));
    }
}

/// Logs a panic and ends in an invalid instruction, which `init` sees as a fault.
pub fn panicked(information: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    if !PANICKING.swap(true, Ordering::Relaxed) {
        let mut line = Line::<LINE_SIZE>::new();
        let _ = write!(line, "panicked");
        if let Some(place) = information.location() {
            let _ = write!(line, " at {}:{}", place.file(), place.line());
        }
        let _ = write!(line, ": {}", information.message());
        let line = line.finish();
        // A writer of its own, since the panic may have happened inside the
        // logger's: at worst it repeats the logger's last position.
        if let Some(region) = ring() {
            Writer::new(region).write(line);
            wake_console();
        }
        debug_write(format_args!(
            "{}: {}",
            name(),
            core::str::from_utf8(line).unwrap_or("?\n")
        ));
    }
    // SAFETY: the instruction raises an exception and does nothing else.
    unsafe { core::arch::asm!("ud2", options(noreturn, nostack)) }
}

/// Prints through the kernel if it can; for [`debug_print!`](crate::debug_print).
pub fn debug_write(arguments: fmt::Arguments<'_>) {
    struct Kernel;
    impl fmt::Write for Kernel {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.bytes().for_each(sel4::syscall::debug_put_char);
            Ok(())
        }
    }
    if *kernel_printing.get() != 0 {
        let _ = Kernel.write_fmt(arguments);
    }
}

/// Prints through the kernel. Does nothing unless the system description sets
/// `kernel_printing`, which it may only for a kernel that prints.
#[macro_export]
macro_rules! debug_print {
    ($($arguments:tt)*) => {
        $crate::debug_write(::core::format_args!($($arguments)*))
    };
}

/// Prints a line through the kernel, as [`debug_print!`].
#[macro_export]
macro_rules! debug_println {
    () => { $crate::debug_print!("\n") };
    ($($arguments:tt)*) => {{
        $crate::debug_print!($($arguments)*);
        $crate::debug_print!("\n");
    }};
}
