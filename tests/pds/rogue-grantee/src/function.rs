//! A virtual function driven by hand, without any check: any descriptor, any address.

use core::sync::atomic::Ordering;

use segue_device::{DmaMemory, Mmio};
use segue_shared_memory::Region;

pub const CONTROL: usize = 0x0000;
pub const CONTROL_RESET: u32 = 1 << 26;
pub const STATUS: usize = 0x0008;
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
/// Descriptors of a ring, the least that there may be.
const ENTRIES: u32 = 8;
const DESCRIPTOR_SIZE: u32 = 16;
/// End of packet, insert check sequence, report status, advanced data descriptor.
const COMMAND: u64 = 0x2b30_0000;

// Offsets in the memory that the function may use.
const TRANSMIT_RING: usize = 0x0000;
const RECEIVE_RING: usize = 0x1000;
const FRAME: usize = 0x2000;
const BUFFER: usize = 0x3000;

/// Bytes of a numbered frame.
const FRAME_LENGTH: usize = 64;
/// A protocol for experiments (IEEE 802), which nobody answers.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

/// Where the two queues are told to look.
#[derive(Clone, Copy)]
pub struct Places {
    /// Transmit descriptors.
    pub transmit_ring: u64,
    /// The frame to be sent.
    pub frame: u64,
    /// Receive descriptors.
    pub receive_ring: u64,
    /// Where a frame that arrives goes.
    pub buffer: u64,
    /// Where the queue writes how far it has come; 0: nowhere.
    pub head_write_back: u64,
}

/// The function's registers and the memory that it may use.
pub struct Function {
    pub registers: Region,
    pub memory: Region,
    pub mac: [u8; 6],
}

impl Function {
    /// Places in the memory that the function may use.
    pub fn lawful(&self) -> Places {
        let base = self.memory.device_address();
        Places {
            transmit_ring: base + TRANSMIT_RING as u64,
            frame: base + FRAME as u64,
            receive_ring: base + RECEIVE_RING as u64,
            buffer: base + BUFFER as u64,
            head_write_back: 0,
        }
    }

    /// Resets the function; the owner of the physical function has to enable it again.
    pub fn reset(&self) {
        self.registers.write32(INTERRUPT_MASK_CLEAR, 7);
        self.registers.write32(CONTROL, CONTROL_RESET);
    }

    /// Starts both queues as the rules want it, without a buffer or a frame.
    pub fn start(&self) {
        self.set_up(&self.lawful());
    }

    fn set_up(&self, places: &Places) {
        for queue in [RECEIVE, TRANSMIT] {
            self.registers.write32(queue + QUEUE, 0);
            self.registers
                .write32(queue + LENGTH, ENTRIES * DESCRIPTOR_SIZE);
            self.registers.write32(queue + HEAD, 0);
            self.registers.write32(queue + TAIL, 0);
        }
        self.write_address(RECEIVE + BASE, places.receive_ring);
        self.registers
            .write32(RECEIVE + FORMAT, FORMAT_ONE_BUFFER_2K);
        self.write_address(TRANSMIT + BASE, places.transmit_ring);
        let write_back = places.head_write_back;
        self.write_address(
            TRANSMIT + HEAD_WRITE_BACK,
            write_back | u64::from(write_back != 0),
        );
        self.registers.write32(RECEIVE + QUEUE, QUEUE_ENABLE);
        self.registers.write32(TRANSMIT + QUEUE, QUEUE_ENABLE);
    }

    /// Sets the queues up anew, posts one buffer and sends one frame, in these places. The
    /// descriptors are in the function's own memory, wherever it is told to look for them.
    pub fn obey(&self, places: &Places) {
        self.set_up(places);
        self.memory
            .store64(RECEIVE_RING, places.buffer, Ordering::Release);
        self.memory.store64(RECEIVE_RING + 8, 0, Ordering::Release);
        self.describe(0, places.frame);
        self.memory.write_barrier();
        self.registers.write32(RECEIVE + TAIL, 1);
        self.registers.write32(TRANSMIT + TAIL, 1);
    }

    fn describe(&self, index: u32, frame: u64) {
        let descriptor = TRANSMIT_RING + (index * DESCRIPTOR_SIZE) as usize;
        self.memory.store64(descriptor, frame, Ordering::Release);
        let length = FRAME_LENGTH as u64;
        self.memory.store64(
            descriptor + 8,
            COMMAND | length | length << 46,
            Ordering::Release,
        );
    }

    /// Writes a broadcast of its own with a number.
    pub fn write_frame(&self, number: u64) {
        let mut frame = [0u8; FRAME_LENGTH];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..14].copy_from_slice(&EXPERIMENTAL);
        frame[14..22].copy_from_slice(&number.to_be_bytes());
        self.memory.write(FRAME, &frame);
    }

    /// Sends the frame with the next descriptor after `tail`. Returns the tail.
    pub fn send(&self, tail: u32) -> u32 {
        self.describe(tail, self.lawful().frame);
        self.memory.write_barrier();
        let tail = (tail + 1) % ENTRIES;
        self.ring(tail);
        tail
    }

    /// Rings the doorbell.
    pub fn ring(&self, tail: u32) {
        self.registers.write32(TRANSMIT + TAIL, tail);
    }

    fn write_address(&self, register: usize, address: u64) {
        self.registers.write32(register, address as u32);
        self.registers.write32(register + 4, (address >> 32) as u32);
    }

    /// Descriptors that the transmit queue has passed.
    pub fn transmit_head(&self) -> u32 {
        self.registers.read32(TRANSMIT + HEAD)
    }

    /// Whether a frame has arrived in the first buffer.
    pub fn has_received(&self) -> bool {
        self.memory.load64(RECEIVE_RING + 8, Ordering::Acquire) & 1 != 0
    }
}
