//! Whose a received IPv6 frame is.

mod support;

use proptest::prelude::*;
use segue_netserver_core::ingress::{
    Answer, Decision, LONG_HEADER, Origin, SHORT_HEADER, demultiplex,
};
use segue_status::network::IngressDrop;
use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv6Address, NdiscNeighborFlags, TcpControl};
use support::ipv6::*;
use support::{OWN_MAC, PEER_MAC, directory};

const ALL: u64 = 0b111;

/// Decides as the server does: with as little of the frame as suffices.
fn whose_from(sharers: u32, up: u64, origin: Origin, frame: &[u8]) -> Decision {
    let directory = directory(sharers);
    let decide = |most: usize| {
        let header = &frame[..frame.len().min(most)];
        demultiplex(&directory, up, origin, header, frame.len())
    };
    match decide(SHORT_HEADER) {
        Decision::Longer => decide(LONG_HEADER),
        decision => decision,
    }
}

fn whose(sharers: u32, up: u64, frame: &[u8]) -> Decision {
    whose_from(sharers, up, Origin::Network, frame)
}

fn receive(frame: &[u8]) -> Decision {
    whose(2, ALL, frame)
}

const FIRST: Decision = Decision::Deliver(0b001);
const SECOND: Decision = Decision::Deliver(0b010);
const SHARERS: Decision = Decision::Deliver(0b011);
const OWNER: Decision = Decision::Deliver(0b100);
const NEIGHBOR: Decision = Decision::Answer(Answer::Neighbor);

fn dropped(cause: IngressDrop) -> Decision {
    Decision::Drop(cause)
}

fn to(destination: Ipv6Address) -> Ends {
    Ends { destination, ..IN }
}

#[test]
fn sharers_are_told_apart_by_port_at_both_addresses() {
    for ends in [IN, to(SHARED_LINK_LOCAL)] {
        assert_eq!(receive(&tcp(ends, 5000, 80, TcpControl::Syn, &[])), FIRST);
        assert_eq!(
            receive(&tcp(ends, 5000, 81, TcpControl::None, &[1; 100])),
            SECOND
        );
        assert_eq!(receive(&udp(ends, 5000, 81, &[1; 100])), SECOND);
        assert_eq!(
            receive(&udp(ends, 5000, 82, &[1; 100])),
            Decision::Answer(Answer::Unreachable)
        );
        let closed = tcp(ends, 5000, 82, TcpControl::Syn, &[]);
        assert_eq!(receive(&closed), Decision::Answer(Answer::Reset));
        assert_eq!(whose(2, 0b100, &closed), dropped(IngressDrop::ChannelDown));
        assert_eq!(
            whose(2, 0b110, &tcp(ends, 5000, 80, TcpControl::Syn, &[])),
            dropped(IngressDrop::ChannelDown)
        );
    }
}

#[test]
fn who_is_alone_gets_everything_for_its_address() {
    let group = solicited_node(OWN);
    for ends in [
        TO_OWN,
        Ends {
            destination: OWN_LINK_LOCAL,
            ..TO_OWN
        },
        Ends {
            destination_mac: group_mac(group),
            destination: group,
            ..TO_OWN
        },
    ] {
        for frame in [
            tcp(ends, 5000, 80, TcpControl::Syn, &[]),
            udp(ends, 5000, 9999, &[1]),
            echo(ends, true, 1),
            echo(ends, false, 1),
            unreachable(ends, IpProtocol::Tcp, 1, 2),
            ipv6(ends, IpProtocol::Unknown(132), 64, &[0; 20]),
            ipv6(ends, IpProtocol::HopByHop, 64, &[0; 20]),
            ipv6(ends, IpProtocol::Ipv6Frag, 64, &[0; 20]),
            solicit(ends, OWN),
            advertise(ends, PEER),
        ] {
            assert_eq!(receive(&frame), OWNER);
        }
    }
    assert_eq!(receive(&solicit_group(IN, OWN)), OWNER);
    assert_eq!(receive(&solicit_group(IN, OWN_LINK_LOCAL)), OWNER);
    assert_eq!(
        whose(2, 0b011, &solicit_group(IN, OWN)),
        dropped(IngressDrop::ChannelDown)
    );
    // The default system: one application, at the shared address.
    for frame in [
        tcp(IN, 5000, 9999, TcpControl::Syn, &[]),
        solicit_group(IN, SHARED),
        solicit(IN, SHARED),
    ] {
        assert_eq!(whose(1, ALL, &frame), FIRST);
    }
}

