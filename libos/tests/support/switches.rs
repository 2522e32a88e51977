//! Switches of a stack to a function of its own and back, and what is moved meanwhile.

use super::machine::*;
use super::*;

/// The steps of a switch there and back, as the director orders them.
pub const STEPS: usize = 9;

pub struct Switches {
    pub machine: Rc<RefCell<Machine>>,
    pub step: usize,
    /// Switches there and back that have ended.
    pub done: u64,
}

impl Switches {
    pub fn new(machine: &Rc<RefCell<Machine>>) -> Self {
        Self {
            machine: machine.clone(),
            step: 0,
            done: 0,
        }
    }

    /// Lets the server do what it was given before it is told of a change.
    pub fn settle(&self, world: &mut World) {
        self.machine.borrow_mut().pause = 0;
        world.serve();
        world.serve();
    }

    /// Moves the filter while frames come in and the stack does not look.
    pub fn reroute(&self, world: &mut World, route: Route) {
        let before = self.machine.borrow().route;
        for route in [before, route] {
            self.machine.borrow_mut().route = route;
            world.step_client();
            self.machine.borrow_mut().pump();
        }
    }

    pub fn next(&mut self, world: &mut World) {
        match self.step {
            0 => {
                let mut function = self.machine.borrow_mut().function();
                function.start().unwrap();
                assert!(world.stack.attach(function, &[INSIDE_MAC]).is_ok());
            }
            1 => self.machine.borrow_mut().route = Route::Both,
            2 => self.reroute(world, Route::Function),
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
            7 => self.reroute(world, Route::Server),
            _ => {
                assert!(world.stack.detach().is_some());
                self.done += 1;
            }
        }
        self.step = (self.step + 1) % STEPS;
    }

    /// Goes on until a certain step is the next one.
    pub fn go(&mut self, world: &mut World, to: usize) {
        while self.step != to {
            self.next(world);
            world.serve();
        }
    }
}

/// Direct mode is reached with this step.
pub const IN_DIRECT_MODE: usize = 5;

pub fn settings(ipv6: bool) -> Settings {
    Settings {
        ipv6,
        buffers: BufferSizes {
            receive: 65_535,
            send: 65_536,
        },
        ..Settings::default()
    }
}

/// A download during which `between` is called after each round.
pub fn download(
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

pub fn upload(world: &mut World, length: u64, mut between: impl FnMut(&mut World)) {
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

/// A world with the switch done up to this step.
pub fn world_at(step: usize) -> (World, Rc<RefCell<Machine>>, Switches) {
    let (mut world, machine) = Machine::world(settings(false));
    let mut switches = Switches::new(&machine);
    switches.go(&mut world, step);
    (world, machine, switches)
}

/// A UDP socket whose neighbour, the client, is known.
pub fn socket(world: &mut World) -> UdpId {
    let (socket, _) = world.stack.udp_bind(5000, 65_536).unwrap();
    send(world, socket, 0);
    world.run(1, |_| false);
    world.network.borrow_mut().sniff = Some(vec![]);
    socket
}

pub fn send(world: &mut World, socket: UdpId, number: u8) {
    let to = (CLIENT, 6000).into();
    assert!(world.stack.udp_send(socket, to, &[number; 100]));
}

/// The numbers that have gone to the client.
pub fn numbers(world: &World) -> Vec<u8> {
    let network = world.network.borrow();
    let sent = network.sniff.as_ref().unwrap().iter();
    sent.filter(|frame| frame.len() == 142 && frame[23] == 17)
        .map(|frame| frame[141])
        .collect()
}

/// A datagram to the stack's socket.
pub fn datagram(number: u8) -> Vec<u8> {
    let mut frame = headers(false, CLIENT.into(), 108);
    frame[23] = 17;
    let header = !sum16(0, &frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    frame.extend_from_slice(&[0x17, 0x70, 0x13, 0x88, 0, 108, 0, 0]);
    frame.extend_from_slice(&[number; 100]);
    frame
}

pub fn received(world: &mut World, socket: UdpId) -> Vec<u8> {
    world.serve();
    let mut buffer = [0; 200];
    let mut numbers = vec![];
    while let Some((length, _)) = world.stack.udp_receive(socket, &mut buffer) {
        assert_eq!(length, 100);
        numbers.push(buffer[0]);
    }
    numbers
}
