//! Which leg a frame takes, in which order, and that it comes once.

mod support;

use segue_libos::*;
use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr};
use support::machine::*;
use support::switches::*;
use support::*;

#[test]
fn a_leg_waits_for_the_last_frames_of_the_other_one() {
    let (mut world, machine, mut switches) = world_at(3);
    let socket = socket(&mut world);
    machine.borrow_mut().pause = 20;
    for number in [1, 2, 3] {
        send(&mut world, socket, number);
        world.serve();
        if number == 1 {
            switches.next(&mut world);
            assert!(world.stack.is_direct());
        }
    }
    assert_eq!(numbers(&world), []);
    // It may not sleep through the end of it.
    let sent = |world: &mut World| numbers(world).len() == 3;
    assert!(world.run(1, sent));
    assert_eq!(numbers(&world), [1, 2, 3]);
    switches.go(&mut world, IN_DIRECT_MODE);

    let device = machine.borrow().device.clone().unwrap();
    device.set_transmit_budget(0);
    for number in [4, 5, 6] {
        send(&mut world, socket, number);
        world.serve();
        if number == 4 {
            switches.next(&mut world);
            assert!(!world.stack.is_direct());
        }
    }
    assert_eq!(numbers(&world), [1, 2, 3]);
    device.set_transmit_budget(usize::MAX);
    world.serve();
    world.serve();
    assert_eq!(numbers(&world), [1, 2, 3, 4, 5, 6]);
    switches.go(&mut world, 0);
    assert_eq!(world.stack.statistics().vif.repeated, 0);
}

#[test]
fn a_leg_does_not_wait_for_long() {
    let (mut world, machine, mut switches) = world_at(IN_DIRECT_MODE);
    let socket = socket(&mut world);
    let device = machine.borrow().device.clone().unwrap();
    device.set_transmit_budget(0);
    send(&mut world, socket, 1);
    world.serve();
    switches.next(&mut world);
    send(&mut world, socket, 2);
    let start = world.now();
    assert!(world.run(1, |world| numbers(world) == [2]));
    let waited = (world.now() - start).total_millis();
    assert!((1..100).contains(&waited), "{waited} ms");
    // The first one is sent again when the function goes, and only once.
    switches.go(&mut world, 0);
    assert_eq!(numbers(&world), [2, 1]);
    assert_eq!(world.stack.statistics().vif.repeated, 1);
}

#[test]
fn what_came_by_the_leg_that_goes_is_taken_in_first() {
    for (step, server_first) in [(1, true), (IN_DIRECT_MODE, true), (6, false)] {
        let (mut world, machine, _) = world_at(step);
        let socket = socket(&mut world);
        let device = machine.borrow().device.clone().unwrap();
        for number in 1..=3 {
            machine.borrow_mut().relay(&datagram(number));
            assert!(device.deliver(&datagram(10 + number)));
        }
        let (mut first, mut second) = (vec![1, 2, 3], vec![11, 12, 13]);
        if !server_first {
            core::mem::swap(&mut first, &mut second);
        }
        assert_eq!(received(&mut world, socket), [first, second].concat());
    }
}

#[test]
fn what_a_function_has_received_is_taken_in_before_it_goes() {
    let (mut world, machine, mut switches) = world_at(IN_DIRECT_MODE);
    let socket = socket(&mut world);
    switches.go(&mut world, 8);
    let device = machine.borrow().device.clone().unwrap();
    for number in 0..200 {
        assert!(device.deliver(&datagram(number)));
    }
    switches.next(&mut world);
    assert!(world.stack.has_events());
    assert_eq!(received(&mut world, socket), (0..200).collect::<Vec<_>>());
}

#[test]
fn what_comes_twice_is_taken_in_once() {
    let (mut world, machine, mut switches) = world_at(2);
    let socket = socket(&mut world);
    let before = world.stack.statistics().vif.duplicates;
    let device = machine.borrow().device.clone().unwrap();
    let both = |number| {
        machine.borrow_mut().relay(&datagram(number));
        assert!(device.deliver(&datagram(number)));
    };
    // The same datagram twice on each leg is two datagrams.
    for number in [1, 2, 2, 3] {
        both(number);
    }
    assert!(device.deliver(&datagram(4)));
    assert_eq!(received(&mut world, socket), [1, 2, 2, 3, 4]);
    assert_eq!(world.stack.statistics().vif.duplicates, before + 4);
    // Long after a change nothing is compared.
    switches.go(&mut world, IN_DIRECT_MODE);
    world.run(2, |_| false);
    let before = world.stack.statistics().vif.duplicates;
    both(5);
    assert_eq!(received(&mut world, socket), [5, 5]);
    assert_eq!(world.stack.statistics().vif.duplicates, before);
}

