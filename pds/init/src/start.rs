//! The entry point and what the compiler expects to exist.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use sel4::BootInfo;

/// Bytes of stack and its guard page. The largest things on it are the tables of
/// slots and of untypeds.
const STACK_SIZE: usize = 256 << 10;

#[repr(C, align(4096))]
struct Stack([u8; STACK_SIZE]);

/// The kernel starts the root task without a stack.
#[unsafe(no_mangle)]
static mut INIT_STACK: Stack = Stack([0; STACK_SIZE]);

/// Address and length of the payload and the lowest address of the boot image;
/// the image builder writes them here.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
static payload_location: [AtomicU64; 3] = [AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0)];

// rdi holds the address of the boot information already. The frame pointer is
// zero so that a walk up the stack ends here.
global_asm!(
    ".globl _start",
    "_start:",
    "lea rsp, [{stack} + {size}]",
    "xor ebp, ebp",
    "call {entry}",
    "ud2",
    stack = sym INIT_STACK,
    size = const STACK_SIZE,
    entry = sym entry,
);

sel4::memory_functions!();

extern "C" fn entry(boot_info: *const u8) -> ! {
    // SAFETY: the kernel passes the address of its boot information, which
    // stays mapped and which nobody writes.
    let boot_info = unsafe { BootInfo::from_kernel(boot_info) };
    // SAFETY: the kernel mapped the IPC buffer there; nothing else uses it.
    unsafe { sel4::set_ipc_buffer(boot_info.ipc_buffer()) };
    crate::main(boot_info)
}

/// The payload that the image builder put behind this program.
pub(crate) fn payload() -> &'static [u8] {
    let [address, length, _] = payload_location
        .each_ref()
        .map(|word| word.load(Ordering::Relaxed));
    if length == 0 {
        return &[];
    }
    // SAFETY: the image builder wrote address and length of a segment that it
    // added to this program; the kernel mapped it, and nobody writes it: its
    // frames are only ever given away read-only.
    unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) }
}

/// Address of the payload's first byte.
pub(crate) fn payload_address() -> u64 {
    payload_location[0].load(Ordering::Relaxed)
}

/// Lowest address of the boot image.
pub(crate) fn image_address() -> u64 {
    payload_location[2].load(Ordering::Relaxed)
}

/// The time stamp counter, which counts from power-on.
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: the kernel leaves the instruction to user programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Address of the lowest page of the stack, which is to become its guard.
pub(crate) fn stack_guard() -> u64 {
    (&raw const INIT_STACK) as u64
}

/// Microseconds of the time stamp counter.
pub(crate) fn microseconds(tsc_megahertz: u32) -> u64 {
    time_stamp() / u64::from(tsc_megahertz.max(1))
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo) -> ! {
    crate::serial_line!("init stopped by a mistake of its own: {information}");
    crate::halt()
}
