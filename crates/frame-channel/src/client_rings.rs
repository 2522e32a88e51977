//! The application's end of the protocol: rings, epochs and wake-ups, without
//! the pool and the frames' bytes ([`crate::ClientChannel`] adds these).

use crate::descriptor::{ReceivedFrame, TransmitFrame};
use crate::layout::*;
use crate::memory::SharedMemory;
use crate::violation::{GeometryError, ProtocolViolation};
use crate::wake;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use segue_fault_points::{Point, reached};

/// Epochs, one after the other, in which the server breaks the protocol at once, until
/// this end waits to be notified.
const MOST_FAILURES: u32 = 3;

/// The application's end of the rings.
///
/// Indices count frames and wrap at 2^32. Those in memory count from the start
/// of the epoch; those in here that speak of transmission count from the
/// application's own start, because unconfirmed frames outlive an epoch.
#[derive(Debug)]
pub struct ClientRings<M> {
    client: M,
    server: M,
    transmit_entries: u32,
    receive_entries: u32,
    /// The epoch this end is part of; 0: none.
    epoch: u32,
    /// Whether it has been part of any. Until then the server may still be
    /// reading descriptors of this end's predecessor.
    started: bool,
    /// Frames handed in.
    produced: u32,
    /// Frames the server has been told of.
    published: u32,
    /// Frames the server is done with.
    completed: u32,
    /// `completed` when the epoch began.
    base: u32,
    /// Frames up to this one go their way elsewhere: the next epoch begins behind it.
    abandoned: u32,
    /// Frames taken out of the receive ring. The count goes on from one epoch to the
    /// next, and begins where the server's stood when the first one was joined.
    received: u32,
    /// Frames the server has produced, as last checked.
    receive_known: u32,
    /// `received`, as last told to the server.
    receive_published: u32,
    /// What lies in the receive ring is not to be taken any more: none of it is this
    /// end's, or some of it is nonsense.
    skips: bool,
    /// How often in a row the server has broken the protocol. It may be the remains of
    /// one that is dead.
    failures: u32,
    notify_due: bool,
}

impl<M: SharedMemory> ClientRings<M> {
    /// Starts anew in these regions, outside any epoch.
    ///
    /// # Errors
    ///
    /// If the regions do not have the sizes that the numbers of entries ask
    /// for, or the numbers are not powers of two.
    pub fn new(
        client: M,
        server: M,
        transmit_entries: u32,
        receive_entries: u32,
    ) -> Result<Self, GeometryError> {
        check_geometry(&client, &server, transmit_entries, receive_entries)?;
        // Whoever used this region before is gone: say so, before looking at
        // what the server says (`ServerChannel::join` has the other half).
        client.store32(EPOCH, 0, Release);
        client.store32(WAKE, wake::AWAKE, Relaxed);
        client.fence();
        Ok(Self {
            client,
            server,
            transmit_entries,
            receive_entries,
            epoch: 0,
            started: false,
            produced: 0,
            published: 0,
            completed: 0,
            base: 0,
            abandoned: 0,
            received: 0,
            receive_known: 0,
            receive_published: 0,
            skips: true,
            failures: 0,
            notify_due: true,
        })
    }

    /// Whether the channel is up: both ends are in the same epoch.
    pub fn is_up(&self) -> bool {
        self.epoch != 0
    }

    /// The epoch this end is part of; 0: none.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Looks at what the server has done: joins a new epoch, learns of
    /// completed and received frames.
    ///
    /// # Errors
    ///
    /// If the server breaks the protocol. This end has then left the epoch, and
    /// waits until the server opens another.
    pub fn poll(&mut self) -> Result<(), ProtocolViolation> {
        let offered = self.server.load32(EPOCH, Acquire);
        if offered != self.epoch {
            self.epoch = 0;
            if !self.may_join(offered) {
                return Ok(());
            }
            self.join(offered);
        }
        if self.epoch == 0 {
            return Ok(());
        }
        let completed = self.server.load32(CONSUMER, Acquire);
        let produced = self.server.load32(PRODUCER, Acquire);
        // The indices belong to the epoch only if it is still the same: a
        // server that starts anew stores epoch 0 before it resets them.
        if self.server.load32(EPOCH, Relaxed) != self.epoch {
            self.epoch = 0;
            return Ok(());
        }
        let done = self
            .base
            .wrapping_add(completed)
            .wrapping_sub(self.completed);
        if done > self.published.wrapping_sub(self.completed) {
            let violation = ProtocolViolation::Consumer {
                claimed: completed,
                before: self.completed.wrapping_sub(self.base),
                produced: self.published.wrapping_sub(self.base),
            };
            self.leave();
            return Err(violation);
        }
        let waiting = produced.wrapping_sub(self.received);
        if waiting > self.receive_entries
            || waiting < self.receive_known.wrapping_sub(self.received)
        {
            let violation = ProtocolViolation::Producer {
                claimed: produced,
                taken: self.received,
                entries: self.receive_entries,
            };
            self.leave();
            return Err(violation);
        }
        self.completed = self.completed.wrapping_add(done);
        self.receive_known = produced;
        Ok(())
    }

