//! The whole server, with applications at the other ends of its channels and a
//! network card that a test looks into.

mod support;

use segue_frame_channel::{ClientChannel, FrameOffload};
use segue_netserver_core::directory::Applications;
use segue_netserver_core::server::ChannelRegions;
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_private_region;
use segue_status::network::{ChannelState, Counter, EgressDrop, IngressDrop};
use smoltcp::wire::{ArpOperation, Ipv4Address, TcpControl};
use std::sync::atomic::Ordering::Relaxed;
use support::world::*;
use support::*;

fn data(payload: &[u8]) -> Vec<u8> {
    tcp(OUT, 80, 5000, TcpControl::None, payload)
}

#[test]
fn frames_go_out_as_they_were_handed_in() {
    let mut world = World::new();
    let frames = [data(&[1; 1000]), data(&[]), data(&[2; 100])];
    world.send(0, &frames);
    assert_eq!(world.card.sent, frames);
    assert_eq!(world.take_notified(), [], "nobody waits for completions");
    assert_eq!(world.counter(0, Counter::TransmittedFrames), 3);
    // The copies are of headers alone.
    assert_eq!(world.counter(0, Counter::CopiedBytes), 3 * 54);
    world.clients[0].poll().unwrap();
    assert_eq!(world.clients[0].unconfirmed(), 0);
}

#[test]
fn received_frames_find_their_owners_with_one_notification_each() {
    let mut world = World::new();
    let mine = |number: u8| udp(IN, 5000, 80, &[number; 300]);
    let theirs = udp(IN, 5000, 81, &[9; 40]);
    for number in 0..10 {
        world.card.received.push_back((mine(number), true));
    }
    world.card.received.push_back((theirs.clone(), false));
    world
        .card
        .received
        .push_back((udp(IN, 5000, 82, &[9; 40]), false));
    world.run(0);
    assert_eq!(world.take_notified(), [0, 1]);
    assert_eq!(world.receive(0), (0..10).map(mine).collect::<Vec<_>>());
    assert_eq!(world.receive(1), [theirs]);
    assert_eq!(world.receive(2), Vec::<Vec<u8>>::new());
    assert_eq!(world.status.dropped(IngressDrop::NoOwner), 1);
    // Awake: not notified.
    world.clients[0].wake();
    world.card.received.push_back((mine(1), true));
    world.run(0);
    assert_eq!(world.take_notified(), []);
    assert_eq!(world.receive(0).len(), 1);
}

#[test]
fn arp_requests_for_a_shared_address_are_answered_by_the_server() {
    let mut world = World::new();
    world.card.room = 100;
    for round in 1..=70 {
        world
            .card
            .received
            .push_back((arp(IN, ArpOperation::Request), false));
        world.run(0);
        assert_eq!(world.card.sent.len(), round, "buffers are used again");
    }
    assert!(
        world
            .card
            .sent
            .iter()
            .all(|frame| *frame == arp(OUT, ArpOperation::Reply))
    );
    assert_eq!(world.take_notified(), []);
}

#[test]
fn a_full_receive_ring_costs_its_owner_alone() {
    let mut world = World::new();
    for _ in 0..100 {
        world
            .card
            .received
            .push_back((udp(IN, 5000, 80, &[1; 40]), true));
        world
            .card
            .received
            .push_back((udp(IN, 5000, 81, &[1; 40]), true));
        if world.card.received.len() == 100 {
            world.run(0);
            assert_eq!(world.receive(1).len(), 50);
        }
    }
    assert_eq!(world.receive(0).len(), 64);
    assert_eq!(world.status.dropped(IngressDrop::RingFull), 36);
    assert_eq!(world.counter(0, Counter::ReceiveDropped), 36);
    assert_eq!(world.counter(1, Counter::ReceiveDropped), 0);
}

