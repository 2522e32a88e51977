//! What the machine says over IPv6 for applications that share an address.

use std::time::Duration;

use segue_system_tests::frames::APPLICATION_MAC;
use segue_system_tests::frames::ipv6::{
    self, APPLICATION, Answer, LINK_LOCAL, answer, datagram, echo_request, solicitation, syn,
};
use segue_system_tests::{Cable, PeerHost, TestMachine};
use smoltcp::wire::{IpProtocol, Ipv6Address};

/// An answer that has not come by then does not come.
const ANSWER: Duration = Duration::from_secs(20);

/// A port that no application has.
const CLOSED: u16 = 9;

/// The first answer to these frames.
fn ask(peer: &PeerHost, frames: &[Vec<u8>]) -> Option<(Ipv6Address, Answer)> {
    for frame in frames {
        peer.inject(frame).expect("the machine runs");
    }
    let mut found = None;
    peer.recorded(ANSWER, |frame| {
        found = answer(frame);
        found.is_some()
    });
    found
}

#[test]
fn the_server_answers_for_those_who_share() {
    let machine = TestMachine::boot("many", Cable::Peer(1));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.record(true);
    for address in [APPLICATION, LINK_LOCAL] {
        // Through the card's multicast filter.
        assert_eq!(
            ask(peer, &[solicitation(address)]),
            Some((address, Answer::Neighbor(address, APPLICATION_MAC)))
        );
        for (sequence, length) in [(1, 0), (2, 1), (3, 56), (4, 1452)] {
            let data: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            assert_eq!(
                ask(peer, &[echo_request(address, sequence, &data)]),
                Some((address, Answer::Echo(sequence, data)))
            );
        }
        // A damaged segment is not answered; answers keep the order of questions.
        let mut damaged = syn(address, CLOSED);
        damaged[60] ^= 1;
        assert_eq!(
            ask(peer, &[damaged, syn(address, CLOSED)]),
            Some((address, Answer::Reset(CLOSED, 78)))
        );
        let mut unsummed = datagram(address, CLOSED, &[1; 9]);
        unsummed[60..62].fill(0);
        let question = datagram(address, CLOSED, &[1; 600]);
        assert_eq!(
            ask(peer, &[unsummed, question.clone()]),
            Some((address, Answer::Unreachable(question[54..].to_vec())))
        );
    }
}

#[test]
fn what_nobody_gets_is_counted_by_cause() {
    let machine = TestMachine::boot("many", Cable::Peer(1));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let count = |cause: &str| {
        let status = machine.status();
        let count = status["dropped"][cause].as_u64();
        count.unwrap_or_else(|| panic!("no cause {cause} in {status}"))
    };
    let to = |next_header, payload: &[u8]| ipv6::packet(APPLICATION, next_header, 64, payload);
    let mut advertisement = solicitation(APPLICATION);
    advertisement[54] = 134;
    advertisement[..6].copy_from_slice(&APPLICATION_MAC.0);
    advertisement[38..54].copy_from_slice(&APPLICATION.octets());
    for (cause, frame) in [
        ("fragment", to(IpProtocol::Ipv6Frag, &[6; 40])),
        ("IPv6 extension header", to(IpProtocol::HopByHop, &[6; 40])),
        ("neighbour discovery for nobody", advertisement),
        ("malformed", to(IpProtocol::Tcp, &[0])),
    ] {
        let before = count(cause);
        for _ in 0..10 {
            peer.inject(&frame).expect("the machine runs");
        }
        assert_eq!(count(cause) - before, 10, "{cause}");
    }
}
