//! Connections that the stack opens.

mod support;

use segue_libos::*;
use smoltcp::socket::tcp;
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use support::forged::{ACK, Forged, RST, SYN, answers, inject};
use support::ports::*;
use support::*;

/// Where [`Forged`] frames come from.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 99);
const SERVICE: u16 = 7000;

fn world_with(settings: Settings) -> (World, Rc<RefCell<Ledger>>) {
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let authority = Box::new(Clerk(ledger.clone()));
    let world = World::new(Settings {
        authority,
        ..settings
    });
    (world, ledger)
}

fn world() -> (World, Rc<RefCell<Ledger>>) {
    world_with(Settings::default())
}

fn closed(world: &World, id: ConnectionId) -> Option<CloseReason> {
    world.application.dialogs[&id].closed
}

/// Opens a connection to the echoing client and lets it run to its end.
fn talk(world: &mut World, length: u64, seconds: i64) {
    let handle = world.accept(SERVICE);
    let id = world
        .open((CLIENT, SERVICE), length, ConnectOptions::default())
        .unwrap();
    let done = world.run(seconds, |world| {
        world.echo(handle);
        closed(world, id).is_some()
    });
    let dialog = &world.application.dialogs[&id];
    assert!(done, "{} of {length}", dialog.received);
    assert_eq!(dialog.closed, Some(CloseReason::Finished));
    assert_eq!((dialog.sent, dialog.received), (length, length));
    world.sockets.remove(handle);
}

#[test]
fn a_connection_is_opened_used_and_closed() {
    let (mut world, ledger) = world();
    let before = ledger.borrow().count();
    talk(&mut world, 300_000, 20);
    let statistics = world.stack.statistics();
    assert_eq!((statistics.connects, statistics.connected), (1, 1));
    assert_eq!(statistics.retransmissions, 0);
    // We closed first: the port stays ours as long as it must, and others know it.
    assert_eq!(world.stack.time_wait_entries(), 1);
    assert_eq!(ledger.borrow().count(), before + 1);
    let hold = ledger.borrow().holds[0];
    assert_eq!((hold.0, hold.2), (Protocol::Tcp, Duration::from_secs(10)));
    assert!(ledger.borrow().has(Protocol::Tcp, hold.1));
    let end = world.now();
    assert!(world.run(20, |_| ledger.borrow().count() == before));
    assert!(world.now() >= end + Duration::from_millis(9_900));
    assert_eq!(world.stack.open_ports(), 2);
    assert_eq!(world.stack.next_deadline(), None);
}

#[test]
fn bytes_arrive_over_a_bad_wire() {
    for seed in 1..=30 {
        let faults = Faults {
            drop: 50,
            duplicate: 50,
            reorder: 50,
        };
        let (mut world, _) = world_with(Settings {
            faults,
            seed,
            offloads: seed % 2 == 0,
            ..Settings::default()
        });
        talk(&mut world, 40_000, 300);
    }
}

#[test]
fn three_thousand_connections_in_a_row_leave_nothing() {
    let (mut world, ledger) = world();
    let before = ledger.borrow().count();
    for index in 0..3000 {
        talk(&mut world, 1 + index % 3000, 20);
    }
    assert!(world.run(30, |_| ledger.borrow().count() == before));
    let stack = &world.stack;
    assert_eq!(
        (stack.open_connections(), stack.time_wait_entries()),
        (0, 0)
    );
    assert_eq!(stack.open_ports(), 2);
    assert_eq!(stack.next_deadline(), None);
}

#[test]
fn a_closed_port_refuses() {
    let (mut world, ledger) = world();
    let before = ledger.borrow().count();
    let id = world
        .open((CLIENT, 9), 1, ConnectOptions::default())
        .unwrap();
    assert_eq!(world.stack.send(id, b"too early"), 0);
    assert_eq!(world.stack.send_space(id), 0);
    let start = world.now();
    assert!(world.run(5, |world| closed(world, id).is_some()));
    assert_eq!(closed(&world, id), Some(CloseReason::Refused));
    assert!(world.now() < start + Duration::from_millis(10));
    assert!(!world.application.dialogs[&id].connected);
    assert_eq!(ledger.borrow().count(), before);
}