#[test]
fn an_only_application_slows_its_senders_down_instead_of_losing_frames() {
    let mut world = World::new();
    // The others are not there.
    for index in [1, 2] {
        world.regions[index].client.store32(0, 0, Relaxed);
    }
    world.run(0b110);
    world.take_notified();
    for number in 0..200u8 {
        world
            .card
            .received
            .push_back((udp(IN, 5000, 80, &[number; 40]), true));
    }
    world.run(0);
    assert_eq!(
        world.card.received.len(),
        200 - 64,
        "the card keeps what does not fit"
    );
    assert!(world.card.masked, "more frames are no reason to wake up");
    let mut received = Vec::new();
    while received.len() < 200 {
        assert_eq!(world.take_notified(), [0]);
        let client = &mut world.clients[0];
        client.wake();
        client.poll().unwrap();
        let mut buffer = [0; 2048];
        while let Some(frame) = client.receive(&mut buffer).unwrap() {
            received.push(buffer[..frame.length].to_vec());
        }
        let woken = client.publish();
        assert_eq!(woken, received.len() < 200, "the server waits for room");
        assert!(client.sleep(false));
        if woken {
            world.run(0b001);
        }
    }
    let expected: Vec<_> = (0..200u8)
        .map(|number| udp(IN, 5000, 80, &[number; 40]))
        .collect();
    assert_eq!(received, expected);
    assert_eq!(world.counter(0, Counter::ReceiveDropped), 0);
    assert!(!world.card.masked);
}

#[test]
fn an_only_application_that_never_comes_back_holds_nobody_up() {
    let mut world = World::new();
    for index in [1, 2] {
        world.regions[index].client.store32(0, 0, Relaxed);
    }
    world.run(0b110);
    for _ in 0..65 {
        world
            .card
            .received
            .push_back((udp(IN, 5000, 80, &[1; 40]), true));
    }
    world.card.received.push_back((echo(IN, true, 1), true));
    world.now.set(5);
    world.run(0);
    assert_eq!(world.card.received.len(), 2);
    let until = world.server.resume_at().expect("a time");
    world.now.set(until - 1);
    world.run(0);
    assert_eq!(world.card.received.len(), 2);
    world.now.set(until);
    world.run(0);
    assert_eq!(world.status.dropped(IngressDrop::RingFull), 1);
    assert_eq!(world.receive(0).len(), 64);
    // There is room again.
    world
        .card
        .received
        .push_back((udp(IN, 5000, 80, &[1; 40]), true));
    world.run(0);
    assert_eq!(world.receive(0).len(), 1);
    assert_eq!(world.server.resume_at(), None);
}

#[test]
fn forged_frames_are_counted_and_the_next_one_passes() {
    let mut world = World::new();
    let forged = Ends {
        source: Ipv4Address::new(10, 0, 2, 99),
        ..OUT
    };
    let frames = [
        tcp(forged, 80, 5000, TcpControl::None, &[1]),
        tcp(OUT, 81, 5000, TcpControl::None, &[1]),
        data(&[3; 10]),
    ];
    world.send(0, &frames);
    assert_eq!(world.card.sent, frames[2..]);
    assert_eq!(world.dropped(0, EgressDrop::SourceAddress), 1);
    assert_eq!(world.dropped(0, EgressDrop::SourcePort), 1);
    world.clients[0].poll().unwrap();
    assert_eq!(
        world.clients[0].unconfirmed(),
        0,
        "dropped frames are completed, too"
    );
}

