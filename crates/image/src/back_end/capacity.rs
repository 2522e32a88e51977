//! Whether the machine that the system description names can hold the system.

use segue_system_image::Payload;
use segue_system_image::resources::{self, Bin, KERNEL_SLOTS, ROOT_SLOTS};

use super::Problem;
use crate::model::System;

/// Where the kernel ends in physical memory, rounded up: it is linked at 1 MiB
/// and takes 6.2 MiB with its tables.
const KERNEL_END: u64 = 8 << 20;
/// What firmware keeps at the top of low memory, rounded up.
const FIRMWARE: u64 = 1 << 20;
/// The root CNode: 2^17 slots of 32 bytes.
const ROOT_CNODE: u64 = ROOT_SLOTS * 32;
const PAGE: u64 = 0x1000;
const GIB: u64 = 1 << 30;

/// What a system takes and what there is.
pub(super) struct Capacity {
    pub(super) memory_needed: u64,
    pub(super) memory_available: u64,
    pub(super) slots_needed: u64,
    pub(super) slots_available: u64,
}

/// Checks the payload against the machine; `image` is the whole boot image.
pub(super) fn check(
    system: &System,
    payload: &Payload,
    image: &[u8],
) -> Result<Capacity, Vec<Problem>> {
    let machine = system.machine_memory;
    let image_size = (image.len() as u64).next_multiple_of(PAGE);
    let needs = resources::needs(payload);
    let mut bins = untypeds(machine, image_size);
    let available: u64 = bins.iter().map(|bin| 1u64 << bin.bits).sum();
    let mut problems = Vec::new();
    // While it starts, the kernel has the image twice: as loaded, and unpacked.
    if KERNEL_END + 2 * image_size > low_end(machine) {
        problems.push(Problem::new(format!(
            "the boot image of {} cannot be loaded into a machine with {}: \
             make <machine memory> larger or the image smaller",
            mib(image_size),
            mib(machine)
        )));
    } else if !resources::fits(payload, &mut bins) {
        problems.push(Problem::new(format!(
            "the system needs {} of memory, but a machine with {} has {} for it{}: \
             make <machine memory> larger or a memory region smaller",
            mib(needs.memory),
            mib(machine),
            mib(available),
            largest(system)
        )));
    }
    let slots_needed = KERNEL_SLOTS + image_size / PAGE + needs.slots;
    if slots_needed > ROOT_SLOTS {
        problems.push(Problem::new(format!(
            "the system needs {slots_needed} capability slots, but init has {ROOT_SLOTS}{}: \
             map fewer pages, or use page_size=\"0x200000\" for large regions",
            largest(system)
        )));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Capacity {
        memory_needed: needs.memory,
        memory_available: available,
        slots_needed,
        slots_available: ROOT_SLOTS,
    })
}

/// End of memory below 4 GiB (QEMU's q35).
fn low_end(machine: u64) -> u64 {
    if machine >= 0xb000_0000 {
        2 * GIB
    } else {
        machine
    }
}

/// The untypeds that the kernel makes of a machine's memory, about.
fn untypeds(machine: u64, image: u64) -> Vec<Bin> {
    let mut bins = Vec::new();
    let mut add = |bits| bins.push(Bin { bits, used: 0 });
    let low = low_end(machine);
    let end = low.saturating_sub(FIRMWARE) & !(PAGE - 1);
    let end = end.saturating_sub(ROOT_CNODE) & !(ROOT_CNODE - 1);
    resources::split_range(KERNEL_END + image, end, &mut add);
    resources::split_range(4 * GIB, 4 * GIB + (machine - low), &mut add);
    bins
}

/// Names the largest memory region, which is most likely what to change.
fn largest(system: &System) -> String {
    let regions = system
        .regions
        .iter()
        .filter(|region| region.physical_address.is_none());
    regions
        .max_by_key(|region| region.size)
        .map_or_else(String::new, |region| {
            format!(
                " (the largest region is {}, {})",
                region.name,
                mib(region.size)
            )
        })
}

fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    if tenths.is_multiple_of(10) {
        format!("{} MiB", tenths / 10)
    } else {
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    }
}