#[test]
fn nobody_there() {
    let (mut world, ledger) = world();
    let before = ledger.borrow().count();
    world.network.borrow_mut().sniff = Some(vec![]);
    let id = world
        .open((STRANGER, 9), 1, ConnectOptions::default())
        .unwrap();
    let start = world.now();
    assert!(world.run(30, |world| closed(world, id).is_some()));
    assert_eq!(closed(&world, id), Some(CloseReason::Unreachable));
    assert_eq!((world.now() - start).secs(), 3);
    let questions = world.network.borrow_mut().sniff.take().unwrap();
    assert_eq!(questions.len(), 3);
    assert!(questions.iter().all(|frame| frame[12..14] == [8, 6]));
    assert_eq!(ledger.borrow().count(), before);
    assert_eq!(world.stack.next_deadline(), None);
}

#[test]
fn what_cannot_be_tried_is_refused_at_once() {
    let (mut world, ledger) = world_with(Settings {
        maximum_connections: 1,
        ..Settings::default()
    });
    let options = ConnectOptions::default();
    let before = ledger.borrow().count();
    for address in [
        [0; 4],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [10, 0, 2, 255],
    ] {
        let error = world.open((address.into(), 9), 1, options).unwrap_err();
        assert_eq!(error, ConnectError::Invalid, "{address:?}");
    }
    assert_eq!(
        world.open((CLIENT, 0), 1, options),
        Err(ConnectError::Invalid)
    );
    for address in ["[::]:9", "[::1]:9", "[ff02::1]:9", "[fd00::1]:0"] {
        let error = world.stack.connect(address.parse().unwrap(), options);
        assert_eq!(error, Err(ConnectError::Invalid), "{address}");
    }
    world.stack.set_addresses(&Addresses {
        ipv6: None,
        ..ADDRESSES
    });
    let remote = "[fd00::1]:9".parse().unwrap();
    assert_eq!(
        world.stack.connect(remote, options),
        Err(ConnectError::NoRoute)
    );
    let own = ConnectOptions {
        local_port: Some(SERVE),
        ..options
    };
    let error = ConnectError::Port(BindError::AddressInUse);
    assert_eq!(world.open((CLIENT, 9), 1, own), Err(error));
    ledger.borrow_mut().refuses = true;
    assert_eq!(world.open((CLIENT, 9), 1, options), Err(error));
    ledger.borrow_mut().refuses = false;
    assert_eq!(ledger.borrow().count(), before);
    world.open((STRANGER, 9), 1, options).unwrap();
    let error = ConnectError::TooManyConnections;
    assert_eq!(world.open((CLIENT, 9), 1, options), Err(error));
    assert_eq!(ledger.borrow().count(), before + 1);
    assert_eq!(
        ConnectError::Port(BindError::AddressInUse).to_string(),
        "no local port: the port is in use"
    );
}

#[test]
fn a_given_port_is_used_and_far_addresses_go_to_the_router() {
    let (mut world, ledger) = world();
    world.network.borrow_mut().sniff = Some(vec![]);
    let options = ConnectOptions {
        local_port: Some(1234),
        ..ConnectOptions::default()
    };
    let far = Ipv4Addr::new(192, 0, 2, 7);
    let id = world.open((far, 9), 1, options).unwrap();
    assert!(ledger.borrow().has(Protocol::Tcp, 1234));
    world.run(1, |_| false);
    let frames = world.network.borrow_mut().sniff.take().unwrap();
    // A question for the router, and the SYN to it.
    assert_eq!(frames[0][38..42], CLIENT.octets());
    assert_eq!(frames[1][..6], CLIENT_MAC);
    assert_eq!(frames[1][30..34], far.octets());
    assert_eq!(frames[1][34..36], 1234u16.to_be_bytes());
    world.stack.close(id);
    world.run(1, |world| closed(world, id).is_some());
    assert_eq!(closed(&world, id), Some(CloseReason::Aborted));
    assert!(!ledger.borrow().has(Protocol::Tcp, 1234));
}

