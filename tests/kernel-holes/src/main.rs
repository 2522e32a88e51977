//! A root task that walks through one of the kernel's holes, if it is open.
//!
//! The test driver (`tests/tests/kernel_holes.rs`) writes the name of a scenario into a copy of this
//! program's file, boots it, and learns the finding from QEMU's exit code. A scenario reports
//! [`Finding::Open`] only after it has *used* the hole, and [`Finding::Shut`] only after the kernel
//! refused what it must refuse; if anything else fails on the way, it panics, which is neither.
#![no_std]
#![no_main]

mod console;
mod device_memory;
mod edu;
mod flags;
mod frames;
mod io;
mod pci;
mod segments;
mod start;
mod tables;
mod threads;
mod workshop;

use console::println;
use workshop::Workshop;

/// What a scenario found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The forbidden thing was done. For rows that say what a device may reach: it was reached.
    Open,
    /// The forbidden thing was refused. For rows that say what a device may reach: it was not.
    Shut,
}

type Scenario = fn(&mut Workshop) -> Finding;

/// Every scenario by name.
const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "frame-outlives-its-capability",
        frames::outlives_its_capability,
    ),
    ("fault-address", frames::fault_address),
    ("last-page", tables::last_page),
    ("upper-half", tables::upper_half),
    ("kernel-page-directory", tables::kernel_page_directory),
    ("end-of-address-space", tables::end_of_address_space),
    ("ipc-buffer-address", tables::ipc_buffer_address),
    (
        "page-directory-pointer-table-copy",
        tables::page_directory_pointer_table_copy,
    ),
    ("untyped-at-zero", tables::untyped_at_zero),
    ("segment-base-instruction", segments::instruction),
    ("segment-base-selector", segments::selector),
    ("nested-task-flag", flags::nested_task),
    ("revived-thread", threads::revived),
    ("io-mapped", io::mapped),
    ("io-no-context", io::no_context),
    ("io-neighbour", io::neighbour),
    ("io-physical-address", io::at_physical_address),
    ("io-unmap", io::unmapped),
    ("io-read-only", io::read_only),
    ("io-delete-mapped-copy", io::mapped_copy_deleted),
    ("io-revoke-frame", io::frame_revoked),
    ("io-unmap-table", io::table_unmapped),
    ("io-remap-table", io::table_mapped_again),
    ("io-delete-top-table", io::top_table_deleted),
    ("io-revoke-tables", io::tables_revoked),
    ("io-delete-space", io::space_deleted),
    ("io-forge-tables", io::tables_forged),
    ("io-new-tables", io::new_tables),
    ("io-table-copy", io::table_copy_unmapped),
    ("io-space-copy", io::space_copy_survives),
    ("io-table-as-page", io::table_as_page),
    ("io-forge-in-table", io::table_forged_by_the_device),
    ("io-alias", io::address_beyond_the_levels),
    ("io-stale-capabilities", io::stale_capabilities),
];

/// The name of the scenario goes after the 16 bytes that mark the place.
#[used]
#[unsafe(no_mangle)]
static SCENARIO: [u8; 64] = {
    let mut bytes = [0; 64];
    let mark = b"segue scenario: ";
    let mut index = 0;
    while index < mark.len() {
        bytes[index] = mark[index];
        index += 1;
    }
    bytes
};

/// Entered from the start code with the kernel's boot information.
fn main(workshop: &mut Workshop) -> Finding {
    // `black_box`: the bytes are written after the compiler has seen them.
    let bytes = &core::hint::black_box(&SCENARIO)[16..];
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(48);
    let name = core::str::from_utf8(&bytes[..length]).unwrap_or("not UTF-8");
    let Some((_, scenario)) = SCENARIOS.iter().find(|(known, _)| *known == name) else {
        panic!("there is no scenario `{name}`");
    };
    println!("scenario {name}");
    let finding = scenario(workshop);
    println!("finding {finding:?}");
    finding
}
