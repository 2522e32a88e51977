//! The application's end of a channel: its rings and its transmit pool.

use crate::client_rings::ClientRings;
use crate::descriptor::{FrameOffload, ReceivedFrame, TransmitFrame, header_length};
use crate::layout::{MAXIMUM_FRAME_LENGTH, RECEIVE_SLOT_SIZE, pool_size_is_valid};
use crate::memory::SharedMemory;
use crate::pool::PoolRing;
use crate::violation::{GeometryError, ProtocolViolation};
use segue_fault_points::{Point, reached};
use segue_shared_memory::{PrivateRegion, Region};

/// The application's end of a channel to the network server.
///
/// One turn of its user: [`Self::wake`], [`Self::poll`], receive, transmit,
/// [`Self::publish`] (and notify if it says so), and [`Self::sleep`], which
/// either allows to sleep or asks for another turn.
///
/// There is no room for frames before the channel is up for the first time.
/// Later, frames handed in while it is down wait in the pool, and frames that a
/// server took with it are sent again in the next epoch, unless they were taken back
/// ([`Self::take_unconfirmed`]). So a frame may go out twice, as on any network.
#[derive(Debug)]
pub struct ClientChannel<M = Region> {
    rings: ClientRings<M>,
    pool: PrivateRegion,
    allocator: PoolRing,
}

/// Room for a frame in the transmit pool. Nothing is sent until
/// [`Reservation::submit`]; dropping it gives the room back.
#[derive(Debug)]
pub struct Reservation<'a, M: SharedMemory = Region> {
    channel: &'a mut ClientChannel<M>,
    offset: usize,
    length: usize,
}

impl<M: SharedMemory> ClientChannel<M> {
    /// Starts anew in these regions.
    ///
    /// # Errors
    ///
    /// If sizes and numbers of entries do not fit each other.
    pub fn new(
        client: M,
        server: M,
        pool: PrivateRegion,
        transmit_entries: u32,
        receive_entries: u32,
    ) -> Result<Self, GeometryError> {
        if !pool_size_is_valid(pool.length() as u64) {
            return Err(GeometryError(
                "the transmit pool's size is not one the protocol allows",
            ));
        }
        let allocator = PoolRing::new(pool.length());
        Ok(Self {
            rings: ClientRings::new(client, server, transmit_entries, receive_entries)?,
            pool,
            allocator,
        })
    }

    /// Whether the server is there: both ends are in the same epoch.
    pub fn is_up(&self) -> bool {
        self.rings.is_up()
    }

    /// The epoch this end is part of; 0: none.
    pub fn epoch(&self) -> u32 {
        self.rings.epoch()
    }

    /// Looks at what the server has done: joins a new epoch, frees completed
    /// buffers, learns of received frames.
    ///
    /// # Errors
    ///
    /// If the server breaks the protocol. The channel is down then, until the
    /// server opens it anew.
    pub fn poll(&mut self) -> Result<(), ProtocolViolation> {
        let before = self.rings.unconfirmed();
        let result = self.rings.poll();
        let unconfirmed = self.rings.unconfirmed();
        if unconfirmed != before {
            while self.allocator.buffers() > unconfirmed as usize {
                // Buffers are freed in order: what counts is where the oldest
                // one left starts.
                let last = self.allocator.buffers() == unconfirmed as usize + 1;
                let next = if last {
                    self.rings.unconfirmed_offset(0)
                } else {
                    Some(0)
                };
                self.allocator.release(next);
            }
        }
        result
    }