#[test]
fn the_server_answers_solicitations_for_those_who_share() {
    for target in [SHARED, SHARED_LINK_LOCAL] {
        let everybody = Ends {
            destination_mac: group_mac(ALL_NODES),
            destination: ALL_NODES,
            ..IN
        };
        let probe = Ends {
            source: Ipv6Address::UNSPECIFIED,
            ..IN
        };
        let of_group = solicit_group(IN, target);
        for frame in [
            of_group.clone(),
            solicit(IN, target),
            solicit(to(SHARED_LINK_LOCAL), target),
            solicit(everybody, target),
            solicit_group(probe, target),
        ] {
            assert_eq!(receive(&frame), NEIGHBOR);
            assert_eq!(whose(2, 0b110, &frame), NEIGHBOR);
            assert_eq!(whose(2, 0b100, &frame), dropped(IngressDrop::ChannelDown));
        }
        // Other options are nobody's business, also if they are long.
        let mut nonce = of_group.clone();
        nonce.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        nonce[19] += 8;
        assert_eq!(receive(&nonce), NEIGHBOR);
        let mut long = of_group.clone();
        long.extend([12, 30]);
        long.extend([0; 238]);
        long[18..20].copy_from_slice(&272u16.to_be_bytes());
        assert_eq!(receive(&long), NEIGHBOR);
        let forged = |change: &dyn Fn(&mut Vec<u8>), text: &str| {
            let mut frame = of_group.clone();
            change(&mut frame);
            assert_eq!(receive(&frame), dropped(IngressDrop::Malformed), "{text}");
        };
        forged(&|frame| frame[21] = 254, "from beyond the link");
        forged(&|frame| frame[55] = 1, "the code");
        forged(&|frame| frame[85] ^= 1, "another's MAC address");
        forged(&|frame| frame[79] = 0, "an option without length");
        forged(&|frame| frame[79] = 2, "an option beyond the message");
        forged(&|frame| frame[19] -= 1, "half an option");
        forged(&|frame| frame[19] = 23, "no room for the target");
        forged(&|frame| frame[22..38].fill(0), "a probe with an option");
        forged(&|frame| frame[22..38].fill(0xff), "from many");
        forged(&|frame| frame[6] |= 1, "to many");
        let loopback = Ends {
            source: Ipv6Address::LOCALHOST,
            ..IN
        };
        let probe_of_one = solicit(probe, target);
        for frame in [solicit_group(loopback, target), probe_of_one] {
            assert_eq!(receive(&frame), dropped(IngressDrop::Malformed));
        }
    }
    for frame in [
        solicit_group(IN, NOBODY),
        solicit(IN, NOBODY),
        // To one who does not have it.
        solicit(IN, OWN),
    ] {
        assert_eq!(receive(&frame), dropped(IngressDrop::NeighborDiscovery));
    }
}

