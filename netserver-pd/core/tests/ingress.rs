//! Whose a received frame is.

mod support;

use proptest::prelude::*;
use segue_netserver_core::answer;
use segue_netserver_core::ingress::{
    Answer, Decision, LONG_HEADER, Origin, SHORT_HEADER, demultiplex,
};
use segue_status::network::IngressDrop;
use smoltcp::wire::{
    ArpOperation, EthernetAddress, EthernetProtocol, IpProtocol, Ipv4Address, TcpControl,
};
use support::*;

const ALL: u64 = 0b111;

/// Decides as the server does: with as little of the frame as suffices.
fn whose(sharers: u32, up: u64, frame: &[u8]) -> Decision {
    let directory = directory(sharers);
    let at_hand = |most: usize| &frame[..frame.len().min(most)];
    match demultiplex(
        &directory,
        up,
        Origin::Network,
        at_hand(SHORT_HEADER),
        frame.len(),
    ) {
        Decision::Longer => demultiplex(
            &directory,
            up,
            Origin::Network,
            at_hand(LONG_HEADER),
            frame.len(),
        ),
        decision => decision,
    }
}

fn receive(frame: &[u8]) -> Decision {
    whose(2, ALL, frame)
}

const FIRST: Decision = Decision::Deliver(0b001);
const SECOND: Decision = Decision::Deliver(0b010);
const OWNER: Decision = Decision::Deliver(0b100);

fn dropped(cause: IngressDrop) -> Decision {
    Decision::Drop(cause)
}

#[test]
fn sharers_are_told_apart_by_port() {
    assert_eq!(receive(&tcp(IN, 5000, 80, TcpControl::Syn, &[])), FIRST);
    assert_eq!(
        receive(&tcp(IN, 5000, 81, TcpControl::None, &[1; 100])),
        SECOND
    );
    assert_eq!(receive(&udp(IN, 5000, 81, &[1; 100])), SECOND);
    assert_eq!(
        receive(&udp(IN, 5000, 82, &[1; 100])),
        Decision::Answer(Answer::Unreachable)
    );
    assert_eq!(
        receive(&tcp(IN, 5000, 82, TcpControl::Syn, &[])),
        Decision::Answer(Answer::Reset)
    );
    assert_eq!(
        whose(2, 0b100, &tcp(IN, 5000, 82, TcpControl::Syn, &[])),
        dropped(IngressDrop::ChannelDown)
    );
    assert_eq!(
        whose(2, 0b110, &tcp(IN, 5000, 80, TcpControl::Syn, &[])),
        dropped(IngressDrop::ChannelDown)
    );
}

#[test]
fn who_is_alone_gets_everything_for_its_address() {
    let own = Ends {
        destination_mac: OWN_MAC,
        destination: OWN,
        ..IN
    };
    for frame in [
        tcp(own, 5000, 80, TcpControl::Syn, &[]),
        udp(own, 5000, 9999, &[1]),
        echo(own, true, 1),
        echo(own, false, 1),
        ipv4(own, IpProtocol::Unknown(132), &[0; 20]),
        arp(own, ArpOperation::Request),
        arp(own, ArpOperation::Reply),
    ] {
        assert_eq!(receive(&frame), OWNER);
    }
    let mut fragment = udp(own, 5000, 80, &[1; 64]);
    fragment[20] = 0x20;
    assert_eq!(receive(&fragment), OWNER);
    // The default system: one application, at the shared address.
    assert_eq!(
        whose(1, ALL, &tcp(IN, 5000, 9999, TcpControl::Syn, &[])),
        FIRST
    );
}

#[test]
fn the_server_answers_arp_for_those_who_share() {
    let request = arp(IN, ArpOperation::Request);
    assert_eq!(receive(&request), Decision::Answer(Answer::Arp));
    assert_eq!(whose(2, 0b110, &request), Decision::Answer(Answer::Arp));
    assert_eq!(whose(2, 0b100, &request), dropped(IngressDrop::ChannelDown));
    let answer = Ends {
        source_mac: SHARED_MAC,
        destination_mac: PEER_MAC,
        source: SHARED,
        destination: PEER,
    };
    let mut buffer = [0xff; 64];
    let length = answer::arp(&directory(2), &request, &mut buffer).unwrap();
    assert_eq!(buffer[..length], arp(answer, ArpOperation::Reply));
    // Nobody is made to send to everybody.
    for mac in [EthernetAddress::BROADCAST, OWN_MAC] {
        let mut forged = request.clone();
        forged[22..28].copy_from_slice(&mac.0);
        assert_eq!(receive(&forged), dropped(IngressDrop::Malformed));
    }
    assert_eq!(receive(&echo(IN, true, 1)), Decision::Answer(Answer::Echo));
    assert_eq!(
        whose(2, 0b100, &echo(IN, true, 1)),
        dropped(IngressDrop::ChannelDown)
    );
    // Each has neighbours of its own.
    assert_eq!(
        receive(&arp(IN, ArpOperation::Reply)),
        Decision::Deliver(0b011)
    );
    let other = Ends {
        destination: Ipv4Address::new(10, 0, 2, 77),
        ..IN
    };
    assert_eq!(
        receive(&arp(other, ArpOperation::Request)),
        dropped(IngressDrop::ArpNotOurs)
    );
}

