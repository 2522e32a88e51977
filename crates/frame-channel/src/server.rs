//! The network server's end of a channel.

use crate::client_rings::check_geometry;
use crate::descriptor::{ReceivedFrame, TransmitFrame};
use crate::layout::*;
use crate::memory::SharedMemory;
use crate::violation::{GeometryError, ProtocolViolation};
use crate::wake;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use segue_fault_points::{Point, reached};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for frames of the last epoch that the network card still holds.
    Closing,
    /// An epoch is offered; the application has not joined it yet.
    Opening,
    /// Both ends are in the same epoch.
    Up,
    /// The application broke the protocol.
    CutOff,
}

/// A transmit frame that was taken and is to be completed. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    epoch: u32,
    index: u32,
}

/// The network server's end of a channel to one application.
///
/// After a [`ProtocolViolation`] the channel is cut off: the application is no
/// longer listened to, and told so by epoch 0.
#[derive(Debug)]
pub struct ServerChannel<M> {
    client: M,
    server: M,
    pool: M,
    transmit_entries: u32,
    receive_entries: u32,
    /// Where receive slot 0 starts in the server's region.
    slots: usize,
    state: State,
    epoch: u32,
    /// Whether the application said, when this end was made, that it was part of
    /// an epoch: then it is likely to join the first one that is offered.
    had_peer: bool,
    /// Ring position of the epoch's first transmit frame.
    start: u32,
    /// Transmit frames produced by the application, as last checked.
    transmit_known: u32,
    /// Transmit frames taken out of the ring.
    taken: u32,
    /// The next transmit frame, if it has been looked at.
    peeked: Option<TransmitFrame>,
    /// Transmit frames completed, all earlier ones included.
    completed: u32,
    completed_published: u32,
    /// Which frames behind `completed` are done, by ring position.
    done: [u64; (*ENTRIES.end() / 64) as usize],
    /// How many these are.
    done_early: u32,
    /// Receive frames produced. The count goes on from one epoch to the next.
    produced: u32,
    produced_published: u32,
    /// Receive frames the application is done with, as last checked.
    receive_known: u32,
    notify_due: bool,
}

impl<M: SharedMemory> ServerChannel<M> {
    /// Opens a channel: offers the application a new epoch. The regions may hold
    /// anything: what a predecessor has left, whatever it died of.
    ///
    /// # Errors
    ///
    /// If the regions do not have the sizes that the numbers of entries ask
    /// for, or the numbers are not powers of two.
    pub fn new(
        client: M,
        server: M,
        pool: M,
        transmit_entries: u32,
        receive_entries: u32,
    ) -> Result<Self, GeometryError> {
        check_geometry(&client, &server, transmit_entries, receive_entries)?;
        // An earlier incarnation's epoch may still stand in the region. It must
        // not be offered again, nor what the application says it is in.
        let claimed = client.load32(EPOCH, Relaxed);
        let epoch = server.load32(EPOCH, Relaxed).max(claimed);
        // Whatever it is: what counts is that both ends go on from it.
        let produced = server.load32(PRODUCER, Relaxed);
        server.store32(EPOCH, 0, Release);
        server.store32(JOINED, 0, Release);
        server.store32(WAKE, wake::ASLEEP, Release);
        let mut channel = Self {
            client,
            server,
            pool,
            transmit_entries,
            receive_entries,
            slots: receive_slots_offset(receive_entries),
            state: State::Closing,
            epoch,
            had_peer: claimed != 0,
            start: 0,
            transmit_known: 0,
            taken: 0,
            peeked: None,
            completed: 0,
            completed_published: 0,
            done: [0; (*ENTRIES.end() / 64) as usize],
            done_early: 0,
            produced,
            produced_published: produced,
            receive_known: produced,
            notify_due: false,
        };
        channel.open();
        Ok(channel)
    }

    /// Whether both ends are in the same epoch.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether the application has been cut off.
    pub fn is_cut_off(&self) -> bool {
        self.state == State::CutOff
    }

    /// Whether the application said, when this end was made, that it was part of
    /// an epoch. It may say anything.
    pub fn had_peer(&self) -> bool {
        self.had_peer
    }

