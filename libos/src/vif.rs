//! The Vif: the one network interface that the stack sees.
//!
//! It has two legs. One is the frame channel to the network server, or a simulated link in
//! tests; the other, a virtual function that the application drives itself, comes and
//! goes at run time (`legs.rs`). Sockets and addresses stay.

use crate::duplicates::Duplicates;
use crate::hash::Secret;
use crate::legs::{FunctionLeg, Stage, Way, transmit_copy};
use crate::wire::{ETHERNET_HEADER, fill_tcp_checksum};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use segue_igb_driver::Error;
use smoltcp::time::Instant;

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
    /// Whether somebody is at the other end.
    fn is_up(&self) -> bool {
        true
    }
    /// Frames transmitted that are not completed.
    fn outstanding(&self) -> usize {
        0
    }
    /// Whether the other side has started anew since the last call: frames may have been
    /// lost on the way here.
    fn take_rejoined(&mut self) -> bool {
        false
    }
    /// Hands frames that are not known to be sent, since the other side has gone, to
    /// `take`, oldest first, as far as it takes them. They are not sent again here. To be
    /// called before [`Backend::begin`]. Returns whether none is left.
    fn take_lost(&mut self, take: &mut dyn FnMut(&[u8], Offload) -> bool) -> bool {
        let _ = take;
        true
    }
    /// Starts a turn: looks at what the other side has done meanwhile.
    fn begin(&mut self) {}
    /// Copies the next received frame into `buffer`; a frame that does not fit
    /// is dropped by the backend.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received>;
    /// Whether a frame of `length` bytes would be taken now.
    fn can_transmit(&mut self, length: usize) -> bool;
    /// Takes a frame of `length` bytes, which `fill` writes; `fill` says whether it is to
    /// be sent after all. Returns whether it was taken, and does not call `fill` if there
    /// is no room.
    fn transmit(
        &mut self,
        length: usize,
        offload: Offload,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
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

/// A backend over a virtual function, which comes and goes.
pub trait FunctionBackend: Backend {
    /// Starts its queues. Does nothing if they run and nobody else has reset the device.
    ///
    /// # Errors
    ///
    /// If the function does not answer, or a queue does not start.
    fn start(&mut self) -> Result<(), Error>;
    /// Frames received and sent so far.
    fn done(&self) -> u64 {
        0
    }
    /// Whether a received frame or a sent one waits to be looked at.
    fn has_work(&self) -> bool {
        false
    }
    /// Tells the device once more what there is: it may have been told while the function was
    /// not enabled. Starts it anew if somebody else has reset it; what was under way is lost then.
    fn nudge(&mut self) {}
    /// Whether frames have been under way for half a second, as far as it was asked, without
    /// one being completed: the function will not do it any more.
    fn is_stalled(&mut self, now: Instant) -> bool;
    /// Stops the queues, and hands the frames that are not known to be sent to `take`,
    /// oldest first, as they were handed in.
    ///
    /// # Errors
    ///
    /// If a queue does not stop. The frames were handed over all the same.
    fn stop(&mut self, take: &mut dyn FnMut(&[u8], Offload)) -> Result<(), Error>;
}

/// The interface of the stack to the network.
pub struct Vif {
    /// The channel to the network server; none if the application is always direct.
    pub(crate) server: Option<Box<dyn Backend>>,
    pub(crate) function: Option<Box<FunctionLeg>>,
    pub(crate) stage: Stage,
    /// Until when the leg that transmits waits for the other one's last frames.
    pub(crate) hold_until: Option<Instant>,
    /// Frames of the server's leg wait for room on the function's.
    pub(crate) repeating: bool,
    /// What came by either leg lately, for a while after each change.
    pub(crate) duplicates: Option<Box<Duplicates>>,
    pub(crate) secret: Secret,
    pub(crate) now: Instant,
    capabilities: Capabilities,
    /// Takes what a full backend refuses, and what goes through both legs.
    scratch: Vec<u8>,
    /// Frames and bytes, in and out.
    pub(crate) counters: Counters,
}

/// Frames and bytes through a [`Vif`], over both legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub frames_in: u64,
    /// Bytes received, Ethernet headers included.
    pub bytes_in: u64,
    /// Frames transmitted; one that the device cuts into segments, or that goes through
    /// both legs, counts once.
    pub frames_out: u64,
    /// Bytes transmitted, Ethernet headers included.
    pub bytes_out: u64,
    /// Frames not transmitted because the backend was full.
    pub refused: u64,
    /// Frames dropped because the other leg had brought them already.
    pub duplicates: u64,
    /// Times that a function was found to have a frame of which no interrupt had told.
    pub found_late: u64,
    /// Frames transmitted again through the other leg, since they were not known to be sent.
    pub repeated: u64,
}

