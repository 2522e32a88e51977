//! The network server's look at frames: from the network, and from an application.
//!
//! The first four bytes choose direction and offload, the rest is the frame.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use segue_frame_channel::FrameOffload;
use segue_frame_channel::config::{ADDRESS_OWN, Addresses, ServerEntry, ServerTable};
use segue_frame_channel::layout::MAXIMUM_HEADER_LENGTH;
use segue_netserver_core::Directory;
use segue_netserver_core::egress;
use segue_netserver_core::answer::{self, MAXIMUM_ANSWER};
use segue_netserver_core::ingress::{self, Decision, LONG_HEADER, Origin, SHORT_HEADER};
use segue_portmap_core::{Families, PortReader, PortTable, Protocol, TABLE_SIZE};
use segue_shared_memory::testing::leaked_region;

/// Two applications that share an address, and one with an address of its own.
fn directory() -> &'static Directory {
    static DIRECTORY: OnceLock<Directory> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let mut table = ServerTable::EMPTY;
        table.count = 3;
        for (index, entry) in table.entries.iter_mut().take(3).enumerate() {
            let own = index == 2;
            *entry = ServerEntry {
                owner: index as u16 + 1,
                flags: if own { ADDRESS_OWN } else { 0 },
                addresses: Addresses {
                    mac: [0x52, 0x54, 0, 0x5e, 0x60, u8::from(own)],
                    ipv4: [10, 0, 2, 15 + u8::from(own)],
                    ipv4_prefix_length: 24,
                    gateway: [10, 0, 2, 2],
                    ..Addresses::NONE
                },
                ..ServerEntry::EMPTY
            };
        }
        let region = leaked_region(TABLE_SIZE);
        let mut ports = PortTable::new(region).expect("the region has the table's size");
        for (owner, port) in [(1, 80), (2, 443)] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                ports.bind(owner, Families::Both, protocol, port).expect("the port is free");
            }
        }
        let reader = PortReader::new(region).expect("the region has the table's size");
        Directory::new(&table, reader, None)
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, up, low, high], frame)) = data.split_first_chunk() else {
        return;
    };
    if choice & 1 == 0 {
        receive(u64::from(up) & 0b111, frame);
    } else {
        let offload = FrameOffload {
            ipv4_checksum: choice & 2 != 0,
            transport_checksum: choice & 4 != 0,
            segment_size: u16::from_le_bytes([low, high]),
        };
        send(usize::from(up) % 3, frame, offload);
    }
});

/// The decision on a frame must not depend on how much of it was at hand.
fn receive(up: u64, frame: &[u8]) {
    let whole = ingress::demultiplex(directory(), up, Origin::Network, frame, frame.len());
    assert_ne!(whole, Decision::Longer, "all of it was at hand");
    if let Decision::Deliver(applications) = whole {
        assert_ne!(applications, 0);
        assert_eq!(applications & !0b111, 0, "to an application there is not");
    }
    if let Decision::Answer(answer) = whole {
        let mut buffer = [0; MAXIMUM_ANSWER];
        let read = |to: &mut [u8]| to.copy_from_slice(&frame[..to.len()]);
        if let Some(length) = answer::compose(directory(), answer, frame.len(), &mut buffer, read) {
            assert_eq!(buffer[..6], frame[6..12], "to whom it did not come from");
            assert!(length <= MAXIMUM_ANSWER);
        }
    }
    for length in [SHORT_HEADER, LONG_HEADER] {
        let header = &frame[..frame.len().min(length)];
        let decision = ingress::demultiplex(directory(), up, Origin::Network, header, frame.len());
        if decision == Decision::Longer {
            assert_ne!(length, LONG_HEADER, "a long header must suffice");
        } else {
            assert_eq!(decision, whole, "{length} bytes at hand");
        }
    }
}

fn send(sender: usize, frame: &[u8], offload: FrameOffload) {
    let header = &frame[..frame.len().min(MAXIMUM_HEADER_LENGTH)];
    if let Ok(approved) = egress::verify(directory(), sender, header, frame.len(), offload) {
        let identity = directory().identity(sender);
        assert_eq!(frame[6..12], identity.mac.0, "a forged MAC address");
        assert!(approved.wire_length >= frame.len());
        if frame[12..14] == [8, 0] {
            assert_eq!(frame[26..30], identity.ipv4.octets(), "a forged address");
        }
    }
}
