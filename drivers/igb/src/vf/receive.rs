//! The receive ring and its buffers.

use alloc::boxed::Box;
use alloc::vec::Vec;

use segue_device::{DmaMemory, Mmio};
use tock_registers::LocalRegisterCopy;

use super::{Layout, Statistics};
use crate::descriptor::{DESCRIPTOR_SIZE, RECEIVE_STATUS};
use crate::vf_registers::RECEIVE_TAIL;

/// Bytes of a receive buffer; the largest frame the device accepts fits.
pub const RECEIVE_BUFFER_SIZE: usize = 2048;
/// Released buffers are given to the device in groups of this many.
const BATCH: u32 = 32;

/// What the NIC says about a checksum of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// It was computed and is right.
    Good,
    /// It was computed and is wrong.
    Bad,
    /// It was not computed.
    Unknown,
}

/// A received frame in a buffer of the driver's memory.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the buffer is lost to the NIC until it is released"]
pub struct Received {
    buffer: u16,
    generation: u32,
    offset: usize,
    length: u16,
    ip_checksum: ChecksumState,
    transport_checksum: ChecksumState,
}

impl Received {
    /// Where the frame starts in the driver's memory, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes of the frame, from 1 to [`RECEIVE_BUFFER_SIZE`]. It may be anything:
    /// shorter than an Ethernet header even.
    pub fn length(&self) -> usize {
        self.length.into()
    }

    /// The IPv4 header checksum.
    pub fn ip_checksum(&self) -> ChecksumState {
        self.ip_checksum
    }

    /// The TCP or UDP checksum.
    pub fn transport_checksum(&self) -> ChecksumState {
        self.transport_checksum
    }
}

/// Descriptors from `next` up to `posted` have buffers; those up to `published`
/// are the device's. The counters run freely, as for transmit.
pub(super) struct ReceiveRing {
    offset: usize,
    buffers: usize,
    entries: u32,
    next: u32,
    posted: u32,
    published: u32,
    /// The buffer in each slot. What the device writes never names a buffer.
    slots: Box<[u16]>,
    free: Vec<u16>,
    /// In the middle of a frame that is being dropped.
    skipping: bool,
    /// Counts starts, so that a buffer taken before one is not released after it.
    generation: u32,
}

impl ReceiveRing {
    pub(super) fn new(layout: &Layout, entries: u16) -> Self {
        Self {
            offset: layout.receive_ring,
            buffers: layout.receive_buffers,
            entries: entries.into(),
            next: 0,
            posted: 0,
            published: 0,
            slots: (0..entries).collect(),
            free: Vec::with_capacity(entries.into()),
            skipping: false,
            generation: 0,
        }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn bytes(&self) -> u32 {
        self.entries * DESCRIPTOR_SIZE as u32
    }

    /// Empties the ring: every buffer is free again.
    pub(super) fn clear(&mut self) {
        (self.next, self.posted, self.published) = (0, 0, 0);
        self.skipping = false;
        self.generation = self.generation.wrapping_add(1);
        self.free.clear();
        self.free.extend((0..self.entries as u16).rev());
    }

    fn slot(&self, counter: u32) -> usize {
        (counter & (self.entries - 1)) as usize
    }

    /// Puts free buffers into the ring; one slot stays empty.
    pub(super) fn post(&mut self, memory: &impl DmaMemory) {
        while self.posted.wrapping_sub(self.next) < self.entries - 1 {
            let Some(buffer) = self.free.pop() else { break };
            let slot = self.slot(self.posted);
            let at = self.offset + slot * DESCRIPTOR_SIZE;
            let start = self.buffers + usize::from(buffer) * RECEIVE_BUFFER_SIZE;
            memory.write64(at, memory.device_address() + start as u64);
            // Clears what the device wrote when it used this slot last.
            memory.write64(at + 8, 0);
            self.slots[slot] = buffer;
            self.posted = self.posted.wrapping_add(1);
        }
    }

    pub(super) fn is_batch_ready(&self) -> bool {
        self.posted.wrapping_sub(self.published) >= BATCH.min(self.entries / 2)
    }

    /// Gives the device the buffers posted since the last call.
    pub(super) fn publish(&mut self, registers: &impl Mmio, memory: &impl DmaMemory) {
        if self.published != self.posted {
            self.published = self.posted;
            memory.write_barrier();
            RECEIVE_TAIL.write(registers, self.slot(self.posted) as u32);
        }
    }

    fn status(
        &self,
        memory: &impl DmaMemory,
    ) -> Option<LocalRegisterCopy<u64, RECEIVE_STATUS::Register>> {
        if self.next == self.published {
            return None;
        }
        // One read: what is judged is what is used, whatever the device does next.
        let word = memory.read64(self.offset + self.slot(self.next) * DESCRIPTOR_SIZE + 8);
        let status: LocalRegisterCopy<u64, RECEIVE_STATUS::Register> = LocalRegisterCopy::new(word);
        status.is_set(RECEIVE_STATUS::DONE).then_some(status)
    }

    /// Whether a descriptor is done.
    pub(super) fn has_work(&self, memory: &impl DmaMemory) -> bool {
        self.status(memory).is_some()
    }

    /// The next sound frame. Frames that are not are dropped and counted; at most
    /// a ring of them, so that a device cannot hold the caller here.
    pub(super) fn next(
        &mut self,
        memory: &impl DmaMemory,
        statistics: &mut Statistics,
    ) -> Option<Received> {
        for _ in 0..self.entries {
            let status = self.status(memory)?;
            let buffer = self.slots[self.slot(self.next)];
            self.next = self.next.wrapping_add(1);

            let is_last = status.is_set(RECEIVE_STATUS::END_OF_PACKET);
            let was_skipping = core::mem::replace(&mut self.skipping, !is_last);
            let length = status.read(RECEIVE_STATUS::LENGTH) as u16;
            if was_skipping || !is_last {
                statistics.dropped_long += u64::from(!was_skipping);
            } else if status.is_set(RECEIVE_STATUS::RECEIVE_ERROR) {
                statistics.dropped_damaged += 1;
            } else if length == 0 || usize::from(length) > RECEIVE_BUFFER_SIZE {
                statistics.dropped_nonsense += 1;
            } else {
                statistics.received_frames += 1;
                statistics.received_bytes += u64::from(length);
                return Some(Received {
                    buffer,
                    generation: self.generation,
                    offset: self.buffers + usize::from(buffer) * RECEIVE_BUFFER_SIZE,
                    length,
                    ip_checksum: state(
                        status.is_set(RECEIVE_STATUS::IP_CHECKED),
                        status.is_set(RECEIVE_STATUS::IP_ERROR),
                    ),
                    transport_checksum: state(
                        status.is_set(RECEIVE_STATUS::TRANSPORT_CHECKED),
                        status.is_set(RECEIVE_STATUS::TRANSPORT_ERROR),
                    ),
                });
            }
            self.free.push(buffer);
            self.post(memory);
        }
        None
    }

    /// Takes a buffer back.
    pub(super) fn release(&mut self, memory: &impl DmaMemory, received: Received) {
        if received.generation == self.generation {
            self.free.push(received.buffer);
            self.post(memory);
        }
    }
}

fn state(checked: bool, error: bool) -> ChecksumState {
    match (checked, error) {
        (false, _) => ChecksumState::Unknown,
        (true, false) => ChecksumState::Good,
        (true, true) => ChecksumState::Bad,
    }
}
