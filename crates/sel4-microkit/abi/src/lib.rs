//! What a protection domain and whoever creates it agree on.
//!
//! The capability slots, addresses and symbols are those of Microkit 2.3 on
//! x86_64. Two things differ, because Segue's kernel is seL4 5.0.0:
//!
//! - no scheduling contexts and reply objects, so slots 4 and 5 stay empty;
//! - an endpoint's badge has 28 bits, so Microkit's bit 63, which marks a
//!   protected call there, cannot. Here bit 63 marks a *notification*, whose
//!   badge has 64 bits, and a call's badge is the channel's id alone.
#![no_std]
#![forbid(unsafe_code)]

/// Channel ids are below this.
pub const CHANNELS: usize = 62;

/// The channel over which every protection domain reaches the console, and
/// which the console shares among all of them.
pub const CONSOLE_CHANNEL: usize = 61;

/// Capability addresses in a protection domain's CSpace.
pub mod slot {
    /// What the protection domain receives from: an endpoint if somebody may
    /// call it, else a notification.
    pub const INPUT: u64 = 1;
    /// The protection domain's own fault endpoint.
    pub const FAULT_ENDPOINT: u64 = 2;
    /// The protection domain's own address space.
    pub const VSPACE: u64 = 3;

    /// The notification by which `init` hears of orders, of who may give any.
    pub const INIT: u64 = 7;

    /// The notification of a channel's other end.
    pub const fn notification(channel: usize) -> u64 {
        10 + channel as u64
    }
    /// The endpoint of a channel's other end.
    pub const fn endpoint(channel: usize) -> u64 {
        74 + channel as u64
    }
    /// An interrupt's handler.
    pub const fn interrupt(id: usize) -> u64 {
        138 + id as u64
    }
    /// A range of IO ports.
    pub const fn io_port(id: usize) -> u64 {
        394 + id as u64
    }

    /// Slots of the CNode that these addresses lead to, as a power of two.
    pub const CNODE_BITS: u8 = 9;
}

/// Capabilities of virtual functions that are granted at run time.
///
/// Two more CNodes hang in the topmost CNode of a CSpace, which has 64 slots: an address
/// is the slot there, in its upper six bits, and the slot in the CNode below.
pub mod grant {
    const fn address(root_slot: u64, slot: u64) -> u64 {
        root_slot << 58 | slot
    }

    /// Slot in the topmost CNode of the CNode of a grant, or of the manager's authority.
    pub const GRANT_ROOT_SLOT: u64 = 1;
    /// Slot in the topmost CNode of the CNode with the frames of an application's memory
    /// for a function.
    pub const MEMORY_ROOT_SLOT: u64 = 2;

    /// Slots of the CNode of a grant, as a power of two.
    pub const GRANT_BITS: u8 = 4;
    /// Where an application names the CNode of its grant itself, to make frames in it.
    pub const GRANT_CNODE: u64 = 458;
    /// Untyped memory of the registers (BAR 0).
    pub const UNTYPED: u64 = 0;
    /// IO space of the function's requester id.
    pub const IO_SPACE: u64 = 1;
    /// Handlers of its interrupts: received frames, transmitted frames.
    pub const INTERRUPTS: [u64; 2] = [2, 3];
    /// First of the frames that the application makes of the untyped memory.
    pub const FRAMES: u64 = 4;
    /// How many they are.
    pub const FRAME_COUNT: u64 = 4;

    /// The address of a slot in the CNode of the grant.
    pub const fn granted(slot: u64) -> u64 {
        address(GRANT_ROOT_SLOT, slot)
    }

    /// The address of a capability in the CNode of memory: first the IO page tables, then
    /// the frames.
    pub const fn memory(slot: u64) -> u64 {
        address(MEMORY_ROOT_SLOT, slot)
    }

    /// Slots of the CNode of memory, as a power of two.
    pub const MEMORY_BITS: u8 = 11;

    /// Slots of the manager's CNode of authority, as a power of two.
    pub const AUTHORITY_BITS: u8 = 10;
    /// That CNode itself, in it.
    pub const AUTHORITY_CNODE: u64 = 1;
    /// The IO space of no device, from which those of functions are minted.
    pub const MASTER_IO_SPACE: u64 = 2;
    const FUNCTIONS: u64 = 8;
    const PER_FUNCTION: u64 = 4;
    const APPLICATIONS: u64 = 128;
    const PER_APPLICATION: u64 = 8;

    /// Slot of authority over function `function`: as in the CNode of a grant,
    /// [`UNTYPED`], [`IO_SPACE`] (minted when it is granted), [`INTERRUPTS`].
    pub const fn function(function: u64, slot: u64) -> u64 {
        FUNCTIONS + function * PER_FUNCTION + slot
    }

    /// Slot of authority over application `application`.
    pub const fn application(application: u64, slot: u64) -> u64 {
        APPLICATIONS + application * PER_APPLICATION + slot
    }

