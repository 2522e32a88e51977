//! What the server needs of a network card.

use crate::egress::SendOffload;
use segue_frame_channel::ReceivedFrame;
use segue_frame_channel::server::Ticket;
use segue_shared_memory::Region;

/// Which frame a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The application that sent it; beyond all of them for the server's own.
    pub application: u8,
    /// Its place in that application's channel.
    pub ticket: Ticket,
}

/// A verified frame in two parts.
#[derive(Debug)]
pub struct VerifiedFrame<'a> {
    /// The server's copy of its headers.
    pub headers: &'a mut [u8],
    /// Where the card finds that copy.
    pub header_address: u64,
    /// Where the card finds the rest, in the application's pool.
    pub payload_address: u64,
    /// Length of the rest in bytes; may be 0.
    pub payload_length: usize,
    /// What the card is to do to it.
    pub offload: Option<SendOffload>,
}

/// Why the card did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no room now.
    Full,
    /// It cannot send such a frame.
    Unsuitable(&'static str),
}

/// A network card, or one of its functions.
pub trait Nic {
    /// A received frame in one of the card's buffers.
    type Frame;

    /// Whether it takes at least one more frame.
    fn has_room(&self) -> bool;
    /// Hands a frame over. The card may read it until its token comes back.
    ///
    /// # Errors
    ///
    /// If it did not take the frame; nothing was sent then.
    fn transmit(&mut self, frame: VerifiedFrame<'_>, token: Token) -> Result<(), Refusal>;
    /// Tells the card about everything handed over since the last call.
    fn flush(&mut self);
    /// Calls `done` for each frame the card is done with, in order.
    fn reclaim(&mut self, done: impl FnMut(Token));
    /// Frames handed over and not done.
    fn outstanding(&self) -> usize;

    /// The next received frame.
    fn receive(&mut self) -> Option<Self::Frame>;
    /// Its length, and whether its checksums were found to be right.
    fn describe(&self, frame: &Self::Frame) -> ReceivedFrame;
    /// Copies its first bytes; `to` is not longer than the frame.
    fn read(&self, frame: &Self::Frame, to: &mut [u8]);
    /// Copies all of it to `offset` in `to`.
    fn copy(&self, frame: &Self::Frame, to: &Region, offset: usize);
    /// Is done with a frame. Its buffer goes back to the card with [`Self::settle`].
    fn release(&mut self, frame: Self::Frame);
    /// Takes a frame back that cannot be dealt with yet: it is the next one received.
    fn keep(&mut self, frame: Self::Frame);
    /// Puts a frame aside that cannot be dealt with yet; others come before it, until it is asked back.
    ///
    /// # Errors
    ///
    /// If there is no more room for such frames: the frame.
    fn set_aside(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;
    /// The frames put aside come next, oldest first.
    fn ask_back(&mut self);
    /// The receivers of all released frames have been told. From here on a server that starts
    /// anew would not find these frames any more.
    fn settle(&mut self);

    /// No interrupts for now: the server is awake and looks for itself.
    fn mask_interrupt(&mut self);
    /// Interrupts again, also for completed frames if `transmit` says so.
    ///
    /// Returns whether something has come meanwhile.
    fn unmask_interrupt(&mut self, transmit: bool) -> bool;
}
