//! Registers of the physical function.
//!
//! Intel 82576EB Gigabit Ethernet Controller Datasheet, chapter 8; the section
//! is given where a group starts.

use tock_registers::register_bitfields;

use crate::register::{Plain, Register};

register_bitfields![u32,
    /// Device control.
    pub(crate) CONTROL [
        SET_LINK_UP OFFSET(6) NUMBITS(1) [],
        /// Resets the device, virtual functions included; clears itself.
        RESET OFFSET(26) NUMBITS(1) [],
    ],
    /// Device status.
    pub(crate) STATUS [
        FULL_DUPLEX OFFSET(0) NUMBITS(1) [],
        LINK_UP OFFSET(1) NUMBITS(1) [],
        SPEED OFFSET(6) NUMBITS(2) [
            Megabit10 = 0,
            Megabit100 = 1,
            Megabit1000 = 2,
        ],
    ],
    /// Extended device control.
    pub(crate) CONTROL_EXTENDED [
        /// Tells the virtual functions that the physical one is ready.
        RESET_DONE OFFSET(14) NUMBITS(1) [],
        DRIVER_LOADED OFFSET(28) NUMBITS(1) [],
    ],
    /// Access to the transceiver's registers.
    pub(crate) TRANSCEIVER [
        DATA OFFSET(0) NUMBITS(16) [],
        REGISTER OFFSET(16) NUMBITS(5) [],
        ADDRESS OFFSET(21) NUMBITS(5) [],
        OPERATION OFFSET(26) NUMBITS(2) [
            Write = 1,
            Read = 2,
        ],
        READY OFFSET(28) NUMBITS(1) [],
        ERROR OFFSET(30) NUMBITS(1) [],
    ],
    /// Receive control.
    pub(crate) RECEIVE_CONTROL [
        ENABLE OFFSET(1) NUMBITS(1) [],
        /// Which bits of a multicast address are its place in the table.
        MULTICAST_HASH OFFSET(12) NUMBITS(2) [
            Bits47To36 = 0,
        ],
        ACCEPT_BROADCAST OFFSET(15) NUMBITS(1) [],
        STRIP_FRAME_CHECK OFFSET(26) NUMBITS(1) [],
    ],
    /// Transmit control.
    pub(crate) TRANSMIT_CONTROL [
        ENABLE OFFSET(1) NUMBITS(1) [],
        PAD_SHORT OFFSET(3) NUMBITS(1) [],
        COLLISION_THRESHOLD OFFSET(4) NUMBITS(8) [],
        COLLISION_DISTANCE OFFSET(12) NUMBITS(10) [],
    ],
    /// General purpose interrupt enable.
    pub(crate) INTERRUPT_MODE [
        /// Reading the cause register clears it.
        CLEAR_ON_READ OFFSET(0) NUMBITS(1) [],
        /// One interrupt for each MSI-X entry.
        MSIX OFFSET(4) NUMBITS(1) [],
        PENDING_BITS OFFSET(31) NUMBITS(1) [],
    ],
    /// Interrupt causes that are not a queue's.
    pub(crate) CAUSE [
        LINK_CHANGE OFFSET(2) NUMBITS(1) [],
        /// A virtual function wrote its mailbox or was reset.
        VIRTUAL_FUNCTION OFFSET(8) NUMBITS(1) [],
    ],
    /// MSI-X entries of causes that are not a queue's.
    pub(crate) OTHER_VECTORS [
        OTHER OFFSET(8) NUMBITS(5) [],
        OTHER_VALID OFFSET(15) NUMBITS(1) [],
    ],
    /// Interrupt throttling of one vector.
    pub(crate) THROTTLE [
        INTERVAL OFFSET(2) NUMBITS(13) [],
    ],
    /// How received frames are spread over queues.
    pub(crate) QUEUE_SPREAD [
        MODE OFFSET(0) NUMBITS(3) [
            /// By pool: each virtual function has one.
            Pools = 3,
        ],
    ],
    /// Virtualization control.
    pub(crate) POOL_CONTROL [
        /// A frame that matches no pool is dropped.
        NO_DEFAULT_POOL OFFSET(29) NUMBITS(1) [],
        /// A broadcast goes to each pool that accepts it.
        REPLICATE OFFSET(30) NUMBITS(1) [],
    ],
    /// What one pool accepts.
    pub(crate) POOL_FILTER [
        LONGEST OFFSET(0) NUMBITS(14) [],
        ACCEPT_UNTAGGED OFFSET(24) NUMBITS(1) [],
        /// Multicast frames that the multicast table lets through.
        ACCEPT_MULTICAST_HASH OFFSET(25) NUMBITS(1) [],
        ACCEPT_BROADCAST OFFSET(27) NUMBITS(1) [],
        STRIP_FRAME_CHECK OFFSET(31) NUMBITS(1) [],
    ],
    /// Transmit switching between functions.
    pub(crate) TRANSMIT_SWITCH [
        /// One bit a pool: drop frames whose source address is not the pool's.
        CHECK_SOURCE_ADDRESS OFFSET(0) NUMBITS(8) [],
        /// Frames between functions stay inside the device.
        LOOPBACK OFFSET(31) NUMBITS(1) [],
    ],
    /// Descriptor control of a queue.
    pub(crate) QUEUE_CONTROL [
        ENABLE OFFSET(25) NUMBITS(1) [],
    ],
    /// Mailbox of a virtual function.
    pub(crate) MAILBOX [
        /// Takes it from the virtual function.
        TAKE_FROM_FUNCTION OFFSET(4) NUMBITS(1) [],
    ],
    /// Upper half of an address filter.
    pub(crate) ADDRESS_HIGH [
        /// Octets 4 and 5 of the address.
        OCTETS OFFSET(0) NUMBITS(16) [],
        /// One bit a pool.
        POOLS OFFSET(18) NUMBITS(8) [],
        VALID OFFSET(31) NUMBITS(1) [],
    ],
];

