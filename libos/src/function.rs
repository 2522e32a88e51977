//! The Vif's backend in direct mode: a virtual function of the network card, driven by
//! the application itself.
//!
//! Frames are written where the card fetches them: into a transmit pool behind the
//! driver's rings. A received frame is copied once, out of the card's buffer.

use crate::vif::{Backend, Capabilities, FunctionBackend, Offload, Received};
use crate::wire::{ETHERNET_HEADER, ETHERTYPE_IPV6, IPV4_HEADER, TCP_HEADER, fold, half, sum};
use alloc::collections::VecDeque;
use segue_device::{DmaMemory, Mmio};
use segue_frame_channel::layout::{MAXIMUM_FRAME_LENGTH, POOL_SIZE};
use segue_frame_channel::pool::PoolRing;
use segue_igb_driver::Error;
use segue_igb_driver::offload::{InternetProtocol, TransmitOffload, Transport, prepare_checksums};
use segue_igb_driver::vf::{ChecksumState, Configuration, Fragment, Layout, VirtualFunction};
use segue_shared_memory::PrivateRegion;
use smoltcp::time::Instant;

/// Largest frame of an Ethernet with the usual MTU, without check sequence.
const MAXIMUM_FRAME: usize = 1514;
/// Descriptors the longest frame needs: 64 KiB in pieces of 32 KiB, and the description of
/// its offload.
const DESCRIPTORS_PER_FRAME: usize = 4;
/// Smallest transmit pool: a frame of 64 KiB finds room whatever lies before it.
const SMALLEST_POOL: usize = *POOL_SIZE.start() as usize;
/// The TCP checksum's place behind the start of the TCP header.
const TCP_CHECKSUM: usize = 16;
/// The header checksum's place in an IPv4 header.
const IPV4_CHECKSUM: usize = 10;

/// Bytes of a function's memory that are the driver's, behind the transmit pool.
pub fn function_rings_size() -> usize {
    Layout::new(&Configuration::APPLICATION).map_or(0, |layout| layout.end)
}

/// Bytes of the transmit pool at the start of a function's memory of `memory` bytes
/// ([`Layout::pool_in`]); `None` if that is too small for the rings and a pool of 256 KiB.
pub fn function_pool_size(memory: usize) -> Option<usize> {
    let layout = Layout::new(&Configuration::APPLICATION).ok()?;
    layout.pool_in(memory).filter(|pool| *pool >= SMALLEST_POOL)
}

/// A frame that the card has not completed.
#[derive(Clone, Copy)]
struct Outstanding {
    /// Where it starts in the pool.
    offset: usize,
    length: usize,
    offload: Offload,
}

/// A virtual function, its rings and its transmit pool.
pub struct Function<M, D> {
    function: VirtualFunction<M, D, ()>,
    pool: PrivateRegion,
    allocator: PoolRing,
    /// Oldest first, as the card works them off.
    outstanding: VecDeque<Outstanding>,
    /// Whether interrupts are masked.
    masked: bool,
}

impl<M: Mmio, D: DmaMemory> Function<M, D> {
    /// Takes the function over and resets it. Nothing moves until
    /// [`FunctionBackend::start`], for which the function must have been enabled.
    ///
    /// `rings` is the driver's memory, of [`function_rings_size`] bytes at least; the card
    /// reads `pool` at its device address.
    ///
    /// # Errors
    ///
    /// If the memory does not suit the function.
    pub fn new(registers: M, rings: D, pool: PrivateRegion) -> Result<Self, Error> {
        if pool.length() < SMALLEST_POOL {
            return Err(Error::MemoryTooSmall {
                length: rings.len() + pool.length(),
                needed: function_rings_size() + SMALLEST_POOL,
            });
        }
        // Buffers start at multiples of cache lines.
        let allocator = PoolRing::new(pool.length() & !63);
        Ok(Self {
            function: VirtualFunction::new(registers, rings, Configuration::APPLICATION)?,
            pool,
            allocator,
            outstanding: VecDeque::with_capacity(
                Configuration::APPLICATION.transmit_entries.into(),
            ),
            masked: false,
        })
    }

    /// The driver, to be looked at.
    pub fn driver(&self) -> &VirtualFunction<M, D, ()> {
        &self.function
    }

    /// Frees the buffers of frames that the card has completed. Returns how many.
    fn reclaim(&mut self) -> usize {
        let frames = self.function.reclaim(|()| ());
        for _ in 0..frames {
            self.outstanding.pop_front();
            let next = self.outstanding.front().map(|frame| frame.offset);
            self.allocator.release(next);
        }
        frames
    }
}

