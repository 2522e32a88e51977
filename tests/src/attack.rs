//! What the network server does for others while one application attacks it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::instructions::{Counter, Instructions, Program};
use crate::systems::APPLICATIONS;
use crate::{Cable, TestMachine, rogue};

/// The system: the applications of `many`, and the rogue.
pub const SYSTEM: &str = "attacked";
/// Connections to each application at the same time.
const CONNECTIONS: &str = "16";
/// What each of them asks for.
const FILE: &str = "8k.bin";
/// Long enough that each application has had many turns.
const WINDOW: Duration = Duration::from_millis(2000);

/// A machine whose applications are busy.
pub struct Attacked {
    machine: TestMachine,
    counter: Counter,
    server: Program,
    clients: Vec<Child>,
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
        let (machine, counter) = Counter::add(TestMachine::machine(SYSTEM));
        let mut machine = TestMachine::start(machine, Cable::Tap);
        machine.wait_until_it_answers();
        machine.expect_line(rogue::READY);
        let namespace = machine.namespace().expect("the cable is a tap");
        let clients = (80..80 + APPLICATIONS)
            .map(|port| {
                let url = format!("http://10.0.2.15:{port}/{FILE}");
                let arguments = ["-t", "1", "-c", CONNECTIONS, "-d", "600", &url];
                let child = namespace.run(|| {
                    Command::new("wrk")
                        .args(arguments)
                        .stdout(Stdio::null())
                        .spawn()
                });
                child
                    .expect("the namespace is there")
                    .unwrap_or_else(|error| panic!("wrk: {error}. `make setup` installs it."))
            })
            .collect();
        let attacked = Self {
            machine,
            counter,
            server: Program::read("segue-netserver"),
            clients,
        };
        std::thread::sleep(Duration::from_secs(1));
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
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Counts for a while.
    pub fn measure(&mut self) -> Service {
        let before = self.sample();
        std::thread::sleep(WINDOW);
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

impl Drop for Attacked {
    fn drop(&mut self) {
        for client in &mut self.clients {
            // It may have ended; there is nothing to be done then.
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}