    /// The epoch that is offered or was joined.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Size of the transmit pool in bytes.
    pub fn pool_size(&self) -> usize {
        self.pool.length()
    }

    /// Looks at what the application has done: joins it, learns of its frames,
    /// offers a new epoch if it has started anew.
    ///
    /// # Errors
    ///
    /// If the application breaks the protocol; it has been cut off.
    pub fn poll(&mut self) -> Result<(), ProtocolViolation> {
        if self.state == State::Closing && self.in_flight() == 0 {
            self.open();
        }
        if self.state == State::Opening {
            self.join();
        }
        if self.state != State::Up {
            return Ok(());
        }
        let produced = self.client.load32(PRODUCER, Acquire);
        if !self.still_joined()? {
            return Ok(());
        }
        let waiting = produced.wrapping_sub(self.taken);
        if waiting > self.transmit_entries - self.in_flight()
            || waiting < self.transmit_known.wrapping_sub(self.taken)
        {
            return self.violated(ProtocolViolation::Producer {
                claimed: produced,
                taken: self.taken,
                entries: self.transmit_entries,
            });
        }
        self.transmit_known = produced;
        Ok(())
    }

    /// The next transmit frame, checked against pool and limits. It stays in
    /// the ring until [`Self::take`]. Looks no further than the last
    /// [`Self::poll`] did.
    ///
    /// # Errors
    ///
    /// As for [`Self::poll`].
    pub fn peek(&mut self) -> Result<Option<TransmitFrame>, ProtocolViolation> {
        if self.state != State::Up || self.taken == self.transmit_known {
            return Ok(None);
        }
        if self.peeked.is_none() {
            let position = self.start.wrapping_add(self.taken) & (self.transmit_entries - 1);
            let at = DESCRIPTORS + position as usize * TRANSMIT_DESCRIPTOR_SIZE;
            // Each word is read once; from here on only the copy counts.
            let words = [self.client.load64(at), self.client.load64(at + 8)];
            match TransmitFrame::decode(words, self.pool.length()) {
                Ok(frame) => self.peeked = Some(frame),
                Err(violation) => {
                    self.violated(violation)?;
                }
            }
        }
        Ok(self.peeked)
    }

    /// Takes the frame that [`Self::peek`] returned out of the ring. Its buffer
    /// stays in use until [`Self::complete`].
    pub fn take(&mut self) -> Option<(TransmitFrame, Ticket)> {
        let frame = self.peeked.take()?;
        let ticket = Ticket {
            epoch: self.epoch,
            index: self.taken,
        };
        self.taken = self.taken.wrapping_add(1);
        Some((frame, ticket))
    }

    /// The ticket that [`Self::take`] would give.
    pub fn next_ticket(&self) -> Ticket {
        Ticket {
            epoch: self.epoch,
            index: self.taken,
        }
    }

    /// Whether frames are known that have not been taken.
    pub fn has_backlog(&self) -> bool {
        self.state == State::Up && self.taken != self.transmit_known
    }

    /// A sequentially consistent fence, as needed between
    /// [`Self::announce_sleep`] and [`Self::has_news`].
    pub fn fence(&self) {
        self.server.fence();
    }

    /// Copies bytes of a frame out of the pool: the first `to.len()` of it.
    /// They are copied once; verify and send the copy.
    pub fn copy_header(&self, frame: &TransmitFrame, to: &mut [u8]) {
        self.pool.copy_out(frame.offset as usize, to);
    }

    /// Says that nothing reads this frame's buffer any more.
    pub fn complete(&mut self, ticket: Ticket) {
        if ticket.epoch != self.epoch
            || ticket.index.wrapping_sub(self.completed) >= self.in_flight()
        {
            return;
        }
        if ticket.index != self.completed {
            let (word, bit) = self.done_bit(ticket.index);
            self.done_early += u32::from(self.done[word] & bit == 0);
            self.done[word] |= bit;
            return;
        }
        // Nearly always they are done in order.
        self.completed = self.completed.wrapping_add(1);
        while self.done_early > 0 {
            let (word, bit) = self.done_bit(self.completed);
            if self.done[word] & bit == 0 {
                break;
            }
            self.done[word] &= !bit;
            self.done_early -= 1;
            self.completed = self.completed.wrapping_add(1);
        }
    }

