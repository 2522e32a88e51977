//! The client with a simulated server.

use proptest::prelude::*;
use segue_dhcp_core::guard::Reason;
use segue_dhcp_core::{Client, Event, LONGEST_LEASE, Lease};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr,
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

const SECOND: u64 = 1_000_000;
const HARDWARE: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x5e, 0x60, 0]);
const SERVER_HARDWARE: EthernetAddress = EthernetAddress([0x52, 0x55, 10, 0, 2, 2]);
const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 2, 40);

/// A question of the client.
#[derive(Clone, Copy, Debug)]
struct Question {
    kind: DhcpMessageType,
    transaction: u32,
    requested: Option<Ipv4Address>,
    client: Ipv4Address,
    to: Ipv4Address,
}

fn question(frame: &[u8]) -> Option<Question> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    assert_eq!(frame.src_addr(), HARDWARE);
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    assert_eq!((datagram.src_port(), datagram.dst_port()), (68, 67));
    let message = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let message = DhcpRepr::parse(&message).ok()?;
    Some(Question {
        kind: message.message_type,
        transaction: message.transaction_id,
        requested: message.requested_ip,
        client: message.client_ip,
        to: packet.dst_addr(),
    })
}

/// An honest answer.
fn answer(to: &Question, kind: DhcpMessageType) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type: kind,
        transaction_id: to.transaction,
        secs: 0,
        client_hardware_address: HARDWARE,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: ADDRESS,
        server_ip: SERVER,
        router: Some(SERVER),
        subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(SERVER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(60),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

fn ethernet(kind: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let header = EthernetRepr {
        src_addr: SERVER_HARDWARE,
        dst_addr: HARDWARE,
        ethertype: kind,
    };
    let mut frame = vec![0; 14 + payload.len()];
    header.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    frame[14..].copy_from_slice(payload);
    frame
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let (source, destination) = (SERVER, Ipv4Address::BROADCAST);
    let udp = UdpRepr {
        src_port: 67,
        dst_port: 68,
    };
    let header = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 28 + payload.len()];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[20..]),
        &source.into(),
        &destination.into(),
        payload.len(),
        |to| to.copy_from_slice(payload),
        &checksums,
    );
    ethernet(EthernetProtocol::Ipv4, &bytes)
}

fn frame(message: &DhcpRepr) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message
        .emit(&mut DhcpPacket::new_unchecked(&mut bytes))
        .expect("it fits");
    // smoltcp takes the operation code from the kind of message.
    bytes[0] = 2;
    datagram(&bytes)
}

