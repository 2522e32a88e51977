//! The receive ring and its buffers.

use alloc::boxed::Box;
use alloc::vec;

use segue_device::{DmaMemory, Mmio};
use segue_fault_points::{Point, reached};
use tock_registers::LocalRegisterCopy;

use super::{Layout, Statistics};
use crate::descriptor::{DESCRIPTOR_SIZE, RECEIVE_STATUS};
use crate::vf_registers::RECEIVE_TAIL;

/// Bytes of a receive buffer; the largest frame the device accepts fits.
pub const RECEIVE_BUFFER_SIZE: usize = 2048;
/// Released buffers are given to the device in groups of this many.
const BATCH: u32 = 32;
/// The first word of a descriptor whose frame was handed out: what no device writes there
/// (7.1.5.2 leaves some of its bits 0).
const TAKEN: u64 = u64::MAX;
/// The same, once its user has dealt with it.
const HANDLED: u64 = u64::MAX - 1;

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
    slot: u16,
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

/// A frame that a predecessor in the same memory was given and has not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// Where it starts in the driver's memory, in bytes.
    pub offset: usize,
    /// Its length in bytes, from 1 to [`RECEIVE_BUFFER_SIZE`].
    pub length: usize,
}

/// Descriptors from `next` up to `posted` have buffers; those up to `published`
/// are the device's. The counters run freely, as for transmit.
///
/// Each descriptor has a buffer of its own, so that whoever finds the ring knows where its
/// frames are: the device overwrites the address.
pub(super) struct ReceiveRing {
    offset: usize,
    buffers: usize,
    entries: u32,
    next: u32,
    posted: u32,
    published: u32,
    /// Whether the buffer of each slot is handed out.
    held: Box<[bool]>,
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
            held: vec![false; entries.into()].into_boxed_slice(),
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

    /// Empties the ring: every buffer is free again, and nothing is left behind in it.
    pub(super) fn clear(&mut self, memory: &impl DmaMemory) {
        (self.next, self.posted, self.published) = (0, 0, 0);
        self.skipping = false;
        self.generation = self.generation.wrapping_add(1);
        self.held.fill(false);
        for slot in 0..self.entries as usize {
            self.forget(memory, slot);
        }
    }

    /// Clears what the device wrote of a frame.
    fn forget(&self, memory: &impl DmaMemory, slot: usize) {
        memory.write64(self.at(slot) + 8, 0);
    }

    fn slot(&self, counter: u32) -> usize {
        (counter & (self.entries - 1)) as usize
    }

    /// Where a descriptor is.
    fn at(&self, slot: usize) -> usize {
        self.offset + slot * DESCRIPTOR_SIZE
    }

    /// Where its buffer is.
    fn buffer(&self, slot: usize) -> usize {
        self.buffers + slot * RECEIVE_BUFFER_SIZE
    }

    /// Calls `take` for each frame that lies in a ring which is at rest, from the
    /// descriptor at `head` on, which the device would have filled next. Those that were
    /// handed out and not dealt with are left away: their user may have died of one.
    pub(super) fn left_behind(
        &self,
        memory: &impl DmaMemory,
        head: u32,
        mut take: impl FnMut(LeftBehind),
    ) {
        // Pieces of frames that are longer than a buffer begin with one that is no end.
        let mut is_whole = true;
        for step in 0..self.entries {
            let slot = self.slot(head.wrapping_add(step));
            let status: LocalRegisterCopy<u64, RECEIVE_STATUS::Register> =
                LocalRegisterCopy::new(memory.read64(self.at(slot) + 8));
            if !status.is_set(RECEIVE_STATUS::DONE) {
                continue;
            }
            let is_end = status.is_set(RECEIVE_STATUS::END_OF_PACKET);
            let is_sound = core::mem::replace(&mut is_whole, is_end) && is_end;
            let length = status.read(RECEIVE_STATUS::LENGTH) as usize;
            if is_sound
                && !status.is_set(RECEIVE_STATUS::RECEIVE_ERROR)
                && (1..=RECEIVE_BUFFER_SIZE).contains(&length)
                && memory.read64(self.at(slot)) != TAKEN
            {
                let offset = self.buffer(slot);
                take(LeftBehind { offset, length });
            }
        }
    }

    /// Notes that a frame which is still held was dealt with.
    pub(super) fn note_handled(&self, memory: &impl DmaMemory, received: &Received) {
        if received.generation == self.generation {
            memory.write64(self.at(usize::from(received.slot)), HANDLED);
        }
    }

    /// Puts free buffers into the ring, in order; one slot stays empty.
    pub(super) fn post(&mut self, memory: &impl DmaMemory) {
        while self.posted.wrapping_sub(self.next) < self.entries - 1 {
            let slot = self.slot(self.posted);
            if self.held[slot] {
                break;
            }
            let at = self.at(slot);
            memory.write64(at, memory.device_address() + self.buffer(slot) as u64);
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
            reached(Point::ReceivePosted);
            RECEIVE_TAIL.write(registers, self.slot(self.posted) as u32);
        }
    }

    /// Writes the tail once more.
    pub(super) fn tell(&self, registers: &impl Mmio) {
        RECEIVE_TAIL.write(registers, self.slot(self.published) as u32);
    }

    fn status(
        &self,
        memory: &impl DmaMemory,
    ) -> Option<LocalRegisterCopy<u64, RECEIVE_STATUS::Register>> {
        if self.next == self.published {
            return None;
        }
        // One read: what is judged is what is used, whatever the device does next.
        let word = memory.read64(self.at(self.slot(self.next)) + 8);
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
            let slot = self.slot(self.next);
            memory.write64(self.at(slot), TAKEN);
            reached(Point::ReceiveTaken);
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
                self.held[slot] = true;
                return Some(Received {
                    slot: slot as u16,
                    generation: self.generation,
                    offset: self.buffer(slot),
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
            self.forget(memory, slot);
            self.post(memory);
        }
        None
    }

    /// Takes a buffer back.
    pub(super) fn release(&mut self, memory: &impl DmaMemory, received: Received) {
        if received.generation == self.generation {
            let slot = usize::from(received.slot);
            self.held[slot] = false;
            reached(Point::ReceiveReleased);
            self.forget(memory, slot);
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
