//! The virtual function as the server's network card.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use segue_device::DmaMemory;
use segue_frame_channel::ReceivedFrame;
use segue_igb_driver::Error;
use segue_igb_driver::offload::{InternetProtocol, TransmitOffload, Transport, prepare_checksums};
use segue_igb_driver::vf::{
    ChecksumState, Configuration, Fragment, MAX_PIECES, Received, TransmitError, VirtualFunction,
};
use segue_netserver_core::Nic;
use segue_netserver_core::egress::SendOffload;
use segue_netserver_core::nic::{Refusal, Token, VerifiedFrame};
use segue_portmap_core::{Family, Protocol};
use segue_shared_memory::Region;

/// Descriptors of each ring. While a second function is in use, QEMU's card drops what a
/// full receive ring has no room for, instead of waiting.
pub const CONFIGURATION: Configuration = Configuration {
    transmit_entries: 256,
    receive_entries: 512,
    interrupt_interval_microseconds: 0,
};

/// Descriptors the longest frame needs: its headers, a payload of 64 KiB in
/// pieces, and the description of its offload.
const DESCRIPTORS_PER_FRAME: usize = 6;

const _: () = assert!(DESCRIPTORS_PER_FRAME <= MAX_PIECES);

/// Most bytes of frames that a predecessor has left behind; the rest of them are dropped.
const MOST_LEFT_BEHIND: usize = 0x1_0000;
/// Most frames that wait aside, and their bytes.
const MOST_ASIDE: usize = 256;
/// See [`MOST_ASIDE`].
const MOST_BYTES_ASIDE: usize = 0x8000;
/// Frames dealt with in one round, or a few more.
const FRAMES_PER_ROUND: usize = 96;

/// The virtual function.
pub struct Card {
    function: VirtualFunction<Region, Region, Token>,
    /// Frames that a predecessor has not dealt with, oldest first.
    left_behind: VecDeque<LeftBehind>,
    /// Their bytes.
    bytes: Vec<u8>,
    /// A frame that could not be dealt with yet.
    kept: Option<Frame>,
    /// Others of this kind, which wait in copies: they must not keep buffers from the function.
    aside: VecDeque<Aside>,
    /// Of these, those that come next.
    asked_back: VecDeque<Aside>,
    /// The bytes of both.
    bytes_aside: usize,
    /// Frames whose receivers have not been told yet: a successor would find them here.
    handled: Vec<Received>,
}

/// A received frame.
pub enum Frame {
    /// In a buffer of the function.
    Received(Received),
    /// In a copy.
    LeftBehind(LeftBehind),
    /// In a copy of its own.
    Aside(Aside),
}

/// A copy of a frame that waits for its receiver.
pub struct Aside {
    bytes: Vec<u8>,
    checksums_verified: bool,
}

/// A frame that was received for a predecessor: where its copy is.
#[derive(Clone, Copy)]
pub struct LeftBehind {
    offset: usize,
    length: usize,
}

impl Card {
    /// Takes the function over, whatever a predecessor has left it doing. When this returns,
    /// the function moves nothing any more.
    ///
    /// # Errors
    ///
    /// See [`VirtualFunction::take_over`].
    pub fn take_over(registers: Region, memory: Region) -> Result<Self, Error> {
        let function = VirtualFunction::take_over(registers, memory, CONFIGURATION)?;
        let (mut left_behind, mut bytes) = (VecDeque::new(), Vec::new());
        function.left_behind(|frame| {
            let offset = bytes.len();
            let end = offset + frame.length;
            if end <= MOST_LEFT_BEHIND {
                bytes.resize(end, 0);
                memory.copy_out(frame.offset, &mut bytes[offset..]);
                left_behind.push_back(LeftBehind {
                    offset,
                    length: frame.length,
                });
            }
        });
        Ok(Self {
            function,
            left_behind,
            bytes,
            kept: None,
            aside: VecDeque::with_capacity(MOST_ASIDE),
            asked_back: VecDeque::new(),
            bytes_aside: 0,
            handled: Vec::with_capacity(FRAMES_PER_ROUND),
        })
    }

    /// Frames of a predecessor that have not been dealt with yet.
    pub fn left_behind(&self) -> usize {
        self.left_behind.len()
    }

    /// Frames received and completed so far.
    pub fn done(&self) -> u64 {
        let statistics = self.function.statistics();
        statistics.received_frames + statistics.transmitted_frames
    }

    fn copy_of(&self, frame: &LeftBehind) -> &[u8] {
        let end = frame.offset + frame.length;
        self.bytes.get(frame.offset..end).unwrap_or_default()
    }

    /// Received frames that the driver has dropped: damaged or too long.
    pub fn dropped(&self) -> u64 {
        let statistics = self.function.statistics();
        statistics.dropped_long + statistics.dropped_damaged + statistics.dropped_nonsense
    }

    fn is_ipv6(&self, frame: &Received) -> bool {
        const ETHERTYPE: usize = 12;
        let mut ethertype = [0; 2];
        if frame.length() >= ETHERTYPE + ethertype.len() {
            let memory = self.function.memory();
            memory.copy_out(frame.offset() + ETHERTYPE, &mut ethertype);
        }
        ethertype == [0x86, 0xdd]
    }

    /// Whether it can send and receive.
    pub fn is_running(&self) -> bool {
        self.function.is_running()
    }

    /// The driver.
    pub fn function(&mut self) -> &mut VirtualFunction<Region, Region, Token> {
        &mut self.function
    }
}

fn driver_offload(offload: &SendOffload) -> TransmitOffload {
    TransmitOffload {
        protocol: match offload.family {
            Family::V4 => InternetProtocol::V4,
            Family::V6 => InternetProtocol::V6,
        },
        ip_header_length: offload.ip_header_length as u16,
        transport: offload.transport.map(|protocol| match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        }),
        transport_header_length: offload.transport_header_length as u8,
        segment_size: offload.segment_size,
    }
}