// 8.2: general.
pub(crate) const CONTROL_REGISTER: Register<CONTROL::Register> = Register::at(0x0000);
pub(crate) const STATUS_REGISTER: Register<STATUS::Register> = Register::at(0x0008);
pub(crate) const CONTROL_EXTENDED_REGISTER: Register<CONTROL_EXTENDED::Register> =
    Register::at(0x0018);
pub(crate) const TRANSCEIVER_REGISTER: Register<TRANSCEIVER::Register> = Register::at(0x0020);
// 8.8: interrupts. The first three also answer at 0x1500, 0x1508 and 0x150c, but
// not in QEMU.
pub(crate) const CAUSE_READ: Register<CAUSE::Register> = Register::at(0x00c0);
pub(crate) const CAUSE_MASK_SET: Register<CAUSE::Register> = Register::at(0x00d0);
pub(crate) const CAUSE_MASK_CLEAR: Plain = Plain(0x00d8);
pub(crate) const INTERRUPT_MODE_REGISTER: Register<INTERRUPT_MODE::Register> = Register::at(0x1514);
/// One bit for each MSI-X entry of the device; entry 0 is the physical function's.
pub(crate) const INTERRUPT_MASK_SET: Plain = Plain(0x1524);
pub(crate) const INTERRUPT_MASK_CLEAR: Plain = Plain(0x1528);
pub(crate) const INTERRUPT_AUTO_CLEAR: Plain = Plain(0x152c);
pub(crate) const INTERRUPT_THROTTLE_0: Register<THROTTLE::Register> = Register::at(0x1680);
pub(crate) const OTHER_VECTORS_REGISTER: Register<OTHER_VECTORS::Register> = Register::at(0x1740);
// 8.10: receive; 8.12: transmit.
pub(crate) const RECEIVE_CONTROL_REGISTER: Register<RECEIVE_CONTROL::Register> =
    Register::at(0x0100);
