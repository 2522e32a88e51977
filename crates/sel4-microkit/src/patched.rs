//! Statics that the image builder sets.

use core::cell::UnsafeCell;
use zerocopy::{FromBytes, Immutable};

/// A static that the image builder may overwrite in the program's image.
///
/// The compiler must not assume that it still has its initial value.
#[derive(Debug)]
#[repr(transparent)]
pub struct Patched<T>(UnsafeCell<T>);

// SAFETY: nobody writes the value while the program runs; the cell only hides
// the initial value from the compiler.
unsafe impl<T: Sync> Sync for Patched<T> {}

impl<T> Patched<T> {
    /// A static that has this value if the image builder does not set it.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
}

impl<T: FromBytes + Immutable> Patched<T> {
    /// The value that the image builder set.
    #[inline]
    pub fn get(&'static self) -> &'static T {
        let mut pointer = self.0.get();
        // SAFETY: no instruction at all. The compiler has to assume that the
        // assembly wrote the value or chose another address, so it cannot
        // replace a read by the initial value.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) pointer, options(nostack, preserves_flags));
        }
        // SAFETY: the pointer is the cell's own and lives for ever; nobody writes
        // it; any bytes are a value of T, by its bound.
        unsafe { &*pointer }
    }
}

/// Declares a symbol that the system description sets, and yields a reference
/// to its value: `var!(symbol: T = default)`.
///
/// The size of the symbol is the size of `T`; any bytes must be a value of `T`
/// (`zerocopy::FromBytes`). Each symbol can be declared once in a program.
#[macro_export]
macro_rules! var {
    ($(#[$attributes:meta])* $symbol:ident: $type:ty = $default:expr) => {{
        $(#[$attributes])*
        #[allow(non_upper_case_globals)]
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".data.patched")]
        static $symbol: $crate::Patched<$type> = $crate::Patched::new($default);
        $symbol.get()
    }};
}

/// Declares a symbol set by `setvar_vaddr` and yields the address as
/// `NonNull<T>`: `memory_region_symbol!(symbol: *mut T)`, or as `NonNull<[T]>`:
/// `memory_region_symbol!(symbol: *mut [T], n = count)`. Panics if it is not set.
///
/// Prefer [`region!`](crate::region), whose accesses are checked.
#[macro_export]
macro_rules! memory_region_symbol {
    ($symbol:ident: *mut [$type:ty], n = $count:expr $(,)?) => {
        ::core::ptr::NonNull::slice_from_raw_parts(
            $crate::memory_region_symbol!($symbol: *mut $type),
            $count,
        )
    };
    ($symbol:ident: *mut $type:ty $(,)?) => {
        ::core::ptr::NonNull::new(*$crate::var!($symbol: usize = 0) as *mut $type)
            .expect(concat!("the system description does not set ", stringify!($symbol)))
    };
}

/// Declares a symbol set by `setvar_id` and yields the channel (or interrupt)
/// of that id. Panics if the system description does not set it.
#[macro_export]
macro_rules! channel {
    ($symbol:ident) => {
        $crate::Channel::from_description(
            stringify!($symbol),
            *$crate::var!($symbol: u64 = u64::MAX),
        )
    };
}

/// Declares a symbol set by an `<ioport>`'s `setvar_id` and yields the ports.
/// Panics if the system description does not set it.
#[macro_export]
macro_rules! io_port {
    ($symbol:ident) => {
        $crate::IoPort::from_description(
            stringify!($symbol),
            *$crate::var!($symbol: u64 = u64::MAX),
        )
    };
}