#[test]
fn who_breaks_the_protocol_is_cut_off_and_nobody_else() {
    // Transmit producer far ahead; receive consumer ahead; a descriptor beyond
    // the pool; an epoch that was never offered.
    let attacks: [&dyn Fn(&Region); 4] = [
        &|client| client.store32(0x40, 1000, Relaxed),
        &|client| client.store32(0x80, 65, Relaxed),
        &|client| {
            client.store64(0x100, (60 << 32) | (POOL_SIZE as u64 - 10), Relaxed);
            client.store64(0x108, 54, Relaxed);
            client.store32(0x40, 1, Relaxed);
        },
        &|client| client.store32(0x00, 77, Relaxed),
    ];
    for attack in attacks {
        let mut world = World::new();
        // Its receive ring is full, so that its consumer index is looked at.
        for _ in 0..65 {
            world
                .card
                .received
                .push_back((udp(IN, 5000, 80, &[1; 40]), true));
        }
        attack(&world.regions[0].client);
        world.run(0b001);
        let application = world.status.application(0).unwrap();
        assert_eq!(application.state(), ChannelState::CutOff);
        assert!(world.server.take_cut_off() && !world.server.take_cut_off());
        assert_eq!(application.counter(Counter::Violations), 1);
        assert!(world.take_notified().contains(&0), "it is told");
        world.clients[0].wake();
        assert_eq!(world.clients[0].poll(), Ok(()));
        assert!(!world.clients[0].is_up());
        // It is not listened to any more.
        world.run(0b001);
        assert_eq!(world.counter(0, Counter::Violations), 1);
        // The others go on.
        let frame = tcp(OUT, 81, 5000, TcpControl::None, &[1; 500]);
        world.send(1, std::slice::from_ref(&frame));
        assert_eq!(world.card.sent, [frame]);
        world
            .card
            .received
            .push_back((udp(IN, 5000, 81, &[1; 40]), true));
        world.run(0);
        assert_eq!(world.receive(1).len(), 1);
    }
}

#[test]
fn a_full_card_pushes_back_and_who_waits_for_room_is_woken() {
    let mut world = World::new();
    world.card.eager = false;
    world.card.room = 4;
    let frames: Vec<_> = (0..64).map(|number| data(&[number; 700])).collect();
    world.send(0, &frames);
    assert_eq!(world.card.queued.len(), 4);
    let client = &mut world.clients[0];
    client.wake();
    client.poll().unwrap();
    assert!(client.reserve(60).is_none(), "the ring is full");
    assert!(client.sleep(true));
    for _ in 0..16 {
        assert_eq!(world.take_notified(), []);
        world.card.work(4);
        world.run(0);
        assert_eq!(world.take_notified(), [0]);
        let client = &mut world.clients[0];
        client.wake();
        client.poll().unwrap();
        assert!(client.sleep(true));
    }
    assert_eq!(world.card.sent, frames);
    assert_eq!(world.clients[0].unconfirmed(), 0);
}

#[test]
fn a_busy_card_is_shared_out_by_bytes() {
    let mut world = World::new();
    world.card.eager = false;
    world.card.room = 8;
    let lengths = [1400, 100, 700];
    let ends = [
        OUT,
        OUT,
        Ends {
            source_mac: OWN_MAC,
            source: OWN,
            ..OUT
        },
    ];
    let ports = [80, 81, 7];
    for _ in 0..3000 {
        let mut woken = 0;
        for index in 0..3 {
            let client = &mut world.clients[index];
            client.wake();
            client.poll().unwrap();
            let frame = tcp(
                ends[index],
                ports[index],
                1,
                TcpControl::None,
                &vec![1; lengths[index]],
            );
            while let Some(mut room) = client.reserve(frame.len()) {
                room.bytes().copy_from_slice(&frame);
                room.submit(frame.len(), FrameOffload::default());
            }
            woken |= Applications::from(client.publish()) << index;
            let _ = client.sleep(true);
        }
        world.run(woken);
        world.card.work(8);
    }
    let bytes: Vec<_> = (0..3)
        .map(|index| world.counter(index, Counter::TransmittedBytes))
        .collect();
    let share = bytes.iter().sum::<u64>() / 3;
    for sent in &bytes {
        assert!(sent.abs_diff(share) * 10 < share, "{bytes:?}");
    }
}

#[test]
fn a_server_that_restarts_finds_its_applications_and_their_frames() {
    let mut world = World::new();
    world.card.eager = false;
    let frames = [data(&[1; 900]), data(&[2; 900])];
    world.send(0, &frames);
    // The server and its card die with both frames; a third follows while
    // nobody is there.
    let third = data(&[3; 900]);
    world.send(0, std::slice::from_ref(&third));
    world.card.queued.clear();
    world.card.eager = true;
    let (server, headers) = new_server(world.status, &world.regions);
    world.server = server;
    world.card.headers = headers;
    world.run(0);
    assert_eq!(world.take_notified(), [0, 1, 2]);
    world.join_all();
    assert_eq!(world.card.sent, [&frames[..], &[third]].concat());
    world.send(0, &[data(&[4; 10])]);
    assert_eq!(world.card.sent.len(), 4);
    world
        .card
        .received
        .push_back((udp(IN, 5000, 80, &[1; 40]), true));
    world.run(0);
    assert_eq!(world.receive(0).len(), 1);
}