/// Receive queues, one bit each, that drop a frame when they have no descriptor, whatever their
/// format register says.
pub(crate) const QUEUE_DROP: Plain = Plain(0x2408);
pub(crate) const TRANSMIT_CONTROL_REGISTER: Register<TRANSMIT_CONTROL::Register> =
    Register::at(0x0400);
pub(crate) const QUEUE_SPREAD_REGISTER: Register<QUEUE_SPREAD::Register> = Register::at(0x5818);

/// Queues of a virtual function (8.26.1): those with its own number and with that plus 8.
pub(crate) const fn queues(function: usize) -> [usize; 2] {
    [function, function + 8]
}

/// All queues of the device, one bit each.
pub(crate) const ALL_QUEUES: u32 = 0xffff;

/// Descriptor control of receive queue `queue`.
pub(crate) const fn receive_queue_control(queue: usize) -> Register<QUEUE_CONTROL::Register> {
    Register::at(receive_queue(queue, 0x28))
}

/// Descriptor control of transmit queue `queue`.
pub(crate) const fn transmit_queue_control(queue: usize) -> Register<QUEUE_CONTROL::Register> {
    Register::at(transmit_queue(queue, 0x28))
}

/// What a reset leaves in the registers of a receive queue, by offset in the queue: base
/// (low, high), length, format, head, cache control (8.13), tail, descriptor control.
pub(crate) const RECEIVE_QUEUE_RESET: [(usize, u32); 8] = [
    (0x00, 0),
    (0x04, 0),
    (0x08, 0),
    (0x0c, 0),
    (0x10, 0),
    (0x14, 0xa200),
    (0x18, 0),
    (0x28, 1 << 16),
];

/// ... and of a transmit queue; instead of the format it has a head write-back address
/// (low, high).
pub(crate) const TRANSMIT_QUEUE_RESET: [(usize, u32); 9] = [
    (0x00, 0),
    (0x04, 0),
    (0x08, 0),
    (0x10, 0),
    (0x14, 0x2a00),
    (0x18, 0),
    (0x28, 0),
    (0x38, 0),
    (0x3c, 0),
];

/// Offset of a register of receive queue `queue`.
pub(crate) const fn receive_queue(queue: usize, register: usize) -> usize {
    0xc000 + 0x40 * queue + register
}

/// Offset of a register of transmit queue `queue`.
pub(crate) const fn transmit_queue(queue: usize, register: usize) -> usize {
    0xe000 + 0x40 * queue + register
}

/// Frames that found no descriptor in receive queue `queue`; reading clears.
pub(crate) const fn receive_queue_dropped(queue: usize) -> Plain {
    Plain(receive_queue(queue, 0x30))
}

/// Which headers a function's queues split off, and over how many queues it spreads.
pub(crate) const fn header_split(function: usize) -> Plain {
    Plain(0x5480 + 4 * function)
}

// 8.8: interrupts of a virtual function. It has three MSI-X entries; function 0's are
// the last of the device's 25.
/// Throttling of the entries of a function.
pub(crate) const fn function_throttles(function: usize) -> [Plain; 3] {
    let first = 0x1680 + 4 * (22 - 3 * function);
    [Plain(first), Plain(first + 4), Plain(first + 8)]
}

/// Entries of the queues of a function.
pub(crate) const fn function_vectors(function: usize) -> Plain {
    Plain(0x1700 + 4 * function)
}

/// What a function's holder wrote to its own registers of this kind (queues, mailbox). The
/// emulated device keeps it here; the datasheet has nothing in this place.
pub(crate) const fn function_own_vectors(function: usize) -> [Plain; 2] {
    [Plain(0x11700 + 4 * function), Plain(0x11720 + 4 * function)]
}

/// All MSI-X entries of a virtual function, as bits of its interrupt registers.
pub(crate) const FUNCTION_INTERRUPTS: u32 = 7;