    /// Frames taken and not completed.
    pub fn in_flight(&self) -> u32 {
        self.taken.wrapping_sub(self.completed)
    }

    /// How many frames the receive ring takes; looks at the application's
    /// index only when it seems to be full.
    ///
    /// # Errors
    ///
    /// As for [`Self::poll`].
    pub fn receive_room(&mut self) -> Result<u32, ProtocolViolation> {
        if self.state != State::Up {
            return Ok(0);
        }
        let used = self.produced.wrapping_sub(self.receive_known);
        if used < self.receive_entries {
            return Ok(self.receive_entries - used);
        }
        let consumed = self.client.load32(CONSUMER, Acquire);
        if !self.still_joined()? {
            return Ok(0);
        }
        if consumed.wrapping_sub(self.receive_known)
            > self.produced_published.wrapping_sub(self.receive_known)
        {
            self.violated(ProtocolViolation::Consumer {
                claimed: consumed,
                before: self.receive_known,
                produced: self.produced_published,
            })?;
        }
        self.receive_known = consumed;
        Ok(self.receive_entries - self.produced.wrapping_sub(consumed))
    }

    /// Delivers a frame of at most [`RECEIVE_SLOT_SIZE`] bytes: `copy` gets the
    /// region and the offset to copy it to. The application learns of it with
    /// [`Self::publish`].
    ///
    /// Returns whether there was room, as found by [`Self::receive_room`].
    pub fn deliver(&mut self, frame: ReceivedFrame, copy: impl FnOnce(&M, usize)) -> bool {
        let used = self.produced.wrapping_sub(self.receive_known);
        if self.state != State::Up
            || used >= self.receive_entries
            || frame.length > RECEIVE_SLOT_SIZE
        {
            return false;
        }
        let index = (self.produced & (self.receive_entries - 1)) as usize;
        copy(&self.server, self.slots + index * RECEIVE_SLOT_SIZE);
        reached(Point::NetserverReceiveCopied);
        self.server.store64(
            DESCRIPTORS + index * RECEIVE_DESCRIPTOR_SIZE,
            frame.encode(),
        );
        self.produced = self.produced.wrapping_add(1);
        true
    }

    /// Tells the application what was delivered and completed since the last
    /// call.
    ///
    /// Returns whether the caller must now notify the application.
    #[must_use = "true means: notify the application"]
    pub fn publish(&mut self) -> bool {
        let mut notify = core::mem::take(&mut self.notify_due);
        if self.state != State::Up {
            return notify;
        }
        let frames = self.produced != self.produced_published;
        let room = self.completed != self.completed_published;
        if frames {
            self.produced_published = self.produced;
            // Release: descriptors and slots come before it.
            self.server.store32(PRODUCER, self.produced, Release);
        }
        reached(Point::NetserverReceivePublished);
        if room {
            self.completed_published = self.completed;
            // Release: descriptors and headers have been read before it.
            self.server.store32(CONSUMER, self.completed, Release);
        }
        if frames || room {
            // Either the application, before it sleeps, sees what was just
            // stored, or this side sees that it sleeps.
            self.server.fence();
            let awake = self.client.load32(WAKE, Relaxed);
            notify |= frames && awake != wake::AWAKE || room && awake == wake::ASLEEP_FOR_ROOM;
        }
        notify
    }

    /// Whether the application says that it is at work. It may say anything.
    #[inline]
    pub fn is_client_awake(&self) -> bool {
        self.state == State::Up && self.client.load32(WAKE, Relaxed) == wake::AWAKE
    }

    /// Announces that the server is awake: the application need not notify it
    /// until [`Self::sleep`].
    pub fn wake(&mut self) {
        self.server.store32(WAKE, wake::AWAKE, Relaxed);
    }

    /// Announces that the server is about to sleep. [`Self::fence`]
    /// and [`Self::has_news`] must follow: one fence
    /// does for many channels.
    pub fn announce_sleep(&mut self, for_room: bool) {
        let word = if for_room {
            wake::ASLEEP_FOR_ROOM
        } else {
            wake::ASLEEP
        };
        self.server.store32(WAKE, word, Relaxed);
    }

