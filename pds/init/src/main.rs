//! The root task: builds every protection domain and handles its faults.
//!
//! `init` holds all capabilities, so it decides as little as possible: the
//! tables in the boot image (`segue_system_image`) say what to make. It never
//! blocks on a protection domain, never parses ELF, and reads nothing that a
//! protection domain wrote but the registers and stack of one that has faulted,
//! which it copies and does not interpret.
//!
//! - `start`: the entry point and what the compiler expects to exist.
//! - `allocator`: capability slots and untyped memory.
//! - `window`: looking at frames.
//! - `builder`: memory that is shared; `domain`: one protection domain.
//! - `devices`: device memory, IO address spaces, interrupts.
//! - `grants`: what virtual functions are granted with at run time.
//! - `clock`: how fast the time stamp counter runs; an alarm.
//! - `faults`: what happens from then on; `heartbeat`: who hangs; `restart`: who runs again,
//!   `refill`: with which memory, `pacer`: and when; `gone`: what is left of those who do not.
//! - `upgrade`: who runs another image; `install`: one that was sent.
//! - `serial`, `failure`: sentences for people.
#![no_std]
#![no_main]

mod allocator;
mod builder;
mod clock;
mod devices;
mod domain;
mod failure;
mod faults;
mod gone;
mod grants;
mod heartbeat;
mod install;
mod pacer;
mod refill;
mod restart;
mod serial;
mod start;
mod upgrade;
mod window;

use segue_system_image::Payload;
use segue_system_image::format::limits;
use sel4::BootInfo;
use sel4::cap::Page;

use allocator::Allocator;
use builder::{Builder, Slots};
use failure::{Doing, Failure};
use install::NOTHING_SENT;

/// Capabilities that the kernel gives the root task.
mod root {
    use sel4::cap::{AsidPool, CNode, IoPort, IrqControl, Pml4, Tcb};

    pub(crate) const THREAD: Tcb = Tcb(1);
    pub(crate) const CNODE: CNode = CNode(2);
    pub(crate) const VSPACE: Pml4 = Pml4(3);
    pub(crate) const IRQ_CONTROL: IrqControl = IrqControl(4);
    pub(crate) const ASID_POOL: AsidPool = AsidPool(6);
    pub(crate) const IO_PORT: IoPort = IoPort(7);
    pub(crate) const IO_SPACE: u64 = 8;
    /// Depth of an address in the root CNode.
    pub(crate) const DEPTH: u8 = sel4::WORD_BITS;
}

/// Runs until the machine stops.
fn main(boot_info: &'static BootInfo) -> ! {
    match run(boot_info) {
        Ok(never) => match never {},
        Err(failure) => {
            serial_line!("Segue cannot start: {failure}.");
            halt()
        }
    }
}

fn run(boot_info: &'static BootInfo) -> Result<core::convert::Infallible, Failure> {
    let guard =
        boot_info.image_frames().start + ((start::stack_guard() - start::image_address()) >> 12);
    Page(guard)
        .unmap()
        .doing("the stack's guard page could not be unmapped", "init")?;
    let payload = Payload::read(start::payload())?;
    let (mut allocator, mut slots) = (Allocator::EMPTY, Slots::EMPTY);
    let mut sent = [NOTHING_SENT; limits::SENT_IMAGES];
    let mut builder = Builder::new(boot_info, &payload, &mut allocator, &mut slots, &mut sent)?;
    builder.build()?;
    let started = builder.start()?;
    serial_line!(
        "Segue: {} protection domains run; {} MiB of memory are free.",
        payload.protection_domains.len(),
        started.free_memory >> 20
    );
    faults::serve(&payload, builder, started)
}

/// Stops this thread for good; the others go on.
fn halt() -> ! {
    loop {
        // Suspending oneself cannot fail, and if it did, trying again is right.
        let _ = root::THREAD.suspend();
    }
}
