//! Bindings to the seL4 kernel (version 5.0.0, x86_64), with constants
//! generated from its interface files and configuration.
//!
//! - [`syscall`]: the system calls themselves.
//! - [`cap`]: one type for each kind of capability, with its invocations as
//!   methods. Types, numbers and parameter order come from the kernel's XML.
//! - [`constants`]: what the kernel's headers number, under their C names.
//! - [`BootInfo`], [`Fault`], [`MessageInfo`], [`Error`], [`ObjectType`]: the
//!   same made readable.
//!
//! A program calls [`set_ipc_buffer`] once before its first invocation. This
//! crate is one of the few that may use `unsafe`; what reaches beyond a
//! capability's own checks (the IPC buffer's address, the boot information's)
//! is an unsafe function.
//!
//! It never allocates, never blocks but in the blocking system calls, and
//! builds for the host too, where making a system call makes no sense.
#![no_std]

mod boot_info;
mod error;
mod fault;
mod invocation;
mod ipc_buffer;
mod memory_functions;
mod message;
mod object;
pub mod syscall;

#[allow(non_upper_case_globals, missing_docs)]
pub mod constants {
    //! Numbers from the kernel's headers and configuration, under their C names.
    use crate::Word;
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

pub use boot_info::{BootInfo, BootInfoChunks, UntypedDescription};
pub use error::{Error, LookupFailure};
pub use fault::Fault;
pub use invocation::cap::{self, UserContext};
pub use ipc_buffer::{
    message_register, received_capability_badge, set_capability, set_ipc_buffer,
    set_message_register, set_receive_slot,
};
pub use message::MessageInfo;
pub use object::{CapData, CapRights, ObjectType, Priorities, VmAttributes};

/// A machine word.
pub type Word = u64;

/// The address of a capability in the caller's CSpace.
pub type CPtr = u64;

/// The address of no capability.
pub const NULL: CPtr = 0;

/// Depth of a capability address that uses the whole word.
pub const WORD_BITS: u8 = constants::seL4_WordBits as u8;

/// Most words in one message.
pub const MESSAGE_WORDS: usize = constants::seL4_MsgMaxLength as usize;

/// Most capabilities in one message.
pub const MESSAGE_CAPABILITIES: usize = (1 << constants::seL4_MsgExtraCapBits) - 1;
