//! The protocol under loom, which runs every interleaving (up to the stated
//! bound of preemptions) of these small programs, and every value that the
//! memory model lets a load return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p segue-frame-channel --test loom`
//!
//! A lost wake-up shows as a deadlock, an early or torn read of a descriptor or
//! of a slot as a wrong number.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use segue_frame_channel::client_rings::ClientRings;
use segue_frame_channel::{
    FrameOffload, ReceivedFrame, ServerChannel, SharedMemory, TransmitFrame,
};
use std::sync::Arc;

/// Only the words that the protocol touches exist, each an atomic of loom.
#[derive(Clone)]
struct Memory {
    /// Epoch, joined or start, producer, consumer, wake.
    words: Arc<[AtomicU32; 5]>,
    /// Descriptors, then the first eight bytes of each slot.
    doubles: Arc<Vec<AtomicU64>>,
    slots: usize,
}

const DESCRIPTORS: usize = 0x100;
const SLOT: usize = 2048;

impl Memory {
    fn new(descriptor_words: usize, slots: usize) -> Self {
        Self {
            words: Arc::new(core::array::from_fn(|_| AtomicU32::new(0))),
            doubles: Arc::new(
                (0..descriptor_words + slots)
                    .map(|_| AtomicU64::new(0))
                    .collect(),
            ),
            slots,
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        let index = match offset {
            0x00 => 0,
            0x04 => 1,
            0x40 => 2,
            0x80 => 3,
            0xc0 => 4,
            _ => panic!("no word at {offset:#x}"),
        };
        &self.words[index]
    }

    fn slot(&self, offset: usize) -> &AtomicU64 {
        // The descriptors of these small rings end before the first slot.
        let index = offset / SLOT - 1;
        &self.doubles[self.doubles.len() - self.slots + index]
    }
}

impl SharedMemory for Memory {
    fn length(&self) -> usize {
        1 << 20
    }
    fn load32(&self, offset: usize, order: Ordering) -> u32 {
        self.word(offset).load(order)
    }
    fn store32(&self, offset: usize, value: u32, order: Ordering) {
        self.word(offset).store(value, order);
    }
    fn load64(&self, offset: usize) -> u64 {
        self.doubles[(offset - DESCRIPTORS) / 8].load(Ordering::Relaxed)
    }
    fn store64(&self, offset: usize, value: u64) {
        self.doubles[(offset - DESCRIPTORS) / 8].store(value, Ordering::Relaxed);
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.slot(offset).load(Ordering::Relaxed).to_le_bytes());
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        let value = u64::from_le_bytes(from.try_into().expect("eight bytes"));
        self.slot(offset).store(value, Ordering::Relaxed);
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A notification as the kernel has it: a flag that a waiter takes.
///
/// Mutexes order memory, which the kernel's notification is not relied upon to
/// do; so the protocol's words are never touched while one is held, and only a
/// waiter that had to wait gains an ordering, which it has in any kernel.
#[derive(Clone)]
struct Notification(Arc<(Mutex<bool>, Condvar)>);

impl Notification {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }
    fn signal(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
    fn wait(&self) {
        let mut flag = self.0.0.lock().unwrap();
        while !*flag {
            flag = self.0.1.wait(flag).unwrap();
        }
        *flag = false;
    }
}

#[derive(Clone)]
struct World {
    client: Memory,
    server: Memory,
    pool: Memory,
    to_server: Notification,
    to_client: Notification,
    transmit_entries: u32,
    receive_entries: u32,
}

type Server = ServerChannel<Memory>;
type Client = ClientRings<Memory>;

impl World {
    fn new(transmit_entries: u32, receive_entries: u32) -> Self {
        Self {
            client: Memory::new(2 * transmit_entries as usize, 0),
            server: Memory::new(receive_entries as usize, receive_entries as usize),
            pool: Memory::new(0, 0),
            to_server: Notification::new(),
            to_client: Notification::new(),
            transmit_entries,
            receive_entries,
        }
    }

    fn open_server(&self) -> Server {
        let (client, server, pool) = (self.client.clone(), self.server.clone(), self.pool.clone());
        ServerChannel::new(
            client,
            server,
            pool,
            self.transmit_entries,
            self.receive_entries,
        )
        .unwrap()
    }

    fn open_client(&self) -> Client {
        let (client, server) = (self.client.clone(), self.server.clone());
        ClientRings::new(client, server, self.transmit_entries, self.receive_entries).unwrap()
    }

    /// Both ends, up, the server asleep.
    fn joined(&self) -> (Server, Client) {
        let (mut server, mut client) = (self.open_server(), self.open_client());
        let _ = server.publish();
        client.poll().unwrap();
        assert!(client.publish());
        server.poll().unwrap();
        assert!(client.is_up() && server.is_up());
        assert!(!server.publish());
        assert!(server.sleep(false));
        (server, client)
    }
}

fn frame(number: u32) -> TransmitFrame {
    TransmitFrame {
        offset: number * 64,
        length: 60 + number,
        header_length: 54,
        offload: FrameOffload::default(),
    }
}

fn model(preemptions: Option<usize>, program: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    let executions = std::sync::atomic::AtomicUsize::new(0);
    let executions = Arc::new(executions);
    let counter = executions.clone();
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        program();
    });
    println!(
        "{} executions",
        executions.load(std::sync::atomic::Ordering::Relaxed)
    );
}

/// What a server does when it is woken: all there is, until it may sleep.
fn serve(world: &World, server: &mut Server, expected: &mut u32) {
    server.wake();
    loop {
        server.poll().unwrap();
        while let Some(seen) = server.peek().unwrap() {
            assert_eq!(seen, frame(*expected));
            let (_, ticket) = server.take().unwrap();
            server.complete(ticket);
            *expected += 1;
        }
        if server.publish() {
            world.to_client.signal();
        }
        if server.sleep(false) {
            return;
        }
    }
}

