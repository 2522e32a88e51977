//! The server between applications and a network card made of memory.

use super::{ports, table};
use segue_director_core::board::{BOARD_SIZE, Board};
use segue_frame_channel::{ClientChannel, FrameOffload, ReceivedFrame, layout};
use segue_netserver_core::directory::Applications;
use segue_netserver_core::nic::{Nic, Refusal, Token, VerifiedFrame};
use segue_netserver_core::server::{ChannelRegions, Server};
use segue_shared_memory::Region;
use segue_shared_memory::testing::{leaked_private_region, leaked_region};
use segue_status::network::{Counter, EgressDrop, NetworkStatus, REGION_SIZE};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

pub const POOL_SIZE: usize = 0x4_0000;
/// Device addresses of the pools, apart so that each is told from the others.
const POOLS: u64 = 0x10_0000_0000;
const HEADERS: u64 = 0x20_0000_0000;

/// A card that holds frames until it is told to complete them.
pub struct Card {
    pub pools: Vec<Region>,
    pub headers: Region,
    pub room: usize,
    pub queued: Vec<(Token, Vec<u8>)>,
    pub completed: VecDeque<Token>,
    /// What has left it, as the wire sees it.
    pub sent: Vec<Vec<u8>>,
    pub received: VecDeque<(Vec<u8>, bool)>,
    pub aside: Vec<(Vec<u8>, bool)>,
    pub room_aside: usize,
    pub masked: bool,
    /// Completes what it is given at once.
    pub eager: bool,
}

impl Card {
    /// Sends and completes up to `count` frames.
    pub fn work(&mut self, count: usize) {
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
    fn keep(&mut self, frame: Self::Frame) {
        self.received.push_front(frame);
    }
    fn set_aside(&mut self, frame: Self::Frame) -> Result<(), Self::Frame> {
        if self.aside.len() == self.room_aside {
            return Err(frame);
        }
        self.aside.push(frame);
        Ok(())
    }
    fn ask_back(&mut self) {
        for frame in self.aside.drain(..).rev() {
            self.received.push_front(frame);
        }
    }
    fn settle(&mut self) {}
    fn mask_interrupt(&mut self) {
        self.masked = true;
    }
    fn unmask_interrupt(&mut self, _: bool) -> bool {
        self.masked = false;
        !self.received.is_empty() || !self.completed.is_empty()
    }
}

pub struct World {
    pub server: Server,
    pub card: Card,
    pub status: NetworkStatus,
    /// Says who is in direct mode.
    pub board: Board,
    pub clients: Vec<ClientChannel>,
    pub regions: Vec<ChannelRegions>,
    pub now: Cell<u64>,
    /// Microseconds that pass whenever the server looks at its clock.
    pub tick: Cell<u64>,
    pub notified: RefCell<Vec<usize>>,
}

impl World {
    /// Two applications at the shared address and one with its own, all up.
    pub fn new() -> Self {
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
        let status = NetworkStatus::new(leaked_region(REGION_SIZE)).unwrap();
        let (mut server, headers) = new_server(status, &regions);
        let board = Board::new(leaked_region(BOARD_SIZE)).unwrap();
        server.set_board(board);
        let card = Card {
            pools: regions.iter().map(|regions| regions.pool).collect(),
            headers,
            room: 64,
            queued: Vec::new(),
            completed: VecDeque::new(),
            sent: Vec::new(),
            received: VecDeque::new(),
            aside: Vec::new(),
            room_aside: 8,
            masked: false,
            eager: true,
        };
        let (now, notified) = (Cell::new(0), RefCell::default());
        let mut world = Self {
            server,
            card,
            status,
            board,
            clients,
            regions,
            now,
            tick: Cell::new(0),
            notified,
        };
        world.run(0);
        assert_eq!(world.take_notified(), [0, 1, 2], "the channels are open");
        world.join_all();
        world
    }

    pub fn join_all(&mut self) {
        let mut woken = 0;
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.wake();
            client.poll().unwrap();
            woken |= Applications::from(client.publish()) << index;
            assert!(client.sleep(false));
        }
        self.run(woken);
        self.take_notified();
    }

    pub fn run(&mut self, woken: Applications) {
        let (now, tick, notified) = (&self.now, &self.tick, &self.notified);
        self.server.run(
            &mut self.card,
            woken,
            || now.replace(now.get() + tick.get()) + tick.get(),
            |index| notified.borrow_mut().push(index),
        );
    }

    pub fn take_notified(&self) -> Vec<usize> {
        self.notified.take()
    }

    /// Hands frames in, as one batch, and lets the server run if it must be
    /// notified.
    pub fn send(&mut self, index: usize, frames: &[Vec<u8>]) {
        self.send_with(index, frames, FrameOffload::default());
    }

    pub fn send_with(&mut self, index: usize, frames: &[Vec<u8>], offload: FrameOffload) {
        let client = &mut self.clients[index];
        client.wake();
        client.poll().unwrap();
        for frame in frames {
            let mut room = client.reserve(frame.len()).expect("room");
            room.bytes().copy_from_slice(frame);
            room.submit(frame.len(), offload);
        }
        let woken = client.publish();
        // It stays awake if something has come that it has not taken.
        let _ = client.sleep(false);
        if woken {
            self.run(1 << index);
        }
    }

    pub fn receive(&mut self, index: usize) -> Vec<Vec<u8>> {
        let frames = self.receive_all(index).into_iter();
        frames.map(|(frame, _)| frame).collect()
    }

    /// Frames, and whether their checksums were found right.
    pub fn receive_all(&mut self, index: usize) -> Vec<(Vec<u8>, bool)> {
        let client = &mut self.clients[index];
        client.wake();
        client.poll().unwrap();
        let mut frames = Vec::new();
        let mut buffer = [0; 2048];
        while let Some(frame) = client.receive(&mut buffer).unwrap() {
            frames.push((buffer[..frame.length].to_vec(), frame.checksums_verified));
        }
        assert!(!client.publish(), "the server does not wait for this");
        assert!(client.sleep(false));
        frames
    }

    pub fn dropped(&self, index: usize, cause: EgressDrop) -> u64 {
        self.status.application(index).unwrap().dropped(cause)
    }

    pub fn counter(&self, index: usize, counter: Counter) -> u64 {
        self.status.application(index).unwrap().counter(counter)
    }
}

pub fn new_server(status: NetworkStatus, regions: &[ChannelRegions]) -> (Server, Region) {
    let (headers, reader) = leaked_private_region(64 * layout::MAXIMUM_HEADER_LENGTH + 16 * 2048);
    let mut table = table(2);
    for (index, entry) in table.entries[..3].iter_mut().enumerate() {
        entry.pool = POOLS + ((index as u64) << 32);
    }
    let mut next = regions.iter();
    let headers = headers.with_device_address(HEADERS);
    let server = Server::new(&table, ports(), None, status, headers, |_| {
        *next.next().unwrap()
    })
    .unwrap();
    (server, reader)
}
