//! The part of QEMU's plugin interface that is used here, behind safe types.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;

/// QEMU's `qemu_info_t`; only ever pointed to.
#[repr(C)]
pub struct Info {
    target_name: *const c_char,
}

#[repr(C)]
struct Scoreboard {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawBlock {
    _opaque: [u8; 0],
}

/// QEMU's `qemu_plugin_u64`: one 64-bit counter for each processor.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawCounter {
    scoreboard: NonNull<Scoreboard>,
    offset: usize,
}

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const INLINE_ADD: c_int = 0;

// SAFETY: the declarations repeat those of qemu-plugin.h, API version 4, which QEMU exports to the
// plugins it loads.
unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: extern "C" fn(u64, Block));
    fn qemu_plugin_tb_n_insns(block: *const RawBlock) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const RawBlock) -> u64;
    fn qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        block: *const RawBlock,
        operation: c_int,
        entry: RawCounter,
        immediate: u64,
    );
    fn qemu_plugin_scoreboard_new(element_size: usize) -> Option<NonNull<Scoreboard>>;
    fn qemu_plugin_u64_sum(entry: RawCounter) -> u64;
}

/// A counter that translated code increments.
pub struct Counter(RawCounter);

// SAFETY: the scoreboard is never freed, QEMU resizes it under its own lock, and a sum only reads
// aligned 64-bit words, so a counter may be shared with and moved to any thread.
unsafe impl Send for Counter {}
// SAFETY: as for `Send`.
unsafe impl Sync for Counter {}

impl Counter {
    /// A new counter at zero. Only while the plugin is being installed or later.
    pub fn new() -> Self {
        // SAFETY: takes a size and allocates; has no other requirement.
        let scoreboard = unsafe { qemu_plugin_scoreboard_new(size_of::<u64>()) };
        Self(RawCounter {
            scoreboard: scoreboard.expect("QEMU's allocation ends the process rather than fail"),
            offset: 0,
        })
    }

    /// The sum over all processors.
    pub fn sum(&self) -> u64 {
        // SAFETY: the scoreboard was made by `new`, has one u64 at offset 0, and is never freed.
        unsafe { qemu_plugin_u64_sum(self.0) }
    }
}

/// A block that QEMU is translating; valid during the callback only, where it is passed by value.
#[repr(transparent)]
pub struct Block(NonNull<RawBlock>);

impl Block {
    /// Virtual address of its first instruction.
    pub fn address(&self) -> u64 {
        // SAFETY: QEMU passed this pointer to the callback that is still running.
        unsafe { qemu_plugin_tb_vaddr(self.0.as_ptr()) }
    }

    /// Number of its instructions.
    pub fn instructions(&self) -> u64 {
        // SAFETY: as in `address`.
        unsafe { qemu_plugin_tb_n_insns(self.0.as_ptr()) as u64 }
    }

    /// Adds `amount` to `counter` whenever the block is executed.
    pub fn add_on_execution(&self, counter: &Counter, amount: u64) {
        // SAFETY: the block as in `address`; the counter lives as long as QEMU (never freed).
        unsafe {
            qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
                self.0.as_ptr(),
                INLINE_ADD,
                counter.0,
                amount,
            );
        }
    }
}

/// Has `callback` called for every block that is translated.
pub fn on_translation(id: u64, callback: extern "C" fn(u64, Block)) {
    // SAFETY: `id` is the plugin's; `callback` has the type that QEMU calls (`Block` is a
    // transparent pointer).
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, callback) }
}
