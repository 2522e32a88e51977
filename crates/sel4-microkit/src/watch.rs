//! What a protection domain shows of its work, for `init`: whether there is progress, and its last
//! events. It lies in the page of the IPC buffer ([`abi::watch`]).

use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Relaxed, Release};

use segue_shared_memory::Region;

use crate::abi::{self, watch as layout};

/// The part of the page that is not the kernel's; offsets are from [`layout::START`].
#[inline]
fn page() -> Region {
    const ADDRESS: u64 = abi::IPC_BUFFER_ADDRESS + layout::START as u64;
    // The address is not 0.
    let base = NonNull::new(ADDRESS as *mut u8).unwrap_or(NonNull::dangling());
    // SAFETY: whoever creates a protection domain maps the page (abi), writable and for good; the
    // kernel uses its first KiB alone, and no Rust object lies in it.
    unsafe { Region::new(base, layout::LENGTH) }
}

const ACTIVITY: usize = layout::ACTIVITY - layout::START;
const READY: usize = layout::READY - layout::START;
const EVENT_COUNT: usize = layout::EVENT_COUNT - layout::START;
const EVENTS: usize = layout::EVENTS - layout::START;

/// From now on there is work.
#[inline]
pub(crate) fn begin() {
    let page = page();
    page.store64(ACTIVITY, page.load64(ACTIVITY, Relaxed) | 1, Relaxed);
}

/// All work is done.
#[inline]
pub(crate) fn end() {
    let page = page();
    let activity = page.load64(ACTIVITY, Relaxed) | 1;
    page.store64(ACTIVITY, activity.wrapping_add(1), Relaxed);
}

/// The program is able to do what it is for.
pub(crate) fn ready() {
    page().store64(READY, now(), Relaxed);
}

/// Tells `init` that there is an order for it; only for those who may give any.
pub fn notify_init() {
    sel4::syscall::signal(abi::slot::INIT);
}

/// Says that a part of the work at hand is done, and more is left: for a handler that may go on for
/// longer than the `heartbeat_ms` of its protection domain. Not for a loop that may wait in vain.
#[inline]
pub fn progress() {
    let page = page();
    let activity = page.load64(ACTIVITY, Relaxed);
    page.store64(ACTIVITY, activity.wrapping_add(2), Relaxed);
}

/// Notes an event: a name of at most eight ASCII characters (the rest is cut off) and a number. Should
/// the protection domain die, its last 125 events are part of the report.
#[inline]
pub fn trace(name: &str, argument: u64) {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    note(u64::from_le_bytes(bytes), argument);
}

#[inline]
fn note(name: u64, argument: u64) {
    let page = page();
    let count = page.load64(EVENT_COUNT, Relaxed);
    let place = EVENTS + (count % layout::EVENT_ROOM as u64) as usize * layout::EVENT_SIZE;
    page.store64(place, now(), Relaxed);
    page.store64(place + 8, name, Relaxed);
    page.store64(place + 16, argument, Relaxed);
    page.store64(EVENT_COUNT, count.wrapping_add(1), Release);
}

/// The time stamp counter.
#[inline]
fn now() -> u64 {
    // SAFETY: the kernel leaves the instruction to user programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Notes what has arrived: signals by their channels, a call by channel and label.
#[inline]
pub(crate) fn received(badge: u64, label: u64) {
    match abi::received(badge) {
        Some(abi::Received::Notified(channels)) => trace("signals", channels),
        Some(abi::Received::Called(channel)) => trace("call", (channel as u64) << 32 | label),
        None => trace("unknown", badge),
    }
}

/// Ends the protection domain: its work is done. What its `restart` says decides whether it is
/// started again.
pub fn exit() -> ! {
    loop {
        // SAFETY: the kernel has no such call and reports a fault to init, which stops the thread.
        unsafe {
            core::arch::asm!(
                "syscall",
                in("rdx") abi::EXIT_SYSTEM_CALL,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack)
            )
        }
    }
}