impl World {
    /// The server dies, and its card with what it has; another one starts.
    fn restart(&mut self) {
        self.card.queued.clear();
        self.card.completed.clear();
        let (server, headers) = new_server(self.status, &self.regions);
        self.server = server;
        self.card.headers = headers;
        self.take_notified();
        self.run(0);
        assert_eq!(self.take_notified(), [0, 1, 2]);
    }

    /// One application takes its turn.
    fn turn(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.wake();
        client.poll().unwrap();
        let woken = Applications::from(client.publish()) << index;
        let _ = client.sleep(false);
        self.run(woken);
    }
}

#[test]
fn frames_wait_for_applications_that_were_there() {
    let mut world = World::new();
    let frame = |port: u16, number: u8| udp(IN, 5000, port, &[number; 40]);
    // Delivered, and not taken before the server dies.
    world.card.received.push_back((frame(80, 1), true));
    world.run(0);
    world.restart();
    for (port, number) in [(80, 2), (81, 3), (80, 4)] {
        world.card.received.push_back((frame(port, number), true));
    }
    world.run(0);
    assert_eq!((world.card.received.len(), world.card.aside.len()), (0, 3));
    assert!(!world.card.masked, "others may come");
    assert_eq!(world.server.resume_at(), Some(500_000));
    world.turn(2);
    assert_eq!(world.card.aside.len(), 3, "none is for that one");
    world.turn(0);
    assert_eq!(world.card.aside.len(), 1);
    assert_eq!(world.receive(0), [frame(80, 1), frame(80, 2), frame(80, 4)]);
    // One behind the other, though the first one has waited aside.
    world.card.received.push_back((frame(81, 5), true));
    world.turn(1);
    assert!(world.card.aside.is_empty() && world.card.received.is_empty());
    assert!(!world.card.masked);
    assert_eq!(world.server.resume_at(), None);
    assert_eq!(world.receive(1), [frame(81, 3), frame(81, 5)]);
    assert_eq!(world.counter(0, Counter::ReceiveDropped), 0);
}

#[test]
fn frames_do_not_wait_for_ever_for_an_application_that_is_gone() {
    let mut world = World::new();
    world.restart();
    let frame = |port| udp(IN, 5000, port, &[1; 40]);
    world.card.received.push_back((frame(81), true));
    world.card.received.push_back((frame(80), true));
    world.turn(0);
    assert_eq!(world.receive(0), [frame(80)], "it does not wait for others");
    assert_eq!(world.status.dropped(IngressDrop::ChannelDown), 0);
    world.now.set(world.server.resume_at().expect("a time"));
    world.run(0);
    assert!(world.card.aside.is_empty() && world.card.received.is_empty());
    assert_eq!(world.status.dropped(IngressDrop::ChannelDown), 1);
    assert!(!world.card.masked);
    assert_eq!(world.server.resume_at(), None);
}

#[test]
fn without_room_aside_others_wait_for_a_moment() {
    let mut world = World::new();
    world.card.room_aside = 1;
    world.restart();
    let frame = |port| udp(IN, 5000, port, &[1; 40]);
    for port in [81, 81, 80] {
        world.card.received.push_back((frame(port), true));
    }
    world.turn(0);
    assert_eq!((world.card.received.len(), world.card.aside.len()), (2, 1));
    assert!(world.card.masked, "they are no reason to wake up");
    world.now.set(world.server.resume_at().expect("a time"));
    assert_eq!(world.now.get(), 5_000);
    world.run(0);
    assert_eq!(world.receive(0), [frame(80)]);
    assert_eq!(world.status.dropped(IngressDrop::ChannelDown), 1);
    world.turn(1);
    assert_eq!(world.receive(1), [frame(81)], "the one aside");
    assert_eq!(world.server.resume_at(), None);
}

