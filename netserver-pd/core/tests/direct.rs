//! Applications in direct mode: what is for groups passes the server by, all else goes
//! on as before.

mod support;

use proptest::prelude::*;
use segue_frame_channel::FrameOffload;
use segue_netserver_core::directory::Applications;
use segue_netserver_core::egress::verify;
use segue_netserver_core::ingress::{Decision, Origin, demultiplex};
use segue_status::network::{ChannelState, Counter, EgressDrop, IngressDrop, ServerCounter};
use smoltcp::wire::{ArpOperation, EthernetAddress, Ipv4Address, Ipv6Address, TcpControl};
use std::sync::atomic::Ordering::Relaxed;
use support::world::*;
use support::*;

/// The application that has an address to itself.
const OWNER: usize = 2;
const DIRECT: Applications = 1 << OWNER;

/// From the application in direct mode to the peer, and back.
const FROM_OWN: Ends = Ends {
    source_mac: OWN_MAC,
    source: OWN,
    ..OUT
};
const TO_OWN: Ends = Ends {
    destination_mac: OWN_MAC,
    destination: OWN,
    ..IN
};
/// From the first sharer to it, and back.
const THERE: Ends = Ends {
    destination_mac: OWN_MAC,
    destination: OWN,
    ..OUT
};
const BACK: Ends = Ends {
    destination_mac: SHARED_MAC,
    destination: SHARED,
    ..FROM_OWN
};

fn to_all(ends: Ends) -> Ends {
    Ends {
        destination_mac: EthernetAddress::BROADCAST,
        ..ends
    }
}

fn broadcast(ends: Ends) -> Ends {
    Ends {
        destination: Ipv4Address::BROADCAST,
        ..to_all(ends)
    }
}

fn from_own() -> ipv6::Ends {
    ipv6::TO_OWN.back()
}

fn nothing() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Frames from the network to groups, for the application with its own address alone.
fn for_its_groups() -> Vec<Vec<u8>> {
    let group = ipv6::solicited_node(ipv6::OWN);
    let to_group = ipv6::Ends {
        destination_mac: ipv6::group_mac(group),
        destination: group,
        ..ipv6::IN
    };
    vec![
        arp(to_all(TO_OWN), ArpOperation::Request),
        arp(to_all(TO_OWN), ArpOperation::Reply),
        ipv6::solicit_group(ipv6::IN, ipv6::OWN),
        ipv6::solicit_group(ipv6::IN, ipv6::OWN_LINK_LOCAL),
        ipv6::udp(to_group, 5000, 7, &[]),
    ]
}

/// Frames from the network to its MAC address.
fn for_itself() -> Vec<Vec<u8>> {
    vec![
        arp(TO_OWN, ArpOperation::Request),
        arp(TO_OWN, ArpOperation::Reply),
        tcp(TO_OWN, 5000, 7, TcpControl::Syn, &[]),
        udp(TO_OWN, 5000, 7, &[1; 500]),
        echo(TO_OWN, true, 3),
        ipv6::solicit(ipv6::TO_OWN, ipv6::OWN),
        ipv6::advertise(ipv6::TO_OWN, ipv6::PEER),
        ipv6::udp(ipv6::TO_OWN, 5000, 7, &[1; 500]),
    ]
}

/// Frames of it to groups that nobody inside is concerned by.
fn for_the_network() -> Vec<Vec<u8>> {
    let probe = ipv6::Ends {
        source: Ipv6Address::UNSPECIFIED,
        ..from_own()
    };
    vec![
        // For an address elsewhere, an announcement, a probe.
        arp(to_all(FROM_OWN), ArpOperation::Request),
        arp(
            Ends {
                destination: OWN,
                ..to_all(FROM_OWN)
            },
            ArpOperation::Request,
        ),
        arp(
            Ends {
                source: Ipv4Address::UNSPECIFIED,
                destination: OWN,
                ..to_all(FROM_OWN)
            },
            ArpOperation::Request,
        ),
        arp(to_all(FROM_OWN), ArpOperation::Reply),
        udp(broadcast(FROM_OWN), 7, 5353, &[]),
        ipv6::solicit_group(from_own(), ipv6::PEER),
        ipv6::solicit_group(probe, ipv6::OWN),
        ipv6::advertise(
            ipv6::Ends {
                destination_mac: ipv6::group_mac(ipv6::ALL_NODES),
                destination: ipv6::ALL_NODES,
                ..from_own()
            },
            ipv6::OWN,
        ),
    ]
}