struct World {
    client: Client,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut client = Client::new(HARDWARE.0, 7, SECOND);
        client.set_up(true);
        Self {
            client,
            now: SECOND,
        }
    }

    /// The next question, after so much time as it takes; ARP is answered on the way.
    fn ask(&mut self) -> Question {
        for _ in 0..100 {
            self.client.poll(self.now);
            while let Some(frame) = self.client.next_frame() {
                if let Some(question) = question(&frame) {
                    return question;
                }
                self.resolve(&frame);
            }
            let next = self.client.next_deadline(self.now).expect("a deadline");
            self.now = self.now.max(next);
        }
        panic!("the client asks nothing");
    }

    fn resolve(&mut self, frame: &[u8]) {
        let frame = EthernetFrame::new_checked(frame).expect("a frame");
        let packet = ArpPacket::new_checked(frame.payload()).expect("an ARP request");
        let Ok(ArpRepr::EthernetIpv4 {
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            panic!("an ARP request");
        };
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: SERVER_HARDWARE,
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: HARDWARE,
            target_protocol_addr: source_protocol_addr,
        };
        let mut bytes = vec![0; reply.buffer_len()];
        reply.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        let frame = ethernet(EthernetProtocol::Arp, &bytes);
        self.client.receive(&frame, self.now);
    }

    fn tell(&mut self, message: &DhcpRepr) -> Option<Event> {
        self.client.receive(&frame(message), self.now);
        self.client.next_event()
    }

    fn refused(&mut self, message: &DhcpRepr) -> Reason {
        match self.tell(message) {
            Some(Event::Refused(refusal)) => {
                assert_eq!(refusal.from, SERVER);
                assert!(refusal.to_string().contains("10.0.2.2 is not believed: "));
                refusal.reason
            }
            other => panic!("{other:?}"),
        }
    }

    /// As far as a lease.
    fn lease(&mut self) -> Lease {
        let discover = self.ask();
        assert_eq!(discover.kind, DhcpMessageType::Discover);
        assert_eq!(self.tell(&answer(&discover, DhcpMessageType::Offer)), None);
        let request = self.ask();
        assert_eq!(request.requested, Some(ADDRESS));
        match self.tell(&answer(&request, DhcpMessageType::Ack)) {
            Some(Event::Leased(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }
}

const LEASE: Lease = Lease {
    address: [10, 0, 2, 40],
    prefix_length: 24,
    router: Some([10, 0, 2, 2]),
    seconds: 60,
    server: [10, 0, 2, 2],
};

#[test]
fn it_gets_an_address_and_keeps_it() {
    let mut world = World::new();
    assert_eq!(world.lease(), LEASE);
    for _ in 0..3 {
        let before = world.now;
        let renew = world.ask();
        assert!((25..=35).contains(&((world.now - before) / SECOND)));
        assert_eq!((renew.client, renew.to), (ADDRESS, SERVER));
        let event = world.tell(&answer(&renew, DhcpMessageType::Ack));
        assert_eq!(event, Some(Event::Leased(LEASE)));
    }
}

#[test]
fn a_lease_runs_out_and_another_is_asked_for() {
    let mut world = World::new();
    world.lease();
    let leased = world.now;
    let mut last = world.ask();
    // Nobody answers, neither the server nor, later, any other.
    while last.kind != DhcpMessageType::Discover {
        last = world.ask();
    }
    assert_eq!((world.now - leased) / SECOND, 60);
    assert_eq!(world.client.next_event(), Some(Event::Lost));
    assert_eq!(world.client.next_event(), None);
    world.tell(&answer(&last, DhcpMessageType::Offer));
    let request = world.ask();
    let event = world.tell(&answer(&request, DhcpMessageType::Ack));
    assert_eq!(event, Some(Event::Leased(LEASE)));
}

#[test]
fn a_server_takes_an_address_back_and_gives_another() {
    let mut world = World::new();
    world.lease();
    let renew = world.ask();
    // Only the server that gave it may.
    let mut nak = answer(&renew, DhcpMessageType::Nak);
    nak.server_identifier = Some(Ipv4Address::new(10, 0, 2, 66));
    let other = Reason::OtherServer(Ipv4Address::new(10, 0, 2, 66));
    assert_eq!(world.refused(&nak), other);
    assert_eq!(
        world.tell(&answer(&renew, DhcpMessageType::Nak)),
        Some(Event::Lost)
    );
    let discover = world.ask();
    assert_eq!(discover.kind, DhcpMessageType::Discover);
    let address = Ipv4Address::new(10, 0, 2, 77);
    let mut offer = answer(&discover, DhcpMessageType::Offer);
    offer.your_ip = address;
    world.tell(&offer);
    let request = world.ask();
    let mut ack = answer(&request, DhcpMessageType::Ack);
    assert_eq!(world.refused(&ack), Reason::OtherAddress(ADDRESS));
    ack.your_ip = address;
    let lease = Lease {
        address: address.octets(),
        ..LEASE
    };
    assert_eq!(world.tell(&ack), Some(Event::Leased(lease)));
}

#[test]
fn a_very_long_lease_is_renewed_twice_a_day() {
    let mut world = World::new();
    let discover = world.ask();
    world.tell(&answer(&discover, DhcpMessageType::Offer));
    let request = world.ask();
    let mut ack = answer(&request, DhcpMessageType::Ack);
    ack.lease_duration = Some(u32::MAX);
    let seconds = LONGEST_LEASE;
    let event = world.tell(&ack);
    assert_eq!(event, Some(Event::Leased(Lease { seconds, ..LEASE })));
    let before = world.now;
    world.ask();
    assert_eq!((world.now - before) / SECOND, u64::from(seconds / 2));
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let address = Ipv4Address::new;
    let mask = |mask: Ipv4Address| move |message: &mut DhcpRepr| message.subnet_mask = Some(mask);
    let gives = |address: Ipv4Address| move |message: &mut DhcpRepr| message.your_ip = address;
    type Change = Box<dyn Fn(&mut DhcpRepr)>;
    let wrong: Vec<(Change, Reason)> = vec![
        (
            Box::new(|message| message.transaction_id ^= 1),
            Reason::OtherTransaction,
        ),
        (
            Box::new(|message| message.client_hardware_address.0[5] ^= 1),
            Reason::OtherStation,
        ),
        (
            Box::new(|message| message.server_identifier = None),
            Reason::NoServer,
        ),
        (
            Box::new(|message| message.subnet_mask = None),
            Reason::NoMask,
        ),
        (
            Box::new(mask(address(255, 0, 255, 0))),
            Reason::Mask(address(255, 0, 255, 0)),
        ),
        (
            Box::new(mask(address(0, 0, 0, 0))),
            Reason::Address(ADDRESS, 0),
        ),
        (
            Box::new(mask(address(255, 255, 255, 255))),
            Reason::Address(ADDRESS, 32),
        ),
        (
            Box::new(gives(address(0, 0, 0, 0))),
            Reason::Address(address(0, 0, 0, 0), 24),
        ),
        (
            Box::new(gives(address(255, 255, 255, 255))),
            Reason::Address(address(255, 255, 255, 255), 24),
        ),
        (
            Box::new(gives(address(10, 0, 2, 255))),
            Reason::Address(address(10, 0, 2, 255), 24),
        ),
        (
            Box::new(gives(address(224, 0, 0, 5))),
            Reason::Address(address(224, 0, 0, 5), 24),
        ),
        (
            Box::new(gives(address(127, 0, 0, 1))),
            Reason::Address(address(127, 0, 0, 1), 24),
        ),
        (
            Box::new(|message| message.router = Some(Ipv4Address::new(10, 0, 3, 1))),
            Reason::Router(address(10, 0, 3, 1)),
        ),
        (
            Box::new(|message| message.router = Some(ADDRESS)),
            Reason::Router(ADDRESS),
        ),
        (
            Box::new(|message| message.lease_duration = None),
            Reason::NoTime,
        ),
        (
            Box::new(|message| message.lease_duration = Some(0)),
            Reason::Time(0),
        ),
        (
            // smoltcp does not write this option by itself.
            Box::new(|message| {
                message.additional_options = &[DhcpOption {
                    kind: 58,
                    data: &[0; 4],
                }];
            }),
            Reason::Renewal(0),
        ),
        (
            Box::new(|message| message.message_type = DhcpMessageType::Inform),
            Reason::Malformed,
        ),
    ];
    let mut world = World::new();
    let discover = world.ask();
    for (change, reason) in &wrong {
        let mut offer = answer(&discover, DhcpMessageType::Offer);
        change(&mut offer);
        assert_eq!(world.refused(&offer), *reason);
    }
    // An answer that nobody has asked for is none, either.
    let early = answer(&discover, DhcpMessageType::Ack);
    assert_eq!(world.refused(&early), Reason::OtherServer(SERVER));
    world.tell(&answer(&discover, DhcpMessageType::Offer));
    let request = world.ask();
    for (change, reason) in &wrong {
        let mut ack = answer(&request, DhcpMessageType::Ack);
        change(&mut ack);
        assert_eq!(world.refused(&ack), *reason);
    }
    let event = world.tell(&answer(&request, DhcpMessageType::Ack));
    assert_eq!(event, Some(Event::Leased(LEASE)));
    let renew = world.ask();
    let mut ack = answer(&renew, DhcpMessageType::Ack);
    ack.your_ip = address(10, 0, 2, 41);
    let reason = Reason::OtherAddress(address(10, 0, 2, 41));
    assert_eq!(world.refused(&ack), reason);
}

#[test]
fn cut_messages_are_refused() {
    let mut world = World::new();
    let discover = world.ask();
    let offer = answer(&discover, DhcpMessageType::Offer);
    let mut bytes = vec![0; offer.buffer_len()];
    offer
        .emit(&mut DhcpPacket::new_unchecked(&mut bytes))
        .unwrap();
    for length in 0..240 {
        world.client.receive(&datagram(&bytes[..length]), world.now);
        let event = world.client.next_event();
        assert!(
            matches!(event, Some(Event::Refused(refusal)) if refusal.reason == Reason::Malformed),
            "{length}: {event:?}"
        );
    }
}

#[test]
fn nothing_is_sent_while_the_channel_is_down() {
    let mut client = Client::new(HARDWARE.0, 7, 0);
    client.poll(0);
    client.poll(100 * SECOND);
    assert_eq!(client.next_frame(), None);
    client.set_up(true);
    client.poll(100 * SECOND);
    assert!(question(&client.next_frame().unwrap()).is_some());
}

proptest! {
    /// Whatever comes, nothing is believed but a lease that makes sense.
    #[test]
    fn damaged_answers_do_no_harm(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ack in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut world = World::new();
        let mut last = world.ask();
        let mut kind = DhcpMessageType::Offer;
        if ack {
            world.tell(&answer(&last, kind));
            last = world.ask();
            kind = DhcpMessageType::Ack;
        }
        let message = answer(&last, kind);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).unwrap();
        bytes[0] = 2;
        for (at, value) in damages {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        world.client.receive(&datagram(&noise), world.now);
        world.client.receive(&noise, world.now);
        world.client.receive(&datagram(&bytes), world.now);
        while let Some(event) = world.client.next_event() {
            if let Event::Leased(lease) = event {
                prop_assert!(ack);
                prop_assert_eq!(lease.address, [10, 0, 2, 40]);
                prop_assert!(segue_portmap_core::ipv4::is_host(lease.address, lease.prefix_length));
                prop_assert!(lease.seconds >= 10);
            }
        }
    }
}