    /// Of an application: the CNode of its grant.
    pub const ITS_CNODE: u64 = 0;
    /// Its address space.
    pub const ITS_VSPACE: u64 = 1;
    /// Its notification, with the badges of the two interrupts.
    pub const ITS_NOTIFICATIONS: [u64; 2] = [2, 3];
    /// The frames that stand in for the registers once they are taken away.
    pub const ITS_DUMMIES: u64 = 4;

    /// The address of a slot of authority.
    pub const fn authority(slot: u64) -> u64 {
        address(GRANT_ROOT_SLOT, slot)
    }

    const _: () = assert!(function(8, 0) <= APPLICATIONS);
    const _: () = assert!(application(64, 0) <= 1 << AUTHORITY_BITS);
}

/// Marks a badge as that of a notification.
pub const NOTIFICATION_FLAG: u64 = 1 << 63;

/// The badge that a signal over `channel` (or an interrupt with that id) carries.
pub const fn notification_badge(channel: usize) -> u64 {
    NOTIFICATION_FLAG | 1 << channel
}

/// The badge that a call over `channel` carries; `channel` is the id at the
/// end that is called.
pub const fn call_badge(channel: usize) -> u64 {
    channel as u64
}

/// The badge with which `init` hears of orders.
pub const ORDER_BADGE: u64 = 1 << 61;

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Signals, one bit for each channel.
    Notified(u64),
    /// A call over this channel.
    Called(usize),
}

/// Reads a badge. `None` if it is neither: whoever made the capability erred.
pub const fn received(badge: u64) -> Option<Received> {
    if badge & NOTIFICATION_FLAG != 0 {
        Some(Received::Notified(badge & ((1 << CHANNELS) - 1)))
    } else if badge < CHANNELS as u64 {
        Some(Received::Called(badge as usize))
    } else {
        None
    }
}

/// Address of the IPC buffer's page.
pub const IPC_BUFFER_ADDRESS: u64 = 0x7fff_ffff_e000;

/// Initial stack pointer: the first byte above the stack.
pub const STACK_TOP: u64 = 0x7fff_ffff_d000;

/// Size of the stack if the system description does not say, in bytes.
pub const DEFAULT_STACK_SIZE: u64 = 0x2000;

/// Length of the symbol `microkit_name`, in bytes.
pub const NAME_SIZE: usize = 64;

/// Label of the answer to a call that the called one does not serve.
///
/// It is the greatest label, so that protocols can count theirs from 0.
pub const REFUSED_LABEL: u64 = 0xf_ffff;

/// Label of the answer to a call whose server has died in the middle of it, or for good.
///
/// What the call was to do may be done or not.
pub const GONE_LABEL: u64 = 0xf_fffe;

/// The system call by which a program ends itself: one that the kernel does not have, so that
/// `init` hears of it.
pub const EXIT_SYSTEM_CALL: i64 = -0x5e60e;

/// What a protection domain shows of its work, in the page of its IPC buffer: `init` reads it
/// while it runs (is there progress?) and after its death (what was it doing?).
///
/// All offsets are from the start of the page, in bytes.
pub mod watch {
    /// First byte.
    pub const START: usize = 0x400;
    /// One past the last.
    pub const END: usize = 0x1000;
    /// Bytes of all of it.
    pub const LENGTH: usize = END - START;
    /// 64 bits: odd while the program is at work; each change is progress.
    pub const ACTIVITY: usize = START;
    /// 64 bits: how many events have been traced.
    pub const EVENT_COUNT: usize = START + 8;
    /// 64 bits: the time stamp counter when the program first said that it is ready to serve; 0 before.
    pub const READY: usize = START + 16;
    /// The events, used in turn.
    pub const EVENTS: usize = START + 0x40;
    /// Bytes of an event: the time stamp counter, a name of up to eight ASCII characters
    /// (NUL-padded), a number.
    pub const EVENT_SIZE: usize = 24;
    /// How many there is room for.
    pub const EVENT_ROOM: usize = (END - EVENTS) / EVENT_SIZE;

    const _: () = assert!(START >= 1024, "the kernel's part of the page has 1 KiB");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badges_say_what_was_received() {
        for channel in 0..CHANNELS {
            assert_eq!(
                received(call_badge(channel)),
                Some(Received::Called(channel))
            );
            assert_eq!(
                received(notification_badge(channel)),
                Some(Received::Notified(1 << channel))
            );
        }
        // Signals of several channels arrive as one word.
        let both = notification_badge(0) | notification_badge(61);
        assert_eq!(received(both), Some(Received::Notified(1 | 1 << 61)));
        assert_eq!(received(62), None);
        assert_eq!(received(1 << 62), None);
    }

    #[test]
    fn slots_do_not_overlap() {
        assert!(slot::notification(CHANNELS - 1) < slot::endpoint(0));
        assert!(slot::endpoint(CHANNELS - 1) < slot::interrupt(0));
        assert!(slot::interrupt(CHANNELS - 1) < slot::io_port(0));
        assert!(slot::io_port(CHANNELS - 1) < 1 << slot::CNODE_BITS);
    }
}