#[test]
fn replies_and_errors_go_to_whom_they_concern() {
    for ends in [IN, to(SHARED_LINK_LOCAL)] {
        assert_eq!(
            receive(&echo(ends, true, 1)),
            Decision::Answer(Answer::Echo)
        );
        assert_eq!(
            whose(2, 0b100, &echo(ends, true, 1)),
            dropped(IngressDrop::ChannelDown)
        );
        assert_eq!(receive(&echo(ends, false, 81)), SECOND);
        assert_eq!(
            receive(&echo(ends, false, 9)),
            dropped(IngressDrop::NoOwner)
        );
        // Unreachable, packet too big, time exceeded, parameter problem.
        for kind in [1, 2, 3, 4] {
            let error = |protocol, source| {
                let mut frame = unreachable(ends, protocol, source, 53);
                frame[54] = kind;
                receive(&frame)
            };
            for protocol in [IpProtocol::Tcp, IpProtocol::Udp] {
                assert_eq!(error(protocol, 80), FIRST);
                assert_eq!(error(protocol, 81), SECOND);
                assert_eq!(error(protocol, 82), dropped(IngressDrop::NoOwner));
            }
            for protocol in [
                IpProtocol::Ipv6Frag,
                IpProtocol::HopByHop,
                IpProtocol::Unknown(132),
                // Of which only an echo request has an identifier.
                IpProtocol::Icmpv6,
            ] {
                assert_eq!(error(protocol, 80), dropped(IngressDrop::Icmp));
            }
        }
    }
    let mut of_echo = unreachable(IN, IpProtocol::Icmpv6, 0x8000, 0);
    of_echo[106..108].copy_from_slice(&81u16.to_be_bytes());
    assert_eq!(receive(&of_echo), SECOND);
    let mut of_another = unreachable(IN, IpProtocol::Udp, 80, 53);
    of_another[70..86].copy_from_slice(&OWN.octets());
    assert_eq!(receive(&of_another), dropped(IngressDrop::Icmp));
    let mut cut = unreachable(IN, IpProtocol::Udp, 80, 53);
    cut.truncate(103);
    cut[19] = 49;
    assert_eq!(receive(&cut), dropped(IngressDrop::Malformed));
    // Advertisements are for all: each has neighbours of its own.
    assert_eq!(receive(&advertise(IN, PEER)), SHARERS);
    assert_eq!(receive(&advertise(to(SHARED_LINK_LOCAL), NOBODY)), SHARERS);
    for target in [SHARED, SHARED_LINK_LOCAL, OWN, OWN_LINK_LOCAL] {
        assert_eq!(
            receive(&advertise(IN, target)),
            dropped(IngressDrop::SourceAddress)
        );
    }
    assert_eq!(
        whose_from(2, ALL, Origin::Application, &advertise(IN, OWN)),
        SHARERS
    );
    for at in [21, 55] {
        let mut far = advertise(IN, PEER);
        far[at] ^= 1;
        assert_eq!(receive(&far), dropped(IngressDrop::NeighborDiscovery));
    }
}

#[test]
fn what_is_for_nobody_has_an_answer() {
    let everybody = |group: Ipv6Address| Ends {
        destination_mac: group_mac(group),
        destination: group,
        ..IN
    };
    // Nobody's address, and another's in a frame for us.
    for ends in [
        to(NOBODY),
        to(OWN),
        to(OWN_LINK_LOCAL),
        to(Ipv6Address::UNSPECIFIED),
        to(Ipv6Address::LOCALHOST),
        Ends {
            destination_mac: OWN_MAC,
            ..IN
        },
        Ends {
            destination_mac: PEER_MAC,
            ..IN
        },
        Ends {
            destination_mac: EthernetAddress::BROADCAST,
            ..IN
        },
    ] {
        assert_eq!(
            receive(&udp(ends, 5000, 80, &[1; 9])),
            dropped(IngressDrop::NotOurAddress)
        );
    }
    let mdns = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    for frame in [
        udp(everybody(mdns), 5353, 80, &[1]),
        udp(everybody(ALL_NODES), 5000, 80, &[1]),
        echo(everybody(ALL_NODES), true, 80),
        udp(everybody(solicited_node(SHARED)), 5000, 80, &[1]),
        solicit(everybody(mdns), SHARED),
        advertise_with(everybody(ALL_NODES), PEER, NdiscNeighborFlags::OVERRIDE),
    ] {
        assert_eq!(receive(&frame), dropped(IngressDrop::Multicast));
    }
    for (next_header, cause) in [
        (44, IngressDrop::Fragment),
        (0, IngressDrop::ExtensionHeader),
        (43, IngressDrop::ExtensionHeader),
        (50, IngressDrop::ExtensionHeader),
        (51, IngressDrop::ExtensionHeader),
        (60, IngressDrop::ExtensionHeader),
        (135, IngressDrop::ExtensionHeader),
        (139, IngressDrop::ExtensionHeader),
        (140, IngressDrop::ExtensionHeader),
        (253, IngressDrop::ExtensionHeader),
        (254, IngressDrop::ExtensionHeader),
        (1, IngressDrop::Protocol),
        (59, IngressDrop::Protocol),
        (132, IngressDrop::Protocol),
    ] {
        // What follows looks like a datagram to port 80.
        let frame = ipv6(IN, next_header.into(), 64, &[0, 80, 0, 80, 0, 80, 0, 80]);
        assert_eq!(receive(&frame), dropped(cause));
    }
    // Nobody here takes orders from the network.
    for kind in [133, 134, 137] {
        let mut order = solicit(IN, SHARED);
        order[54] = kind;
        assert_eq!(receive(&order), dropped(IngressDrop::NeighborDiscovery));
    }
    for kind in [0, 5, 100, 130, 131, 143, 255] {
        let mut other = solicit(IN, SHARED);
        other[54] = kind;
        assert_eq!(receive(&other), dropped(IngressDrop::Icmp));
    }
    // Nobody outside has an address of ours.
    for source in [SHARED, SHARED_LINK_LOCAL, OWN, OWN_LINK_LOCAL] {
        let forged = Ends { source, ..IN };
        for frame in [udp(forged, 5000, 80, &[]), solicit_group(forged, SHARED)] {
            assert_eq!(receive(&frame), dropped(IngressDrop::SourceAddress));
        }
        let inside = whose_from(2, ALL, Origin::Application, &udp(forged, 5000, 80, &[]));
        assert_eq!(inside, FIRST);
    }
}