    /// Whether the application has done something that [`Self::poll`] has not
    /// seen. With `for_room`, its taking frames out of the receive ring counts.
    pub fn has_news(&self, for_room: bool) -> bool {
        let epoch = self.client.load32(EPOCH, Relaxed);
        match self.state {
            State::CutOff => false,
            State::Closing => self.in_flight() == 0,
            State::Opening => epoch == self.epoch,
            State::Up => {
                epoch != self.epoch
                    || self.client.load32(PRODUCER, Relaxed) != self.transmit_known
                    || for_room && self.client.load32(CONSUMER, Relaxed) != self.receive_known
            }
        }
    }

    /// Announces that the server is about to sleep, and looks once more.
    ///
    /// Returns whether it may: otherwise there is something to do.
    #[must_use = "false means: there is something to do"]
    pub fn sleep(&mut self, for_room: bool) -> bool {
        self.announce_sleep(for_room);
        self.server.fence();
        let news = self.has_news(for_room);
        if news {
            self.wake();
        }
        !news
    }

    /// Stops listening to the application for good.
    pub fn cut_off(&mut self) {
        self.state = State::CutOff;
        self.peeked = None;
        self.server.store32(EPOCH, 0, Release);
        self.notify_due = true;
    }

    fn done_bit(&self, index: u32) -> (usize, u64) {
        let position = index & (self.transmit_entries - 1);
        ((position / 64) as usize, 1 << (position % 64))
    }

    fn open(&mut self) {
        let claimed = self.client.load32(EPOCH, Relaxed);
        loop {
            self.epoch = self.epoch.wrapping_add(1);
            if self.epoch != 0 && self.epoch != claimed {
                break;
            }
        }
        self.state = State::Opening;
        self.transmit_known = 0;
        self.taken = 0;
        self.peeked = None;
        self.completed = 0;
        self.completed_published = 0;
        self.done.fill(0);
        self.done_early = 0;
        // What was delivered and not told is lost; what was told stays in its slot
        // until the application has taken it.
        self.produced = self.produced_published;
        self.receive_known = self.produced_published;
        // Epoch 0 first: whoever sees one of the indices reset sees that the
        // epoch they belonged to is over.
        self.server.store32(EPOCH, 0, Release);
        reached(Point::NetserverEpochClosed);
        self.server.store32(CONSUMER, 0, Release);
        reached(Point::NetserverEpochEmptied);
        self.server.store32(EPOCH, self.epoch, Release);
        self.notify_due = true;
    }

    fn join(&mut self) {
        // Another epoch is no violation: it may be one that a server has offered which
        // is dead by now, and the application has been interrupted since it looked.
        if self.client.load32(EPOCH, Acquire) != self.epoch {
            return;
        }
        // From here on nobody else may join this epoch. An application that
        // starts anew stores epoch 0, fences and then looks at this word: if it
        // did not see it, its epoch 0 or its own join is seen below.
        self.server.store32(JOINED, self.epoch, Release);
        reached(Point::NetserverEpochMarked);
        self.server.fence();
        if self.client.load32(EPOCH, Acquire) != self.epoch {
            self.open();
            return;
        }
        self.start = self.client.load32(START, Relaxed);
        // Frames of the last epoch that it has not taken yet are still its own. Of a
        // count that makes no sense nothing is believed.
        let consumed = self.client.load32(CONSUMER, Relaxed);
        if self.produced.wrapping_sub(consumed) <= self.receive_entries {
            self.receive_known = consumed;
        }
        self.state = State::Up;
    }

    /// Whether the application is still in the epoch that indices just read
    /// belong to; if not, the epoch ends.
    fn still_joined(&mut self) -> Result<bool, ProtocolViolation> {
        let claimed = self.client.load32(EPOCH, Acquire);
        if claimed == self.epoch {
            return Ok(true);
        }
        if claimed != 0 {
            self.violated(ProtocolViolation::Epoch {
                claimed,
                offered: self.epoch,
            })?;
        }
        self.server.store32(EPOCH, 0, Release);
        self.peeked = None;
        self.state = State::Closing;
        if self.in_flight() == 0 {
            self.open();
        }
        Ok(false)
    }

    fn violated(&mut self, violation: ProtocolViolation) -> Result<(), ProtocolViolation> {
        self.cut_off();
        Err(violation)
    }
}