/// A frame from a station to the stack, or to all.
fn from(station: [u8; 6], to: [u8; 6], rest: &[u8]) -> Vec<u8> {
    [&to[..], &station, rest].concat()
}

/// An ARP packet, from Ethernet's type on.
fn arp(operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    for (hardware, address) in [sender, target] {
        packet.extend_from_slice(&hardware);
        packet.extend_from_slice(&address.octets());
    }
    packet
}

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);

/// Sends to a station inside the machine, whose hardware address is known.
fn send_inside(world: &mut World, machine: &RefCell<Machine>, socket: UdpId, number: u8) {
    let to = (INSIDE, 6000).into();
    assert!(world.stack.udp_send(socket, to, &[number; 100]));
    world.serve();
    let us = (SERVER_MAC, SERVER);
    let answer = from(INSIDE_MAC, SERVER_MAC, &arp(2, (INSIDE_MAC, INSIDE), us));
    machine.borrow_mut().relay(&answer);
    world.serve();
    world.serve();
}

#[test]
fn frames_inside_the_machine_go_through_the_server() {
    let (mut world, machine, _) = world_at(IN_DIRECT_MODE);
    let socket = socket(&mut world);
    send_inside(&mut world, &machine, socket, 1);
    let is_datagram = |frame: &&Vec<u8>| frame.len() == 142 && frame[23] == 17;
    let inside = |machine: &RefCell<Machine>| {
        let machine = machine.borrow();
        let datagrams = machine.inside.iter().filter(is_datagram);
        datagrams
            .map(|frame| (frame[..6] == INSIDE_MAC, frame[141]))
            .collect::<Vec<_>>()
    };
    assert_eq!(inside(&machine), [(true, 1)]);
    assert_eq!(numbers(&world), []);
    // A connection, too: the SYN comes by the server.
    let mut syn = headers(false, INSIDE.into(), 20);
    syn[6..12].copy_from_slice(&INSIDE_MAC);
    syn.extend_from_slice(&[0x10, 0, 0, SERVE as u8, 0, 0, 0, 1, 0, 0, 0, 0]);
    syn.extend_from_slice(&[0x50, 2, 0x20, 0, 0, 0, 0, 0]);
    fill_checksums(&mut syn);
    machine.borrow_mut().relay(&syn);
    world.serve();
    let answered = machine.borrow().inside.last().unwrap().clone();
    assert_eq!((&answered[..6], answered[47]), (&INSIDE_MAC[..], 0x12));
    // The others are outside.
    send(&mut world, socket, 2);
    world.serve();
    assert_eq!(numbers(&world), [2]);
    // Without a server there is one way left.
    machine.borrow_mut().close();
    world.serve();
    let to = (INSIDE, 6000).into();
    assert!(world.stack.udp_send(socket, to, &[3; 100]));
    world.serve();
    assert_eq!(numbers(&world), [2, 3]);
    assert_eq!(inside(&machine).len(), 1);
}

#[test]
fn frames_to_many_go_both_ways() {
    let (mut world, machine, _) = world_at(IN_DIRECT_MODE);
    let socket = socket(&mut world);
    machine.borrow_mut().inside.clear();
    let before = world.stack.statistics().vif;
    world.stack.announce();
    let to = (Ipv4Addr::BROADCAST, 6000).into();
    assert!(world.stack.udp_send(socket, to, &[9; 100]));
    world.serve();
    let network = world.network.borrow();
    let outside = network.sniff.as_ref().unwrap();
    assert_eq!(outside.len(), 4);
    assert_eq!(&machine.borrow().inside, outside);
    // Each counts once.
    let counters = world.stack.statistics().vif;
    assert_eq!(counters.frames_out, before.frames_out + 4);
    assert_eq!(counters.refused, before.refused);
}

