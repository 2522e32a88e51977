//! The virtual function as the server's network card.

use segue_device::DmaMemory;
use segue_frame_channel::ReceivedFrame;
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

/// The virtual function.
pub struct Card {
    function: VirtualFunction<Region, Region, Token>,
}

impl Card {
    /// A card that uses this function.
    pub fn new(function: VirtualFunction<Region, Region, Token>) -> Self {
        Self { function }
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
    type Frame = Received;

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

    fn receive(&mut self) -> Option<Received> {
        self.function.receive()
    }

    fn describe(&self, frame: &Received) -> ReceivedFrame {
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

    fn read(&self, frame: &Received, to: &mut [u8]) {
        self.function.memory().copy_out(frame.offset(), to);
    }

    fn copy(&self, frame: &Received, to: &Region, offset: usize) {
        to.copy_from(
            offset,
            self.function.memory(),
            frame.offset(),
            frame.length(),
        );
    }

    fn release(&mut self, frame: Received) {
        self.function.release(frame);
    }

    fn mask_interrupt(&mut self) {
        self.function.mask_interrupt();
    }

    fn unmask_interrupt(&mut self, transmit: bool) -> bool {
        self.function.request_transmit_interrupt(transmit);
        self.function.unmask_interrupt()
    }
}
