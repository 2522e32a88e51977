//! A world for tests: a frame channel whose server dies after so many stores.
#![allow(dead_code)]

use segue_frame_channel::client_rings::ClientRings;
use segue_frame_channel::{
    FrameOffload, ReceivedFrame, ServerChannel, SharedMemory, TransmitFrame, layout,
};
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;

const ENTRIES: u32 = 8;
const LENGTH: usize = 64;
/// Turns within which both ends must be done with everything once a server lives on.
const LAST_TURNS: usize = 12;

/// Memory whose owner dies after so many stores: those that follow do not happen.
#[derive(Clone)]
pub struct Mortal {
    region: Region,
    pub life: Rc<Cell<u32>>,
}

impl Mortal {
    fn lives(&self) -> bool {
        let left = self.life.get();
        self.life.set(left.saturating_sub(1));
        left > 0
    }
}

impl SharedMemory for Mortal {
    fn length(&self) -> usize {
        self.region.length()
    }
    fn load32(&self, offset: usize, order: Ordering) -> u32 {
        self.region.load32(offset, order)
    }
    fn store32(&self, offset: usize, value: u32, order: Ordering) {
        if self.lives() {
            self.region.store32(offset, value, order);
        }
    }
    fn load64(&self, offset: usize) -> u64 {
        self.region.load64(offset, Ordering::Relaxed)
    }
    fn store64(&self, offset: usize, value: u64) {
        if self.lives() {
            self.region.store64(offset, value, Ordering::Relaxed);
        }
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.region.read(offset, to);
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        if self.lives() {
            self.region.write(offset, from);
        }
    }
    fn fence(&self) {}
}

pub struct World {
    pub regions: [Region; 3],
    pub client: ClientRings<Region>,
    pub server: ServerChannel<Mortal>,
    pub life: Rc<Cell<u32>>,
    /// Notifications that wait, as the kernel keeps them.
    pub to_client: bool,
    pub to_server: bool,
    pub is_client_asleep: bool,
    /// Numbers of frames: handed in, seen by a server, and completed by one.
    pub handed_in: u32,
    pub seen: BTreeSet<u32>,
    pub completed: BTreeSet<u32>,
    /// Numbers of received frames: delivered by a server, told of in a server's life, and
    /// taken by the application.
    pub delivered: u32,
    pub told: Vec<u32>,
    pub received: Vec<u32>,
    pub violations: usize,
}

impl World {
    pub fn new() -> Self {
        let regions = memory();
        let [client, server, _] = regions;
        let life = Rc::new(Cell::new(u32::MAX));
        Self {
            regions,
            client: ClientRings::new(client, server, ENTRIES, ENTRIES).unwrap(),
            server: open(regions, &life),
            life,
            to_client: true,
            to_server: false,
            is_client_asleep: false,
            handed_in: 0,
            seen: BTreeSet::new(),
            completed: BTreeSet::new(),
            delivered: 0,
            told: Vec::new(),
            received: Vec::new(),
            violations: 0,
        }
    }

    pub fn is_server_dead(&self) -> bool {
        self.life.get() == 0
    }

    /// A new server, which lives for so many stores. What waited for the old one is dropped.
    pub fn restart(&mut self, life: u32) {
        self.life = Rc::new(Cell::new(life));
        self.to_server = false;
        self.server = open(self.regions, &self.life);
        self.server_turn(0, 0);
    }

    pub fn hand_in(&mut self, count: usize) {
        self.is_client_asleep = false;
        for _ in 0..count {
            // A frame's number shows in where it lies.
            let frame = TransmitFrame {
                offset: self.handed_in * LENGTH as u32,
                length: LENGTH as u32,
                header_length: LENGTH as u16,
                offload: FrameOffload::default(),
            };
            if !self.client.push(&frame) {
                break;
            }
            self.handed_in += 1;
        }
        self.client_turn(0);
    }

    /// A turn of the application, if it does not sleep.
    pub fn client_turn(&mut self, take: usize) {
        if self.is_client_asleep && !core::mem::take(&mut self.to_client) {
            return;
        }
        self.is_client_asleep = false;
        self.client.wake();
        self.violations += usize::from(self.client.poll().is_err());
        for _ in 0..take {
            match self.client.next_received() {
                Ok(Some((slot, frame))) => {
                    assert!(frame.length <= layout::RECEIVE_SLOT_SIZE);
                    let mut number = [0; 4];
                    self.client.copy_received(slot, &mut number);
                    self.client.consume();
                    self.received.push(u32::from_le_bytes(number));
                }
                Ok(None) => break,
                Err(_) => {
                    self.violations += 1;
                    break;
                }
            }
        }
        self.to_server |= self.client.publish();
        self.is_client_asleep = self.client.sleep(true);
    }

