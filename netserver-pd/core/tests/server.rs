//! The whole server, with applications at the other ends of its channels and a
//! network card that a test looks into.

mod support;

use segue_frame_channel::{ClientChannel, FrameOffload, ReceivedFrame, layout};
use segue_netserver_core::nic::{Nic, Refusal, Token, VerifiedFrame};
use segue_netserver_core::server::{ChannelRegions, Server};
use segue_shared_memory::Region;
use segue_shared_memory::testing::{leaked_private_region, leaked_region};
use segue_status::network::{ChannelState, Counter, EgressDrop, IngressDrop, NetworkStatus};
use smoltcp::wire::{ArpOperation, Ipv4Address, TcpControl};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use support::*;

const POOL_SIZE: usize = 0x4_0000;
/// Device addresses of the pools, apart so that each is told from the others.
const POOLS: u64 = 0x10_0000_0000;
const HEADERS: u64 = 0x20_0000_0000;

/// A card that holds frames until it is told to complete them.
struct Card {
    pools: Vec<Region>,
    headers: Region,
    room: usize,
    queued: Vec<(Token, Vec<u8>)>,
    completed: VecDeque<Token>,
    /// What has left it, as the wire sees it.
    sent: Vec<Vec<u8>>,
    received: VecDeque<(Vec<u8>, bool)>,
    masked: bool,
    /// Completes what it is given at once.
    eager: bool,
}

impl Card {
    /// Sends and completes up to `count` frames.
    fn work(&mut self, count: usize) {
        for (token, frame) in self.queued.drain(..count.min(self.queued.len())) {
            self.sent.push(frame);
            self.completed.push_back(token);
        }
    }
}

impl Nic for Card {
    type Frame = (Vec<u8>, bool);

    fn has_room(&self) -> bool {
        self.queued.len() + self.completed.len() < self.room
    }
    fn transmit(&mut self, frame: VerifiedFrame<'_>, token: Token) -> Result<(), Refusal> {
        assert!(self.has_room());
        // It reads by device address, as a real one does.
        let mut bytes = vec![0; frame.headers.len() + frame.payload_length];
        let (headers, payload) = bytes.split_at_mut(frame.headers.len());
        self.headers
            .read((frame.header_address - HEADERS) as usize, headers);
        if !payload.is_empty() {
            let pool = ((frame.payload_address - POOLS) >> 32) as usize;
            let offset = (frame.payload_address - POOLS) as u32 as usize;
            self.pools[pool].read(offset, payload);
        }
        self.queued.push((token, bytes));
        Ok(())
    }
    fn flush(&mut self) {
        if self.eager {
            self.work(usize::MAX);
        }
    }
    fn reclaim(&mut self, mut done: impl FnMut(Token)) {
        self.completed.drain(..).for_each(&mut done);
    }
    fn outstanding(&self) -> usize {
        self.queued.len()
    }
    fn receive(&mut self) -> Option<Self::Frame> {
        self.received.pop_front()
    }
    fn describe(&self, frame: &Self::Frame) -> ReceivedFrame {
        ReceivedFrame {
            length: frame.0.len(),
            checksums_verified: frame.1,
        }
    }
    fn read(&self, frame: &Self::Frame, to: &mut [u8]) {
        to.copy_from_slice(&frame.0[..to.len()]);
    }
    fn copy(&self, frame: &Self::Frame, to: &Region, offset: usize) {
        to.write(offset, &frame.0);
    }
    fn release(&mut self, _: Self::Frame) {}
    fn mask_interrupt(&mut self) {
        self.masked = true;
    }
    fn unmask_interrupt(&mut self, _: bool) -> bool {
        self.masked = false;
        !self.received.is_empty() || !self.completed.is_empty()
    }
}

struct World {
    server: Server,
    card: Card,
    status: NetworkStatus,
    clients: Vec<ClientChannel>,
    regions: Vec<ChannelRegions>,
    now: Cell<u64>,
    notified: RefCell<Vec<usize>>,
}