impl Nic for Card {
    type Frame = Frame;

    fn has_room(&self) -> bool {
        self.function.transmit_room() >= DESCRIPTORS_PER_FRAME
    }

    fn transmit(&mut self, frame: VerifiedFrame<'_>, token: Token) -> Result<(), Refusal> {
        let offload = frame.offload.as_ref().map(driver_offload);
        if let Some(offload) = &offload {
            let length = frame.headers.len() + frame.payload_length;
            prepare_checksums(frame.headers, offload, length).map_err(Refusal::Unsuitable)?;
        }
        let fragments = [
            Fragment {
                device_address: frame.header_address,
                length: frame.headers.len() as u32,
            },
            Fragment {
                device_address: frame.payload_address,
                length: frame.payload_length as u32,
            },
        ];
        let used = if frame.payload_length == 0 {
            &fragments[..1]
        } else {
            &fragments[..]
        };
        match self.function.transmit(used, offload.as_ref(), token) {
            Ok(()) => Ok(()),
            Err((TransmitError::Full, _)) => Err(Refusal::Full),
            Err((TransmitError::Malformed(reason), _)) => Err(Refusal::Unsuitable(reason)),
        }
    }

    fn flush(&mut self) {
        self.function.flush();
    }

    fn reclaim(&mut self, done: impl FnMut(Token)) {
        self.function.reclaim(done);
    }

    fn outstanding(&self) -> usize {
        self.function.outstanding()
    }

    fn receive(&mut self) -> Option<Frame> {
        if self.kept.is_some() {
            return self.kept.take();
        }
        if let Some(frame) = self.asked_back.pop_front() {
            self.bytes_aside -= frame.bytes.len();
            return Some(Frame::Aside(frame));
        }
        if let Some(frame) = self.left_behind.pop_front() {
            return Some(Frame::LeftBehind(frame));
        }
        self.function.receive().map(Frame::Received)
    }

    fn describe(&self, frame: &Frame) -> ReceivedFrame {
        let frame = match frame {
            Frame::Received(frame) => frame,
            Frame::Aside(frame) => {
                return ReceivedFrame {
                    length: frame.bytes.len(),
                    checksums_verified: frame.checksums_verified,
                };
            }
            Frame::LeftBehind(frame) => {
                // That the card has found it right is only what a dead server's memory says.
                return ReceivedFrame {
                    length: frame.length,
                    checksums_verified: false,
                };
            }
        };
        let good = frame.transport_checksum() == ChecksumState::Good
            && match frame.ip_checksum() {
                ChecksumState::Good => true,
                ChecksumState::Bad => false,
                // IPv6 has no checksum of its header.
                ChecksumState::Unknown => self.is_ipv6(frame),
            };
        ReceivedFrame {
            length: frame.length(),
            checksums_verified: good,
        }
    }

    fn read(&self, frame: &Frame, to: &mut [u8]) {
        match frame {
            Frame::Received(frame) => self.function.memory().copy_out(frame.offset(), to),
            Frame::LeftBehind(frame) => to.copy_from_slice(&self.copy_of(frame)[..to.len()]),
            Frame::Aside(frame) => to.copy_from_slice(&frame.bytes[..to.len()]),
        }
    }

    fn copy(&self, frame: &Frame, to: &Region, offset: usize) {
        match frame {
            Frame::Received(frame) => to.copy_from(
                offset,
                self.function.memory(),
                frame.offset(),
                frame.length(),
            ),
            Frame::LeftBehind(frame) => to.write(offset, self.copy_of(frame)),
            Frame::Aside(frame) => to.write(offset, &frame.bytes),
        }
    }

    fn release(&mut self, frame: Frame) {
        match frame {
            Frame::Received(frame) => {
                self.function.note_handled(&frame);
                self.handled.push(frame);
            }
            Frame::LeftBehind(_) if self.left_behind.is_empty() => self.bytes = Vec::new(),
            Frame::LeftBehind(_) | Frame::Aside(_) => {}
        }
    }

    fn keep(&mut self, frame: Frame) {
        self.kept = Some(frame);
    }

    fn set_aside(&mut self, frame: Frame) -> Result<(), Frame> {
        let description = self.describe(&frame);
        let count = self.aside.len() + self.asked_back.len();
        if count >= MOST_ASIDE || self.bytes_aside + description.length > MOST_BYTES_ASIDE {
            return Err(frame);
        }
        self.bytes_aside += description.length;
        let aside = match frame {
            Frame::Aside(aside) => aside,
            frame => {
                let mut bytes = alloc::vec![0; description.length];
                self.read(&frame, &mut bytes);
                self.release(frame);
                Aside {
                    bytes,
                    checksums_verified: description.checksums_verified,
                }
            }
        };
        self.aside.push_back(aside);
        Ok(())
    }

    fn ask_back(&mut self) {
        // What was asked back before and has not come yet is behind what was put aside again.
        self.aside.append(&mut self.asked_back);
        core::mem::swap(&mut self.aside, &mut self.asked_back);
    }

    fn settle(&mut self) {
        for frame in self.handled.drain(..) {
            self.function.release(frame);
        }
    }

    fn mask_interrupt(&mut self) {
        self.function.mask_interrupt();
    }

    fn unmask_interrupt(&mut self, transmit: bool) -> bool {
        self.function.request_transmit_interrupt(transmit);
        // No interrupt tells of copies: a round may have left some of them.
        let has_copies = !self.left_behind.is_empty() || !self.asked_back.is_empty();
        self.function.unmask_interrupt() || has_copies
    }
}