    pub fn server_turn(&mut self, complete: usize, deliver: usize) {
        self.server.wake();
        self.server.poll().expect("the application is innocent");
        let mut tickets = Vec::new();
        while let Some(frame) = self.server.peek().expect("the application is innocent") {
            let (_, ticket) = self.server.take().unwrap();
            tickets.push((ticket, frame.offset / LENGTH as u32));
        }
        if !self.is_server_dead() {
            for pair in tickets.windows(2) {
                assert_eq!(pair[1].1, pair[0].1 + 1, "frames come in order");
            }
            self.seen.extend(tickets.iter().map(|ticket| ticket.1));
        }
        for (ticket, number) in tickets.into_iter().take(complete) {
            self.server.complete(ticket);
            self.completed.insert(number);
        }
        let first = self.delivered;
        for _ in 0..deliver {
            if self.server.receive_room().expect("it is innocent") == 0 {
                break;
            }
            let number = self.delivered;
            let done = self.server.deliver(
                ReceivedFrame {
                    length: LENGTH,
                    checksums_verified: false,
                },
                |memory, offset| memory.copy_in(offset, &number.to_le_bytes()),
            );
            assert!(done);
            self.delivered += 1;
        }
        let notify = self.server.publish();
        if !self.is_server_dead() {
            self.told.extend(first..self.delivered);
            self.to_client |= notify;
            self.to_server |= !self.server.sleep(false);
        }
    }

    /// A server that lives on: everything comes to its end, driven by notifications alone.
    pub fn live_on(&mut self) {
        self.restart(u32::MAX);
        for _ in 0..LAST_TURNS {
            self.client_turn(usize::MAX);
            if core::mem::take(&mut self.to_server) {
                self.server_turn(usize::MAX, 0);
            }
        }
        assert!(self.client.is_up() && self.server.is_up());
        assert!(self.is_client_asleep && !self.to_server);
        assert_eq!(self.client.unconfirmed(), 0);
    }

    /// The channel works both ways.
    pub fn exchange(&mut self) {
        let (sent, received) = (self.handed_in, self.delivered);
        self.hand_in(3);
        assert!(core::mem::take(&mut self.to_server));
        self.server_turn(usize::MAX, 2);
        self.client_turn(usize::MAX);
        assert_eq!(self.handed_in, sent + 3);
        assert!((sent..sent + 3).all(|number| self.completed.contains(&number)));
        assert!(self.received.ends_with(&[received, received + 1]));
        assert_eq!(self.client.unconfirmed(), 0);
    }
}

/// Regions that are made once for each thread, zeroed but for the pool, which nobody looks
/// into: fuzzing makes many worlds, one after the other.
fn memory() -> [Region; 3] {
    thread_local! {
        static REGIONS: [Region; 3] = {
            let client = leaked_region(layout::client_region_size(ENTRIES));
            let server = leaked_region(layout::server_region_size(ENTRIES));
            [client, server, leaked_region(0x4_0000)]
        };
    }
    let regions = REGIONS.with(|regions| *regions);
    for region in &regions[..2] {
        region.write(0, &vec![0; region.length()]);
    }
    regions
}

fn open([client, server, pool]: [Region; 3], life: &Rc<Cell<u32>>) -> ServerChannel<Mortal> {
    let [client, server, pool] = [client, server, pool].map(|region| Mortal {
        region,
        life: life.clone(),
    });
    ServerChannel::new(client, server, pool, ENTRIES, ENTRIES).unwrap()
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    HandIn(usize),
    ClientTurn(usize),
    ServerTurn {
        complete: usize,
        deliver: usize,
    },
    /// The server has so many stores to live.
    Doom(u32),
}

impl World {
    pub fn take_step(&mut self, step: Step) {
        match step {
            Step::HandIn(count) => self.hand_in(count),
            Step::ClientTurn(take) => self.client_turn(take),
            Step::ServerTurn { complete, deliver } if !self.is_server_dead() => {
                self.server_turn(complete, deliver);
            }
            Step::ServerTurn { .. } => {}
            Step::Doom(stores) if self.is_server_dead() => self.restart(stores),
            Step::Doom(stores) => self.life.set(stores.min(self.life.get())),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Value {
    Any(u32),
    /// A word of either side, and a bit more.
    Like(usize, u32),
}

/// Epoch, joined or start, producer, consumer, wake.
const WORDS: [usize; 5] = [0x00, 0x04, 0x40, 0x80, 0xc0];

pub fn leave([client, server, _]: &[Region; 3], word: usize, value: Value) {
    let value = match value {
        Value::Any(value) => value,
        Value::Like(word, more) => {
            let region = if word < 5 { client } else { server };
            region
                .load32(WORDS[word % 5], Ordering::Relaxed)
                .wrapping_add(more)
        }
    };
    match WORDS.get(word) {
        Some(offset) => server.store32(*offset, value, Ordering::Relaxed),
        None => {
            let index = value as usize % ENTRIES as usize;
            let descriptor = u64::from(value) << (8 * (word - WORDS.len()));
            server.store64(0x100 + 8 * index, descriptor, Ordering::Relaxed);
        }
    }
}