fn receive(world: &mut World, frames: &[Vec<u8>]) {
    let frames = frames.iter().map(|frame| (frame.clone(), true));
    world.card.received.extend(frames);
    world.run(0);
}

/// All frames were completed, none was dropped.
fn assert_all_completed(world: &mut World, index: usize) {
    world.clients[index].poll().unwrap();
    assert_eq!(world.clients[index].unconfirmed(), 0);
    let dropped = world.status.application(index).unwrap().dropped_in_all();
    assert_eq!(dropped, 0);
}

#[test]
fn groups_on_the_network_reach_it_by_its_own_function() {
    let mut world = World::new();
    let frames = for_its_groups();
    receive(&mut world, &frames);
    assert_eq!(world.receive(OWNER), frames, "in server mode");
    world.board.set_direct(DIRECT);
    receive(&mut world, &frames);
    assert_eq!(world.receive(OWNER), nothing());
    let count = frames.len() as u64;
    assert_eq!(world.status.dropped(IngressDrop::DirectMode), count);
    assert_eq!(world.counter(OWNER, Counter::ReceiveDropped), 0);
    assert_eq!(world.card.sent, nothing(), "nobody answers for it");
    world.board.set_direct(0);
    receive(&mut world, &frames);
    assert_eq!(world.receive(OWNER), frames, "in server mode again");
    assert_eq!(world.status.dropped(IngressDrop::DirectMode), count);
}

#[test]
fn frames_for_its_mac_address_are_delivered_in_either_mode() {
    let mut world = World::new();
    for mode in [0, DIRECT] {
        world.board.set_direct(mode);
        receive(&mut world, &for_itself());
        assert_eq!(world.receive(OWNER), for_itself());
    }
    assert_eq!(world.status.dropped(IngressDrop::DirectMode), 0);
    assert_eq!(world.card.sent, nothing());
}

#[test]
fn others_get_what_they_have_always_got() {
    let mut world = World::new();
    world.board.set_direct(DIRECT);
    let for_sharers = [
        udp(broadcast(IN), 5000, 80, &[1; 10]),
        udp(IN, 5000, 80, &[2; 10]),
        arp(IN, ArpOperation::Reply),
    ];
    receive(&mut world, &for_sharers);
    assert_eq!(world.receive(0), for_sharers);
    assert_eq!(world.receive(1), for_sharers[2..]);
    receive(&mut world, &[arp(to_all(IN), ArpOperation::Request)]);
    receive(&mut world, &[ipv6::solicit_group(ipv6::IN, ipv6::SHARED)]);
    assert_eq!(
        world.card.sent,
        [
            arp(OUT, ArpOperation::Reply),
            ipv6::advertise(ipv6::OUT, ipv6::SHARED)
        ]
    );
    assert_eq!(world.status.dropped(IngressDrop::DirectMode), 0);
}

#[test]
fn what_it_sends_to_groups_stays_inside() {
    let mut world = World::new();
    let frames = for_the_network();
    world.send(OWNER, &frames);
    assert_eq!(world.card.sent, frames, "in server mode");
    world.board.set_direct(DIRECT);
    world.send(OWNER, &frames);
    assert_eq!(world.card.sent, frames, "no more than before");
    for index in 0..3 {
        assert_eq!(world.receive(index), nothing());
    }
    assert_all_completed(&mut world, OWNER);
    let count = frames.len() as u64;
    assert_eq!(world.counter(OWNER, Counter::TransmittedFrames), count);
    world.board.set_direct(0);
    world.send(OWNER, &frames);
    assert_eq!(world.card.sent, [frames.clone(), frames].concat());
}

#[test]
fn its_broadcasts_reach_whom_they_concern_inside() {
    let mut world = World::new();
    let datagrams = [udp(broadcast(FROM_OWN), 7, 80, &[3; 99])];
    world.send(OWNER, &datagrams);
    assert_eq!(world.receive(0), datagrams);
    assert_eq!(world.card.sent, datagrams);
    world.card.sent.clear();
    world.board.set_direct(DIRECT);
    world.send(OWNER, &datagrams);
    assert_eq!(world.receive(0), datagrams);
    assert_eq!(world.receive(1), nothing());
    assert_eq!(world.card.sent, nothing());
    assert_eq!(world.counter(OWNER, Counter::InsideFrames), 2);
    assert_eq!(world.counter(OWNER, Counter::TransmittedFrames), 1);
    assert_all_completed(&mut world, OWNER);
}