impl<M: Mmio, D: DmaMemory> Backend for Function<M, D> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            maximum_frame: MAXIMUM_FRAME,
            segmentation: Some(MAXIMUM_FRAME_LENGTH),
            checksum: true,
        }
    }

    fn is_up(&self) -> bool {
        self.function.is_running()
    }

    fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    fn begin(&mut self) {
        if !self.function.is_running() {
            return;
        }
        if !core::mem::replace(&mut self.masked, true) {
            self.function.mask_interrupt();
        }
        self.reclaim();
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        loop {
            let frame = self.function.receive()?;
            let length = frame.length();
            let Some(bytes) = buffer.get_mut(..length) else {
                self.function.release(frame);
                continue;
            };
            self.function.memory().copy_out(frame.offset(), bytes);
            let verified = frame.transport_checksum() == ChecksumState::Good
                && match frame.ip_checksum() {
                    ChecksumState::Good => true,
                    ChecksumState::Bad => false,
                    // IPv6 has no checksum of its header.
                    ChecksumState::Unknown => {
                        length >= ETHERNET_HEADER && half(bytes, 12) == ETHERTYPE_IPV6
                    }
                };
            self.function.release(frame);
            return Some(Received { length, verified });
        }
    }

    fn can_transmit(&mut self, length: usize) -> bool {
        self.function.transmit_room() >= DESCRIPTORS_PER_FRAME
            && self.allocator.find(length).is_some()
    }

    fn transmit(
        &mut self,
        length: usize,
        offload: Offload,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> bool {
        if self.function.transmit_room() < DESCRIPTORS_PER_FRAME {
            return false;
        }
        let Some(offset) = self.allocator.find(length) else {
            return false;
        };
        let Some(bytes) = self.pool.slice_mut(offset, length) else {
            return false;
        };
        if !fill(bytes) {
            return false;
        }
        let card = if offload == Offload::default() {
            None
        } else {
            let Some(card) = describe(bytes, offload) else {
                return false;
            };
            if prepare_checksums(bytes, &card, length).is_err() {
                return false;
            }
            Some(card)
        };
        let fragment = Fragment {
            device_address: self.pool.device_address() + offset as u64,
            length: length as u32,
        };
        if self
            .function
            .transmit(&[fragment], card.as_ref(), ())
            .is_err()
        {
            return false;
        }
        self.allocator.take(offset, length);
        self.outstanding.push_back(Outstanding {
            offset,
            length,
            offload,
        });
        true
    }

    fn commit(&mut self) {
        self.pool.publish();
        self.function.flush();
    }

    fn sleep(&mut self, for_room: bool) -> bool {
        if self.reclaim() > 0 && for_room {
            return false;
        }
        let wanted = for_room || !self.outstanding.is_empty();
        self.function.request_transmit_interrupt(wanted);
        self.masked = false;
        !self.function.unmask_interrupt()
    }
}

impl<M: Mmio, D: DmaMemory> FunctionBackend for Function<M, D> {
    fn start(&mut self) -> Result<(), Error> {
        if self.function.is_running() && !self.function.is_intact() {
            // The whole device was reset: what was under way is lost, as on a wire.
            self.stop(&mut |_, _| ())?;
        }
        self.function.start()?;
        self.masked = false;
        Ok(())
    }

    fn done(&self) -> u64 {
        let statistics = self.function.statistics();
        statistics.received_frames + statistics.transmitted_frames
    }

    fn has_work(&self) -> bool {
        self.function.has_work()
    }

    fn nudge(&mut self) {
        if self.function.is_intact() {
            self.function.nudge();
        } else if let Err(error) = self.start() {
            log::error!("the virtual function was reset and does not start: {error}");
        }
    }

    fn is_stalled(&mut self, now: Instant) -> bool {
        self.reclaim();
        self.function
            .stalled(u64::try_from(now.total_micros()).unwrap_or(0))
    }

    fn stop(&mut self, take: &mut dyn FnMut(&[u8], Offload)) -> Result<(), Error> {
        self.reclaim();
        let stopped = self.function.stop();
        self.function.take_outstanding(|()| ());
        for frame in self.outstanding.drain(..) {
            if let Some(bytes) = self.pool.slice_mut(frame.offset, frame.length) {
                restore(bytes, frame.offload);
                take(bytes, frame.offload);
            }
        }
        self.allocator = PoolRing::new(self.pool.length() & !63);
        stopped
    }
}

/// What the card has to do for a frame of ours with a TCP segment.
fn describe(frame: &[u8], offload: Offload) -> Option<TransmitOffload> {
    let first = *frame.get(ETHERNET_HEADER)?;
    let (protocol, ip_header_length) = match first >> 4 {
        4 => (InternetProtocol::V4, usize::from(first & 15) * 4),
        _ => (InternetProtocol::V6, crate::wire::IPV6_HEADER),
    };
    let tcp = ETHERNET_HEADER + ip_header_length;
    let header_length = (*frame.get(tcp + TCP_HEADER - 8)? >> 4) * 4;
    Some(TransmitOffload {
        protocol,
        ip_header_length: ip_header_length as u16,
        transport: Some(Transport::Tcp),
        transport_header_length: header_length,
        segment_size: offload.segment_size.map_or(0, u16::from),
    })
}

/// Undoes what was prepared for the card: the frame is again as it was handed in.
fn restore(frame: &mut [u8], offload: Offload) {
    if offload == Offload::default() {
        return;
    }
    let Some(card) = describe(frame, offload) else {
        return;
    };
    let tcp = ETHERNET_HEADER + usize::from(card.ip_header_length);
    if let Some(field) = frame.get_mut(tcp + TCP_CHECKSUM..tcp + TCP_CHECKSUM + 2) {
        field.fill(0);
    }
    if card.protocol == InternetProtocol::V4
        && let Some(header) = frame.get_mut(ETHERNET_HEADER..tcp)
        && header.len() >= IPV4_HEADER
    {
        header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].fill(0);
        let checksum = !fold(sum(0, header));
        header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}
