//! The virtual function: moves frames.
//!
//! One receive and one transmit queue of descriptors, kept in a [`DmaMemory`]
//! together with the receive buffers; transmit buffers may lie anywhere the
//! device can reach. Tails are written in batches: nothing reaches the device
//! before [`VirtualFunction::flush`].
//!
//! The physical function's driver decides when a virtual function works. After
//! [`VirtualFunction::new`], which resets it, wait for its word, then call
//! [`VirtualFunction::start`]. [`VirtualFunction::take_over`] is for a user whose predecessor
//! may have left it at work: it stays enabled, and its frames are not all lost.

mod receive;
#[cfg(test)]
mod tests;
mod transmit;

use segue_device::{DmaMemory, Mmio};
use segue_fault_points::{Point, reached};

use crate::descriptor::DESCRIPTOR_SIZE;
use crate::error::Error;
use crate::offload::TransmitOffload;
use crate::register::{Plain, Register};
use crate::vf_registers::*;

use receive::ReceiveRing;
use transmit::TransmitRing;

pub use receive::{ChecksumState, LeftBehind, RECEIVE_BUFFER_SIZE, Received};
pub use transmit::{Fragment, MAX_PIECES, PIECE_SIZE, TransmitError};

pub use crate::offload;

/// MSI-X entry for receive, as a bit of the interrupt registers.
const RECEIVE_INTERRUPT: u32 = 1 << 0;
/// MSI-X entry for transmit.
const TRANSMIT_INTERRUPT: u32 = 1 << 1;
/// All MSI-X entries of the function.
const ALL_INTERRUPTS: u32 = 7;
/// Reads until a queue that does not start or stop is given up: at 0.1 us or
/// more each, well above what the datasheet allows (section 4.5.9, some microseconds).
const QUEUE_READS: usize = 100_000;
/// Reads until a transmit queue that has not worked off what it was given is stopped all the
/// same: some milliseconds.
const DRAIN_READS: usize = 2_000;
/// How long frames may be under way without any completion until the function
/// is said to be stalled: the longest pause (flow control) is far shorter.
const STALL_MICROSECONDS: u64 = 500_000;

/// How the function is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Transmit descriptors, a power of two from 8 to 4096. One stays unused.
    pub transmit_entries: u16,
    /// Receive descriptors and buffers, likewise.
    pub receive_entries: u16,
    /// Shortest time between two receive interrupts; 0: no limit.
    pub interrupt_interval_microseconds: u16,
}

impl Configuration {
    /// Of an application that drives a function itself. The receive ring is long: QEMU drops what overflows
    /// it as soon as another function is enabled, instead of waiting.
    pub const APPLICATION: Self = Self {
        transmit_entries: 256,
        receive_entries: 512,
        interrupt_interval_microseconds: 0,
    };
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            transmit_entries: 256,
            receive_entries: 256,
            interrupt_interval_microseconds: 0,
        }
    }
}

/// Where the driver keeps what in its DMA memory, as byte offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Transmit descriptors.
    pub transmit_ring: usize,
    /// Receive descriptors.
    pub receive_ring: usize,
    /// Receive buffers of [`RECEIVE_BUFFER_SIZE`] bytes.
    pub receive_buffers: usize,
    /// The first byte that is not the driver's, a multiple of 4096.
    pub end: usize,
}

impl Layout {
    /// The layout for `configuration`.
    ///
    /// # Errors
    ///
    /// [`Error::RingSize`].
    pub fn new(configuration: &Configuration) -> Result<Layout, Error> {
        let bytes = |entries: u16| {
            let sound = entries.is_power_of_two() && (8..=4096).contains(&entries);
            sound
                .then(|| (usize::from(entries) * DESCRIPTOR_SIZE).next_multiple_of(4096))
                .ok_or(Error::RingSize(entries))
        };
        let receive_ring = bytes(configuration.transmit_entries)?;
        let receive_buffers = receive_ring + bytes(configuration.receive_entries)?;
        let end =
            receive_buffers + usize::from(configuration.receive_entries) * RECEIVE_BUFFER_SIZE;
        Ok(Layout {
            transmit_ring: 0,
            receive_ring,
            receive_buffers,
            end: end.next_multiple_of(4096),
        })
    }

    /// Bytes of a transmit pool at the start of `memory` bytes, the driver's memory being behind it: the
    /// largest power of two that leaves room for that; `None` if there is no room.
    ///
    /// QEMU's 82576 drops a frame with a piece that is not contiguous in physical memory. Memory for
    /// devices is made of one power of two after the other, the largest first, so this much of it is.
    pub fn pool_in(&self, memory: usize) -> Option<usize> {
        let room = memory.checked_sub(self.end)?;
        Some(1 << room.checked_ilog2()?)
    }
}

