//! A virtual function driven by hand, without any check: any descriptor, any address.
//!
//! Not the project's driver on purpose: that one never offers what this test needs.

use core::sync::atomic::Ordering;

use segue_device::{DmaMemory, Mmio};
use segue_shared_memory::Region;

const CONTROL: usize = 0x0000;
const CONTROL_RESET: u32 = 1 << 26;
const INTERRUPT_MASK_CLEAR: usize = 0x1528;
const RECEIVE: usize = 0x2800;
const TRANSMIT: usize = 0x3800;
const BASE: usize = 0x00;
const LENGTH: usize = 0x08;
const FORMAT: usize = 0x0c;
const FORMAT_ONE_BUFFER_2K: u32 = 0x0200_0002;
const HEAD: usize = 0x10;
const TAIL: usize = 0x18;
const QUEUE: usize = 0x28;
const QUEUE_ENABLE: u32 = 1 << 25;
const HEAD_WRITE_BACK: usize = 0x38;
const RING_BYTES: u32 = 128;
/// End of packet, insert check sequence, report status, advanced data descriptor.
const COMMAND: u64 = 0x2b30_0000;
/// Where a descriptor's "done" bit is in its second word.
const TRANSMIT_DONE: u64 = 1 << 32;
const RECEIVE_DONE: u64 = 1;

/// Offsets in the memory that the function may use.
pub const TRANSMIT_RING: usize = 0x0000;
const RECEIVE_RING: usize = 0x1000;
/// A frame to send.
pub const FRAME: usize = 0x2000;
/// A frame that arrives.
pub const BUFFER: usize = 0x3000;

/// What the two queues are told.
#[derive(Clone, Copy)]
pub struct Orders {
    /// Where the function looks for transmit descriptors.
    pub transmit_ring: u64,
    /// Where it reads the frame.
    pub frame: u64,
    /// Bytes of the frame.
    pub length: usize,
    /// Where it writes a frame that arrives.
    pub buffer: u64,
    /// Where it writes how far it has come; 0: nowhere, it marks the descriptor.
    pub head_write_back: u64,
}

/// The function's registers and the memory it may use.
pub struct Function {
    pub registers: Region,
    pub memory: Region,
}

impl Function {
    /// Orders that keep to the rules, for a frame of `length` bytes.
    pub fn lawful(&self, length: usize) -> Orders {
        let base = self.memory.device_address();
        Orders {
            transmit_ring: base + TRANSMIT_RING as u64,
            frame: base + FRAME as u64,
            length,
            buffer: base + BUFFER as u64,
            head_write_back: 0,
        }
    }

    /// Resets the function; its driver's owner has to enable it again.
    pub fn reset(&self) {
        self.registers.write32(INTERRUPT_MASK_CLEAR, 7);
        self.registers.write32(CONTROL, CONTROL_RESET);
    }

    /// Posts one buffer and sends one frame, as told.
    pub fn obey(&self, orders: &Orders) {
        for queue in [RECEIVE, TRANSMIT] {
            self.registers.write32(queue + QUEUE, 0);
            self.registers.write32(queue + LENGTH, RING_BYTES);
            self.registers.write32(queue + HEAD, 0);
            self.registers.write32(queue + TAIL, 0);
        }
        self.write_address(
            RECEIVE + BASE,
            self.memory.device_address() + RECEIVE_RING as u64,
        );
        self.registers
            .write32(RECEIVE + FORMAT, FORMAT_ONE_BUFFER_2K);
        self.write_address(TRANSMIT + BASE, orders.transmit_ring);
        let write_back = orders.head_write_back;
        self.write_address(
            TRANSMIT + HEAD_WRITE_BACK,
            write_back | u64::from(write_back != 0),
        );

        self.memory
            .store64(RECEIVE_RING, orders.buffer, Ordering::Release);
        self.memory.store64(RECEIVE_RING + 8, 0, Ordering::Release);
        self.memory
            .store64(TRANSMIT_RING, orders.frame, Ordering::Release);
        let length = orders.length as u64;
        self.memory.store64(
            TRANSMIT_RING + 8,
            COMMAND | length | length << 46,
            Ordering::Release,
        );
        self.memory.write_barrier();

        self.registers.write32(RECEIVE + QUEUE, QUEUE_ENABLE);
        self.registers.write32(TRANSMIT + QUEUE, QUEUE_ENABLE);
        self.registers.write32(RECEIVE + TAIL, 1);
        self.registers.write32(TRANSMIT + TAIL, 1);
    }

    fn write_address(&self, register: usize, address: u64) {
        self.registers.write32(register, address as u32);
        self.registers.write32(register + 4, (address >> 32) as u32);
    }

    /// Whether the frame was sent, as the function says.
    pub fn has_sent(&self) -> bool {
        self.memory.load64(TRANSMIT_RING + 8, Ordering::Acquire) & TRANSMIT_DONE != 0
    }

    /// Bytes of the frame that arrived, if one did.
    pub fn received(&self) -> Option<usize> {
        let word = self.memory.load64(RECEIVE_RING + 8, Ordering::Acquire);
        (word & RECEIVE_DONE != 0).then_some((word >> 32 & 0xffff) as usize)
    }

    /// Descriptors the transmit queue has passed.
    pub fn transmit_head(&self) -> u32 {
        self.registers.read32(TRANSMIT + HEAD)
    }
}
