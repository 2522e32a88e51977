//! Registers of a virtual function.
//!
//! Intel 82576EB Gigabit Ethernet Controller Datasheet, chapter 8, as seen
//! through BAR 0 of a virtual function (section 8.26, "virtual function
//! device registers"): each has the form of the physical function's register of the
//! same name. The function's own queue is number 0 here, whatever its number
//! in the device.

use tock_registers::register_bitfields;

use crate::register::{Plain, Register};

register_bitfields![u32,
    /// Device control (8.2.1).
    pub(crate) CONTROL [
        /// Resets this virtual function; clears itself.
        RESET OFFSET(26) NUMBITS(1) [],
    ],
    /// Device status (8.2.2).
    pub(crate) STATUS [
        /// The link is up.
        LINK_UP OFFSET(1) NUMBITS(1) [],
    ],
    /// Mailbox to the physical function (8.14.2), of which only this is used.
    pub(crate) MAILBOX [
        /// The physical function was reset and has not been set up since.
        RESET_IN_PROGRESS OFFSET(6) NUMBITS(1) [],
    ],
    /// Virtual function interrupt vector allocation.
    pub(crate) VECTORS [
        /// MSI-X entry for receive queue 0.
        RECEIVE OFFSET(0) NUMBITS(2) [],
        RECEIVE_VALID OFFSET(7) NUMBITS(1) [],
        /// MSI-X entry for transmit queue 0.
        TRANSMIT OFFSET(8) NUMBITS(2) [],
        TRANSMIT_VALID OFFSET(15) NUMBITS(1) [],
    ],
    /// Interrupt throttling of one vector.
    pub(crate) THROTTLE [
        /// Shortest time between two interrupts, in microseconds.
        INTERVAL OFFSET(2) NUMBITS(13) [],
        /// Leave the running counter alone.
        KEEP_COUNTER OFFSET(31) NUMBITS(1) [],
    ],
    /// Split and replication receive control of a queue.
    pub(crate) RECEIVE_FORMAT [
        /// Buffer size in KiB.
        BUFFER_SIZE OFFSET(0) NUMBITS(7) [],
        DESCRIPTOR_TYPE OFFSET(25) NUMBITS(3) [
            AdvancedOneBuffer = 1,
        ],
        /// Drop a frame when no descriptor is there, rather than block other queues.
        DROP OFFSET(31) NUMBITS(1) [],
    ],
    /// Descriptor control of a receive or transmit queue.
    pub(crate) QUEUE_CONTROL [
        /// Descriptors are fetched when fewer than this are left in the device.
        PREFETCH OFFSET(0) NUMBITS(5) [],
        /// ... and at least this many are ready.
        HOST OFFSET(8) NUMBITS(5) [],
        /// Completed descriptors are written back in groups of this many; 0 or 1: at once.
        WRITE_BACK OFFSET(16) NUMBITS(5) [],
        ENABLE OFFSET(25) NUMBITS(1) [],
    ],
];

pub(crate) const CONTROL_REGISTER: Register<CONTROL::Register> = Register::at(0x0000);
pub(crate) const STATUS_REGISTER: Register<STATUS::Register> = Register::at(0x0008);
pub(crate) const MAILBOX_REGISTER: Register<MAILBOX::Register> = Register::at(0x0c40);

/// Extended interrupt mask set: writing 1 allows an MSI-X entry's interrupt.
pub(crate) const INTERRUPT_MASK_SET: Plain = Plain(0x1524);
/// Extended interrupt mask clear.
pub(crate) const INTERRUPT_MASK_CLEAR: Plain = Plain(0x1528);
/// Extended interrupt auto clear: the cause goes when its message is sent.
pub(crate) const INTERRUPT_AUTO_CLEAR: Plain = Plain(0x152c);
/// Extended interrupt cause: reads what is pending, writing 1 clears.
pub(crate) const INTERRUPT_CAUSE: Plain = Plain(0x1580);
/// Throttling of MSI-X entries 0 and 1.
pub(crate) const INTERRUPT_THROTTLE: [Register<THROTTLE::Register>; 2] =
    [Register::at(0x1680), Register::at(0x1684)];
pub(crate) const INTERRUPT_VECTORS: Register<VECTORS::Register> = Register::at(0x1700);

/// Physical start of the ring: low and high half; a multiple of 128.
pub(crate) const RECEIVE_RING_BASE: (Plain, Plain) = (Plain(0x2800), Plain(0x2804));
/// Bytes of the ring, a multiple of 128.
pub(crate) const RECEIVE_RING_LENGTH: Plain = Plain(0x2808);
pub(crate) const RECEIVE_FORMAT_REGISTER: Register<RECEIVE_FORMAT::Register> = Register::at(0x280c);
/// Next descriptor the device fills.
pub(crate) const RECEIVE_HEAD: Plain = Plain(0x2810);
/// First descriptor that is not the device's.
pub(crate) const RECEIVE_TAIL: Plain = Plain(0x2818);
pub(crate) const RECEIVE_QUEUE_CONTROL: Register<QUEUE_CONTROL::Register> = Register::at(0x2828);

/// As for receive.
pub(crate) const TRANSMIT_RING_BASE: (Plain, Plain) = (Plain(0x3800), Plain(0x3804));
pub(crate) const TRANSMIT_RING_LENGTH: Plain = Plain(0x3808);
pub(crate) const TRANSMIT_HEAD: Plain = Plain(0x3810);
pub(crate) const TRANSMIT_TAIL: Plain = Plain(0x3818);
pub(crate) const TRANSMIT_QUEUE_CONTROL: Register<QUEUE_CONTROL::Register> = Register::at(0x3828);
/// Head write-back address, low half; bit 0 switches it on. Off: each reported
/// descriptor is marked done instead.
pub(crate) const TRANSMIT_HEAD_WRITE_BACK: (Plain, Plain) = (Plain(0x3838), Plain(0x383c));

/// Queue 1 of the function, which this driver leaves off.
pub(crate) const SECOND_RECEIVE_QUEUE_CONTROL: Register<QUEUE_CONTROL::Register> =
    Register::at(0x2928);
pub(crate) const SECOND_TRANSMIT_QUEUE_CONTROL: Register<QUEUE_CONTROL::Register> =
    Register::at(0x3928);
