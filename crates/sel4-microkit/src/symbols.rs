//! The symbols that every protection domain has, set by the image builder.

use crate::Patched;
use core::str::Utf8Error;
use sel4_microkit_abi::NAME_SIZE;

macro_rules! symbol {
    ($(#[$documentation:meta])* $name:ident: $type:ty = $default:expr) => {
        $(#[$documentation])*
        #[allow(non_upper_case_globals)]
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".data.patched")]
        pub(crate) static $name: Patched<$type> = Patched::new($default);
    };
}

symbol!(/// The protection domain's name, padded with zeros.
    microkit_name: [u8; NAME_SIZE] = [0; NAME_SIZE]);
symbol!(/// Not 0 for a passive protection domain, which this kernel does not have.
    microkit_passive: u8 = 0);
symbol!(/// The ids of the interrupts.
    microkit_irqs: u64 = 0);
symbol!(/// The channels that can be signalled.
    microkit_notifications: u64 = 0);
symbol!(/// The channels that can be called over.
    microkit_pps: u64 = 0);
symbol!(/// The ids of the IO port ranges.
    microkit_ioports: u64 = 0);
symbol!(/// Address of the log ring, 0 without one.
    log_ring: u64 = 0);
symbol!(/// Not 0 if the kernel prints, so that `debug_print!` and panics may use it.
    kernel_printing: u64 = 0);
symbol!(/// Most detailed level that is logged: 1 error, 2 warning, 3 information,
    /// 4 debugging, 5 tracing; else information.
    log_level: u64 = 0);

/// The protection domain's name.
///
/// # Errors
///
/// If the image builder wrote something that is no UTF-8.
pub fn pd_name() -> Result<&'static str, Utf8Error> {
    let name = microkit_name.get();
    let length = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    core::str::from_utf8(&name[..length])
}

/// Whether the protection domain is passive: never, on this kernel.
pub fn pd_is_passive() -> bool {
    *microkit_passive.get() != 0
}

/// Whether bit `id` is set in the mask of a symbol.
pub(crate) fn has(mask: &'static Patched<u64>, id: usize) -> bool {
    *mask.get() >> id & 1 != 0
}