/// Begins a connection to a stranger who has answered ARP and not the SYN. Returns it,
/// its port and the sequence number of its SYN.
fn begin(world: &mut World, options: ConnectOptions) -> (ConnectionId, u16, u32) {
    world.network.borrow_mut().sniff = Some(vec![]);
    let id = world.open((STRANGER, SERVICE), 5, options).unwrap();
    let mut arp = [
        &SERVER_MAC[..],
        &CLIENT_MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
    ]
    .concat();
    arp.extend_from_slice(&CLIENT_MAC);
    arp.extend_from_slice(&STRANGER.octets());
    arp.extend_from_slice(&SERVER_MAC);
    arp.extend_from_slice(&SERVER.octets());
    // Later ones know the hardware address.
    let mut sent = answers(world);
    if sent.is_empty() {
        sent = inject(world, arp);
    }
    assert_eq!(sent.len(), 1);
    let (flags, sequence, acknowledgement, _) = sent[0];
    assert_eq!((flags, acknowledgement), (SYN, 0));
    let port = world.stack.connection_name(id).unwrap().0.port();
    (id, port, sequence)
}

fn segment(port: u16, flags: u8, sequence: u32, acknowledgement: u32) -> Forged {
    let mut forged = Forged::new(SERVICE, port, flags);
    forged.sequence = sequence;
    forged.acknowledgement = acknowledgement;
    forged
}

#[test]
fn a_syn_is_repeated_as_it_should() {
    let (mut world, ledger) = world();
    let before = ledger.borrow().count();
    let options = ConnectOptions {
        connect_timeout: Duration::from_secs(6),
        ..ConnectOptions::default()
    };
    let (id, _, ours) = begin(&mut world, options);
    let start = world.now();
    let mut times = vec![];
    world.run(2, |world| {
        for (flags, sequence, ..) in answers(world) {
            assert_eq!((flags, sequence), (SYN, ours));
            times.push((world.now() - start).total_millis());
        }
        false
    });
    assert_eq!(times, [1000]);
    // After two without an answer the hardware address is asked for anew, in vain.
    assert!(world.run(20, |world| closed(world, id).is_some()));
    assert_eq!(closed(&world, id), Some(CloseReason::TimedOut));
    assert_eq!((world.now() - start).secs(), 6);
    assert_eq!(ledger.borrow().count(), before);
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let (mut world, _) = world();
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    let next = ours.wrapping_add(1);
    for wrong in [
        ours,
        next.wrapping_add(1),
        0,
        next.wrapping_sub(0x8000_0000),
    ] {
        let forged = segment(port, SYN | ACK, 5000, wrong);
        assert_eq!(
            inject(&mut world, forged.frame()),
            [(RST, wrong, 0, SERVICE)]
        );
        // Nor does a RST count that does not know our number.
        assert_eq!(
            inject(&mut world, segment(port, RST | ACK, 0, wrong).frame()),
            []
        );
    }
    assert_eq!(inject(&mut world, segment(port, RST, 0, 0).frame()), []);
    // Data and acknowledgements without a SYN mean nothing yet.
    assert_eq!(
        inject(&mut world, segment(port, ACK, 5000, next).frame()),
        []
    );
    assert_eq!(closed(&world, id), None);
    assert!(!world.application.dialogs[&id].connected);
    // The right one is taken in, acknowledged, and what was said comes.
    let sent = inject(&mut world, segment(port, SYN | ACK, 5000, next).frame());
    assert!(world.application.dialogs[&id].connected);
    assert_eq!(sent[0], (ACK, next, 5001, SERVICE));
    assert!(sent.len() == 2 && sent[1].1 == next);
    // Its repetition is acknowledged again, in case the first one was lost.
    let again = inject(&mut world, segment(port, SYN | ACK, 5000, next).frame());
    assert_eq!((again.len(), again[0].0, again[0].2), (1, ACK, 5001));
}

