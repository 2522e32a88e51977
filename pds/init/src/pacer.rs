//! Work that may wait: a thread of low priority that tells `init` when nobody more important has
//! any. `init` itself goes before all others, so what it does for an application in one go would
//! hold up everybody; it does a little and waits for the pacer.

use core::arch::global_asm;

use sel4::cap::{Pml4, Tcb, UserContext};
use sel4::{CapData, Priorities};

use crate::builder::Builder;
use crate::failure::{Doing, Failure};
use crate::root;

/// Badge of its signal; above those of faults.
pub(crate) const PACER_BADGE: u64 = 1 << 62;

// Waits for the notification in rbx, signals the one in r12, for ever. It has no stack: the kernel
// keeps both registers, and nothing else is needed.
global_asm!(
    ".globl pacer_entry",
    "pacer_entry:",
    "mov rdi, rbx",
    "xor esi, esi",
    "mov rdx, {recv}",
    "syscall",
    "mov rdi, r12",
    "xor esi, esi",
    "mov rdx, {send}",
    "syscall",
    "jmp pacer_entry",
    recv = const sel4::syscall::number::RECV,
    send = const sel4::syscall::number::SEND,
);

unsafe extern "C" {
    static pacer_entry: u8;
}

/// The thread, and how it is asked.
pub(crate) struct Pacer {
    notification: u64,
    /// Whether it has been asked and has not answered yet.
    asked: bool,
}

impl Pacer {
    /// Starts the thread at `priority`.
    pub(crate) fn new(builder: &mut Builder<'_>, priority: u8) -> Result<Self, Failure> {
        let doing = "the pacer could not be started";
        let thread = Tcb(builder.slots.pacer);
        let notification = builder.slots.pacer_notification;
        let answer = builder.allocator.slots(1)?;
        builder.mint(answer, builder.slots.notification, PACER_BADGE)?;
        thread
            .configure(
                0,
                Priorities::new(priority, 0),
                root::CNODE.0,
                CapData::NONE,
                Pml4(root::VSPACE.0),
                CapData::NONE,
                0,
                0u64,
            )
            .doing(doing, "init")?;
        let context = UserContext {
            rip: (&raw const pacer_entry) as u64,
            rbx: notification,
            r12: answer,
            ..Default::default()
        };
        thread
            .write_registers(true, 0, UserContext::COUNT as u64, &context)
            .doing(doing, "init")?;
        Ok(Self {
            notification,
            asked: false,
        })
    }

    /// Asks to be told when nobody more important has work.
    pub(crate) fn ask(&mut self) {
        if !self.asked {
            self.asked = true;
            sel4::syscall::signal(self.notification);
        }
    }

    /// It has answered.
    pub(crate) fn answered(&mut self) {
        self.asked = false;
    }
}