impl World {
    /// Two applications at the shared address and one with its own, all up.
    fn new() -> Self {
        let table = table(2);
        let mut regions = Vec::new();
        let mut clients = Vec::new();
        for entry in table.applications() {
            let client = leaked_region(layout::client_region_size(entry.transmit_entries));
            let server = leaked_region(layout::server_region_size(entry.receive_entries));
            let (pool, pool_reader) = leaked_private_region(POOL_SIZE);
            regions.push(ChannelRegions {
                client,
                server,
                pool: pool_reader,
            });
            let (transmit, receive) = (entry.transmit_entries, entry.receive_entries);
            clients.push(ClientChannel::new(client, server, pool, transmit, receive).unwrap());
        }
        let status = NetworkStatus::new(leaked_region(0x2000)).unwrap();
        let (server, headers) = new_server(status, &regions);
        let card = Card {
            pools: regions.iter().map(|regions| regions.pool).collect(),
            headers,
            room: 64,
            queued: Vec::new(),
            completed: VecDeque::new(),
            sent: Vec::new(),
            received: VecDeque::new(),
            masked: false,
            eager: true,
        };
        let (now, notified) = (Cell::new(0), RefCell::default());
        let mut world = Self {
            server,
            card,
            status,
            clients,
            regions,
            now,
            notified,
        };
        world.run(0);
        assert_eq!(world.take_notified(), [0, 1, 2], "the channels are open");
        world.join_all();
        world
    }

    fn join_all(&mut self) {
        let mut woken = 0;
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.wake();
            client.poll().unwrap();
            woken |= u16::from(client.publish()) << index;
            assert!(client.sleep(false));
        }
        self.run(woken);
        self.take_notified();
    }

    fn run(&mut self, woken: u16) {
        let (now, notified) = (&self.now, &self.notified);
        self.server.run(
            &mut self.card,
            woken,
            || now.get(),
            |index| notified.borrow_mut().push(index),
        );
    }

    fn take_notified(&self) -> Vec<usize> {
        self.notified.take()
    }

    /// Hands frames in, as one batch, and lets the server run if it must be
    /// notified.
    fn send(&mut self, index: usize, frames: &[Vec<u8>]) {
        let client = &mut self.clients[index];
        client.wake();
        client.poll().unwrap();
        for frame in frames {
            let mut room = client.reserve(frame.len()).expect("room");
            room.bytes().copy_from_slice(frame);
            room.submit(frame.len(), FrameOffload::default());
        }
        let woken = client.publish();
        assert!(client.sleep(false));
        if woken {
            self.run(1 << index);
        }
    }

    fn receive(&mut self, index: usize) -> Vec<Vec<u8>> {
        let client = &mut self.clients[index];
        client.wake();
        client.poll().unwrap();
        let mut frames = Vec::new();
        let mut buffer = [0; 2048];
        while let Some(frame) = client.receive(&mut buffer).unwrap() {
            frames.push(buffer[..frame.length].to_vec());
        }
        assert!(!client.publish(), "the server does not wait for this");
        assert!(client.sleep(false));
        frames
    }

    fn dropped(&self, index: usize, cause: EgressDrop) -> u64 {
        self.status.application(index).unwrap().dropped(cause)
    }

    fn counter(&self, index: usize, counter: Counter) -> u64 {
        self.status.application(index).unwrap().counter(counter)
    }
}

fn new_server(status: NetworkStatus, regions: &[ChannelRegions]) -> (Server, Region) {
    let (headers, reader) = leaked_private_region(64 * layout::MAXIMUM_HEADER_LENGTH);
    let mut table = table(2);
    for (index, entry) in table.entries[..3].iter_mut().enumerate() {
        entry.pool = POOLS + ((index as u64) << 32);
    }
    let mut next = regions.iter();
    let headers = headers.with_device_address(HEADERS);
    let server = Server::new(&table, ports(), status, headers, |_| *next.next().unwrap()).unwrap();
    (server, reader)
}

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
            woken |= u16::from(client.publish()) << index;
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
