//! The stack changes between the network server and a function of its own, and nobody at
//! the other end notices.

mod support;

use proptest::prelude::*;
use segue_libos::*;
use std::cell::RefCell;
use std::rc::Rc;
use support::machine::*;
use support::*;

/// The steps of a switch there and back, as the director orders them.
const STEPS: usize = 9;

struct Switches {
    machine: Rc<RefCell<Machine>>,
    step: usize,
    /// Switches there and back that have ended.
    done: u64,
}

impl Switches {
    fn new(machine: &Rc<RefCell<Machine>>) -> Self {
        Self {
            machine: machine.clone(),
            step: 0,
            done: 0,
        }
    }

    /// Lets the server do what it was given before it is told of a change.
    fn settle(&self, world: &mut World) {
        self.machine.borrow_mut().pause = 0;
        world.serve();
        world.serve();
    }

    fn next(&mut self, world: &mut World) {
        match self.step {
            0 => {
                let mut function = self.machine.borrow_mut().function();
                function.start().unwrap();
                assert!(world.stack.attach(function, &[INSIDE_MAC]).is_ok());
            }
            1 => self.machine.borrow_mut().route = Route::Both,
            2 => self.machine.borrow_mut().route = Route::Function,
            3 => assert!(world.stack.direct()),
            4 => {
                self.settle(world);
                self.machine.borrow_mut().direct = true;
            }
            5 => {
                self.machine.borrow_mut().direct = false;
                world.stack.drain();
            }
            6 => self.machine.borrow_mut().route = Route::Both,
            7 => self.machine.borrow_mut().route = Route::Server,
            _ => {
                world.serve();
                assert!(world.stack.detach().is_some());
                self.done += 1;
            }
        }
        self.step = (self.step + 1) % STEPS;
    }

    /// Goes on until a certain step is the next one.
    fn go(&mut self, world: &mut World, to: usize) {
        while self.step != to {
            self.next(world);
            world.serve();
        }
    }
}

/// Direct mode is reached with this step.
const IN_DIRECT_MODE: usize = 5;

fn settings(ipv6: bool) -> Settings {
    Settings {
        ipv6,
        ..Settings::default()
    }
}

/// A download during which `between` is called after each round.
fn download(
    world: &mut World,
    length: u64,
    seconds: i64,
    mut between: impl FnMut(&mut World),
) -> u64 {
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(60, |world| world.client(handle).may_send()));
    world
        .client(handle)
        .send_slice(&(length | CLOSE).to_le_bytes())
        .unwrap();
    let mut at = 0;
    world.run(seconds, |world| {
        between(world);
        let socket = world.client(handle);
        while socket.can_recv() {
            let take = |bytes: &mut [u8]| {
                for (&byte, at) in bytes.iter().zip(at..) {
                    assert_eq!(byte, pattern(at), "byte {at}");
                }
                (bytes.len(), bytes.len() as u64)
            };
            at += socket.recv(take).unwrap();
        }
        !socket.may_recv()
    });
    at
}

fn upload(world: &mut World, length: u64, mut between: impl FnMut(&mut World)) {
    let handle = world.connect(SINK, 50_001);
    let (mut sent, mut sum) = (0u64, 0xcbf2_9ce4_8422_2325);
    let mut answer = vec![];
    let done = world.run(600, |world| {
        between(world);
        let socket = world.client(handle);
        while sent < length && socket.can_send() {
            let bytes: Vec<_> = (sent..length.min(sent + 1000)).map(pattern).collect();
            let count = socket.send_slice(&bytes).unwrap();
            sum = checksum(sum, &bytes[..count]);
            sent += count as u64;
            if sent == length {
                socket.close();
            }
        }
        let mut buffer = [0; 64];
        if socket.can_recv() {
            let count = socket.recv_slice(&mut buffer).unwrap();
            answer.extend_from_slice(&buffer[..count]);
        }
        answer.len() == 8
    });
    assert!(done, "{sent} bytes sent, answer {answer:?}");
    assert_eq!(answer, sum.to_le_bytes());
}

fn assert_nothing_lost(world: &World) {
    let statistics = world.stack.statistics();
    assert_eq!(statistics.retransmissions, 0);
    assert_eq!(statistics.vif.refused, 0);
    assert_eq!(statistics.duplicate_address, 0);
    let network = world.network.borrow();
    let order = network.streams.as_ref().unwrap();
    assert_eq!((order.early, order.late), (0, 0));
}

#[test]
fn downloads_go_on_over_hundreds_of_switches() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().streams = Some(Order::default());
        let mut switches = Switches::new(&machine);
        let mut numbers = Numbers(7);
        let length = 64 << 20;
        let at = download(&mut world, length, 600, |world| {
            if numbers.chance(300) {
                machine.borrow_mut().pause = (numbers.next() % 3) as u32;
            }
            if numbers.chance(700) {
                switches.next(world);
            }
        });
        assert_eq!(at, length);
        assert_nothing_lost(&world);
        let counters = world.stack.statistics().vif;
        println!("{} switches, {counters:?}", switches.done);
        assert!(switches.done > 100, "{}", switches.done);
        assert!(counters.duplicates > 0);
        assert!(machine.borrow().inside.iter().all(|frame| frame[0] & 1 != 0));
        let device = machine.borrow().device.clone().unwrap();
        assert_eq!(device.complaints(), [""; 0]);
        assert_eq!(device.missed(), 0);
    }
}

#[test]
fn uploads_go_on_over_hundreds_of_switches() {
    for ipv6 in [false, true] {
        let (mut world, machine) = Machine::world(settings(ipv6));
        world.network.borrow_mut().streams = Some(Order::default());
        let mut switches = Switches::new(&machine);
        let mut numbers = Numbers(9);
        upload(&mut world, 8 << 20, |world| {
            if numbers.chance(700) {
                switches.next(world);
            }
        });
        assert_nothing_lost(&world);
        assert!(switches.done > 20, "{}", switches.done);
    }
}
