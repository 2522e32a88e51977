//! Addresses that applications are given at run time.

mod support;

use proptest::prelude::*;
use segue_frame_channel::FrameOffload;
use segue_frame_channel::config::{
    ADDRESS_LEASED, ADDRESS_OWN, Addresses, DHCP_CLIENT, ServerEntry, ServerTable,
};
use segue_netserver_core::Directory;
use segue_netserver_core::egress::{Approved, verify};
use segue_netserver_core::ingress::{Answer, Decision, Origin, demultiplex};
use segue_netserver_core::inside::{Route, route};
use segue_portmap_core::{
    AddressReader, AddressTable, Families, PortReader, PortTable, Protocol, REGION_SIZE, TABLE_SIZE,
};
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;
use segue_status::network::{EgressDrop, IngressDrop};
use smoltcp::wire::{ArpOperation, EthernetAddress, Ipv4Address, TcpControl};
use std::sync::atomic::Ordering::Relaxed;
use support::*;

const UP: u64 = u64::MAX;
const LEASED_MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x5e, 0x61, 0]);
const LEASED: Ipv4Address = Ipv4Address::new(10, 0, 2, 33);
const NOBODY: Ipv4Address = Ipv4Address::UNSPECIFIED;

/// Applications 0 and 1 share an address that comes by DHCP, which 1 asks for; 2 and 3
/// have leased addresses of their own.
fn directory() -> (Directory, Region) {
    let mut table = ServerTable::EMPTY;
    table.count = 4;
    let flags = [
        ADDRESS_LEASED,
        ADDRESS_LEASED | DHCP_CLIENT,
        ADDRESS_LEASED | ADDRESS_OWN,
        ADDRESS_LEASED | ADDRESS_OWN,
    ];
    for (index, flags) in flags.into_iter().enumerate() {
        let mut addresses = Addresses::NONE;
        if flags & ADDRESS_OWN == 0 {
            addresses.mac = SHARED_MAC.0;
        }
        table.entries[index] = ServerEntry {
            owner: index as u16 + 1,
            flags,
            addresses,
            ..ServerEntry::EMPTY
        };
    }
    let region = leaked_region(REGION_SIZE);
    let mut ports = PortTable::new(region).unwrap();
    ports.bind(1, Families::Both, Protocol::Tcp, 80).unwrap();
    ports.bind(2, Families::V4, Protocol::Udp, 68).unwrap();
    let (ports, leases) = (PortReader::new(region), AddressReader::new(region));
    (Directory::new(&table, ports.unwrap(), leases), region)
}

fn addresses(mac: EthernetAddress, ipv4: Ipv4Address) -> Addresses {
    Addresses {
        mac: mac.0,
        ipv4: ipv4.octets(),
        ipv4_prefix_length: 24,
        ..Addresses::NONE
    }
}

fn share(region: Region, ipv4: Ipv4Address) {
    let mut table = AddressTable::new(region).unwrap();
    for owner in [1, 2] {
        table.set(owner, Some(&addresses(SHARED_MAC, ipv4)));
    }
}

fn lease(region: Region, owner: u16, addresses: Option<Addresses>) {
    let mut table = AddressTable::new(region).unwrap();
    table.set(owner, addresses.as_ref());
}

fn send(directory: &Directory, sender: usize, frame: &[u8]) -> Result<Approved, EgressDrop> {
    let header = &frame[..frame.len().min(256)];
    verify(
        directory,
        sender,
        header,
        frame.len(),
        FrameOffload::default(),
    )
}

fn receive(directory: &Directory, frame: &[u8]) -> Decision {
    demultiplex(directory, UP, Origin::Network, frame, frame.len())
}

const FROM_LEASED: Ends = Ends {
    source_mac: LEASED_MAC,
    source: LEASED,
    ..OUT
};
const TO_LEASED: Ends = Ends {
    destination_mac: LEASED_MAC,
    destination: LEASED,
    ..IN
};

#[test]
fn a_port_map_that_died_over_a_change_takes_no_address_away() {
    let (mut directory, region) = directory();
    lease(region, 3, Some(addresses(LEASED_MAC, LEASED)));
    directory.refresh();
    assert!(directory.with_address(LEASED).is_some());
    let generation = region.load64(TABLE_SIZE, Relaxed);
    region.store64(TABLE_SIZE, generation + 1, Relaxed);
    assert!(!directory.refresh());
    assert!(directory.with_address(LEASED).is_some());
    // Its successor takes over.
    lease(region, 3, None);
    assert!(directory.refresh());
    assert!(directory.with_address(LEASED).is_none());
}