#[test]
fn lengths_that_contradict_themselves_are_dropped() {
    let change = |at: usize, value: u8| {
        let mut frame = udp(IN, 5000, 80, &[1; 64]);
        frame[at] = value;
        receive(&frame)
    };
    let malformed = dropped(IngressDrop::Malformed);
    assert_eq!(change(14, 0x45), malformed, "version 4");
    assert_eq!(change(18, 1), malformed, "longer than the frame");
    assert_eq!(change(19, 3), malformed, "no ports");
    assert_eq!(change(19, 4), FIRST, "the application judges the rest");
    let frame = udp(IN, 5000, 80, &[1; 64]);
    for length in 0..58 {
        assert_eq!(receive(&frame[..length]), malformed);
    }
    let mut short = echo(IN, true, 1);
    short[19] = 7;
    assert_eq!(receive(&short), malformed);
    let mut advertisement = advertise(IN, PEER);
    advertisement[19] = 23;
    assert_eq!(receive(&advertisement), malformed);
}

proptest! {
    /// Whatever comes: a decision, the same however much of the frame is at hand, and
    /// nobody gets what is for the other address.
    #[test]
    fn any_frame_has_an_answer(
        kind in 0usize..8,
        flips in prop::collection::vec((0usize..150, any::<u8>()), 0..6),
        cut in 0usize..200,
        up in 0u64..8,
    ) {
        let mut frame = match kind {
            0 => tcp(IN, 5000, 80, TcpControl::Syn, &[1; 100]),
            1 => udp(TO_OWN, 5000, 81, &[1; 100]),
            2 => echo(IN, true, 80),
            3 => unreachable(IN, IpProtocol::Udp, 80, 53),
            4 => solicit_group(IN, SHARED),
            5 => solicit_group(IN, OWN),
            6 => advertise(IN, PEER),
            _ => udp(to(SHARED_LINK_LOCAL), 5000, 81, &[1; 4]),
        };
        for (at, value) in flips {
            if at < frame.len() {
                frame[at] = value;
            }
        }
        frame.truncate(cut.max(14));
        let directory = directory(2);
        let decide = |length: usize| {
            let header = &frame[..frame.len().min(length)];
            demultiplex(&directory, up, Origin::Network, header, frame.len())
        };
        let whole = decide(frame.len());
        prop_assert_ne!(whole, Decision::Longer);
        prop_assert_eq!(decide(LONG_HEADER), whole);
        let short = decide(SHORT_HEADER);
        prop_assert!(short == Decision::Longer || short == whole);
        if let Decision::Deliver(applications) = whole {
            prop_assert!(applications != 0 && applications & !up == 0);
            if frame[12..14] == [0x86, 0xdd] && frame[38] != 0xff {
                let own = [OWN.octets(), OWN_LINK_LOCAL.octets()];
                let is_own = own.iter().any(|address| frame[38..54] == *address);
                prop_assert_eq!(is_own, applications == 0b100);
            }
        }
    }
}