impl Counters {
    /// Counts a frame that was to be transmitted again.
    pub(crate) fn count_repetition(&mut self, taken: bool) {
        if taken {
            self.repeated += 1;
        } else {
            self.refused += 1;
        }
    }
}

/// Largest IPv4 packet.
const LARGEST_PACKET: usize = 65_535;

impl Vif {
    /// A Vif over `backend`, to the network server.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        let capabilities = backend.capabilities();
        Self::with_legs(Some(backend), None, Stage::Server, capabilities)
    }

    /// A Vif that has a virtual function and nothing else. The function need not run yet:
    /// until [`crate::Stack::start_function`], frames are refused.
    pub fn always_direct(function: Box<dyn FunctionBackend>) -> Self {
        let capabilities = function.capabilities();
        let leg = Box::new(FunctionLeg::new(function, &[]));
        Self::with_legs(None, Some(leg), Stage::Direct, capabilities)
    }

    fn with_legs(
        server: Option<Box<dyn Backend>>,
        function: Option<Box<FunctionLeg>>,
        stage: Stage,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            server,
            function,
            stage,
            hold_until: None,
            repeating: false,
            duplicates: None,
            secret: Secret([0; 2]),
            now: Instant::ZERO,
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

    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = now;
        if self.function.is_some() || self.duplicates.is_some() {
            self.begin_legs();
        } else if let Some(server) = &mut self.server {
            server.begin();
        }
    }

    /// Whether the network server has started anew since the last call, and frames are
    /// received through it alone.
    #[inline]
    pub(crate) fn take_rejoined(&mut self) -> bool {
        match &mut self.server {
            Some(server) => server.take_rejoined() && self.stage == Stage::Server,
            None => false,
        }
    }

    pub(crate) fn sleep(&mut self, for_room: bool) -> bool {
        let for_room = for_room || self.repeating;
        if let Some(server) = &mut self.server
            && !server.sleep(for_room)
        {
            return false;
        }
        match &mut self.function {
            Some(leg) => leg.backend.sleep(for_room),
            None => true,
        }
    }

    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let received = if self.function.is_some() || self.duplicates.is_some() {
            self.receive_from_legs(buffer)?
        } else {
            self.server.as_mut()?.receive(buffer)?
        };
        self.counters.frames_in += 1;
        self.counters.bytes_in += received.length as u64;
        Some(received)
    }

    /// Whether the leg that frames to `destination` take has room for one of `length`
    /// bytes; without a destination, the leg that most take.
    pub(crate) fn can_transmit(&mut self, length: usize, destination: Option<&[u8]>) -> bool {
        if self.hold_until.is_some() || self.repeating {
            return false;
        }
        if self.stage == Stage::Direct && !destination.is_some_and(|to| self.is_inside(to)) {
            return match &mut self.function {
                Some(leg) => leg.backend.can_transmit(length),
                None => false,
            };
        }
        match &mut self.server {
            Some(server) => server.can_transmit(length),
            None => false,
        }
    }

    /// As [`Vif::transmit`], for a frame to a hardware address (six bytes) that is known
    /// before it is written: it need not be copied, whichever leg it takes.
    pub(crate) fn transmit_to<R>(
        &mut self,
        destination: &[u8],
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        if self.stage != Stage::Direct {
            return self.transmit_by_server(length, offload, fill);
        }
        match self.way(destination) {
            Some(Way::Outside) => self.transmit_outside(length, offload, fill),
            Some(Way::Inside) if is_up(&self.server) => {
                self.transmit_by_server(length, offload, fill)
            }
            _ => self.transmit_directly(length, offload, fill),
        }
    }

    /// Whether frames to a hardware address go through the server in direct mode, too.
    #[inline]
    fn is_inside(&mut self, destination: &[u8]) -> bool {
        self.way(destination) == Some(Way::Inside) && is_up(&self.server)
    }

    /// Where a frame to a hardware address goes, if there is a function.
    #[inline]
    fn way(&mut self, destination: &[u8]) -> Option<Way> {
        Some(self.function.as_mut()?.way(destination))
    }

    /// Transmits a frame that `fill` writes. If there is no room it is lost,
    /// as on a wire; callers who care ask [`Vif::can_transmit`] first.
    pub(crate) fn transmit<R>(
        &mut self,
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        if self.stage == Stage::Direct {
            self.transmit_directly(length, offload, fill)
        } else {
            self.transmit_by_server(length, offload, fill)
        }
    }

    fn transmit_by_server<R>(
        &mut self,
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let software = !self.capabilities.checksum;
        let leg = self.server.as_deref_mut();
        let scratch = &mut self.scratch;
        let (result, taken) = transmit_through(leg, software, scratch, length, offload, fill);
        self.count(taken, length);
        result
    }

    /// Through the function: the frame is known to go there and nowhere else.
    // Apart, so that the way through the server stays short.
    #[inline(never)]
    fn transmit_outside<R>(
        &mut self,
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let software = self.function.as_ref().is_some_and(|leg| !leg.checksum);
        let leg = self.function.as_mut().map(|leg| &mut *leg.backend);
        let scratch = &mut self.scratch;
        let (result, taken) = transmit_through(leg, software, scratch, length, offload, fill);
        self.count(taken, length);
        result
    }

    /// Through the function, the server, or both: where the frame goes is looked at when
    /// it stands where the card would fetch it.
    // Apart, so that the way through the server stays short.
    #[inline(never)]
    fn transmit_directly<R>(
        &mut self,
        length: usize,
        offload: Offload,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut fill = Some(fill);
        let mut result = None;
        let mut way = Way::Outside;
        let Self {
            server,
            function,
            scratch,
            ..
        } = self;
        let up = is_up(server);
        let mut taken = false;
        if let Some(leg) = function {
            let software = offload.checksum && !leg.checksum;
            let asked = Offload {
                checksum: offload.checksum && !software,
                ..offload
            };
            let FunctionLeg {
                backend, stations, ..
            } = &mut **leg;
            taken = backend.transmit(length, asked, &mut |frame| {
                let Some(fill) = fill.take() else {
                    return false;
                };
                result = Some(fill(frame));
                way = stations.way(frame);
                if up && way != Way::Outside {
                    scratch[..length].copy_from_slice(frame);
                }
                if software {
                    fill_tcp_checksum(frame);
                }
                way != Way::Inside || !up
            });
        }
        if let Some(fill) = fill.take() {
            // No room: what the server takes goes there all the same.
            let frame = &mut scratch[..length];
            result = Some(fill(frame));
            if let Some(leg) = function {
                way = leg.way(frame);
            }
        }
        if up
            && way != Way::Outside
            && let Some(server) = server
        {
            let software = !self.capabilities.checksum;
            let copied = transmit_copy(&mut **server, software, &scratch[..length], offload);
            if way == Way::Inside {
                taken = copied;
            }
        }
        self.count(taken, length);
        match result {
            Some(result) => result,
            // `fill` leaves the option only to make a result.
            None => unreachable!("a frame was written and has no result"),
        }
    }

    fn count(&mut self, taken: bool, length: usize) {
        if taken {
            self.counters.frames_out += 1;
            self.counters.bytes_out += length as u64;
        } else {
            self.counters.refused += 1;
        }
    }

    pub(crate) fn commit(&mut self, now: Instant) {
        self.now = now;
        if let Some(server) = &mut self.server {
            server.commit();
        }
        if let Some(leg) = &mut self.function {
            leg.commit(now);
        }
    }
}

