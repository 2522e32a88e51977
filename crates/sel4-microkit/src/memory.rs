//! The memory regions that the system description maps.

use core::ptr::NonNull;
use segue_shared_memory::{PrivateRegion, Region};

/// The region of `length` bytes at `address`, which devices know under the same
/// address.
///
/// # Safety
///
/// As for [`Region::new`], of which the address' alignment and that it is not 0
/// are checked here.
///
/// # Panics
///
/// If the system description maps nothing for `name`.
pub unsafe fn region(name: &str, address: u64, length: u64) -> Region {
    let (base, length) = check(name, address, length);
    // SAFETY: the caller's contract; base is aligned.
    unsafe { Region::new(base, length) }.with_device_address(address)
}

/// Like [`region`], for memory that this program alone writes.
///
/// # Safety
///
/// As for [`PrivateRegion::new`].
///
/// # Panics
///
/// As [`region`].
pub unsafe fn private_region(name: &str, address: u64, length: u64) -> PrivateRegion {
    let (base, length) = check(name, address, length);
    // SAFETY: the caller's contract; base is aligned.
    unsafe { PrivateRegion::new(base, length) }.with_device_address(address)
}

/// First address that user programs may not use: all of the lower half but its
/// last two pages.
const USER_TOP: u64 = 0x7fff_ffff_f000;

fn check(name: &str, address: u64, length: u64) -> (NonNull<u8>, usize) {
    let base = NonNull::new(address as *mut u8);
    let fits = address
        .checked_add(length)
        .is_some_and(|end| end <= USER_TOP);
    match base {
        Some(base) if length != 0 && fits && address.is_multiple_of(8) => (base, length as usize),
        _ => panic!(
            "the system description does not map the region {name} \
             (address {address:#x}, {length:#x} bytes)"
        ),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! _named_region {
    ($name:expr, $address:expr, $length:expr) => {{
        let (address, length): (u64, u64) = ($address, $length);
        // SAFETY: the image builder sets the symbols to a mapping that stays for
        // the program's life and that holds no Rust object.
        unsafe { $crate::_private::region($name, address, length) }
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! _named_private_region {
    ($name:expr, $address:expr, $length:expr) => {{
        let (address, length): (u64, u64) = ($address, $length);
        // SAFETY: as for `region!`; each symbol can be declared once, so there is
        // one owner, and the program says that nobody else writes.
        unsafe { $crate::_private::private_region($name, address, length) }
    }};
}

/// The [`Region`](segue_shared_memory::Region) at an address and of a length
/// that come from a table that the image builder wrote:
/// `region_at!(address, length)`. Devices know it under the same address.
///
/// The two numbers must come from the image builder and from nobody else: the
/// macro vouches for them.
#[macro_export]
macro_rules! region_at {
    ($address:expr, $length:expr $(,)?) => {
        $crate::_named_region!(stringify!($address), $address, $length)
    };
}

/// Like [`region_at!`], for memory that this program alone writes. To be used
/// once for each region.
#[macro_export]
macro_rules! private_region_at {
    ($address:expr, $length:expr $(,)?) => {
        $crate::_named_private_region!(stringify!($address), $address, $length)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic = "does not map the region rings"]
    fn an_unset_symbol_is_named() {
        check("rings", 0, 4096);
    }

    #[test]
    #[should_panic = "does not map the region rings"]
    fn a_region_ends_below_the_stack() {
        check("rings", USER_TOP - 4096, 8192);
    }

    #[test]
    fn a_mapped_region_is_accepted() {
        assert_eq!(check("rings", 0x1000_0000, 4096).1, 4096);
    }
}