#[test]
fn replies_and_errors_go_to_whom_they_concern() {
    assert_eq!(receive(&echo(IN, false, 81)), SECOND);
    assert_eq!(receive(&echo(IN, false, 9)), dropped(IngressDrop::NoOwner));
    for protocol in [IpProtocol::Tcp, IpProtocol::Udp] {
        assert_eq!(receive(&unreachable(IN, protocol, 80, 53)), FIRST);
        assert_eq!(receive(&unreachable(IN, protocol, 81, 53)), SECOND);
        assert_eq!(
            receive(&unreachable(IN, protocol, 82, 53)),
            dropped(IngressDrop::NoOwner)
        );
    }
    assert_eq!(
        receive(&unreachable(IN, IpProtocol::Igmp, 80, 53)),
        dropped(IngressDrop::Icmp)
    );
    let mut redirect = unreachable(IN, IpProtocol::Udp, 80, 53);
    redirect[34] = 5;
    assert_eq!(receive(&redirect), dropped(IngressDrop::Icmp));
    let mut of_another = unreachable(IN, IpProtocol::Udp, 80, 53);
    of_another[54..58].copy_from_slice(&OWN.octets());
    assert_eq!(receive(&of_another), dropped(IngressDrop::Icmp));
}

#[test]
fn long_headers_are_looked_at_again() {
    // 60 bytes of IPv4 header around the quoted packet push its ports far out.
    let mut quoted = unreachable(IN, IpProtocol::Udp, 80, 53)[14..].to_vec();
    let inner = quoted.split_off(28);
    let mut message = quoted[20..28].to_vec();
    let mut long_inner = inner[..20].to_vec();
    long_inner[0] = 0x4f;
    long_inner.extend([1; 40]);
    long_inner.extend(&inner[20..]);
    message.extend(long_inner);
    let frame = ipv4(IN, IpProtocol::Icmp, &message);
    assert!(frame.len() > SHORT_HEADER + 40);
    let directory = directory(2);
    assert_eq!(
        demultiplex(
            &directory,
            ALL,
            Origin::Network,
            &frame[..SHORT_HEADER],
            frame.len()
        ),
        Decision::Longer
    );
    assert_eq!(receive(&frame), FIRST);
}

#[test]
fn what_is_for_nobody_has_an_answer() {
    let to = |destination: Ipv4Address, destination_mac| Ends {
        destination,
        destination_mac,
        ..IN
    };
    let stranger = Ipv4Address::new(10, 0, 2, 77);
    assert_eq!(
        receive(&udp(to(stranger, SHARED_MAC), 1, 80, &[])),
        dropped(IngressDrop::NotOurAddress)
    );
    // Somebody's IP address in a frame for somebody else's MAC address.
    assert_eq!(
        receive(&udp(to(SHARED, OWN_MAC), 1, 80, &[])),
        dropped(IngressDrop::NotOurAddress)
    );
    let everyone = EthernetAddress::BROADCAST;
    for broadcast in [Ipv4Address::BROADCAST, Ipv4Address::new(10, 0, 2, 255)] {
        assert_eq!(receive(&udp(to(broadcast, everyone), 1, 81, &[])), SECOND);
        assert_eq!(
            receive(&udp(to(broadcast, everyone), 1, 82, &[])),
            dropped(IngressDrop::NoOwner)
        );
        assert_eq!(
            receive(&echo(to(broadcast, everyone), true, 1)),
            dropped(IngressDrop::Icmp)
        );
        assert_eq!(
            receive(&tcp(to(broadcast, everyone), 1, 80, TcpControl::Syn, &[])),
            dropped(IngressDrop::Protocol)
        );
    }
    let group = to(
        Ipv4Address::new(224, 0, 0, 251),
        EthernetAddress([1, 0, 0x5e, 0, 0, 0xfb]),
    );
    assert_eq!(
        receive(&udp(group, 5353, 80, &[])),
        dropped(IngressDrop::Multicast)
    );
    assert_eq!(
        receive(&ipv4(IN, IpProtocol::Igmp, &[0; 8])),
        dropped(IngressDrop::Protocol)
    );
    assert_eq!(
        receive(&ethernet(IN, EthernetProtocol::Unknown(0x88cc), &[0; 60])),
        dropped(IngressDrop::EtherType)
    );
    // Nobody outside has an address of ours.
    for source in [SHARED, OWN] {
        let forged = Ends { source, ..IN };
        assert_eq!(
            receive(&udp(forged, 5000, 80, &[])),
            dropped(IngressDrop::SourceAddress)
        );
    }
}

