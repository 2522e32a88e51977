//! The Vif's backend behind the network server.

use crate::vif::{Backend, Capabilities, Offload, Received};
use alloc::boxed::Box;
use core::num::NonZeroU16;
use segue_frame_channel::{ClientChannel, FrameOffload};
use segue_shared_memory::Region;

/// Largest frame of an Ethernet with the usual MTU, without check sequence.
const MAXIMUM_FRAME: usize = 1514;

/// A frame channel to the network server, whose NIC does the offloads.
pub struct FrameChannel {
    channel: ClientChannel<Region>,
    server: &'static str,
    notify: Box<dyn FnMut()>,
    was_up: bool,
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
            // The channel is down until the server opens it anew, so this comes
            // once an epoch.
            log::error!(
                "{} breaks the frame channel's protocol: {violation}",
                self.server
            );
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
                Some(Received {
                    length: frame.length,
                    verified: frame.checksums_verified,
                })
            }
            Err(violation) => {
                log::error!(
                    "{} breaks the frame channel's protocol: {violation}",
                    self.server
                );
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