#[test]
fn who_has_no_address_sends_and_gets_nothing() {
    let (mut directory, region) = directory();
    let frame = tcp(FROM_LEASED, 1234, 80, TcpControl::None, b"x");
    let answer = tcp(TO_LEASED, 80, 1234, TcpControl::None, b"x");
    let nothing = Ends {
        source_mac: EthernetAddress([0; 6]),
        source: NOBODY,
        ..OUT
    };
    let from_nothing = tcp(nothing, 1234, 80, TcpControl::None, b"x");
    let without = |directory: &Directory| {
        for frame in [&frame, &from_nothing, &arp(nothing, ArpOperation::Request)] {
            assert_eq!(send(directory, 2, frame), Err(EgressDrop::NoAddress));
        }
        assert_eq!(
            receive(directory, &answer),
            Decision::Drop(IngressDrop::NotOurAddress)
        );
    };
    without(&directory);
    assert!(!directory.refresh());
    lease(region, 3, Some(addresses(LEASED_MAC, LEASED)));
    without(&directory);
    assert!(directory.refresh() && !directory.refresh());
    assert!(send(&directory, 2, &frame).is_ok());
    assert_eq!(receive(&directory, &answer), Decision::Deliver(0b100));
    // Its stack answers, not the server.
    let ping = echo(TO_LEASED, true, 1);
    assert_eq!(receive(&directory, &ping), Decision::Deliver(0b100));
    let request = arp(TO_LEASED, ArpOperation::Request);
    assert_eq!(receive(&directory, &request), Decision::Deliver(0b100));
    assert_eq!(send(&directory, 3, &frame), Err(EgressDrop::NoAddress));
    // Gone with the lease, and another's after that.
    lease(region, 3, None);
    assert!(directory.refresh());
    without(&directory);
    lease(region, 4, Some(addresses(LEASED_MAC, LEASED)));
    assert!(directory.refresh());
    assert_eq!(receive(&directory, &answer), Decision::Deliver(0b1000));
    assert_eq!(send(&directory, 2, &frame), Err(EgressDrop::NoAddress));
}

#[test]
fn stations_find_each_other_inside() {
    let (mut directory, region) = directory();
    share(region, SHARED);
    lease(region, 3, Some(addresses(LEASED_MAC, LEASED)));
    directory.refresh();
    let to_sharer = Ends {
        destination_mac: SHARED_MAC,
        destination: SHARED,
        ..FROM_LEASED
    };
    let frame = tcp(to_sharer, 1234, 80, TcpControl::None, b"x");
    assert!(send(&directory, 2, &frame).is_ok());
    assert_eq!(route(&directory, &frame), Route::Inside);
    let whose = |frame: &[u8]| demultiplex(&directory, UP, Origin::Application, frame, frame.len());
    assert_eq!(whose(&frame), Decision::Deliver(0b01));
    let back = Ends {
        source_mac: SHARED_MAC,
        source: SHARED,
        destination_mac: LEASED_MAC,
        destination: LEASED,
    };
    let frame = tcp(back, 80, 1234, TcpControl::None, b"x");
    assert!(send(&directory, 0, &frame).is_ok());
    assert_eq!(route(&directory, &frame), Route::Inside);
    assert_eq!(whose(&frame), Decision::Deliver(0b100));
    // The other one's addresses in a frame for the wrong MAC address.
    let crossed = Ends {
        destination_mac: SHARED_MAC,
        ..TO_LEASED
    };
    let frame = tcp(crossed, 80, 1234, TcpControl::None, b"x");
    assert_eq!(
        receive(&directory, &frame),
        Decision::Drop(IngressDrop::NotOurAddress)
    );
    for forged in [
        Ends {
            source: SHARED,
            ..FROM_LEASED
        },
        Ends {
            source: NOBODY,
            ..FROM_LEASED
        },
    ] {
        let frame = tcp(forged, 80, 1234, TcpControl::None, b"x");
        assert_eq!(send(&directory, 2, &frame), Err(EgressDrop::SourceAddress));
    }
}

