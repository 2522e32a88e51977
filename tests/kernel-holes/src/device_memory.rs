//! Pages of device registers.

use sel4::{ObjectType, VmAttributes, Word};

use crate::workshop::{Workshop, retype};

/// Maps the page of device registers at a physical address.
pub fn map(workshop: &mut Workshop, physical_address: u64) -> Word {
    let untyped = workshop.device_untyped(physical_address);
    let (mut slot, mut base, mut bits) =
        (untyped.slot, untyped.physical_address, untyped.size_bits);
    // Device memory is carved from its start on: halve it until only the page is left.
    while bits > 12 {
        bits -= 1;
        let (lower, upper) = (workshop.slot(), workshop.slot());
        for half in [lower, upper] {
            retype(slot, ObjectType::Untyped, bits, half, 1).expect("it can be halved");
        }
        slot = if physical_address - base < 1 << bits {
            lower
        } else {
            base += 1 << bits;
            upper
        };
    }
    let page = workshop.slot();
    retype(slot, ObjectType::SmallPage, 0, page, 1).expect("it is a page");
    let address = workshop.address();
    workshop
        .try_map(page, address, VmAttributes::UNCACHEABLE)
        .expect("the page can be mapped");
    address
}