/// What has passed through the function since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames the device said it has sent; a frame cut into segments counts once.
    pub transmitted_frames: u64,
    /// Bytes handed to the device, headers of segments counted once.
    pub transmitted_bytes: u64,
    /// Times a frame did not fit into the transmit ring.
    pub transmit_full: u64,
    /// Times the transmit tail was written.
    pub transmit_notifications: u64,
    /// Frames received and handed out.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames dropped because they took more than one buffer.
    pub dropped_long: u64,
    /// Frames dropped because the device said they are damaged.
    pub dropped_damaged: u64,
    /// Descriptors dropped because what the device wrote makes no sense.
    pub dropped_nonsense: u64,
}

/// A virtual function and its rings. `T` is the caller's token for a frame.
pub struct VirtualFunction<M, D, T> {
    registers: M,
    memory: D,
    configuration: Configuration,
    transmit: TransmitRing<T>,
    receive: ReceiveRing,
    statistics: Statistics,
    running: bool,
    transmit_interrupt: bool,
    /// Completed descriptors and when they were last seen to change.
    progress: Option<(u32, u64)>,
    /// The receive descriptor that the device would have filled next for a predecessor.
    head: u32,
}

impl<M: Mmio, D: DmaMemory, T> VirtualFunction<M, D, T> {
    /// Takes the function over and resets it. Nothing is sent or received, and
    /// `memory` is not touched, until [`VirtualFunction::start`].
    ///
    /// `memory` is the driver's up to [`Layout::end`]; what follows is the caller's.
    ///
    /// # Errors
    ///
    /// If `configuration` or `memory` do not suit the function. Whether it is there at all
    /// shows in [`VirtualFunction::start`] only, so that a program can wait for a NIC that never comes.
    pub fn new(registers: M, memory: D, configuration: Configuration) -> Result<Self, Error> {
        let mut function = Self::make(registers, memory, configuration)?;
        function.reset();
        Ok(function)
    }

    /// Takes the function over as a predecessor in this memory may have left it, at work.
    /// When this returns, the device neither reads nor writes any memory for it until
    /// [`VirtualFunction::start`]. The function is not reset, so it is still enabled if it
    /// was; [`VirtualFunction::left_behind`] has frames that the predecessor has received.
    ///
    /// A function that is not there (yet) is left alone.
    ///
    /// # Errors
    ///
    /// As [`VirtualFunction::new`], or if a queue does not stop, even by a reset: the device
    /// may then still read and write memory.
    pub fn take_over(registers: M, memory: D, configuration: Configuration) -> Result<Self, Error> {
        let mut function = Self::make(registers, memory, configuration)?;
        if !function.is_present() {
            return Ok(function);
        }
        let registers = &function.registers;
        INTERRUPT_MASK_CLEAR.write(registers, ALL_INTERRUPTS);
        // A packet that is cut off in the middle would damage the next one.
        let is_idle = || TRANSMIT_HEAD.read(registers) == TRANSMIT_TAIL.read(registers);
        let _is_drained = (0..DRAIN_READS).any(|_| is_idle());
        if function.stop_queues().is_err() {
            function.reset();
            function.stop_queues()?;
        }
        function.head = RECEIVE_HEAD.read(&function.registers);
        Ok(function)
    }

    /// Calls `take` for each frame that a predecessor was given by the device and has not
    /// given back, oldest first, but not for one that it was dealing with
    /// ([`VirtualFunction::note_handled`]): it may have died of that. To be called between [`VirtualFunction::take_over`] and
    /// [`VirtualFunction::start`]; after it there are none.
    ///
    /// What is in the memory is what the predecessor has left there: nothing is known of
    /// these frames but where they lie, not even that the device has written them.
    pub fn left_behind(&self, take: impl FnMut(LeftBehind)) {
        if !self.running {
            self.receive.left_behind(&self.memory, self.head, take);
        }
    }

    /// Resets the function: it stops, and does nothing until the driver of the physical
    /// function, which is told by the device, has enabled it again.
    pub fn reset(&mut self) {
        self.running = false;
        INTERRUPT_MASK_CLEAR.write(&self.registers, ALL_INTERRUPTS);
        CONTROL_REGISTER.modify(&self.registers, CONTROL::RESET::SET);
    }

