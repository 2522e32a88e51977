//! The transmit ring.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use segue_device::{DmaMemory, Mmio};
use segue_fault_points::{Point, reached};

use crate::descriptor::{
    CONTEXT_COMMAND, CONTEXT_LENGTHS, DATA_COMMAND, DESCRIPTOR_SIZE, TRANSMIT_STATUS,
};
use crate::offload::{ETHERNET_HEADER_LENGTH, InternetProtocol, TransmitOffload, Transport};
use crate::vf_registers::TRANSMIT_TAIL;

/// Most bytes in one descriptor; longer fragments are split.
pub const PIECE_SIZE: u32 = 32 * 1024;
/// Most data descriptors of one frame.
pub const MAX_PIECES: usize = 32;
/// The NIC pads frames from this length on (datasheet, TCTL.PSP).
const SHORTEST_FRAME: u32 = 17;
/// Longest frame that is sent whole, without its check sequence: 1500 bytes of
/// payload, Ethernet header and a VLAN tag.
const LONGEST_FRAME: u32 = 1518;
/// Longest frame that is cut into segments: an IP packet and its Ethernet header.
const LONGEST_SEGMENTED_FRAME: u32 = 65535 + ETHERNET_HEADER_LENGTH as u32;

/// A piece of a frame in memory the device can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where the device finds it.
    pub device_address: u64,
    /// Bytes, at least 1.
    pub length: u32,
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitError {
    /// No room in the ring now (or the function is not running).
    Full,
    /// The frame can never be sent.
    Malformed(&'static str),
}

/// What it takes to queue a frame that was found sound.
pub(super) struct Plan {
    /// A context descriptor's two words, if the device does not have them yet.
    context: Option<(u64, u64)>,
    /// Flags of each data descriptor.
    flags: u64,
    /// Bytes of the frame.
    pub(super) frame_length: u32,
    segmented_header: u32,
}

/// Descriptors from `completed` up to `published` are the device's, from there up
/// to `next` queued. The counters run freely; a slot is a counter modulo the size.
pub(super) struct TransmitRing<T> {
    offset: usize,
    entries: u32,
    next: u32,
    published: u32,
    completed: u32,
    /// In the slot of each frame's last descriptor.
    tokens: Box<[Option<T>]>,
    frames: usize,
    /// Descriptors that ask for a report, oldest first.
    reports: VecDeque<u32>,
    /// The last descriptor queued, its second word without the request for a report.
    last: Option<(u32, u64)>,
    /// The context the device has.
    context: Option<(u64, u64)>,
}

impl<T> TransmitRing<T> {
    pub(super) fn new(offset: usize, entries: u16) -> Self {
        Self {
            offset,
            entries: entries.into(),
            next: 0,
            published: 0,
            completed: 0,
            tokens: (0..entries).map(|_| None).collect(),
            frames: 0,
            reports: VecDeque::with_capacity(entries.into()),
            last: None,
            context: None,
        }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn bytes(&self) -> u32 {
        self.entries * DESCRIPTOR_SIZE as u32
    }

    pub(super) fn completed(&self) -> u32 {
        self.completed
    }

    pub(super) fn outstanding(&self) -> usize {
        self.frames
    }

    /// Whether the device has something to complete.
    pub(super) fn is_under_way(&self) -> bool {
        self.published != self.completed
    }

    /// Free descriptors. One stays unused: a tail equal to the head means empty.
    pub(super) fn room(&self) -> usize {
        (self.entries - 1 - self.next.wrapping_sub(self.completed)) as usize
    }

    /// Empties the ring for a queue that starts afresh. Tokens must be taken before;
    /// what is left is dropped.
    pub(super) fn clear(&mut self, memory: &impl DmaMemory) {
        for slot in 0..self.entries as usize {
            self.tokens[slot] = None;
            memory.write64(self.offset + slot * DESCRIPTOR_SIZE, 0);
            memory.write64(self.offset + slot * DESCRIPTOR_SIZE + 8, 0);
        }
        self.reports.clear();
        (self.next, self.published, self.completed, self.frames) = (0, 0, 0, 0);
        self.last = None;
        self.context = None;
    }

    pub(super) fn take_all(&mut self, mut take: impl FnMut(T)) {
        while self.completed != self.next {
            if let Some(token) = self.tokens[self.slot(self.completed)].take() {
                take(token);
            }
            self.completed = self.completed.wrapping_add(1);
        }
        self.frames = 0;
        self.published = self.next;
        self.reports.clear();
        self.last = None;
    }

    fn slot(&self, counter: u32) -> usize {
        (counter & (self.entries - 1)) as usize
    }

    fn write(&self, memory: &impl DmaMemory, counter: u32, words: (u64, u64)) {
        let at = self.offset + self.slot(counter) * DESCRIPTOR_SIZE;
        memory.write64(at, words.0);
        memory.write64(at + 8, words.1);
    }

    /// Checks a frame and finds out what it takes.
    pub(super) fn plan(
        &self,
        fragments: &[Fragment],
        offload: Option<&TransmitOffload>,
    ) -> Result<Plan, TransmitError> {
        let malformed = |reason| Err(TransmitError::Malformed(reason));
        let (mut pieces, mut frame_length) = (0usize, 0u32);
        for fragment in fragments {
            if fragment.length == 0 || fragment.length > LONGEST_SEGMENTED_FRAME {
                return malformed("a fragment is empty or longer than a frame can be");
            }
            pieces += fragment.length.div_ceil(PIECE_SIZE) as usize;
            frame_length = frame_length.saturating_add(fragment.length);
            if pieces > MAX_PIECES {
                return malformed("a frame has too many fragments");
            }
        }
        let segmented = offload.is_some_and(|offload| offload.segment_size != 0);
        let longest = if segmented {
            LONGEST_SEGMENTED_FRAME
        } else {
            LONGEST_FRAME
        };
        if !(SHORTEST_FRAME..=longest).contains(&frame_length) {
            return malformed("a frame's length is not one the NIC can send");
        }
        let mut plan = Plan {
            context: None,
            flags: 0,
            frame_length,
            segmented_header: 0,
        };
        if let Some(offload) = offload {
            offload.check().map_err(TransmitError::Malformed)?;
            if frame_length < offload.header_length() as u32 {
                return malformed("a frame is shorter than its headers");
            }
            if segmented {
                plan.segmented_header = offload.header_length() as u32;
                if frame_length == plan.segmented_header {
                    return malformed("a frame to be segmented has no payload");
                }
            }
            plan.flags = flags(offload);
            let context = context(offload);
            plan.context = (self.context != Some(context)).then_some(context);
        }
        let needed = pieces + usize::from(plan.context.is_some());
        if needed > self.entries as usize - 1 {
            return malformed("a frame has more fragments than the ring has descriptors");
        }
        if needed > self.room() {
            return Err(TransmitError::Full);
        }
        Ok(plan)
    }

    /// Queues a frame for which `plan` was made just now.
    pub(super) fn push(
        &mut self,
        memory: &impl DmaMemory,
        fragments: &[Fragment],
        plan: &Plan,
        token: T,
    ) {
        if let Some(context) = plan.context {
            self.write(memory, self.next, context);
            self.next = self.next.wrapping_add(1);
            self.context = Some(context);
        }
        let total = plan.frame_length - plan.segmented_header;
        let common = (DATA_COMMAND::TYPE::Data
            + DATA_COMMAND::EXTENDED::SET
            + DATA_COMMAND::INSERT_FRAME_CHECK::SET
            + DATA_COMMAND::TOTAL_LENGTH.val(total.into()))
        .value
            | plan.flags;
        let mut left = plan.frame_length;
        for fragment in fragments {
            let mut done = 0;
            while done < fragment.length {
                let length = (fragment.length - done).min(PIECE_SIZE);
                left -= length;
                let mut word = common | DATA_COMMAND::LENGTH.val(length.into()).value;
                if left == 0 {
                    word |= DATA_COMMAND::END_OF_PACKET::SET.value;
                    self.last = Some((self.next, word));
                    // A report now and then within a long batch, so that its
                    // descriptors come back before all of it is sent.
                    let since = self.reports.back().copied().unwrap_or(self.completed);
                    if self.next.wrapping_sub(since) >= self.entries / 8 {
                        word |= DATA_COMMAND::REPORT_STATUS::SET.value;
                        self.reports.push_back(self.next);
                        self.last = None;
                    }
                    self.tokens[self.slot(self.next)] = Some(token);
                    self.frames += 1;
                    self.write(
                        memory,
                        self.next,
                        (fragment.device_address + u64::from(done), word),
                    );
                    self.next = self.next.wrapping_add(1);
                    return;
                }
                self.write(
                    memory,
                    self.next,
                    (fragment.device_address + u64::from(done), word),
                );
                self.next = self.next.wrapping_add(1);
                done += length;
            }
        }
    }

    /// Gives the device what is queued; the last frame of the batch asks for a
    /// report. Returns whether there was anything.
    pub(super) fn publish(&mut self, registers: &impl Mmio, memory: &impl DmaMemory) -> bool {
        if self.published == self.next {
            return false;
        }
        if let Some((counter, word)) = self.last.take() {
            let at = self.offset + self.slot(counter) * DESCRIPTOR_SIZE + 8;
            memory.write64(at, word | DATA_COMMAND::REPORT_STATUS::SET.value);
            self.reports.push_back(counter);
        }
        self.published = self.next;
        memory.write_barrier();
        reached(Point::TransmitDescribed);
        TRANSMIT_TAIL.write(registers, self.slot(self.next) as u32);
        true
    }

    /// Writes the tail once more.
    pub(super) fn tell(&self, registers: &impl Mmio) {
        TRANSMIT_TAIL.write(registers, self.slot(self.published) as u32);
    }

    /// Whether the oldest report is there. Reports that were not asked for (the
    /// batch is not published yet) do not count.
    pub(super) fn has_work(&self, memory: &impl DmaMemory) -> bool {
        self.reports
            .front()
            .is_some_and(|&counter| self.is_reported(memory, counter))
    }

    fn is_reported(&self, memory: &impl DmaMemory, counter: u32) -> bool {
        let is_published =
            counter.wrapping_sub(self.completed) < self.published.wrapping_sub(self.completed);
        let word = memory.read64(self.offset + self.slot(counter) * DESCRIPTOR_SIZE + 8);
        is_published && word & TRANSMIT_STATUS::DONE::SET.value != 0
    }

    pub(super) fn reclaim(&mut self, memory: &impl DmaMemory, mut take: impl FnMut(T)) -> usize {
        let before = self.frames;
        while let Some(&counter) = self.reports.front() {
            if !self.is_reported(memory, counter) {
                break;
            }
            self.reports.pop_front();
            // A queue is worked off in order, so all before it are done too.
            while self.completed != counter.wrapping_add(1) {
                let slot = self.slot(self.completed);
                if let Some(token) = self.tokens[slot].take() {
                    self.frames -= 1;
                    reached(Point::TransmitReported);
                    take(token);
                }
                self.completed = self.completed.wrapping_add(1);
            }
        }
        before - self.frames
    }
}

fn flags(offload: &TransmitOffload) -> u64 {
    let mut flags = 0;
    if offload.protocol == InternetProtocol::V4 {
        flags |= DATA_COMMAND::INSERT_IP_CHECKSUM::SET.value;
    }
    if offload.transport.is_some() {
        flags |= DATA_COMMAND::INSERT_TRANSPORT_CHECKSUM::SET.value;
    }
    if offload.segment_size != 0 {
        flags |= DATA_COMMAND::SEGMENT::SET.value;
    }
    flags
}

fn context(offload: &TransmitOffload) -> (u64, u64) {
    let lengths = CONTEXT_LENGTHS::IP.val(offload.ip_header_length.into())
        + CONTEXT_LENGTHS::ETHERNET.val(ETHERNET_HEADER_LENGTH as u64);
    let command = CONTEXT_COMMAND::TYPE::Context
        + CONTEXT_COMMAND::EXTENDED::SET
        + CONTEXT_COMMAND::IPV4.val((offload.protocol == InternetProtocol::V4).into())
        + CONTEXT_COMMAND::TRANSPORT.val((offload.transport == Some(Transport::Tcp)).into())
        + CONTEXT_COMMAND::TRANSPORT_LENGTH.val(offload.transport_header_length.into())
        + CONTEXT_COMMAND::SEGMENT_SIZE.val(offload.segment_size.into());
    (lengths.value, command.value)
}