/// Has a leg take a frame of this length that `fill` writes, and says whether it did; if not,
/// the frame is written to `scratch`. `software` says that the leg leaves checksums to the
/// Vif.
#[inline]
fn transmit_through<R>(
    leg: Option<&mut (impl Backend + ?Sized)>,
    software: bool,
    scratch: &mut [u8],
    length: usize,
    offload: Offload,
    fill: impl FnOnce(&mut [u8]) -> R,
) -> (R, bool) {
    let mut fill = Some(fill);
    let mut result = None;
    let software = software && offload.checksum;
    let offload = Offload {
        checksum: offload.checksum && !software,
        ..offload
    };
    let taken = leg.is_some_and(|leg| {
        leg.transmit(length, offload, &mut |frame| {
            if let Some(fill) = fill.take() {
                result = Some(fill(frame));
                if software {
                    fill_tcp_checksum(frame);
                }
            }
            true
        })
    });
    match (result, fill) {
        (Some(result), _) => (result, taken),
        (None, Some(fill)) => (fill(&mut scratch[..length]), false),
        // `fill` leaves the option only to make a result.
        (None, None) => unreachable!("a frame was written and has no result"),
    }
}

/// Whether there is a network server, and it is there.
pub(crate) fn is_up(server: &Option<Box<dyn Backend>>) -> bool {
    server.as_ref().is_some_and(|server| server.is_up())
}