#[test]
fn each_change_is_announced() {
    let (mut world, _, mut switches) = world_at(3);
    let link_local: Ipv6Addr = "fe80::5054:ff:fe5e:6000".parse().unwrap();
    for change in [3, IN_DIRECT_MODE] {
        switches.go(&mut world, change);
        world.network.borrow_mut().sniff = Some(vec![]);
        switches.next(&mut world);
        world.serve();
        let frames = world.network.borrow_mut().sniff.take().unwrap();
        // The server does not know yet that its copies are to stay inside.
        let copies = if change == 3 { 2 } else { 1 };
        assert_eq!(frames.len(), 3 * copies);
        let frames = &frames[..3];
        // RFC 5227, 2.3: a request, both addresses our own.
        let us = (SERVER_MAC, SERVER);
        let announcement = from(SERVER_MAC, [0xff; 6], &arp(1, us, ([0; 6], SERVER)));
        assert_eq!(frames[0], announcement);
        for (frame, address) in frames[1..].iter().zip([SERVER6, link_local]) {
            let all_nodes = "ff02::1".parse::<Ipv6Addr>().unwrap().octets();
            assert_eq!(
                frame[..14],
                from(
                    [0x52, 0x54, 0, 0x5e, 0x60, 0],
                    [0x33, 0x33, 0, 0, 0, 1],
                    &[0x86, 0xdd]
                )
            );
            assert_eq!(frame[20..22], [58, 255]);
            assert_eq!(
                (&frame[22..38], &frame[38..54]),
                (&address.octets()[..], &all_nodes[..])
            );
            // RFC 4861, 4.4: an advertisement that overrides and answers nobody.
            assert_eq!(
                (&frame[54..56], &frame[58..62]),
                (&[136, 0][..], &[0x20, 0, 0, 0][..])
            );
            assert_eq!(frame[62..78], address.octets());
            assert_eq!(frame[78..], [&[2, 1][..], &SERVER_MAC].concat());
            let start = u64::from(sum16(0, &frame[22..54])) + 58 + 32;
            assert_eq!(sum16(start, &frame[54..]), 0xffff);
        }
    }
}

#[test]
fn who_else_claims_our_address_is_counted() {
    let (mut world, _, _) = world_at(IN_DIRECT_MODE);
    world.run(1, |_| false);
    let thief = [2, 0, 0, 0, 0, 66];
    let claims = |world: &mut World, frame: Vec<u8>| {
        let before = world.stack.statistics().duplicate_address;
        world.network.borrow_mut().sniff = Some(vec![]);
        world.network.borrow_mut().inject(frame);
        world.serve();
        let sent = world.network.borrow_mut().sniff.take().unwrap();
        // Nobody is told of it by an announcement.
        assert!(sent.iter().all(|frame| frame[0] & 1 == 0), "{sent:?}");
        world.stack.statistics().duplicate_address - before
    };
    let all = [0xff; 6];
    let announcement = |hardware| arp(1, (hardware, SERVER), ([0; 6], SERVER));
    assert_eq!(
        claims(&mut world, from(thief, all, &announcement(thief))),
        1
    );
    let reply = arp(2, (thief, SERVER), (SERVER_MAC, SERVER));
    assert_eq!(claims(&mut world, from(thief, SERVER_MAC, &reply)), 1);
    // An echo of our own, a question for us, and somebody else's.
    assert_eq!(
        claims(&mut world, from(SERVER_MAC, all, &announcement(SERVER_MAC))),
        0
    );
    let question = arp(1, (thief, INSIDE), ([0; 6], SERVER));
    assert_eq!(claims(&mut world, from(thief, all, &question)), 0);
    let probe = arp(1, (thief, Ipv4Addr::UNSPECIFIED), ([0; 6], SERVER));
    assert_eq!(claims(&mut world, from(thief, all, &probe)), 0);
    assert_eq!(
        claims(&mut world, from(thief, all, &announcement(thief)[..20])),
        0
    );

    for (hardware, counted) in [(thief, 1), (SERVER_MAC, 0)] {
        let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
        message.extend_from_slice(&SERVER6.octets());
        message.extend_from_slice(&[2, 1]);
        message.extend_from_slice(&hardware);
        let mut frame = headers(true, SERVER6.into(), 32);
        frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
        frame[6..12].copy_from_slice(&hardware);
        frame[20..22].copy_from_slice(&[58, 255]);
        frame[38..54].copy_from_slice(&"ff02::1".parse::<Ipv6Addr>().unwrap().octets());
        let start = u64::from(sum16(0, &frame[22..54])) + 58 + 32;
        let sum = !sum16(start, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&message);
        assert_eq!(claims(&mut world, frame), counted);
    }
}