    fn make(registers: M, memory: D, configuration: Configuration) -> Result<Self, Error> {
        let layout = Layout::new(&configuration)?;
        if memory.len() < layout.end {
            return Err(Error::MemoryTooSmall {
                length: memory.len(),
                needed: layout.end,
            });
        }
        if !memory.device_address().is_multiple_of(4096) {
            return Err(Error::MemoryUnaligned(memory.device_address()));
        }
        Ok(Self {
            transmit: TransmitRing::new(layout.transmit_ring, configuration.transmit_entries),
            receive: ReceiveRing::new(&layout, configuration.receive_entries),
            registers,
            memory,
            configuration,
            statistics: Statistics::default(),
            running: false,
            transmit_interrupt: false,
            progress: None,
            head: 0,
        })
    }

    fn is_present(&self) -> bool {
        STATUS_REGISTER.read(&self.registers).get() != u32::MAX
    }

    /// Whether the function can be started as far as its registers say: the device is there
    /// and set up by the driver of the physical function, and the link is up. They do not say
    /// whether that driver has enabled the function again after a reset of its own.
    pub fn is_ready(&self) -> bool {
        let status = STATUS_REGISTER.read(&self.registers);
        status.get() != u32::MAX
            && status.is_set(STATUS::LINK_UP)
            && !MAILBOX_REGISTER
                .read(&self.registers)
                .is_set(MAILBOX::RESET_IN_PROGRESS)
    }

    /// Whether the queues are as they were started: false after a reset of the whole device.
    pub fn is_intact(&self) -> bool {
        let enabled = |register: &Register<QUEUE_CONTROL::Register>| {
            let control = register.read(&self.registers);
            control.get() != u32::MAX && control.is_set(QUEUE_CONTROL::ENABLE)
        };
        self.running && enabled(&RECEIVE_QUEUE_CONTROL) && enabled(&TRANSMIT_QUEUE_CONTROL)
    }

    /// Tells the device once more what it was given: it may have been told while the function
    /// was not enabled.
    pub fn nudge(&mut self) {
        if self.running {
            self.transmit.tell(&self.registers);
            self.receive.tell(&self.registers);
        }
    }

    /// Whether a received frame or a completed one waits to be looked at.
    pub fn has_work(&self) -> bool {
        self.running
            && (self.receive.has_work(&self.memory) || self.transmit.has_work(&self.memory))
    }

