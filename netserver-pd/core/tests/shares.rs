//! Who makes the server work too much has to wait, and nobody else.

mod support;

use smoltcp::wire::{IpProtocol, TcpControl};
use support::world::*;
use support::*;

fn small(number: u8) -> Vec<u8> {
    udp(OUT, 80, 5000, &[number; 10])
}

/// Hands frames of application 0 in until the server takes no more, which it is told of
/// only if it must be; returns how many it has sent.
fn flood(world: &mut World, frame: &[u8], batches: usize) -> usize {
    let before = world.card.sent.len();
    let client = &mut world.clients[0];
    client.wake();
    let mut woken = 0;
    for _ in 0..batches {
        let client = &mut world.clients[0];
        client.poll().unwrap();
        while let Some(mut room) = client.reserve(frame.len()) {
            room.bytes().copy_from_slice(frame);
            room.submit(frame.len(), Default::default());
        }
        if world.clients[0].publish() {
            woken += 1;
            world.run(0b001);
        }
    }
    assert!(woken > 0);
    world.card.sent.len() - before
}

#[test]
fn a_flood_has_to_wait_while_others_are_at_work() {
    let mut world = World::new();
    world.tick.set(400);
    // Alone: as much as it likes.
    let alone = flood(&mut world, &small(1), 30);
    assert_eq!(alone, 30 * 64);
    assert_eq!(world.server.resume_at(), None);
    // Another one says that it is at work, but does nothing.
    world.now.set(world.now.get() + 1_000_000);
    world.clients[1].wake();
    assert_eq!(flood(&mut world, &small(1), 30), 30 * 64);
    // Now it does something.
    world.now.set(world.now.get() + 1_000_000);
    let theirs = udp(OUT, 81, 5000, &[9; 600]);
    world.send(1, std::slice::from_ref(&theirs));
    world.clients[1].wake();
    let under_load = flood(&mut world, &small(2), 30);
    assert!(under_load < 10 * 64, "{under_load}");
    // It is not asked to notify; the server wants to look again by itself.
    let resume_at = world.server.resume_at().expect("a time");
    assert!(resume_at <= world.now.get() + 20_000);
    assert!(world.server.is_idle(0b001), "nothing to be done for it now");
    // The other one's frames pass.
    let before = world.card.sent.len();
    world.send(1, std::slice::from_ref(&theirs));
    assert!(world.card.sent[before..].contains(&theirs));
    // Nothing is lost: all goes out once the others are done.
    world.now.set(world.now.get() + 100_000);
    world.run(0);
    world.clients[0].poll().unwrap();
    assert_eq!(world.clients[0].unconfirmed(), 0);
    assert_eq!(world.server.resume_at(), None);
}

#[test]
fn forgeries_wait_sooner() {
    let count = |frame: &[u8]| {
        let mut world = World::new();
        world.tick.set(100);
        let mut handed = 0;
        for _ in 0..100 {
            world.now.set(world.now.get() + 3_000);
            // The other one is always at work.
            let theirs = udp(OUT, 81, 5000, &[9; 600]);
            let client = &mut world.clients[1];
            client.wake();
            client.poll().unwrap();
            let mut room = client.reserve(theirs.len()).unwrap();
            room.bytes().copy_from_slice(&theirs);
            room.submit(theirs.len(), Default::default());
            let _ = client.publish();
            world.run(0b010);
            let client = &mut world.clients[0];
            client.wake();
            client.poll().unwrap();
            while let Some(mut room) = client.reserve(frame.len()) {
                room.bytes().copy_from_slice(frame);
                room.submit(frame.len(), Default::default());
                handed += 1;
            }
            if world.clients[0].publish() {
                world.run(0b001);
            }
        }
        world.clients[0].poll().unwrap();
        handed - world.clients[0].unconfirmed() as usize
    };
    let forged = ipv4(Ends { source: OWN, ..OUT }, IpProtocol::Udp, &[0; 26]);
    let (honest, forged) = (count(&small(1)), count(&forged));
    assert!(forged * 3 < honest, "{forged} forged, {honest} honest");
}

#[test]
fn a_notification_with_nothing_behind_it_is_not_worth_a_turn() {
    let mut world = World::new();
    assert!(world.server.is_idle(0b111));
    let client = &mut world.clients[0];
    client.wake();
    let frame = tcp(OUT, 80, 5000, TcpControl::None, &[1]);
    let mut room = client.reserve(frame.len()).unwrap();
    room.bytes().copy_from_slice(&frame);
    room.submit(frame.len(), Default::default());
    assert!(client.publish());
    assert!(!world.server.is_idle(0b001) && world.server.is_idle(0b110));
    world.run(0b001);
    assert!(world.server.is_idle(0b001));
    // An application that starts anew has something to say.
    world.regions[1]
        .client
        .store32(0, 0, std::sync::atomic::Ordering::Relaxed);
    assert!(!world.server.is_idle(0b010));
}

#[test]
fn the_first_segment_of_a_connection_is_told_from_others() {
    use segue_netserver_core::inside::opens_connection;
    use smoltcp::wire::ArpOperation;
    let segment = |control| tcp(OUT, 80, 5000, control, &[]);
    // smoltcp writes an acknowledgement number into all of them: an answer.
    assert!(!opens_connection(&segment(TcpControl::Syn)));
    let mut first = segment(TcpControl::Syn);
    first[47] &= !0x10;
    assert!(opens_connection(&first));
    for other in [
        segment(TcpControl::None),
        segment(TcpControl::Fin),
        segment(TcpControl::Rst),
        udp(OUT, 80, 5000, &[0x02; 40]),
        arp(OUT, ArpOperation::Request),
        first[..47].to_vec(),
        Vec::new(),
    ] {
        assert!(!opens_connection(&other));
    }
}