#[test]
fn a_reset_that_fits_refuses() {
    let (mut world, _) = world();
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    let forged = segment(port, RST | ACK, 0, ours.wrapping_add(1));
    assert_eq!(inject(&mut world, forged.frame()), []);
    assert_eq!(closed(&world, id), Some(CloseReason::Refused));
}

#[test]
fn both_may_open_at_once() {
    let (mut world, _) = world();
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    let next = ours.wrapping_add(1);
    let mut theirs = segment(port, SYN, 8000, 0);
    theirs.options = vec![2, 4, 5, 180];
    let sent = inject(&mut world, theirs.frame());
    assert_eq!(sent, [(SYN | ACK, ours, 8001, SERVICE)]);
    // Another SYN is not theirs; a RST without the number is not, either.
    assert_eq!(inject(&mut world, segment(port, SYN, 9000, 0).frame()), []);
    assert_eq!(inject(&mut world, segment(port, RST, 8000, 0).frame()), []);
    assert_eq!(
        inject(&mut world, segment(port, ACK, 8002, next).frame()),
        []
    );
    assert!(!world.application.dialogs[&id].connected);
    // Their answer to our SYN carries their SYN again.
    inject(&mut world, segment(port, SYN | ACK, 8000, next).frame());
    assert!(world.application.dialogs[&id].connected);
    // The other way: only the acknowledgement arrives.
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    inject(&mut world, segment(port, SYN, 8000, 0).frame());
    inject(
        &mut world,
        segment(port, ACK, 8001, ours.wrapping_add(1)).frame(),
    );
    assert!(world.application.dialogs[&id].connected);
    // And one that is given up, or refused, in between.
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    inject(&mut world, segment(port, SYN, 8000, 0).frame());
    world.stack.abort(id);
    assert_eq!(
        answers(&mut world),
        [(RST | ACK, ours.wrapping_add(1), 8001, SERVICE)]
    );
    let (id, port, _) = begin(&mut world, ConnectOptions::default());
    inject(&mut world, segment(port, SYN, 8000, 0).frame());
    inject(&mut world, segment(port, RST, 8001, 0).frame());
    assert_eq!(closed(&world, id), Some(CloseReason::Refused));
}

