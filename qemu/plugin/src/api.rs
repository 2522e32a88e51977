//! The part of QEMU's plugin interface that is used here, behind safe types.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::NonNull;
use std::sync::OnceLock;

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

/// GLib's `GArray`.
#[repr(C)]
struct Array {
    data: *mut c_char,
    length: c_uint,
}

/// GLib's `GByteArray`.
#[repr(C)]
struct ByteArray {
    data: *mut u8,
    length: c_uint,
}

/// QEMU's `qemu_plugin_reg_descriptor`.
#[repr(C)]
struct RegisterDescriptor {
    handle: *mut RawRegister,
    name: *const c_char,
    feature: *const c_char,
}

#[repr(C)]
struct RawRegister {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawInstruction {
    _opaque: [u8; 0],
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
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction: *const RawInstruction,
        operation: c_int,
        entry: RawCounter,
        immediate: u64,
    );
    fn qemu_plugin_scoreboard_new(element_size: usize) -> Option<NonNull<Scoreboard>>;
    fn qemu_plugin_u64_sum(entry: RawCounter) -> u64;
    fn qemu_plugin_register_vcpu_init_cb(id: u64, callback: extern "C" fn(u64, c_uint));
    fn qemu_plugin_get_registers() -> *mut Array;
    fn qemu_plugin_read_register(handle: *mut RawRegister, to: *mut ByteArray) -> c_int;
    fn qemu_plugin_tb_get_insn(block: *const RawBlock, index: usize) -> *mut RawInstruction;
    fn qemu_plugin_insn_data(
        instruction: *const RawInstruction,
        to: *mut u8,
        length: usize,
    ) -> usize;
}

// SAFETY: the declarations repeat those of GLib's headers; QEMU is linked with GLib.
unsafe extern "C" {
    fn g_byte_array_new() -> *mut ByteArray;
    fn g_byte_array_unref(array: *mut ByteArray);
    fn g_array_unref(array: *mut Array);
}

/// Bytes of the longest instruction.
const LONGEST_INSTRUCTION: usize = 15;

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

    /// So many counters at zero, in memory of their own. Only while the plugin is being installed or later.
    pub fn many(count: usize) -> Vec<Self> {
        // SAFETY: takes a size and allocates; has no other requirement.
        let scoreboard = unsafe { qemu_plugin_scoreboard_new(count * size_of::<u64>()) };
        let scoreboard = scoreboard.expect("QEMU's allocation ends the process rather than fail");
        let counters = (0..count).map(|index| {
            Self(RawCounter {
                scoreboard,
                offset: index * size_of::<u64>(),
            })
        });
        counters.collect()
    }

    /// The sum over all processors.
    pub fn sum(&self) -> u64 {
        // SAFETY: the scoreboard was made by `new` or `many`, has a u64 at the offset, and is never freed.
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

    /// The bytes of instruction `index`; none if there is no such instruction.
    pub fn instruction(&self, index: usize) -> Vec<u8> {
        let mut bytes = vec![0; LONGEST_INSTRUCTION];
        // SAFETY: the block as in `address`; QEMU gives null for an instruction that there is not;
        // `bytes` has the length that is passed.
        let length = unsafe {
            let instruction = qemu_plugin_tb_get_insn(self.0.as_ptr(), index);
            if instruction.is_null() {
                0
            } else {
                qemu_plugin_insn_data(instruction, bytes.as_mut_ptr(), bytes.len())
            }
        };
        bytes.truncate(length);
        bytes
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

    /// Adds 1 to `counter` whenever instruction `index` is executed, if there is one.
    pub fn count_instruction(&self, index: usize, counter: &Counter) {
        // SAFETY: as in `instruction` and `add_on_execution`.
        unsafe {
            let instruction = qemu_plugin_tb_get_insn(self.0.as_ptr(), index);
            if !instruction.is_null() {
                qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
                    instruction,
                    INLINE_ADD,
                    counter.0,
                    1,
                );
            }
        }
    }
}

/// Has `callback` called for every block that is translated.
pub fn on_translation(id: u64, callback: extern "C" fn(u64, Block)) {
    // SAFETY: `id` is the plugin's; `callback` has the type that QEMU calls (`Block` is a
    // transparent pointer).
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, callback) }
}

/// The register CR3, found when the processor was made: its address as QEMU knows it.
static CR3: OnceLock<Option<usize>> = OnceLock::new();

/// Has CR3 looked for once there is a processor.
pub fn find_cr3(id: u64) {
    // SAFETY: `id` is the plugin's; the callback has the type that QEMU calls.
    unsafe { qemu_plugin_register_vcpu_init_cb(id, processor_made) }
}

extern "C" fn processor_made(_id: u64, _processor: c_uint) {
    CR3.get_or_init(|| {
        // SAFETY: called on the processor's thread, as QEMU asks; the array is ours to release. It
        // holds `length` descriptors, whose names live as long as QEMU.
        unsafe {
            let array = qemu_plugin_get_registers();
            if array.is_null() {
                return None;
            }
            let descriptors = (*array).data.cast::<RegisterDescriptor>();
            let found = (0..(*array).length as usize)
                .map(|index| &*descriptors.add(index))
                .find(|descriptor| CStr::from_ptr(descriptor.name) == c"cr3")
                .map(|descriptor| descriptor.handle as usize);
            g_array_unref(array);
            found
        }
    });
}

/// The value of CR3, only in a callback about a translation. `None` if QEMU does not show it.
pub fn cr3() -> Option<u64> {
    let handle = (*CR3.get()?)?;
    // SAFETY: the handle is QEMU's own and never changes; a translation runs on the processor's
    // thread; the array is ours until it is released, and has `length` bytes.
    unsafe {
        let array = g_byte_array_new();
        let length = qemu_plugin_read_register(handle as *mut RawRegister, array);
        let mut value = None;
        if length == 8 && (*array).length == 8 {
            value = Some((*array).data.cast::<u64>().read_unaligned());
        }
        g_byte_array_unref(array);
        value
    }
}
