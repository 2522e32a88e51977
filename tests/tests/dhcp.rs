//! A system whose shared IPv4 address comes from a DHCP server.

use std::time::{Duration, Instant};

use segue_fault_points::{Kind, Part, Point};
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::http::Client;
use segue_system_tests::recovery::{Fault, Injector, restart_of};
use segue_system_tests::{Cable, PeerHost, TestMachine, frames};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame, EthernetProtocol, IpProtocol,
    Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

const ANSWER: Duration = Duration::from_secs(60);
/// The address that the other tests know, and another.
const FIRST: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
const SECOND: Ipv4Address = Ipv4Address::new(10, 0, 2, 77);
const MASK: Ipv4Address = Ipv4Address::new(255, 255, 255, 0);
/// The leases' time in seconds: renewed after half of it.
const LEASE: u32 = 16;

#[test]
fn an_address_comes_from_the_user_networks_server() {
    let machine = TestMachine::boot("dhcp", Cable::User);
    machine.expect_line("http: no address yet");
    machine.expect_line("dhcp: leased: 10.0.2.15/24 for 86400 s from 10.0.2.2");
    machine.expect_line("http: the address is 10.0.2.15/24");
    machine.assert_page_loads();
}

/// A question of the machine's DHCP client.
#[derive(Debug)]
struct Question {
    kind: DhcpMessageType,
    transaction: u32,
    requested: Option<Ipv4Address>,
    client: Ipv4Address,
}

fn question(frame: &[u8]) -> Option<Question> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let header = Ipv4Repr::parse(&packet, &checksums).ok()?;
    if header.next_header != IpProtocol::Udp {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let ports = UdpRepr::parse(
        &datagram,
        &header.src_addr.into(),
        &header.dst_addr.into(),
        &checksums,
    )
    .ok()?;
    if (ports.src_port, ports.dst_port) != (68, 67) {
        return None;
    }
    assert_eq!(frame.src_addr(), frames::APPLICATION_MAC);
    let message = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let message = DhcpRepr::parse(&message).ok()?;
    assert_eq!(message.client_hardware_address, frames::APPLICATION_MAC);
    Some(Question {
        kind: message.message_type,
        transaction: message.transaction_id,
        requested: message.requested_ip,
        client: message.client_ip,
    })
}

/// The machine's next question of this kind.
fn asked(peer: &PeerHost, kind: DhcpMessageType) -> Question {
    let mut found = None;
    peer.recorded(ANSWER, |frame| {
        found = question(frame).filter(|question| question.kind == kind);
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("the machine does not ask: {kind:?}"))
}

/// An answer, to all or (`to`) to one.
fn answer(
    question: &Question,
    kind: DhcpMessageType,
    address: Ipv4Address,
    to: Ipv4Address,
) -> Vec<u8> {
    let message = DhcpRepr {
        message_type: kind,
        transaction_id: question.transaction,
        secs: 0,
        client_hardware_address: frames::APPLICATION_MAC,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: address,
        server_ip: frames::PEER,
        router: Some(frames::PEER),
        subnet_mask: Some(MASK),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(frames::PEER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut payload = vec![0; message.buffer_len()];
    message
        .emit(&mut DhcpPacket::new_unchecked(&mut payload))
        .expect("it fits");
    // smoltcp takes the operation code from the kind of message.
    payload[0] = 2;
    let checksums = ChecksumCapabilities::default();
    let ports = UdpRepr {
        src_port: 67,
        dst_port: 68,
    };
    let header = Ipv4Repr {
        src_addr: frames::PEER,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 28 + payload.len()];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &checksums);
    ports.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[20..]),
        &frames::PEER.into(),
        &to.into(),
        payload.len(),
        |place| place.copy_from_slice(&payload),
        &checksums,
    );
    let mut frame = frames::ethernet(EthernetProtocol::Ipv4, &bytes);
    if to.is_broadcast() {
        frame[..6].fill(0xff);
    }
    frame
}

