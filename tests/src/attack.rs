//! What the network server does for others while one application attacks it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::request;
use crate::instructions::{Counter, Instructions, Program};
use crate::scenarios::may_make_tap_devices;
use crate::systems::APPLICATIONS;
use crate::{Cable, TestMachine, rogue};

/// The system: the applications of `many`, and the rogue.
pub const SYSTEM: &str = "attacked";
/// Connections to each application at the same time.
const CONNECTIONS: usize = 16;
/// What each of them asks for.
const FILE: &str = "/8k.bin";
/// 4 ns for an instruction, which is about what it takes.
const CLOCK: u8 = 2;
/// A machine whose applications are busy.
pub struct Attacked {
    machine: TestMachine,
    counter: Counter,
    server: Program,
    ended: Arc<AtomicBool>,
}

/// What was counted until some moment.
struct Sample {
    /// Of the network server.
    server: u64,
    all: Instructions,
    status: Value,
}

/// What was done in a while.
#[derive(Clone, Debug)]
pub struct Service {
    /// Bytes sent by each honest application.
    pub bytes: Vec<u64>,
    /// Bytes sent by the rogue.
    pub rogue: u64,
    /// Instructions of the network server, outside the kernel.
    pub server: u64,
    /// Instructions of the whole machine.
    pub all: u64,
}