    /// Starts both queues, posts all receive buffers and allows the receive
    /// interrupt. The physical function's driver must have enabled this function.
    /// Does nothing if the function runs already.
    ///
    /// # Errors
    ///
    /// If the function does not answer or a queue does not start.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.running {
            return Ok(());
        }
        if !self.is_present() {
            return Err(Error::NotPresent);
        }
        self.stop_queues()?;
        reached(Point::FunctionStopped);
        self.transmit.clear(&self.memory);
        self.receive.clear(&self.memory);
        self.set_up_queues();
        self.set_up_interrupts();
        reached(Point::FunctionRings);
        self.start_queues()?;
        self.running = true;
        reached(Point::FunctionRunning);
        self.progress = None;
        // Only now: a tail may be written when the queue runs (4.5.9).
        self.receive.post(&self.memory);
        self.receive.publish(&self.registers, &self.memory);
        INTERRUPT_MASK_SET.write(&self.registers, self.wanted_interrupts());
        Ok(())
    }

    /// Stops both queues and all interrupts. Frames that the device has not
    /// completed are then its no more: [`VirtualFunction::take_outstanding`].
    ///
    /// # Errors
    ///
    /// If a queue does not stop; the device may then still read and write memory. If the
    /// function does not answer: whether it does is not known then.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.running = false;
        if !self.is_present() {
            return Err(Error::NotPresent);
        }
        INTERRUPT_MASK_CLEAR.write(&self.registers, ALL_INTERRUPTS);
        self.stop_queues()
    }

    /// Hands back the tokens of frames that were never completed. Call it after
    /// [`VirtualFunction::stop`] only: before, the device may still read the frames.
    pub fn take_outstanding(&mut self, take: impl FnMut(T)) {
        if !self.running {
            self.transmit.take_all(take);
        }
    }

    /// Whether the function was started.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether the link is up, as the function sees it.
    pub fn link_is_up(&self) -> bool {
        STATUS_REGISTER
            .read(&self.registers)
            .is_set(STATUS::LINK_UP)
    }

    /// What has passed so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The memory the driver was given.
    pub fn memory(&self) -> &D {
        &self.memory
    }

    /// Queues a frame made of `fragments`, in order, all of it or nothing. The
    /// memory must stay as it is until `token` comes back from
    /// [`VirtualFunction::reclaim`].
    ///
    /// With an offload, the headers must be prepared by
    /// [`crate::offload::prepare_checksums`].
    ///
    /// # Errors
    ///
    /// [`TransmitError::Full`]: try again after `flush` and `reclaim`.
    /// [`TransmitError::Malformed`]: the caller's mistake. The token comes back.
    pub fn transmit(
        &mut self,
        fragments: &[Fragment],
        offload: Option<&TransmitOffload>,
        token: T,
    ) -> Result<(), (TransmitError, T)> {
        if !self.running {
            return Err((TransmitError::Full, token));
        }
        match self.transmit.plan(fragments, offload) {
            Ok(plan) => {
                self.statistics.transmitted_bytes += u64::from(plan.frame_length);
                self.transmit.push(&self.memory, fragments, &plan, token);
                Ok(())
            }
            Err(error) => {
                self.statistics.transmit_full += u64::from(error == TransmitError::Full);
                Err((error, token))
            }
        }
    }

    /// Free transmit descriptors. A frame needs one for each fragment, one more
    /// for each further [`PIECE_SIZE`] in it, and one if its offload changes.
    pub fn transmit_room(&self) -> usize {
        if self.running {
            self.transmit.room()
        } else {
            0
        }
    }

    /// Frames queued or under way.
    pub fn outstanding(&self) -> usize {
        self.transmit.outstanding()
    }

    /// Gives the device everything queued and released since the last call.
    pub fn flush(&mut self) {
        if self.running {
            self.statistics.transmit_notifications +=
                u64::from(self.transmit.publish(&self.registers, &self.memory));
            self.receive.post(&self.memory);
            self.receive.publish(&self.registers, &self.memory);
        }
    }

    /// Hands back the tokens of frames the device has completed, in the order they
    /// were queued. Returns how many.
    pub fn reclaim(&mut self, take: impl FnMut(T)) -> usize {
        let frames = if self.running {
            self.transmit.reclaim(&self.memory, take)
        } else {
            0
        };
        self.statistics.transmitted_frames += frames as u64;
        frames
    }

    /// The next received frame, if there is one. Give its buffer back with
    /// [`VirtualFunction::release`].
    pub fn receive(&mut self) -> Option<Received> {
        if !self.running {
            return None;
        }
        self.receive.next(&self.memory, &mut self.statistics)
    }

    /// Notes in memory that a frame, which is still held, was dealt with: a successor gets it,
    /// should this program die before it has given it back.
    pub fn note_handled(&self, received: &Received) {
        self.receive.note_handled(&self.memory, received);
    }

    /// Gives a buffer back for a later frame.
    pub fn release(&mut self, received: Received) {
        self.receive.release(&self.memory, received);
        if self.running && self.receive.is_batch_ready() {
            self.receive.publish(&self.registers, &self.memory);
        }
    }

    /// Forbids interrupts while the caller looks for work itself.
    pub fn mask_interrupt(&mut self) {
        INTERRUPT_MASK_CLEAR.write(&self.registers, RECEIVE_INTERRUPT | TRANSMIT_INTERRUPT);
    }

    /// Allows interrupts again before the caller sleeps. Returns whether there is
    /// work already: then do not sleep, but mask and look again.
    #[must_use]
    pub fn unmask_interrupt(&mut self) -> bool {
        if !self.running {
            return false;
        }
        let wanted = self.wanted_interrupts();
        // What was pending while masked has been dealt with. What arrives between
        // here and the look below raises an interrupt, is seen below, or both.
        INTERRUPT_CAUSE.write(&self.registers, wanted);
        INTERRUPT_MASK_SET.write(&self.registers, wanted);
        self.has_work()
    }

    /// Asks for an interrupt (MSI-X entry 1) when transmitted frames are completed,
    /// from the next [`VirtualFunction::unmask_interrupt`] on; or no longer, at once.
    pub fn request_transmit_interrupt(&mut self, wanted: bool) {
        if self.transmit_interrupt && !wanted {
            INTERRUPT_MASK_CLEAR.write(&self.registers, TRANSMIT_INTERRUPT);
        }
        self.transmit_interrupt = wanted;
    }

    fn wanted_interrupts(&self) -> u32 {
        RECEIVE_INTERRUPT
            | if self.transmit_interrupt {
                TRANSMIT_INTERRUPT
            } else {
                0
            }
    }

    /// Whether frames have been under way for half a second without one being
    /// completed. `now_microseconds` is any clock that does not go back.
    ///
    /// A device whose memory accesses the IOMMU blocks looks like this; there is
    /// no other sign of it.
    pub fn stalled(&mut self, now_microseconds: u64) -> bool {
        let completed = self.transmit.completed();
        if !self.running || !self.transmit.is_under_way() {
            self.progress = None;
            return false;
        }
        match self.progress {
            Some((before, since)) if before == completed => {
                now_microseconds.saturating_sub(since) >= STALL_MICROSECONDS
            }
            _ => {
                self.progress = Some((completed, now_microseconds));
                false
            }
        }
    }

    fn stop_queues(&self) -> Result<(), Error> {
        let off = QUEUE_CONTROL::ENABLE::CLEAR;
        RECEIVE_QUEUE_CONTROL.write(&self.registers, off);
        TRANSMIT_QUEUE_CONTROL.write(&self.registers, off);
        SECOND_RECEIVE_QUEUE_CONTROL.write(&self.registers, off);
        SECOND_TRANSMIT_QUEUE_CONTROL.write(&self.registers, off);
        self.wait_for_queues(false)
    }

    fn wait_for_queues(&self, on: bool) -> Result<(), Error> {
        let what = if on { "start" } else { "stop" };
        for (queue, register) in [
            ("receive", &RECEIVE_QUEUE_CONTROL),
            ("transmit", &TRANSMIT_QUEUE_CONTROL),
        ] {
            let done = || register.read(&self.registers).is_set(QUEUE_CONTROL::ENABLE) == on;
            if !(0..QUEUE_READS).any(|_| done()) {
                return Err(Error::QueueStuck { queue, what });
            }
        }
        Ok(())
    }

    /// Writes every register of both queues: a reset of the function leaves what
    /// an earlier user wrote.
    fn set_up_queues(&self) {
        let registers = &self.registers;
        let write_pair = |pair: &(Plain, Plain), value: u64| {
            pair.0.write(registers, value as u32);
            pair.1.write(registers, (value >> 32) as u32);
        };
        let base = self.memory.device_address();

        write_pair(&RECEIVE_RING_BASE, base + self.receive.offset() as u64);
        RECEIVE_RING_LENGTH.write(registers, self.receive.bytes());
        RECEIVE_FORMAT_REGISTER.write(
            registers,
            RECEIVE_FORMAT::BUFFER_SIZE.val(RECEIVE_BUFFER_SIZE as u32 / 1024)
                + RECEIVE_FORMAT::DESCRIPTOR_TYPE::AdvancedOneBuffer
                + RECEIVE_FORMAT::DROP::SET,
        );
        RECEIVE_HEAD.write(registers, 0);
        RECEIVE_TAIL.write(registers, 0);

        write_pair(&TRANSMIT_RING_BASE, base + self.transmit.offset() as u64);
        TRANSMIT_RING_LENGTH.write(registers, self.transmit.bytes());
        write_pair(&TRANSMIT_HEAD_WRITE_BACK, 0);
        TRANSMIT_HEAD.write(registers, 0);
        TRANSMIT_TAIL.write(registers, 0);
    }

    fn set_up_interrupts(&self) {
        let registers = &self.registers;
        INTERRUPT_MASK_CLEAR.write(registers, ALL_INTERRUPTS);
        let interval = self
            .configuration
            .interrupt_interval_microseconds
            .min(0x1fff);
        for throttle in &INTERRUPT_THROTTLE {
            throttle.write(registers, THROTTLE::INTERVAL.val(interval.into()));
        }
        INTERRUPT_VECTORS.write(
            registers,
            VECTORS::RECEIVE.val(0)
                + VECTORS::RECEIVE_VALID::SET
                + VECTORS::TRANSMIT.val(1)
                + VECTORS::TRANSMIT_VALID::SET,
        );
        INTERRUPT_AUTO_CLEAR.write(registers, RECEIVE_INTERRUPT | TRANSMIT_INTERRUPT);
        INTERRUPT_CAUSE.write(registers, ALL_INTERRUPTS);
    }

    fn start_queues(&self) -> Result<(), Error> {
        // Fetch ahead; write received descriptors back one by one (latency), sent
        // ones as soon as they ask for it.
        RECEIVE_QUEUE_CONTROL.write(
            &self.registers,
            QUEUE_CONTROL::PREFETCH.val(16)
                + QUEUE_CONTROL::HOST.val(8)
                + QUEUE_CONTROL::WRITE_BACK.val(1)
                + QUEUE_CONTROL::ENABLE::SET,
        );
        TRANSMIT_QUEUE_CONTROL.write(
            &self.registers,
            QUEUE_CONTROL::PREFETCH.val(8)
                + QUEUE_CONTROL::HOST.val(1)
                + QUEUE_CONTROL::ENABLE::SET,
        );
        self.wait_for_queues(true)
    }
}