/// Gives the machine an address; the answers go to it alone, as most servers send them.
fn give(peer: &PeerHost, address: Ipv4Address) {
    let discover = asked(peer, DhcpMessageType::Discover);
    let offer = answer(&discover, DhcpMessageType::Offer, address, address);
    peer.inject(&offer).unwrap();
    let request = asked(peer, DhcpMessageType::Request);
    assert_eq!(request.requested, Some(address));
    let ack = answer(&request, DhcpMessageType::Ack, address, address);
    peer.inject(&ack).unwrap();
}

/// Whether somebody in the machine answers ARP for the address.
fn is_there(peer: &PeerHost, address: Ipv4Address, wait: Duration) -> bool {
    peer.inject(&frames::arp_request(address)).unwrap();
    let reply = peer.recorded(wait, |frame| frames::arp_reply(frame, address).is_some());
    reply.is_some()
}

#[test]
fn an_address_is_leased_renewed_taken_back_and_followed_by_another() {
    let machine = TestMachine::start(TestMachine::machine("dhcp"), Cable::Peer(1));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.record(true);

    // Hostile answers first.
    let discover = asked(peer, DhcpMessageType::Discover);
    assert!(
        !is_there(peer, FIRST, Duration::from_secs(1)),
        "nobody has it"
    );
    let broadcast = Ipv4Address::BROADCAST;
    let wrong = answer(&discover, DhcpMessageType::Offer, broadcast, broadcast);
    peer.inject(&wrong).unwrap();
    machine.expect_line(
        "dhcp: warning: an answer from 10.0.2.2 is not believed: no host can have the address 255.255.255.255/24",
    );
    // As nothing was believed, it asks again.
    give(peer, FIRST);
    machine.expect_line("dhcp: leased: 10.0.2.15/24 for 16 s from 10.0.2.2");
    machine.expect_line("http: the address is 10.0.2.15/24");
    machine.assert_page_loads();

    // Renewed while a connection is open, which stays.
    let mut kept = Client::new(peer.connect(80).expect("a connection"));
    assert_eq!(kept.get("/1k.bin").expect("an answer").status, 200);
    let renew = asked(peer, DhcpMessageType::Request);
    assert_eq!((renew.client, renew.requested), (FIRST, None));
    peer.inject(&answer(&renew, DhcpMessageType::Ack, FIRST, FIRST))
        .unwrap();
    machine.expect_line("dhcp: the lease is renewed: 10.0.2.15/24 for 16 s from 10.0.2.2");
    assert_eq!(kept.get("/1k.bin").expect("an answer").status, 200);
    drop(kept);

    // Taken back; then there is no address.
    let renew = asked(peer, DhcpMessageType::Request);
    peer.inject(&answer(&renew, DhcpMessageType::Nak, FIRST, FIRST))
        .unwrap();
    machine.expect_line("dhcp: warning: the address is lost: asking for another");
    give(peer, SECOND);
    machine.expect_line("dhcp: leased: 10.0.2.77/24 for 16 s from 10.0.2.2");
    machine.expect_line("http: the address is 10.0.2.77/24");
    assert!(is_there(peer, SECOND, ANSWER));
    assert!(
        !is_there(peer, FIRST, Duration::from_secs(1)),
        "it has moved"
    );

    // Nobody answers any more: it runs out, and the machine asks for another.
    asked(peer, DhcpMessageType::Discover);
    assert!(
        !is_there(peer, SECOND, Duration::from_secs(1)),
        "it has run out"
    );
}

/// The system that has its address by DHCP, in which servers are made to fault.
struct Faulty {
    machine: TestMachine,
    // It is removed when the machine is gone.
    _image: OwnImage,
}

impl Faulty {
    fn boot() -> Self {
        let image = build_system("dhcp", |text| {
            let policy = r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0""#;
            ["dhcp", "portmap", "timer"]
                .iter()
                .fold(text, |text, name| with_policy(&text, name, policy))
                .replace("</system>", "<fault_injection/></system>")
        });
        let image = OwnImage::new("dhcp-dies", &image.bytes);
        let machine = TestMachine::start(image.machine(), Cable::Peer(1));
        let faulty = Self {
            machine,
            _image: image,
        };
        faulty.peer().record(true);
        faulty
    }

    fn peer(&self) -> &PeerHost {
        self.machine
            .host()
            .peer()
            .expect("the cable leads to a peer")
    }