#[test]
fn frames_inside_wait_for_their_receiver_too() {
    let mut world = World::new();
    let inside = |number| {
        let ends = Ends {
            destination_mac: OWN_MAC,
            destination: OWN,
            ..OUT
        };
        tcp(ends, 80, 5000, TcpControl::None, &[number; 60])
    };
    world.send(0, &[inside(1)]);
    assert_eq!(world.receive(2), [inside(1)]);
    // It learns that this is sent, so it does not send it again.
    world.turn(0);
    world.restart();
    world.turn(0);
    world.send(0, &[inside(2), data(&[3; 10])]);
    assert_eq!(world.card.sent.len(), 0, "order is kept");
    world.turn(2);
    assert_eq!(world.receive(2), [inside(2)]);
    assert_eq!(world.card.sent, [data(&[3; 10])]);
    // Without it they wait no longer than that.
    world.turn(0);
    world.restart();
    world.turn(0);
    world.send(0, &[inside(4), data(&[5; 10])]);
    assert_eq!(world.card.sent.len(), 1);
    world.now.set(world.server.resume_at().expect("a time"));
    world.run(0);
    assert_eq!(world.card.sent.len(), 2);
    assert_eq!(world.server.resume_at(), None);
}

#[test]
fn whoever_was_cut_off_is_not_any_more() {
    let mut world = World::new();
    world.regions[1].client.store32(0x40, 9999, Relaxed);
    world.run(0b10);
    let state = |world: &World| world.status.application(1).unwrap().state();
    assert_eq!(state(&world), ChannelState::CutOff);
    world.regions[1].client.store32(0x40, 0, Relaxed);
    let (server, headers) = new_server(world.status, &world.regions);
    (world.server, world.card.headers) = (server, headers);
    assert_eq!(state(&world), ChannelState::Down);
    world.run(0);
    world.join_all();
    assert_eq!(state(&world), ChannelState::Up);
}

#[test]
fn an_application_that_restarts_is_joined_again() {
    let mut world = World::new();
    world.card.eager = false;
    world.send(0, &[data(&[1; 900])]);
    for _ in 0..3 {
        world
            .card
            .received
            .push_back((udp(IN, 5000, 80, &[1; 40]), true));
    }
    world.run(0);
    world.take_notified();
    // Its successor starts in the same regions, while the card still holds a
    // frame of its.
    let ChannelRegions { client, server, .. } = world.regions[0];
    let (pool, _) = leaked_private_region(POOL_SIZE);
    world.clients[0] = ClientChannel::new(client, server, pool, 64, 64).unwrap();
    world.join_all();
    assert!(!world.clients[0].is_up(), "the old epoch is not over");
    assert!(world.clients[0].reserve(60).is_none());
    world.card.work(1);
    world.run(0);
    assert_eq!(world.take_notified(), [0], "a new epoch is offered");
    world.join_all();
    assert!(world.clients[0].is_up());
    assert_eq!(
        world.receive(0),
        Vec::<Vec<u8>>::new(),
        "the old frames are gone"
    );
    world
        .card
        .received
        .push_back((udp(IN, 5000, 80, &[2; 40]), true));
    world.run(0);
    assert_eq!(world.receive(0).len(), 1);
    assert_eq!(world.counter(0, Counter::Violations), 0);
}

#[test]
fn while_no_application_is_up_frames_are_counted() {
    let mut world = World::new();
    world.regions[2].client.store32(0, 0, Relaxed);
    world.run(0b100);
    let own = Ends {
        destination_mac: OWN_MAC,
        destination: OWN,
        ..IN
    };
    world.card.received.push_back((udp(own, 1, 2, &[]), true));
    world.run(0);
    assert_eq!(world.status.dropped(IngressDrop::ChannelDown), 1);
    assert_eq!(
        world.status.application(2).unwrap().state(),
        ChannelState::Down
    );
}