#[test]
fn it_finds_those_inside_and_is_found_by_them() {
    for mode in [0, DIRECT] {
        let mut world = World::new();
        world.board.set_direct(mode);
        // The server speaks for those who share an address.
        world.send(
            OWNER,
            &[
                arp(to_all(BACK), ArpOperation::Request),
                ipv6::solicit_group(from_own(), ipv6::SHARED),
            ],
        );
        let answers = world.receive(OWNER);
        assert_eq!(answers[0], arp(THERE, ArpOperation::Reply));
        assert_eq!(answers.len(), 2);
        assert_eq!(world.status.counter(ServerCounter::Answered), 2);
        // It speaks for itself.
        let questions = [
            arp(to_all(THERE), ArpOperation::Request),
            ipv6::solicit_group(ipv6::OUT, ipv6::OWN),
        ];
        world.send(0, &questions);
        assert_eq!(world.receive(OWNER), questions);
        let answers = [arp(BACK, ArpOperation::Reply)];
        world.send(OWNER, &answers);
        assert_eq!(world.receive(0), answers);
        assert_eq!(world.receive(1), answers);
        assert_eq!(world.card.sent, nothing());
        assert_all_completed(&mut world, OWNER);
    }
}

#[test]
fn frames_to_a_single_host_go_where_they_have_always_gone() {
    for mode in [0, DIRECT] {
        let mut world = World::new();
        world.board.set_direct(mode);
        let out = [
            tcp(FROM_OWN, 7, 5000, TcpControl::None, &[1; 900]),
            arp(FROM_OWN, ArpOperation::Request),
            ipv6::udp(from_own(), 7, 5000, &[1; 900]),
        ];
        let (there, back) = (udp(THERE, 80, 7, &[1; 50]), udp(BACK, 7, 81, &[2; 50]));
        world.send(OWNER, &out);
        world.send(OWNER, std::slice::from_ref(&back));
        world.send(0, std::slice::from_ref(&there));
        assert_eq!(world.card.sent, out);
        assert_eq!(world.receive(1), [back]);
        assert_eq!(world.receive(OWNER), [there]);
        assert_all_completed(&mut world, OWNER);
    }
}

#[test]
fn what_others_send_to_groups_is_not_touched() {
    let mut world = World::new();
    world.board.set_direct(DIRECT);
    let frames = [
        arp(to_all(OUT), ArpOperation::Request),
        udp(broadcast(OUT), 80, 81, &[1; 9]),
    ];
    world.send(0, &frames);
    assert_eq!(world.card.sent, frames);
    assert_eq!(world.receive(1), frames[1..]);
    assert_eq!(world.receive(OWNER), nothing());
}

#[test]
fn what_it_sends_is_judged_as_always() {
    let mut world = World::new();
    world.board.set_direct(DIRECT);
    let forged = [
        udp(broadcast(OUT), 7, 80, &[]),
        udp(
            Ends {
                source: PEER,
                ..broadcast(FROM_OWN)
            },
            7,
            80,
            &[],
        ),
        arp(
            Ends {
                source: SHARED,
                ..to_all(FROM_OWN)
            },
            ArpOperation::Request,
        ),
    ];
    world.send(OWNER, &forged);
    assert_eq!(world.dropped(OWNER, EgressDrop::SourceMac), 1);
    assert_eq!(world.dropped(OWNER, EgressDrop::SourceAddress), 1);
    assert_eq!(world.dropped(OWNER, EgressDrop::Arp), 1);
    assert_eq!((world.receive(0), world.card.sent), (nothing(), nothing()));
}

#[test]
fn sharers_are_never_in_direct_mode() {
    let mut world = World::new();
    world.board.set_direct(u64::MAX);
    let broadcasts = [
        udp(broadcast(IN), 5000, 80, &[]),
        arp(to_all(IN), ArpOperation::Reply),
    ];
    receive(&mut world, &broadcasts);
    assert_eq!(world.receive(0), broadcasts);
    let request = arp(to_all(OUT), ArpOperation::Request);
    world.send(0, std::slice::from_ref(&request));
    assert_eq!(world.card.sent, [request]);
    // The other one is.
    receive(&mut world, &for_its_groups());
    assert_eq!(world.receive(OWNER), nothing());
}