    /// Orders faults at these points, which strike in turn.
    fn order(&mut self, domain: &str, points: &[Point]) {
        let faults: Vec<Fault> = points
            .iter()
            .map(|point| Fault::at(domain, *point, Kind::Panic))
            .collect();
        let ordered = Injector::new(&mut self.machine).order_in_turn(&faults);
        ordered.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Has everybody signalled who has a timeout, so that who has nothing to do hears of something.
    fn stir(&mut self) {
        self.order("timer", &[Point::RuntimeReceived]);
    }

    /// Serves all who ask, until `done`. A dead client's questions are answered, too; its successor
    /// ignores that.
    fn serve(&self, address: Ipv4Address, reply: DhcpMessageType, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + ANSWER;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "what is waited for does not come"
            );
            let mut found = None;
            self.peer().recorded(Duration::from_millis(50), |frame| {
                found = question(frame);
                found.is_some()
            });
            let Some(question) = found else { continue };
            let kind = match question.kind {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                _ => reply,
            };
            let answer = answer(&question, kind, address, address);
            self.peer().inject(&answer).unwrap();
        }
    }

    /// Whether the console has said this after the line at `position`.
    fn has_said(&self, position: usize, text: &str) -> bool {
        let lines = self.machine.console().lines();
        lines[position..]
            .iter()
            .any(|line| line.text.contains(text))
    }

    /// How often it was restarted.
    fn restarts(&self, domain: &str) -> u64 {
        let lines = self.machine.console().lines();
        let restarts = lines
            .iter()
            .filter_map(|line| restart_of(domain, &line.text));
        restarts.map(|restart| restart.restarts).max().unwrap_or(0)
    }

    fn position(&self) -> usize {
        self.machine.console().position()
    }
}

#[test]
fn the_address_outlives_who_asks_for_it_and_who_keeps_it() {
    const LEASED: &str = "dhcp: leased: 10.0.2.15/24 for 16 s from 10.0.2.2";
    let ack = DhcpMessageType::Ack;
    let mut test = Faulty::boot();
    test.serve(FIRST, ack, |test| {
        test.has_said(0, "http: the address is 10.0.2.15/24")
    });
    let mut kept = Client::new(test.peer().connect(80).expect("a connection"));
    let mut get = |what: &str| {
        let answer = kept.get("/1k.bin");
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, 200, "{what}");
    };

    let leases = |test: &Faulty| {
        let lines = test.machine.console().lines();
        lines
            .iter()
            .filter(|line| line.text.contains(LEASED))
            .count()
    };
    // A new life knows of no lease, and asks for one; the address stays meanwhile.
    let points = Point::of("dhcp").filter(|point| point.part() == Part::Server("dhcp"));
    let points = points.filter(|point| *point != Point::DhcpLeaseForgotten);
    for point in points {
        let (before, leased) = (test.restarts("dhcp"), leases(&test));
        test.order("dhcp", &[Point::RuntimeReceived, point]);
        test.stir();
        test.serve(FIRST, ack, |test| test.restarts("dhcp") == before + 2);
        get(point.name());
        test.serve(FIRST, ack, |test| leases(test) > leased);
        get(point.name());
    }

    // The port map dies with a lease that it has just been told of.
    let before = test.restarts("portmap");
    test.order("portmap", &[Point::PortmapShared]);
    test.order("dhcp", &[Point::RuntimeReceived]);
    test.stir();
    test.serve(FIRST, ack, |test| test.restarts("portmap") == before + 1);
    get("the port map has died");

    // Who asks for the address dies when it is lost, before anybody else knows.
    let (before, position) = (test.restarts("dhcp"), test.position());
    test.order("dhcp", &[Point::DhcpLeaseForgotten]);
    test.serve(FIRST, DhcpMessageType::Nak, |test| {
        test.restarts("dhcp") == before + 1
    });
    test.serve(SECOND, ack, |test| {
        test.has_said(position, "http: the address is 10.0.2.77/24")
    });
    assert!(is_there(test.peer(), SECOND, ANSWER));
    assert!(
        !is_there(test.peer(), FIRST, Duration::from_secs(1)),
        "it has moved"
    );
}