    /// Frames handed in that the server is not done with.
    pub fn unconfirmed(&self) -> u32 {
        self.produced.wrapping_sub(self.completed)
    }

    /// How many more frames the transmit ring takes: none before the first
    /// epoch.
    pub fn transmit_room(&self) -> u32 {
        if self.started {
            self.transmit_entries - self.unconfirmed()
        } else {
            0
        }
    }

    /// Hands a frame in. The server learns of it with [`Self::publish`]; if the
    /// channel is down, once it is up again.
    ///
    /// Returns whether there was room.
    pub fn push(&mut self, frame: &TransmitFrame) -> bool {
        if self.transmit_room() == 0 {
            return false;
        }
        let at = self.transmit_descriptor(self.produced);
        let words = frame.encode();
        self.client.store64(at, words[0]);
        self.client.store64(at + 8, words[1]);
        reached(Point::ApplicationFrameDescribed);
        self.produced = self.produced.wrapping_add(1);
        true
    }

    /// Where the oldest unconfirmed frame but `skip` starts in the pool.
    ///
    /// Read back from the ring, which this side alone writes.
    pub fn unconfirmed_offset(&self, skip: u32) -> Option<usize> {
        Some(self.unconfirmed_frame(skip)?.offset as usize)
    }

    /// The oldest unconfirmed frame but `skip`.
    ///
    /// Read back from the ring, which this side alone writes.
    pub fn unconfirmed_frame(&self, skip: u32) -> Option<TransmitFrame> {
        if skip >= self.unconfirmed() {
            return None;
        }
        let at = self.transmit_descriptor(self.completed.wrapping_add(skip));
        let words = [self.client.load64(at), self.client.load64(at + 8)];
        Some(TransmitFrame::decode_unchecked(words))
    }

    /// Whether the server has left the epoch that this end was part of last. What is
    /// unconfirmed may never have been sent.
    pub fn epoch_is_over(&self) -> bool {
        self.epoch == 0 || self.server.load32(EPOCH, Acquire) != self.epoch
    }

    /// How many of the unconfirmed frames, the oldest ones, were abandoned.
    pub fn abandoned(&self) -> u32 {
        let abandoned = self.abandoned.wrapping_sub(self.completed);
        if abandoned <= self.unconfirmed() {
            abandoned
        } else {
            0
        }
    }

    /// Has the oldest `count` unconfirmed frames, of an epoch that is over, not sent again
    /// in the next one. They count as unconfirmed until that begins: only then does the
    /// network card read their buffers no more.
    pub fn abandon(&mut self, count: u32) {
        self.epoch = 0;
        self.abandoned = self.completed.wrapping_add(count.min(self.unconfirmed()));
    }

    /// The next received frame and where it lies in the server's region. Call
    /// [`Self::consume`] once it has been copied.
    ///
    /// # Errors
    ///
    /// As for [`Self::poll`].
    pub fn next_received(&mut self) -> Result<Option<(usize, ReceivedFrame)>, ProtocolViolation> {
        if self.epoch == 0 || self.received == self.receive_known {
            return Ok(None);
        }
        let index = (self.received & (self.receive_entries - 1)) as usize;
        let word = self
            .server
            .load64(DESCRIPTORS + index * RECEIVE_DESCRIPTOR_SIZE);
        match ReceivedFrame::decode(word) {
            Ok(frame) => {
                let slot = receive_slots_offset(self.receive_entries) + index * RECEIVE_SLOT_SIZE;
                Ok(Some((slot, frame)))
            }
            Err(violation) => {
                self.leave();
                Err(violation)
            }
        }
    }

    /// Copies the next received frame's first bytes out of its slot.
    pub fn copy_received(&self, slot: usize, to: &mut [u8]) {
        self.server.copy_out(slot, to);
    }

    /// Gives the slot of the frame last returned by [`Self::next_received`]
    /// back to the server (with the next [`Self::publish`]).
    pub fn consume(&mut self) {
        if self.received != self.receive_known {
            self.received = self.received.wrapping_add(1);
        }
    }

    /// Frames received that have not been taken yet, as far as known.
    pub fn waiting(&self) -> u32 {
        self.receive_known.wrapping_sub(self.received)
    }