// 8.26: registers of a virtual function, as the physical one sees them.
/// Device control.
pub(crate) const fn function_control(function: usize) -> Register<CONTROL::Register> {
    Register::at(function_page(function, 0x00))
}

/// Extended interrupt mask set; on the emulated device it keeps the last word written.
pub(crate) const fn function_mask_set(function: usize) -> Plain {
    Plain(function_page(function, 0x24))
}

/// Extended interrupt mask clear.
pub(crate) const fn function_mask_clear(function: usize) -> Plain {
    Plain(function_page(function, 0x28))
}

/// Extended interrupt auto clear.
pub(crate) const fn function_auto_clear(function: usize) -> Plain {
    Plain(function_page(function, 0x2c))
}

/// Extended interrupt auto mask.
pub(crate) const fn function_auto_mask(function: usize) -> Plain {
    Plain(function_page(function, 0x30))
}

/// Extended interrupt cause; writing 1 clears, reading too.
pub(crate) const fn function_cause(function: usize) -> Plain {
    Plain(function_page(function, 0x80))
}

const fn function_page(function: usize, register: usize) -> usize {
    0x10000 + 0x100 * function + register
}

/// Lower half of address filter `index`: octets 0 to 3. The first 16 lie apart from
/// the others.
pub(crate) const fn address_low(index: usize) -> Plain {
    Plain(address_filter(index))
}

/// Upper half of address filter `index`.
pub(crate) const fn address_high(index: usize) -> Register<ADDRESS_HIGH::Register> {
    Register::at(address_filter(index) + 4)
}

const fn address_filter(index: usize) -> usize {
    match index {
        0..16 => 0x5400 + 8 * index,
        _ => 0x54e0 + 8 * (index - 16),
    }
}

/// Registers of the multicast table: 4096 bits together.
pub(crate) const MULTICAST_REGISTERS: usize = 128;

/// Word `index` of the multicast table: one bit for each hash value.
pub(crate) const fn multicast_table(index: usize) -> Plain {
    Plain(0x5200 + 4 * index)
}

// 8.14: virtualization. One bit for each virtual function in the plain ones.
/// Word `word` of 16 of a function's mailbox.
pub(crate) const fn mailbox_memory(function: usize, word: usize) -> Plain {
    Plain(0x0800 + 0x40 * function + 4 * word)
}

/// Words of a mailbox.
pub(crate) const MAILBOX_WORDS: usize = 16;

/// State of a function's mailbox.
pub(crate) const fn mailbox(function: usize) -> Register<MAILBOX::Register> {
    Register::at(0x0c00 + 4 * function)
}

/// State of a function's mailbox as its holder sees it. The emulated device has it here; the
/// datasheet has nothing in this place.
pub(crate) const fn function_mailbox(function: usize) -> Plain {
    Plain(0x0c40 + 4 * function)
}

/// Requests of functions (bits 0 to 7) and their acknowledgements (bits 16 to 23); writing
/// 1 clears.
pub(crate) const MAILBOX_CAUSE: Plain = Plain(0x0c80);
/// Virtual functions whose mailbox interrupts.
pub(crate) const MAILBOX_INTERRUPT_MASK: Plain = Plain(0x0c84);
/// Virtual functions that were reset; writing 1 clears.
pub(crate) const FUNCTIONS_RESET: Plain = Plain(0x0c88);
pub(crate) const RECEIVE_ENABLE: Plain = Plain(0x0c8c);
pub(crate) const TRANSMIT_ENABLE: Plain = Plain(0x0c90);
pub(crate) const TRANSMIT_SWITCH_REGISTER: Register<TRANSMIT_SWITCH::Register> =
    Register::at(0x3500);
pub(crate) const POOL_CONTROL_REGISTER: Register<POOL_CONTROL::Register> = Register::at(0x581c);

/// What pool `index` accepts.
pub(crate) const fn pool_filter(index: usize) -> Register<POOL_FILTER::Register> {
    Register::at(0x5ad0 + 4 * index)
}
