//! The IPC buffer: message registers beyond the fourth, and capabilities.
//!
//! Layout (libsel4's `types.h`, in words): 0 tag, 1..=120 message, 121 user
//! data, 122..=124 capabilities or badges, 125..=127 receive slot.

use crate::{CPtr, MESSAGE_CAPABILITIES, MESSAGE_WORDS, Word};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

const MESSAGE: usize = 1;
const CAPABILITIES: usize = MESSAGE + MESSAGE_WORDS + 1;
const RECEIVE_SLOT: usize = CAPABILITIES + MESSAGE_CAPABILITIES;

/// A thread has exactly one IPC buffer, and Segue's protection domains exactly
/// one thread.
static BUFFER: AtomicPtr<Word> = AtomicPtr::new(ptr::null_mut());

/// Says where the IPC buffer is.
///
/// # Safety
///
/// `buffer` is the address that the kernel knows as the IPC buffer of the only
/// thread that uses this crate; it stays mapped and is accessed only through
/// this crate.
pub unsafe fn set_ipc_buffer(buffer: *mut Word) {
    BUFFER.store(buffer, Ordering::Relaxed);
}

#[inline]
fn word(index: usize) -> *mut Word {
    let buffer = BUFFER.load(Ordering::Relaxed);
    assert!(!buffer.is_null(), "the IPC buffer is not set");
    // SAFETY: the callers pass an index below 128; the buffer has 128 words.
    unsafe { buffer.add(index) }
}

#[inline]
fn read(index: usize) -> Word {
    // SAFETY: inside the IPC buffer (see `word`); volatile, as the kernel writes it.
    unsafe { word(index).read_volatile() }
}

#[inline]
fn write(index: usize, value: Word) {
    // SAFETY: inside the IPC buffer (see `word`); volatile, as the kernel reads it.
    unsafe { word(index).write_volatile(value) }
}

/// Reads message register `index`.
///
/// # Panics
///
/// If `index` is not below [`MESSAGE_WORDS`].
#[inline]
pub fn message_register(index: usize) -> Word {
    assert!(index < MESSAGE_WORDS, "no such message register");
    read(MESSAGE + index)
}

/// Writes message register `index`.
///
/// # Panics
///
/// If `index` is not below [`MESSAGE_WORDS`].
#[inline]
pub fn set_message_register(index: usize, value: Word) {
    assert!(index < MESSAGE_WORDS, "no such message register");
    write(MESSAGE + index, value);
}

/// Writes the first message registers, with one look at where the IPC buffer is.
#[inline]
pub(crate) fn set_first_registers<const COUNT: usize>(values: &[Word; COUNT]) {
    const { assert!(COUNT <= MESSAGE_WORDS) };
    let first = word(MESSAGE);
    for (index, value) in values.iter().enumerate() {
        // SAFETY: inside the IPC buffer (see `word`), since there are no more of them than message
        // registers; volatile, as the kernel reads it.
        unsafe { first.add(index).write_volatile(*value) }
    }
}

/// Names the capability to send as number `index` of the next message.
///
/// # Panics
///
/// If `index` is not below [`MESSAGE_CAPABILITIES`].
#[inline]
pub fn set_capability(index: usize, capability: CPtr) {
    assert!(
        index < MESSAGE_CAPABILITIES,
        "no such capability of a message"
    );
    write(CAPABILITIES + index, capability);
}

/// Reads the badge of an unwrapped capability of the last message.
///
/// # Panics
///
/// If `index` is not below [`MESSAGE_CAPABILITIES`].
#[inline]
pub fn received_capability_badge(index: usize) -> Word {
    assert!(
        index < MESSAGE_CAPABILITIES,
        "no such capability of a message"
    );
    read(CAPABILITIES + index)
}

/// Says where a received capability goes: slot `index` at `depth` bits below
/// the CNode `root`.
#[inline]
pub fn set_receive_slot(root: CPtr, index: Word, depth: u8) {
    write(RECEIVE_SLOT, root);
    write(RECEIVE_SLOT + 1, index);
    write(RECEIVE_SLOT + 2, Word::from(depth));
}