impl Service {
    /// What was done in two whiles.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let bytes = self.bytes.iter().zip(&other.bytes);
        Self {
            bytes: bytes.map(|(one, other)| one + other).collect(),
            rogue: self.rogue + other.rogue,
            server: self.server + other.server,
            all: self.all + other.all,
        }
    }

    /// Bytes of honest applications for each instruction of the server.
    pub fn per_server_instruction(&self) -> f64 {
        self.honest() as f64 / self.server as f64
    }

    /// Bytes of honest applications for each instruction of the machine.
    pub fn per_instruction(&self) -> f64 {
        self.honest() as f64 / self.all as f64
    }

    /// Each honest application's share of their bytes.
    pub fn shares(&self) -> Vec<f64> {
        let all = self.honest() as f64;
        self.bytes.iter().map(|&bytes| bytes as f64 / all).collect()
    }

    fn honest(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

impl Attacked {
    /// Boots it, on a tap, and has all applications asked without end.
    pub fn start() -> Self {
        // A clock that counts instructions gives each application the same time, whatever the host
        // is doing.
        let machine = TestMachine::machine(SYSTEM).instruction_clock(CLOCK);
        let (machine, counter) = Counter::add(machine);
        let mut machine = TestMachine::start(machine, Cable::Tap);
        machine.wait_until_it_answers();
        machine.expect_line(rogue::READY);
        let namespace = machine.namespace().expect("the cable is a tap");
        // In turn, so that the client has no favourites.
        let mut streams: Vec<TcpStream> = Vec::new();
        for _ in 0..CONNECTIONS {
            for port in 80..80 + APPLICATIONS {
                let stream = namespace
                    .run(|| TcpStream::connect(("10.0.2.15", port)))
                    .expect("the namespace is there");
                streams.push(stream.unwrap_or_else(|error| panic!("port {port}: {error}")));
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        thread::spawn(move || {
            if let Err(error) = ask_without_end(&mut streams, &flag) {
                println!("the clients have ended: {error}");
            }
        });
        let attacked = Self {
            machine,
            counter,
            server: Program::read("segue-netserver"),
            ended,
        };
        thread::sleep(Duration::from_secs(2));
        attacked
    }

    /// The machine.
    pub fn machine(&self) -> &TestMachine {
        &self.machine
    }

    /// Tells the rogue what to do, until it says that it does.
    pub fn tell(&self, text: &str, answer: &str) {
        let namespace = self.machine.namespace().expect("the cable is a tap");
        let socket = namespace.run(|| std::net::UdpSocket::bind("10.0.2.2:0"));
        let socket = socket
            .expect("the namespace is there")
            .expect("a port is free");
        let count = || self.machine.console().text().matches(answer).count();
        let (before, deadline) = (count(), Instant::now() + Duration::from_secs(30));
        while count() == before {
            socket
                .send_to(text.as_bytes(), ("10.0.2.15", segue_forgeries::OWN_PORT))
                .expect("a datagram can be sent");
            assert!(Instant::now() < deadline, "the rogue does not obey {text}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Counts for this long.
    pub fn measure(&mut self, window: Duration) -> Service {
        let before = self.sample();
        thread::sleep(window);
        let after = self.sample();
        let sent = |application: &str| {
            let [before, after] = [&before, &after].map(|sample| {
                let channel = rogue::channel(&sample.status, application);
                let number = |name: &str| channel[name].as_u64().unwrap_or(0);
                number("transmitted_bytes")
            });
            after - before
        };
        let name = |number| match number {
            0 => "http".to_owned(),
            number => format!("http-{number}"),
        };
        Service {
            bytes: (0..APPLICATIONS)
                .map(|number| sent(&name(number)))
                .collect(),
            rogue: sent(rogue::NAME),
            server: after.server - before.server,
            all: after.all.since(before.all).total(),
        }
    }

    fn sample(&mut self) -> Sample {
        // Instructions right after: the page is made just before it comes.
        let status = self.machine.status();
        Sample {
            status,
            server: self.counter.of_program(&self.server),
            all: self.counter.read(),
        }
    }
}

/// One request after the other on each connection, by one thread for all of them.
fn ask_without_end(streams: &mut [TcpStream], ended: &AtomicBool) -> io::Result<()> {
    let request = request("GET", FILE, "");
    let length = length_of_answer(&mut streams[0], &request)?;
    let mut missing = vec![0; streams.len()];
    for stream in streams.iter_mut() {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    let mut buffer = vec![0; 64 * 1024];
    while !ended.load(Ordering::Relaxed) {
        for (stream, missing) in streams.iter_mut().zip(&mut missing) {
            if *missing == 0 {
                stream.write_all(request.as_bytes())?;
                *missing = length;
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => *missing -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Bytes of the answer, head included: it is always the same.
fn length_of_answer(stream: &mut TcpStream, request: &str) -> io::Result<usize> {
    stream.write_all(request.as_bytes())?;
    // Nothing follows it, so that it ends where nothing comes any more.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let (mut length, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(length),
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Attacked {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// What the rogue does without end. With "nothing" it does nothing: what is left of the service then
/// says how much the host's moods do.
const FLOODS: [&str; 8] = [
    "nothing",
    "forged",
    "notifications",
    "inside",
    "neighbour",
    "broadcast",
    "small",
    "large",
];

/// Floods of each kind, each for as long as `window`. During each of them the bytes of the others for
/// each instruction of the server, and each one's share of these bytes, must be at least so much of
/// what they are before and after (of a share: and of what the control has left). Short windows say little: an application's turn comes seldom.
pub fn floods(window: Duration, least_service: f64, least_share: f64) {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let mut attacked = Attacked::start();
    let mut before = attacked.measure(window);
    println!(
        "without: {:.3} bytes for each instruction of the server, {:.4} of the machine; shares {:.3?}",
        before.per_server_instruction(),
        before.per_instruction(),
        before.shares()
    );
    let mut results = Vec::new();
    for what in FLOODS {
        attacked.tell(&format!("flood {what}"), &format!("flood of {what}: "));
        let during = attacked.measure(window);
        attacked.tell("stop", "rogue-application: stopped");
        let after = attacked.measure(window);
        results.push((what, compare(what, &before.and(&after), &during)));
        before = after;
    }
    // What the least share is without a flood: turns are few.
    let control = results[0].1.1.min(1.0);
    for (what, (service, share)) in results {
        assert!(
            service >= least_service,
            "{what}: {service:.3} of the service is less than {least_service}"
        );
        assert!(
            share >= least_share * control,
            "{what}: {share:.3} of a share is less than {least_share} of {control:.3}"
        );
    }
}

/// Prints what is left of the service, and gives the bytes for each instruction of the server, and
/// the least that an application's share is of what it was.
fn compare(what: &str, before: &Service, during: &Service) -> (f64, f64) {
    let service = during.per_server_instruction() / before.per_server_instruction();
    let machine = during.per_instruction() / before.per_instruction();
    let shares = before.shares().into_iter().zip(during.shares());
    let least = shares
        .map(|(before, during)| during / before)
        .fold(f64::INFINITY, f64::min);
    println!(
        "{what}: {service:.3} of the bytes for each instruction of the server, the least share is \
         {least:.3} of what it was; {machine:.3} of the bytes for each instruction of the machine; \
         the rogue has sent {} times an application's bytes; the server took {:.3} of the instructions, before {:.3}",
        during.rogue * during.bytes.len() as u64 / during.bytes.iter().sum::<u64>().max(1),
        during.server as f64 / during.all as f64,
        before.server as f64 / before.all as f64,
    );
    (service, least)
}