#[test]
fn a_transmitted_frame_is_never_slept_over() {
    model(Some(4), || {
        let world = World::new(2, 1);
        let (mut server, mut client) = world.joined();
        let theirs = world.clone();
        let thread = thread::spawn(move || {
            let mut taken = 0;
            while taken < 2 {
                theirs.to_server.wait();
                serve(&theirs, &mut server, &mut taken);
            }
        });
        for number in 0..2 {
            assert!(client.push(&frame(number)));
            if client.publish() {
                world.to_server.signal();
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken() {
    model(Some(3), || {
        // One entry: the second frame reuses the first one's descriptor.
        let world = World::new(1, 1);
        let (mut server, mut client) = world.joined();
        let theirs = world.clone();
        let thread = thread::spawn(move || {
            let mut taken = 0;
            while taken < 2 {
                theirs.to_server.wait();
                serve(&theirs, &mut server, &mut taken);
            }
        });
        for number in 0..2 {
            while !client.push(&frame(number)) {
                client.wake();
                client.poll().unwrap();
                if client.transmit_room() == 0 && client.sleep(true) {
                    world.to_client.wait();
                }
            }
            if client.publish() {
                world.to_server.signal();
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_delivered_frame_is_never_slept_over_and_its_slot_not_reused_early() {
    model(Some(3), || {
        // One slot: the second frame overwrites the first.
        let world = World::new(1, 1);
        let (mut server, mut client) = world.joined();
        assert!(client.sleep(false));
        let theirs = world.clone();
        let thread = thread::spawn(move || {
            for number in 1..=2u64 {
                server.wake();
                while server.receive_room().unwrap() == 0 {
                    if server.sleep(true) {
                        theirs.to_server.wait();
                    }
                }
                let description = ReceivedFrame {
                    length: number as usize,
                    checksums_verified: false,
                };
                let done = server.deliver(description, |memory, offset| {
                    memory.copy_in(offset, &(number * 1000).to_le_bytes());
                });
                assert!(done);
                if server.publish() {
                    theirs.to_client.signal();
                }
            }
        });
        let mut received = 0;
        while received < 2 {
            world.to_client.wait();
            client.wake();
            loop {
                client.poll().unwrap();
                while let Some((slot, description)) = client.next_received().unwrap() {
                    received += 1;
                    assert_eq!(description.length, received);
                    let mut bytes = [0; 8];
                    client.copy_received(slot, &mut bytes);
                    assert_eq!(u64::from_le_bytes(bytes), received as u64 * 1000);
                    client.consume();
                }
                if client.publish() {
                    world.to_server.signal();
                }
                if client.sleep(false) {
                    break;
                }
            }
        }
        thread.join().unwrap();
    });
}

/// A client's turn until it may sleep.
fn client_turn(world: &World, client: &mut Client) {
    client.wake();
    loop {
        client.poll().unwrap();
        if client.publish() {
            world.to_server.signal();
        }
        if client.sleep(true) {
            return;
        }
    }
}

#[test]
fn a_server_that_restarts_is_joined_again_and_gets_what_was_not_confirmed() {
    model(Some(3), || {
        let world = World::new(2, 1);
        let (mut server, mut client) = world.joined();
        // One frame is confirmed, so that the epochs' indices differ.
        assert!(client.push(&frame(0)));
        assert!(client.publish());
        serve(&world, &mut server, &mut 0);
        client.poll().unwrap();
        assert_eq!(client.unconfirmed(), 0);
        let theirs = world.clone();
        // The old incarnation has died; the new one starts while the client is
        // at work.
        drop(server);
        let thread = thread::spawn(move || {
            let mut server = theirs.open_server();
            let mut taken = 1;
            serve(&theirs, &mut server, &mut taken);
            while taken < 2 {
                theirs.to_server.wait();
                serve(&theirs, &mut server, &mut taken);
            }
        });
        assert!(client.push(&frame(1)));
        client_turn(&world, &mut client);
        while client.unconfirmed() > 0 {
            world.to_client.wait();
            client_turn(&world, &mut client);
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_client_that_restarts_while_it_is_being_joined_gets_an_epoch_of_its_own() {
    model(Some(3), || {
        let world = World::new(2, 1);
        let mut server = world.open_server();
        let _ = server.publish();
        // The predecessor has joined and handed a frame in; the server has not
        // looked yet.
        let mut predecessor = world.open_client();
        predecessor.poll().unwrap();
        assert!(predecessor.push(&frame(7)));
        let _ = predecessor.publish();
        drop(predecessor);
        let theirs = world.clone();
        let thread = thread::spawn(move || {
            // It may still see the predecessor's frame, then the new one.
            let mut done = false;
            while !done {
                server.wake();
                loop {
                    server.poll().unwrap();
                    while let Some(seen) = server.peek().unwrap() {
                        assert!(seen == frame(7) || seen == frame(0));
                        done |= seen == frame(0);
                        let (_, ticket) = server.take().unwrap();
                        server.complete(ticket);
                    }
                    if server.publish() {
                        theirs.to_client.signal();
                    }
                    if server.sleep(false) {
                        break;
                    }
                }
                if !done {
                    theirs.to_server.wait();
                }
            }
        });
        let mut client = world.open_client();
        let mut pushed = false;
        client_turn(&world, &mut client);
        while !pushed || client.unconfirmed() > 0 {
            if !pushed && client.push(&frame(0)) {
                pushed = true;
            } else {
                world.to_client.wait();
            }
            client_turn(&world, &mut client);
        }
        thread.join().unwrap();
    });
}
