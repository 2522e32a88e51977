//! The Vif: the one network interface that the stack sees.
//!
//! Behind it stands a [`Backend`]: the frame channel to the network server, a
//! virtual function driven by the application itself, or a simulated link in
//! tests. It can be changed at run time; sockets and addresses stay.

use crate::wire::{ETHERNET_HEADER, fill_tcp_checksum};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Largest frame on the wire in bytes, Ethernet header included.
    pub maximum_frame: usize,
    /// Largest frame it cuts into segments itself, if it does.
    pub segmentation: Option<usize>,
    /// Whether it computes TCP checksums of frames that ask for it.
    pub checksum: bool,
}

/// A frame that a backend has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes, without the frame check sequence.
    pub length: usize,
    /// Whether the device has found its checksums right. If not, they may be
    /// right or wrong.
    pub verified: bool,
}

/// What is left for the device to do on a transmitted frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Compute the TCP checksum. The field is zero.
    pub checksum: bool,
    /// Cut the TCP payload into segments of this size.
    pub segment_size: Option<NonZeroU16>,
}

/// What carries frames for a [`Vif`].
///
/// A backend keeps each transmitted frame until it is completed, and sends it
/// again when it has to start over (a new epoch of its channel).
pub trait Backend {
    /// What it can do. Constant for the life of the backend.
    fn capabilities(&self) -> Capabilities;
    /// Starts a turn: looks at what the other side has done meanwhile.
    fn begin(&mut self) {}
    /// Copies the next received frame into `buffer`; a frame that does not fit
    /// is dropped by the backend.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received>;
    /// Whether a frame of `length` bytes would be taken now.
    fn can_transmit(&mut self, length: usize) -> bool;
    /// Takes a frame of `length` bytes, which `fill` writes. Returns false, and
    /// does not call `fill`, if there is no room.
    fn transmit(
        &mut self,
        length: usize,
        offload: Offload,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> bool;
    /// Tells the other side about what was received and transmitted since the
    /// last call, if it has to be told.
    fn commit(&mut self);
    /// Announces that nobody will look until the other side notifies. With
    /// `for_room` it also does so when a transmitted frame is completed. Returns
    /// false if something has come in meanwhile: then there must be another turn.
    fn sleep(&mut self, for_room: bool) -> bool {
        let _ = for_room;
        true
    }
}

/// The interface of the stack to the network.
pub struct Vif {
    backend: Box<dyn Backend>,
    capabilities: Capabilities,
    /// Takes what a full backend refuses.
    scratch: Vec<u8>,
    /// Frames and bytes, in and out.
    pub(crate) counters: Counters,
}

/// Frames and bytes through a [`Vif`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub frames_in: u64,
    /// Bytes received, Ethernet headers included.
    pub bytes_in: u64,
    /// Frames transmitted; one that the device cuts into segments counts once.
    pub frames_out: u64,
    /// Bytes transmitted, Ethernet headers included.
    pub bytes_out: u64,
    /// Frames not transmitted because the backend was full.
    pub refused: u64,
}

/// Largest IPv4 packet.
const LARGEST_PACKET: usize = 65_535;

impl Vif {
    /// A Vif over `backend`.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        let capabilities = backend.capabilities();
        Self {
            backend,
            capabilities,
            scratch: vec![0; ETHERNET_HEADER + LARGEST_PACKET],
            counters: Counters::default(),
        }
    }

    /// What the stack may rely on.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Largest frame that may be handed to [`Vif::transmit`].
    pub(crate) fn largest_transmit(&self) -> usize {
        self.capabilities
            .segmentation
            .unwrap_or(self.capabilities.maximum_frame)
    }

    pub(crate) fn begin(&mut self) {
        self.backend.begin();
    }

    pub(crate) fn sleep(&mut self, for_room: bool) -> bool {
        self.backend.sleep(for_room)
    }

    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let received = self.backend.receive(buffer)?;
        self.counters.frames_in += 1;
        self.counters.bytes_in += received.length as u64;
        Some(received)
    }

    pub(crate) fn can_transmit(&mut self, length: usize) -> bool {
        self.backend.can_transmit(length)
    }

    /// Transmits a frame that `fill` writes. If there is no room it is lost,
    /// as on a wire; callers who care ask [`Vif::can_transmit`] first.
    pub(crate) fn transmit<R>(
        &mut self,
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut fill = Some(fill);
        let mut result = None;
        let software = offload.checksum && !self.capabilities.checksum;
        let offload = Offload {
            checksum: offload.checksum && !software,
            ..offload
        };
        let taken = self.backend.transmit(length, offload, &mut |frame| {
            if let Some(fill) = fill.take() {
                result = Some(fill(frame));
                if software {
                    fill_tcp_checksum(frame);
                }
            }
        });
        if taken {
            self.counters.frames_out += 1;
            self.counters.bytes_out += length as u64;
        } else {
            self.counters.refused += 1;
        }
        match (result, fill) {
            (Some(result), _) => result,
            (None, Some(fill)) => fill(&mut self.scratch[..length]),
            // `fill` leaves the option only to make a result.
            (None, None) => unreachable!("a frame was written and has no result"),
        }
    }

    pub(crate) fn commit(&mut self) {
        self.backend.commit();
    }
}
