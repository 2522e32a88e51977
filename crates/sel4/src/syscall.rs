//! The system calls.
//!
//! x86_64 convention (libsel4's `syscalls_syscall.h`): number in rdx,
//! capability in rdi (a badge on return), message information in rsi, the first
//! four message registers in r10, r8, r9, r15. `syscall` clobbers rcx and r11,
//! and the kernel returns with rsp = 0, so the stack pointer waits in r14.

use crate::ipc_buffer::{message_register, set_first_registers};
use crate::{CPtr, MessageInfo, Word};
use core::arch::asm;

/// The numbers of the system calls.
pub mod number {
    include!(concat!(env!("OUT_DIR"), "/system_calls.rs"));
}

/// Message registers that travel in CPU registers.
pub const FAST_REGISTERS: usize = 4;

/// What a receiving system call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Badge of the capability that the message was sent through, or the
    /// notification word.
    pub badge: Word,
    /// Label, length and capabilities of the message.
    pub information: MessageInfo,
    /// The first four message registers; the rest is in the IPC buffer.
    pub registers: [Word; FAST_REGISTERS],
}

#[inline(always)]
fn transfer(
    number: i64,
    capability: CPtr,
    information: Word,
    registers: [Word; FAST_REGISTERS],
) -> Received {
    let [mut r0, mut r1, mut r2, mut r3] = registers;
    let (badge, information_out): (Word, Word);
    // SAFETY: the kernel changes the registers named here, and memory only
    // through the IPC buffer, which assembly without `nomem` is allowed to
    // change. It preserves the rest (rbx, rbp, rax, r12, r13, r14, rdx); the
    // stack pointer is restored from r14. Nothing below the stack pointer is
    // written by the kernel.
    unsafe {
        asm!(
            "mov r14, rsp",
            "syscall",
            "mov rsp, r14",
            in("rdx") number,
            inlateout("rdi") capability => badge,
            inlateout("rsi") information => information_out,
            inlateout("r10") r0,
            inlateout("r8") r1,
            inlateout("r9") r2,
            inlateout("r15") r3,
            lateout("rcx") _,
            lateout("r11") _,
            out("r14") _,
        );
    }
    Received {
        badge,
        information: MessageInfo::from_raw(information_out),
        registers: [r0, r1, r2, r3],
    }
}

/// Sends a message and waits for the answer, in `registers` alone: for
/// messages of at most four words whose answer also fits.
#[inline]
pub fn call_with(
    endpoint: CPtr,
    information: MessageInfo,
    registers: [Word; FAST_REGISTERS],
) -> Received {
    transfer(number::CALL, endpoint, information.raw(), registers)
}

/// Sends the message in the IPC buffer, waits for the answer and leaves that
/// there.
#[inline]
pub fn call(endpoint: CPtr, information: MessageInfo) -> MessageInfo {
    let received = call_with(endpoint, information, fast_registers());
    store(&received);
    received.information
}

/// Answers the last caller with the message in the IPC buffer and waits for the
/// next message, which it leaves there. Returns it with its badge.
#[inline]
pub fn reply_recv(endpoint: CPtr, information: MessageInfo) -> (MessageInfo, Word) {
    let received = transfer(
        number::REPLY_RECV,
        endpoint,
        information.raw(),
        fast_registers(),
    );
    store(&received);
    (received.information, received.badge)
}

/// Waits for a message or a notification; leaves a message in the IPC buffer.
#[inline]
pub fn recv(source: CPtr) -> (MessageInfo, Word) {
    let received = transfer(number::RECV, source, 0, [0; FAST_REGISTERS]);
    store(&received);
    (received.information, received.badge)
}

/// Takes a message or a notification if one is there; the badge is 0 if not.
#[inline]
pub fn nb_recv(source: CPtr) -> (MessageInfo, Word) {
    let received = transfer(number::NB_RECV, source, 0, [0; FAST_REGISTERS]);
    store(&received);
    (received.information, received.badge)
}

/// Sends the message in the IPC buffer, waiting until it is taken.
#[inline]
pub fn send(destination: CPtr, information: MessageInfo) {
    transfer(
        number::SEND,
        destination,
        information.raw(),
        fast_registers(),
    );
}

/// Sends the message in the IPC buffer if somebody waits for it, else drops it.
#[inline]
pub fn nb_send(destination: CPtr, information: MessageInfo) {
    transfer(
        number::NB_SEND,
        destination,
        information.raw(),
        fast_registers(),
    );
}

/// Answers the last caller with the message in the IPC buffer. Does nothing if
/// no caller waits.
#[inline]
pub fn reply(information: MessageInfo) {
    transfer(number::REPLY, 0, information.raw(), fast_registers());
}

/// Signals a notification.
#[inline]
pub fn signal(notification: CPtr) {
    transfer(number::SEND, notification, 0, [0; FAST_REGISTERS]);
}

/// Waits for a notification and returns its word.
#[inline]
pub fn wait(notification: CPtr) -> Word {
    transfer(number::RECV, notification, 0, [0; FAST_REGISTERS]).badge
}

/// Lets other threads of the same priority run.
#[inline]
pub fn r#yield() {
    transfer(number::YIELD, 0, 0, [0; FAST_REGISTERS]);
}

/// Prints one byte on the kernel's console.
///
/// Only a kernel built with printing knows this call. On another it is a fault,
/// which stops the calling thread: callers must know their kernel.
#[inline]
pub fn debug_put_char(byte: u8) {
    transfer(
        number::DEBUG_PUT_CHAR,
        CPtr::from(byte),
        0,
        [0; FAST_REGISTERS],
    );
}

/// The kernel's number for the kind of capability at `address`; 0 if there is
/// none.
///
/// Only a debug kernel knows this call; see [`debug_put_char`].
#[inline]
pub fn debug_cap_identify(address: CPtr) -> Word {
    transfer(number::DEBUG_CAP_IDENTIFY, address, 0, [0; FAST_REGISTERS]).badge
}

#[inline]
fn fast_registers() -> [Word; FAST_REGISTERS] {
    core::array::from_fn(message_register)
}

#[inline]
fn store(received: &Received) {
    set_first_registers(&received.registers);
}