/// An ICMP message about a segment of ours.
fn unreachable(code: u8, port: u16, sequence: u32) -> Vec<u8> {
    let mut quoted = vec![0x45, 0, 0, 44, 0, 0, 0x40, 0, 63, 6, 0, 0];
    quoted.extend_from_slice(&SERVER.octets());
    quoted.extend_from_slice(&STRANGER.octets());
    quoted.extend_from_slice(&port.to_be_bytes());
    quoted.extend_from_slice(&SERVICE.to_be_bytes());
    quoted.extend_from_slice(&sequence.to_be_bytes());
    let mut icmp = [&[3, code, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    let checksum = !sum16(0, &icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    packet.extend_from_slice(&CLIENT.octets());
    packet.extend_from_slice(&SERVER.octets());
    packet[2..4].copy_from_slice(&(20 + icmp.len() as u16).to_be_bytes());
    let checksum = !sum16(0, &packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&SERVER_MAC[..], &CLIENT_MAC, &[8, 0], &packet, &icmp].concat()
}

#[test]
fn routers_may_say_that_there_is_no_way() {
    let (mut world, _) = world();
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    // Guesses, and "too big" that a SYN never is.
    inject(&mut world, unreachable(1, port, ours.wrapping_add(1)));
    inject(&mut world, unreachable(1, port ^ 1, ours));
    inject(&mut world, unreachable(4, port, ours));
    for length in 0..70 {
        let mut short = unreachable(1, port, ours);
        short.truncate(length);
        inject(&mut world, short);
    }
    assert_eq!(closed(&world, id), None);
    inject(&mut world, unreachable(1, port, ours));
    assert_eq!(closed(&world, id), Some(CloseReason::Unreachable));
    // An open connection does not believe it.
    let (id, port, ours) = begin(&mut world, ConnectOptions::default());
    let next = ours.wrapping_add(1);
    inject(&mut world, segment(port, SYN | ACK, 5000, next).frame());
    inject(&mut world, unreachable(1, port, ours));
    inject(&mut world, unreachable(3, port, next));
    assert_eq!(closed(&world, id), None);
}

#[test]
fn a_peer_may_close_first() {
    let (mut world, ledger) = world();
    let before = ledger.borrow().count();
    let handle = world.accept(SERVICE);
    let id = world
        .open((CLIENT, SERVICE), 100, ConnectOptions::default())
        .unwrap();
    assert!(world.run(5, |world| world.client(handle).state()
        == tcp::State::Established));
    world.client(handle).close();
    assert!(world.run(5, |world| closed(world, id).is_some()));
    assert_eq!(closed(&world, id), Some(CloseReason::Finished));
    // Nothing of it stays here.
    assert_eq!(world.stack.time_wait_entries(), 0);
    assert_eq!(ledger.borrow().count(), before);
    assert!(ledger.borrow().holds.is_empty());
}

#[test]
fn probes_hold_an_opened_connection() {
    let (mut world, _) = world();
    let handle = world.accept(SERVICE);
    let options = ConnectOptions {
        timeout: Some(Duration::from_secs(20)),
        keep_alive: Some(Duration::from_secs(5)),
        ..ConnectOptions::default()
    };
    let id = world.open((CLIENT, SERVICE), 100, options).unwrap();
    // The peer takes it and does not echo.
    world.run(100, |_| false);
    assert_eq!(closed(&world, id), None);
    assert_eq!(world.client(handle).recv_queue(), 100);
    // Now it does.
    assert!(world.run(5, |world| {
        world.echo(handle);
        closed(world, id).is_some()
    }));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]
    /// Whatever a peer that knows all numbers sends, left alone it all comes to an end,
    /// and no port stays behind.
    #[test]
    fn hostile_answers_leave_nothing(
        steps in proptest::collection::vec(
            (0u8..64, -3i32..4, -3i32..4, 0usize..3, proptest::bool::ANY),
            1..30,
        ),
    ) {
        let (mut world, ledger) = world();
        let before = ledger.borrow().count();
        let options = ConnectOptions {
            timeout: Some(Duration::from_secs(20)),
            connect_timeout: Duration::from_secs(20),
            ..ConnectOptions::default()
        };
        let (id, port, ours) = begin(&mut world, options);
        let mut theirs = 5000u32;
        for (flags, sequence, acknowledgement, payload, wait) in steps {
            let next = ours.wrapping_add(1);
            let mut forged = segment(
                port,
                flags,
                theirs.wrapping_add_signed(sequence),
                next.wrapping_add_signed(acknowledgement),
            );
            forged.payload = (0..payload).map(|at| pattern(at as u64)).collect();
            theirs = theirs.wrapping_add(u32::from(flags & SYN != 0));
            // What comes back is not what was sent, so only its length is looked at.
            if world.application.dialogs[&id].connected {
                forged.payload.clear();
            }
            inject(&mut world, forged.frame());
            if wait {
                world.run(1, |_| false);
            }
        }
        let done = world.run(200, |world| {
            closed(world, id).is_some() && ledger.borrow().count() == before
        });
        proptest::prop_assert!(done, "{:?}", world.stack.statistics());
        proptest::prop_assert_eq!(world.stack.open_connections(), 0);
        proptest::prop_assert_eq!(world.stack.next_deadline(), None);
    }
}