#[test]
fn orders_that_come_twice_or_out_of_place_do_no_harm() {
    let (mut world, machine) = Machine::world(settings(false));
    assert!(!world.stack.direct() && !world.stack.is_direct());
    world.stack.drain();
    assert!(world.stack.detach().is_none());
    assert!(world.stack.start_function().is_err());
    // A function that does not run yet is of no use.
    let idle = machine.borrow_mut().function();
    assert!(world.stack.attach(idle, &[]).is_ok());
    assert!(!world.stack.direct());
    assert!(world.stack.start_function().is_ok());
    assert!(world.stack.direct() && world.stack.direct() && world.stack.is_direct());
    let second = machine.borrow_mut().function();
    assert!(world.stack.attach(second, &[]).is_err());
    world.stack.drain();
    world.stack.drain();
    assert!(!world.stack.is_direct() && world.stack.detach().is_some());
    assert!(world.stack.detach().is_none());
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    request(&mut world, handle, 100_000);
}

#[test]
fn a_lost_interrupt_is_noticed_and_an_idle_function_is_seldom_looked_at() {
    let (mut world, machine, _) = world_at(IN_DIRECT_MODE);
    let socket = socket(&mut world);
    send(&mut world, socket, 1);
    world.serve();
    world.serve();
    let device = machine.borrow().device.clone().unwrap();
    let look = |world: &mut World| {
        let at = world.stack.next_deadline().expect("it is watched still");
        let frames = world.stack.poll(at);
        world.stack.flush(at);
        (at, frames)
    };
    assert_eq!(look(&mut world).1, 0);
    // Nobody wakes the stack for this one but its own deadline.
    assert!(device.deliver(&datagram(9)));
    let (at, frames) = look(&mut world);
    assert_eq!(frames, 1);
    assert_eq!(world.stack.statistics().vif.found_late, 1);
    assert!(at - world.now() < Duration::from_millis(100));
    // Nothing happens any more: a few looks, and then one now and then.
    let mut looks = Vec::new();
    while looks.len() < 40 {
        looks.push(look(&mut world).0);
    }
    let last = looks.windows(2).rev().take(20);
    for pair in last {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(1_280),
            "{pair:?}"
        );
    }
    assert_eq!(world.stack.statistics().vif.found_late, 1);
}

#[test]
fn a_function_that_does_not_send_is_noticed() {
    let (mut world, machine, _) = world_at(IN_DIRECT_MODE);
    let socket = socket(&mut world);
    let device = machine.borrow().device.clone().unwrap();
    world.run(10, |_| false);
    assert!(!world.stack.function_failed());
    device.set_transmit_budget(0);
    send(&mut world, socket, 1);
    let start = world.now();
    assert!(world.run(10, |world| world.stack.function_failed()));
    let noticed = (world.now() - start).total_millis();
    assert!((500..1000).contains(&noticed), "{noticed} ms");
    // What it has not sent the server sends.
    machine.borrow_mut().direct = false;
    machine.borrow_mut().route = Route::Server;
    assert!(world.stack.detach().is_some());
    assert!(!world.stack.function_failed());
    world.serve();
    assert_eq!(numbers(&world), [1]);
}

#[test]
fn a_stack_may_have_nothing_but_a_function() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::direct_world(settings(ipv6));
        let (socket, _) = world.stack.udp_bind(5000, 4096).unwrap();
        // The function is not enabled yet: frames are refused, and wait.
        send(&mut world, socket, 1);
        world.stack.announce();
        world.run(1, |_| false);
        assert_eq!(world.stack.statistics().vif.frames_out, 0);
        assert!(world.stack.statistics().vif.refused > 0);
        assert!(world.stack.is_direct() && !world.stack.function_failed());
        world.network.borrow_mut().sniff = Some(vec![]);
        world.stack.start_function().unwrap();
        world.stack.start_function().unwrap();
        world.serve();
        let announced = world.network.borrow_mut().sniff.take().unwrap();
        assert_eq!(
            announced
                .iter()
                .filter(|frame| frame[12..14] == [8, 6])
                .count(),
            2
        );
        world.stack.drain();
        assert!(world.stack.is_direct());
        assert_eq!(download(&mut world, 8 << 20, 60, |_| ()), 8 << 20);
        assert_eq!(world.stack.statistics().retransmissions, 0);
        assert!(machine.borrow().inside.is_empty());
        // It is taken away, and another one comes.
        assert!(world.stack.detach().is_some());
        world.run(1, |_| false);
        let mut function = machine.borrow_mut().function();
        function.start().unwrap();
        assert!(world.stack.attach(function, &[]).is_ok() && world.stack.direct());
        upload(&mut world, 1 << 20, |_| ());
    }
}