#[test]
fn headers_that_contradict_themselves_are_dropped() {
    let change = |at: usize, value: u8| {
        let mut frame = udp(IN, 5000, 80, &[1; 64]);
        frame[at] = value;
        receive(&frame)
    };
    for (at, value) in [(14, 0x65), (14, 0x44), (16, 1), (17, 19)] {
        assert_eq!(change(at, value), dropped(IngressDrop::Malformed), "{at}");
    }
    assert_eq!(
        change(17, 21),
        dropped(IngressDrop::Malformed),
        "no room for ports"
    );
    assert_eq!(
        change(19, 0x20 | 1),
        FIRST,
        "the identifier does not matter"
    );
}

/// A piece of a datagram of `length` bytes from port 5000 to `port`: its payload
/// from byte `offset` on.
fn fragment(protocol: IpProtocol, port: u16, offset: u16, more: bool, length: usize) -> Vec<u8> {
    let mut payload = vec![0; length];
    for (to, from) in payload.iter_mut().zip(
        [5000u16.to_be_bytes(), port.to_be_bytes()]
            .as_flattened()
            .iter()
            .filter(|_| offset == 0),
    ) {
        *to = *from;
    }
    let mut frame = ipv4(IN, protocol, &payload);
    let field = (offset / 8) | (u16::from(more) << 13);
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

#[test]
fn the_first_fragment_says_whose_the_others_are() {
    let udp = |port, offset, more, length| {
        receive(&fragment(IpProtocol::Udp, port, offset, more, length))
    };
    let Decision::FirstFragment(datagram, 0b010) = udp(81, 0, true, 1480) else {
        panic!("{:?}", udp(81, 0, true, 1480));
    };
    assert_eq!((datagram.ours, datagram.peer), (SHARED, PEER));
    assert_eq!(udp(0, 1480, true, 1480), Decision::LaterFragment(datagram));
    assert_eq!(udp(0, 2960, false, 5), Decision::LaterFragment(datagram));
    assert_eq!(udp(82, 0, true, 1480), dropped(IngressDrop::NoOwner));
    // Headers that are cut, or written over.
    let short = dropped(IngressDrop::ShortFragment);
    assert_eq!(receive(&fragment(IpProtocol::Udp, 81, 0, true, 7)), short);
    assert_eq!(receive(&fragment(IpProtocol::Tcp, 81, 0, true, 16)), short);
    for offset in [8, 16] {
        let behind = fragment(IpProtocol::Tcp, 0, offset, false, 64);
        assert_eq!(receive(&behind), short);
    }
    let ping = fragment(IpProtocol::Icmp, 0, 0, true, 64);
    assert_eq!(receive(&ping), dropped(IngressDrop::Fragment));
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), ethertype in 0u8..8, up in 0u64..8) {
        let mut frame = bytes;
        if frame.len() > 14 {
            frame[12] = 8;
            frame[13] = ethertype;
            frame[14] = 0x45 | frame[14] & 2;
        }
        match whose(2, up, &frame) {
            Decision::Deliver(applications) => {
                prop_assert!(applications != 0 && applications & !up == 0);
            }
            Decision::Drop(_) => {}
            Decision::Answer(Answer::Arp) => prop_assert!(frame[12..14] == [8, 6] && up & 0b11 != 0),
            Decision::Answer(_) => prop_assert!(frame[12..14] == [8, 0] && up & 0b11 != 0),
            Decision::FirstFragment(_, applications) => {
                prop_assert!(applications != 0 && applications & !up == 0);
            }
            Decision::LaterFragment(_) => prop_assert!(frame[20..22] != [0, 0]),
            Decision::Longer => prop_assert!(false, "undecided with {} bytes", LONG_HEADER),
        }
    }
}
