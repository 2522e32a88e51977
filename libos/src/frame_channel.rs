//! The Vif's backend behind the network server.

use crate::vif::{Backend, Capabilities, Offload, Received};
use alloc::boxed::Box;
use core::num::NonZeroU16;
use segue_frame_channel::{ClientChannel, FrameOffload, ProtocolViolation};
use segue_shared_memory::Region;

/// Largest frame of an Ethernet with the usual MTU, without check sequence.
const MAXIMUM_FRAME: usize = 1514;

/// A frame channel to the network server, whose NIC does the offloads.
pub struct FrameChannel {
    channel: ClientChannel<Region>,
    server: &'static str,
    notify: Box<dyn FnMut()>,
    was_up: bool,
    /// Whether what the server says of checksums is left aside.
    verifies: bool,
    /// Whether a breach of the protocol was reported since the channel worked last.
    has_complained: bool,
    /// The epoch that was joined last, and whether another one came after it.
    epoch: u32,
    has_rejoined: bool,
}

impl FrameChannel {
    /// A backend over `channel`; `notify` wakes the network server, whose name is
    /// `server`.
    pub fn new(
        channel: ClientChannel<Region>,
        server: &'static str,
        notify: Box<dyn FnMut()>,
    ) -> Self {
        Self {
            channel,
            server,
            notify,
            was_up: false,
            verifies: false,
            has_complained: false,
            epoch: 0,
            has_rejoined: false,
        }
    }

    /// Has the stack compute the checksums of all received frames: the server copies them
    /// after the card has verified them.
    pub fn verify_checksums(&mut self) {
        self.verifies = true;
    }

    /// Says once that the server breaks the protocol, until the channel works again: the
    /// words of a server that is dead can do so in each turn.
    fn complain(&mut self, violation: ProtocolViolation) {
        if !core::mem::replace(&mut self.has_complained, true) {
            log::error!(
                "{} breaks the frame channel's protocol: {violation}",
                self.server
            );
        }
    }
}

impl Backend for FrameChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            maximum_frame: MAXIMUM_FRAME,
            segmentation: Some(segue_frame_channel::layout::MAXIMUM_FRAME_LENGTH),
            checksum: true,
        }
    }

    fn is_up(&self) -> bool {
        self.channel.is_up()
    }

    fn outstanding(&self) -> usize {
        self.channel.unconfirmed() as usize
    }

    fn take_rejoined(&mut self) -> bool {
        core::mem::take(&mut self.has_rejoined)
    }

    fn take_lost(&mut self, take: &mut dyn FnMut(&[u8], Offload) -> bool) -> bool {
        self.channel.take_unconfirmed(|frame, offload| {
            let offload = Offload {
                checksum: offload.transport_checksum,
                segment_size: NonZeroU16::new(offload.segment_size),
            };
            take(frame, offload)
        })
    }

    fn begin(&mut self) {
        self.channel.wake();
        if let Err(violation) = self.channel.poll() {
            self.complain(violation);
        }
        let epoch = self.channel.epoch();
        if epoch != 0 && epoch != self.epoch {
            self.has_rejoined = self.epoch != 0;
            self.epoch = epoch;
        }
        let up = self.channel.is_up();
        if up != self.was_up {
            self.was_up = up;
            log::info!(
                "the frame channel to {} is {}",
                self.server,
                if up { "up" } else { "down" }
            );
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        match self.channel.receive(buffer) {
            Ok(frame) => {
                let frame = frame?;
                self.has_complained = false;
                Some(Received {
                    length: frame.length,
                    verified: frame.checksums_verified && !self.verifies,
                })
            }
            Err(violation) => {
                self.complain(violation);
                None
            }
        }
    }

    fn can_transmit(&mut self, length: usize) -> bool {
        self.channel.has_room(length)
    }

    fn transmit(
        &mut self,
        length: usize,
        offload: Offload,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> bool {
        let Some(mut room) = self.channel.reserve(length) else {
            return false;
        };
        let Some(bytes) = room.bytes().get_mut(..length) else {
            return false;
        };
        if !fill(bytes) {
            return false;
        }
        let segment_size = offload.segment_size.map_or(0, u16::from);
        room.submit(
            length,
            FrameOffload {
                ipv4_checksum: segment_size != 0,
                transport_checksum: offload.checksum,
                segment_size,
            },
        );
        true
    }

    fn commit(&mut self) {
        if self.channel.publish() {
            (self.notify)();
        }
    }

    fn sleep(&mut self, for_room: bool) -> bool {
        self.channel.sleep(for_room)
    }
}