    /// Room for a frame of up to `length` bytes, or `None` if ring or pool are
    /// full (or the frame is longer than any may be). Then
    /// [`Self::sleep`]`(true)` wakes up when there is room.
    pub fn reserve(&mut self, length: usize) -> Option<Reservation<'_, M>> {
        if self.rings.transmit_room() == 0 || length > MAXIMUM_FRAME_LENGTH {
            return None;
        }
        let offset = self.allocator.find(length)?;
        Some(Reservation {
            channel: self,
            offset,
            length,
        })
    }

    /// Whether [`Self::reserve`] would find room for `length` bytes.
    pub fn has_room(&self, length: usize) -> bool {
        self.rings.transmit_room() > 0
            && length <= MAXIMUM_FRAME_LENGTH
            && self.allocator.find(length).is_some()
    }

    /// Takes the next received frame: copies it, once, to the start of `to`
    /// (cut if it is longer; a slot holds [`RECEIVE_SLOT_SIZE`] bytes).
    ///
    /// # Errors
    ///
    /// As for [`Self::poll`].
    pub fn receive(&mut self, to: &mut [u8]) -> Result<Option<ReceivedFrame>, ProtocolViolation> {
        let Some((slot, mut frame)) = self.rings.next_received()? else {
            return Ok(None);
        };
        frame.length = frame.length.min(to.len()).min(RECEIVE_SLOT_SIZE);
        self.rings.copy_received(slot, &mut to[..frame.length]);
        reached(Point::ApplicationReceiveCopied);
        self.rings.consume();
        Ok(Some(frame))
    }

    /// Frames waiting to be received, as far as the last [`Self::poll`] knows.
    pub fn waiting(&self) -> u32 {
        self.rings.waiting()
    }

    /// Frames handed in that the network card has not completed.
    pub fn unconfirmed(&self) -> u32 {
        self.rings.unconfirmed()
    }

    /// Hands the frames that a server took with it to `take`, oldest first, as far as
    /// that takes them: they go another way, and are not sent again in the next epoch.
    /// Does nothing while the epoch lasts, as far as the server says. To be called before
    /// [`Self::poll`], which may join the next one.
    ///
    /// Returns whether none is left. Their room in the pool comes back with the next epoch:
    /// until then the network card may still read it.
    pub fn take_unconfirmed(&mut self, mut take: impl FnMut(&[u8], FrameOffload) -> bool) -> bool {
        let mut count = self.rings.abandoned();
        if count == self.rings.unconfirmed() || !self.rings.epoch_is_over() {
            return true;
        }
        while let Some(frame) = self.rings.unconfirmed_frame(count) {
            let bytes = self
                .pool
                .slice(frame.offset as usize, frame.length as usize)
                .unwrap_or_default();
            if !take(bytes, frame.offload) {
                break;
            }
            count += 1;
        }
        self.rings.abandon(count);
        count == self.rings.unconfirmed()
    }

    /// Tells the server what was handed in and taken out.
    ///
    /// Returns whether the caller must now notify the server: once per turn,
    /// however many frames there were.
    #[must_use = "true means: notify the server"]
    pub fn publish(&mut self) -> bool {
        self.pool.publish();
        self.rings.publish()
    }

    /// Announces that this side is about to sleep, and looks once more.
    ///
    /// Returns whether it may. With `for_room` it is also woken when a frame
    /// was completed.
    #[must_use = "false means: there is something to do"]
    pub fn sleep(&mut self, for_room: bool) -> bool {
        self.rings.sleep(for_room)
    }

    /// Announces that this side is awake and need not be notified.
    pub fn wake(&mut self) {
        self.rings.wake();
    }
}

impl<M: SharedMemory> Reservation<'_, M> {
    /// The room, to be filled. Whatever it held before is still in it.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.channel
            .pool
            .slice_mut(self.offset, self.length)
            .unwrap_or_default()
    }

    /// Hands in the first `length` bytes as a frame. The server learns of it
    /// with [`ClientChannel::publish`].
    ///
    /// # Panics
    ///
    /// If `length` exceeds what was reserved.
    pub fn submit(self, length: usize, offload: FrameOffload) {
        assert!(
            length <= self.length,
            "a frame is longer than its reservation"
        );
        let bytes = self
            .channel
            .pool
            .slice(self.offset, length)
            .unwrap_or_default();
        reached(Point::ApplicationFrameFilled);
        let frame = TransmitFrame {
            offset: self.offset as u32,
            length: length as u32,
            header_length: header_length(bytes),
            offload,
        };
        if self.channel.rings.push(&frame) {
            self.channel.allocator.take(self.offset, length);
        }
    }
}