#[test]
fn the_shared_address_comes_by_dhcp() {
    let (mut directory, region) = directory();
    let discover = Ends {
        source: NOBODY,
        destination_mac: EthernetAddress::BROADCAST,
        destination: Ipv4Address::BROADCAST,
        ..OUT
    };
    let request = udp(discover, 68, 67, &[1; 300]);
    assert!(send(&directory, 1, &request).is_ok());
    assert_eq!(route(&directory, &request), Route::Both);
    // Nobody else; nothing else; nowhere else.
    assert_eq!(send(&directory, 0, &request), Err(EgressDrop::NoAddress));
    for (frame, cause) in [
        (udp(discover, 69, 67, &[]), EgressDrop::SourceAddress),
        (udp(discover, 68, 68, &[]), EgressDrop::SourceAddress),
        (
            tcp(discover, 68, 67, TcpControl::Syn, &[]),
            EgressDrop::SourceAddress,
        ),
        (
            udp(
                Ends {
                    destination: PEER,
                    ..discover
                },
                68,
                67,
                &[],
            ),
            EgressDrop::SourceAddress,
        ),
        (
            udp(
                Ends {
                    destination_mac: PEER_MAC,
                    ..discover
                },
                68,
                67,
                &[],
            ),
            EgressDrop::SourceAddress,
        ),
        (
            udp(
                Ends {
                    source: SHARED,
                    ..discover
                },
                68,
                67,
                &[],
            ),
            EgressDrop::NoAddress,
        ),
        (arp(discover, ArpOperation::Request), EgressDrop::NoAddress),
    ] {
        assert_eq!(send(&directory, 1, &frame), Err(cause));
    }
    let offers = [
        Ends {
            destination: Ipv4Address::BROADCAST,
            destination_mac: EthernetAddress::BROADCAST,
            ..IN
        },
        Ends {
            destination: Ipv4Address::new(10, 0, 2, 77),
            ..IN
        },
        IN,
    ];
    for (number, ends) in offers.into_iter().enumerate() {
        let offer = udp(ends, 67, 68, &[2; 300]);
        assert_eq!(
            receive(&directory, &offer),
            Decision::Deliver(0b10),
            "{number}"
        );
        // Not from one of us.
        assert_eq!(
            demultiplex(&directory, UP, Origin::Application, &offer, offer.len()),
            Decision::Drop(IngressDrop::NoOwner)
        );
        let other = udp(ends, 67, 69, &[2; 300]);
        assert!(matches!(receive(&directory, &other), Decision::Drop(_)));
    }
    let ping = echo(IN, true, 1);
    assert_eq!(
        receive(&directory, &ping),
        Decision::Drop(IngressDrop::NotOurAddress),
        "nobody has the address yet"
    );
    share(region, SHARED);
    assert!(directory.refresh());
    assert_eq!(receive(&directory, &ping), Decision::Answer(Answer::Echo));
    let frame = tcp(OUT, 80, 1234, TcpControl::None, b"x");
    assert!(send(&directory, 0, &frame).is_ok());
    assert_eq!(
        send(&directory, 1, &frame),
        Err(EgressDrop::SourcePort),
        "they are told apart by ports"
    );
    let renewal = udp(OUT, 68, 67, &[1; 300]);
    assert!(send(&directory, 1, &renewal).is_ok());
    assert_eq!(send(&directory, 0, &renewal), Err(EgressDrop::SourcePort));
}

#[test]
fn what_makes_no_sense_is_no_address() {
    let (mut directory, region) = directory();
    share(region, SHARED);
    let cases = [
        addresses(EthernetAddress::BROADCAST, LEASED),
        addresses(EthernetAddress([0; 6]), LEASED),
        addresses(LEASED_MAC, Ipv4Address::BROADCAST),
        addresses(LEASED_MAC, Ipv4Address::new(224, 0, 0, 1)),
        addresses(LEASED_MAC, Ipv4Address::LOCALHOST),
        addresses(SHARED_MAC, LEASED),
        addresses(LEASED_MAC, SHARED),
        Addresses {
            ipv4_prefix_length: 33,
            ..addresses(LEASED_MAC, LEASED)
        },
        Addresses {
            ipv6: [0xff; 16],
            ..addresses(LEASED_MAC, LEASED)
        },
    ];
    for case in cases {
        lease(region, 3, Some(case));
        directory.refresh();
        assert!(!directory.identity(2).is_reachable(), "{case:?}");
        let shared = directory.with_address(SHARED).unwrap();
        assert_eq!(shared.sharers, 0b11, "{case:?}");
    }
}

proptest! {
    /// Whatever the address table says, an address leads to those who have it alone.
    #[test]
    fn addresses_lead_to_who_has_them(
        changes in prop::collection::vec((0u16..6, 0u8..4, 0u8..4, any::<bool>()), 1..60),
    ) {
        let (mut directory, region) = directory();
        for (owner, mac, ipv4, present) in changes {
            let mac = EthernetAddress([0x52, 0x54, 0, 0x5e, 0x60, mac]);
            let ipv4 = Ipv4Address::new(10, 0, 2, 14 + ipv4);
            lease(region, owner, present.then(|| addresses(mac, ipv4)));
            directory.refresh();
            for index in 0..4 {
                let identity = directory.identity(index);
                if !identity.is_reachable() {
                    prop_assert!(identity.sharers == 0 && !identity.has_ipv4());
                    continue;
                }
                prop_assert!(identity.sharers & 1 << index != 0);
                prop_assert!(!identity.own_address || identity.sharers == 1 << index);
                prop_assert_eq!(directory.with_mac(identity.mac).unwrap().sharers, identity.sharers);
                let found = directory.with_ipv6(identity.link_local).unwrap();
                prop_assert_eq!(found.sharers, identity.sharers);
                if identity.has_ipv4() {
                    let found = directory.with_address(identity.ipv4).unwrap();
                    prop_assert_eq!((found.mac, found.sharers), (identity.mac, identity.sharers));
                }
            }
        }
    }
}