    /// Tells the server what was handed in and taken out since the last call.
    ///
    /// Returns whether the caller must now notify the server.
    #[must_use = "true means: notify the server"]
    pub fn publish(&mut self) -> bool {
        let mut notify = core::mem::take(&mut self.notify_due);
        if self.epoch == 0 {
            return notify;
        }
        let frames = self.produced != self.published;
        let room = self.received != self.receive_published;
        if frames {
            self.published = self.produced;
            // Release: the descriptors and the frames' bytes come before it.
            self.client
                .store32(PRODUCER, self.produced.wrapping_sub(self.base), Release);
        }
        reached(Point::ApplicationFramesPublished);
        if room {
            self.receive_published = self.received;
            // Release: the slots have been read before it.
            self.client.store32(CONSUMER, self.received, Release);
        }
        if frames || room {
            // Either the server, before it sleeps, sees what was just stored,
            // or this side sees that it sleeps.
            self.client.fence();
            let awake = self.server.load32(WAKE, Relaxed);
            notify |= frames && awake != wake::AWAKE || room && awake == wake::ASLEEP_FOR_ROOM;
        }
        notify
    }

    /// Announces that this side is about to sleep, and looks once more.
    ///
    /// Returns whether it may: otherwise there is something to do. With
    /// `for_room`, a completed frame is something to do, too. Publish first.
    #[must_use = "false means: there is something to do"]
    pub fn sleep(&mut self, for_room: bool) -> bool {
        let word = if for_room {
            wake::ASLEEP_FOR_ROOM
        } else {
            wake::ASLEEP
        };
        self.client.store32(WAKE, word, Relaxed);
        reached(Point::ApplicationSleepAnnounced);
        self.client.fence();
        let offered = self.server.load32(EPOCH, Acquire);
        let news = if self.epoch == 0 {
            // What was found broken again and again is no reason for another turn: who
            // opens another epoch notifies.
            self.failures < MOST_FAILURES && self.may_join(offered)
        } else {
            self.failures = 0;
            offered != self.epoch
                || self.server.load32(PRODUCER, Relaxed) != self.received
                || for_room
                    && self.server.load32(CONSUMER, Relaxed)
                        != self.completed.wrapping_sub(self.base)
        };
        if news {
            self.wake();
        }
        !news
    }

    /// Announces that this side is awake and need not be notified.
    pub fn wake(&mut self) {
        self.client.store32(WAKE, wake::AWAKE, Relaxed);
    }

    fn transmit_descriptor(&self, index: u32) -> usize {
        DESCRIPTORS + (index & (self.transmit_entries - 1)) as usize * TRANSMIT_DESCRIPTOR_SIZE
    }

    /// An epoch is joined once: one that the server has already seen an
    /// application in belongs to this one's predecessor.
    fn may_join(&self, offered: u32) -> bool {
        offered != 0 && self.server.load32(JOINED, Acquire) != offered
    }

    fn join(&mut self, offered: u32) {
        self.epoch = offered;
        self.started = true;
        self.completed = self.completed.wrapping_add(self.abandoned());
        self.abandoned = self.completed;
        self.base = self.completed;
        self.published = self.produced;
        // Nothing is produced between two epochs, so this is all there is of the last.
        let produced = self.server.load32(PRODUCER, Acquire);
        let waiting = produced.wrapping_sub(self.received);
        let is_sound = (self.waiting()..=self.receive_entries).contains(&waiting);
        if core::mem::take(&mut self.skips) || !is_sound {
            self.received = produced;
            self.receive_known = produced;
        }
        self.receive_published = self.received;
        self.client
            .store32(START, self.base & (self.transmit_entries - 1), Relaxed);
        // What was not confirmed in the old epoch is sent again in this one.
        self.client.store32(PRODUCER, self.unconfirmed(), Relaxed);
        self.client.store32(CONSUMER, self.received, Relaxed);
        reached(Point::ApplicationEpochPrepared);
        self.client.store32(EPOCH, offered, Release);
        reached(Point::ApplicationEpochJoined);
        self.notify_due = true;
    }

    /// Leaves the epoch, so that the server opens another.
    fn leave(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.skips = true;
        self.epoch = 0;
        self.client.store32(EPOCH, 0, Release);
        self.notify_due = true;
    }
}

pub(crate) fn check_geometry<M: SharedMemory>(
    client: &M,
    server: &M,
    transmit_entries: u32,
    receive_entries: u32,
) -> Result<(), GeometryError> {
    if !transmit_entries.is_power_of_two() || !receive_entries.is_power_of_two() {
        return Err(GeometryError(
            "a ring's number of entries is not a power of two",
        ));
    }
    if transmit_entries > *ENTRIES.end() || receive_entries > *ENTRIES.end() {
        return Err(GeometryError(
            "a ring has more entries than the protocol allows",
        ));
    }
    if client.length() < client_region_size(transmit_entries) {
        return Err(GeometryError(
            "the application's region is too small for its ring",
        ));
    }
    if server.length() < server_region_size(receive_entries) {
        return Err(GeometryError(
            "the server's region is too small for its ring",
        ));
    }
    Ok(())
}