#[test]
fn who_has_the_only_address_can_be_in_direct_mode() {
    let mut directory = directory(1);
    directory.set_direct(0b01);
    assert_eq!(directory.direct(), 0b01);
    let question = arp(to_all(IN), ArpOperation::Request);
    let whose = demultiplex(&directory, 0b11, Origin::Network, &question, question.len());
    assert_eq!(whose, Decision::Drop(IngressDrop::DirectMode));
    let question = arp(to_all(OUT), ArpOperation::Request);
    let offload = FrameOffload::default();
    assert!(verify(&directory, 0, &question, question.len(), offload).is_ok());
}

#[test]
fn its_channel_being_down_changes_nothing_else() {
    let mut world = World::new();
    world.board.set_direct(DIRECT);
    world.regions[OWNER].client.store32(0, 0, Relaxed);
    world.run(DIRECT);
    receive(&mut world, &for_its_groups());
    let count = for_its_groups().len() as u64;
    assert_eq!(world.status.dropped(IngressDrop::DirectMode), count);
    receive(&mut world, &for_itself());
    let count = for_itself().len() as u64;
    assert_eq!(world.status.dropped(IngressDrop::ChannelDown), count);
    let frames = [udp(IN, 5000, 80, &[1; 40])];
    receive(&mut world, &frames);
    assert_eq!(world.receive(0), frames);
    assert_eq!(world.card.sent, nothing());
    // It joins again, still in direct mode.
    world.join_all();
    receive(&mut world, &for_itself());
    receive(&mut world, &for_its_groups());
    assert_eq!(world.receive(OWNER), for_itself());
}

#[test]
fn who_is_cut_off_in_direct_mode_disturbs_nobody() {
    let mut world = World::new();
    world.board.set_direct(DIRECT);
    // Its transmit producer is far ahead.
    world.regions[OWNER].client.store32(0x40, 1000, Relaxed);
    world.run(DIRECT);
    let state = world.status.application(OWNER).unwrap().state();
    assert_eq!(state, ChannelState::CutOff);
    receive(&mut world, &for_its_groups());
    receive(&mut world, &[udp(broadcast(IN), 5000, 80, &[])]);
    assert_eq!(world.receive(0).len(), 1);
    let count = for_its_groups().len() as u64;
    assert_eq!(world.status.dropped(IngressDrop::DirectMode), count);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Switch,
    Arrives(usize),
    Sends(usize),
    Neighbor,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Switch),
        4 => (0usize..13).prop_map(Step::Arrives),
        4 => (0usize..11).prop_map(Step::Sends),
        1 => Just(Step::Neighbor),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Whenever modes change, each frame for a single host gets there once, and each for a
    /// group comes and goes by the server or not at all.
    #[test]
    fn no_frame_is_lost_or_doubled_when_modes_change(steps in steps()) {
        let mut world = World::new();
        let arriving = [for_itself(), for_its_groups()].concat();
        let singles = [
            udp(FROM_OWN, 7, 5000, &[1; 70]),
            tcp(FROM_OWN, 7, 5000, TcpControl::None, &[1; 700]),
            arp(FROM_OWN, ArpOperation::Request),
        ];
        let sending = [&singles[..], &for_the_network()].concat();
        let (mut direct, mut expected, mut dropped) = (false, nothing(), 0);
        let mut on_wire = nothing();
        for step in steps {
            match step {
                Step::Switch => {
                    direct = !direct;
                    world.board.set_direct(if direct { DIRECT } else { 0 });
                }
                Step::Arrives(which) => {
                    let frame = &arriving[which];
                    receive(&mut world, std::slice::from_ref(frame));
                    if direct && which >= for_itself().len() {
                        dropped += 1;
                    } else {
                        expected.push(frame.clone());
                    }
                }
                Step::Sends(which) => {
                    let frame = &sending[which];
                    world.send(OWNER, std::slice::from_ref(frame));
                    if !direct || which < singles.len() {
                        on_wire.push(frame.clone());
                    }
                }
                Step::Neighbor => {
                    let frame = udp(THERE, 80, 7, &[5; 64]);
                    world.send(0, std::slice::from_ref(&frame));
                    expected.push(frame);
                }
            }
        }
        prop_assert_eq!(world.receive(OWNER), expected);
        prop_assert_eq!(&world.card.sent, &on_wire);
        prop_assert_eq!(world.status.dropped(IngressDrop::DirectMode), dropped);
        assert_all_completed(&mut world, OWNER);
    }
}
