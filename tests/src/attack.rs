//! What the network server does for others while one application attacks it.

mod clients;

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::instructions::{Counter, Program};
use crate::scenarios::may_make_tap_devices;
use crate::systems::APPLICATIONS;
use crate::{Cable, TestMachine, rogue};
use clients::Clients;

/// The system: the applications of `many`, and the rogue.
pub const SYSTEM: &str = "attacked";
/// 8 ns for an instruction: a slow machine, in which a turn of all applications takes few of them,
/// some 20 million. So there are many turns in a window.
const CLOCK: u8 = 3;
/// Whose instructions are told apart when somebody dies over and over.
const SPENDERS: [&str; 6] = [
    "segue-init",
    "segue-console",
    "segue-portmap",
    "segue-netserver",
    "segue-http",
    "segue-rogue-application",
];
/// Instructions of the machine until a change has had its effect.
const SETTLING: u64 = 6_000_000;

/// A machine whose applications are busy.
pub struct Attacked {
    machine: TestMachine,
    counter: Counter,
    server: Program,
    clients: Clients,
    socket: UdpSocket,
}

/// What was done in a while, or in several.
#[derive(Clone, Debug)]
pub struct Service {
    /// Bytes that clients have got from each honest application.
    pub bytes: Vec<u64>,
    /// Instructions of the network server, outside the kernel.
    pub server: u64,
    /// Instructions of the whole machine.
    pub all: u64,
}

impl Service {
    fn none() -> Self {
        Self {
            bytes: vec![0; APPLICATIONS.into()],
            server: 0,
            all: 0,
        }
    }

    /// Adds what was done in another while.
    pub fn add(&mut self, other: &Self) {
        for (bytes, other) in self.bytes.iter_mut().zip(&other.bytes) {
            *bytes += other;
        }
        self.server += other.server;
        self.all += other.all;
    }

    fn since(&self, earlier: &Self) -> Self {
        let bytes = self.bytes.iter().zip(&earlier.bytes);
        Self {
            bytes: bytes.map(|(now, before)| now - before).collect(),
            server: self.server - earlier.server,
            all: self.all - earlier.all,
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
        let clients = Clients::start(&namespace);
        let socket = namespace
            .run(|| UdpSocket::bind("10.0.2.2:0"))
            .expect("the namespace is there")
            .expect("a port is free");
        let mut attacked = Self {
            machine,
            counter,
            server: Program::read("segue-netserver"),
            clients,
            socket,
        };
        // TCP's windows grow meanwhile.
        attacked.pass(20 * SETTLING);
        attacked
    }

    /// Tells the rogue what to do, until it says that it does.
    pub fn tell(&self, text: &str, answer: &str) {
        let console = self.machine.console();
        let position = console.position();
        for _ in 0..150 {
            self.socket
                .send_to(text.as_bytes(), ("10.0.2.15", segue_forgeries::OWN_PORT))
                .expect("a datagram can be sent");
            let line = console.wait_for_after(position, answer, Duration::from_millis(200));
            if line.is_ok() {
                return;
            }
        }
        panic!("the rogue does not obey {text}");
    }

    /// Lets the machine execute so many instructions.
    fn pass(&mut self, instructions: u64) {
        let end = self.counter.read().total() + instructions;
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.counter.read().total() < end {
            assert!(Instant::now() < deadline, "the machine does not go on");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Counts for so many instructions of the machine.
    pub fn measure(&mut self, instructions: u64) -> Service {
        self.pass(SETTLING);
        let before = self.sample();
        self.pass(instructions);
        self.sample().since(&before)
    }

    /// Counts for so many instructions of the machine while the rogue does this.
    pub fn measure_flood(&mut self, flood: &str, instructions: u64) -> Service {
        let position = self.machine.console().position();
        let turns = instructions / TURN;
        self.tell(
            &format!("flood {flood} {turns}"),
            &format!("flood of {flood}: "),
        );
        let service = self.measure(instructions);
        let lines = &self.machine.console().lines()[position..];
        let has = |text: &str| lines.iter().any(|line| line.text.contains(text));
        assert!(
            flood != STALL || has("does not take its frames") && !has("takes frames again"),
            "the rogue has not stalled all the time"
        );
        self.tell("stop", "rogue-application: stopped");
        service
    }

    /// How often the rogue was stopped, as far as the console says.
    fn crashes(&self) -> u64 {
        let lines = self.machine.console().lines();
        let stopped = lines
            .iter()
            .filter(|line| line.text.contains("rogue-application was stopped"));
        stopped.count() as u64
    }

    /// Instructions so far of each of [`SPENDERS`].
    fn spent(&mut self) -> [u64; SPENDERS.len()] {
        SPENDERS.map(|name| self.counter.of_program(&Program::read(name)))
    }

    fn sample(&mut self) -> Service {
        Service {
            bytes: self.clients.bytes(),
            server: self.counter.of_program(&self.server),
            all: self.counter.read().total(),
        }
    }
}

/// What the rogue does without end. With "nothing" it does nothing: what is left of the service then
/// says how good the measurement is.
const FLOODS: [&str; 9] = [
    "nothing",
    "forged",
    "notifications",
    "inside",
    "neighbour",
    STALL,
    "broadcast",
    "small",
    "large",
];

/// Attempts to connect to a neighbour, whose answers, and what comes from the network, the rogue
/// leaves in its receive ring.
const STALL: &str = "stall";
/// Instructions of the machine for which the rogue has at least one turn of its flood.
const TURN: u64 = 500;

/// How much must be left of the service to others, 1 being all.
#[derive(Clone, Copy, Debug)]
pub struct Least {
    /// Of their bytes for each instruction of the server, in each flood.
    pub service: f64,
    /// Of each one's share of these bytes, in each flood.
    pub share: f64,
    /// Of each one's share of these bytes, in all floods together.
    pub share_of_all: f64,
}

/// Floods of each kind, in `rounds` windows of so many instructions each, before and after each of
/// which there is one without a flood.
pub fn floods(rounds: usize, window: u64, least: Least) {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    go_first();
    let mut attacked = Attacked::start();
    let mut without = vec![Service::none(); FLOODS.len()];
    let mut with = without.clone();
    let mut before = attacked.measure(window);
    for _ in 0..rounds {
        for (index, flood) in FLOODS.iter().enumerate() {
            with[index].add(&attacked.measure_flood(flood, window));
            let after = attacked.measure(window);
            without[index].add(&before);
            without[index].add(&after);
            before = after;
        }
    }
    let (mut all_without, mut all_with) = (Service::none(), Service::none());
    for (without, with) in without.iter().zip(&with) {
        all_without.add(without);
        all_with.add(with);
    }
    // Turns are what makes shares differ by chance; without a flood there is more to average.
    let shares = with.iter().map(|with| least_share(&all_without, with));
    let services = without
        .iter()
        .zip(&with)
        .map(|(without, with)| with.per_server_instruction() / without.per_server_instruction());
    let results: Vec<_> = FLOODS.iter().zip(services.zip(shares)).collect();
    for ((flood, (service, share)), (without, with)) in
        results.iter().zip(without.iter().zip(&with))
    {
        println!(
            "{flood}: {service:.3} of the bytes for each instruction of the server are left, {:.3} \
             of those for each of the machine, of one's share at least {share:.3}; the server took \
             {:.3} of the instructions, without {:.3}",
            with.per_instruction() / without.per_instruction(),
            with.server as f64 / with.all as f64,
            without.server as f64 / without.all as f64,
        );
    }
    let share_of_all = least_share(&all_without, &all_with);
    println!("all floods together: of one's share at least {share_of_all:.3} is left");
    for (flood, (service, share)) in results {
        assert!(
            service >= least.service,
            "{flood}: {service:.3} of the service is less than {}",
            least.service
        );
        assert!(
            share >= least.share,
            "{flood}: {share:.3} of a share is less than {}",
            least.share
        );
    }
    assert!(
        share_of_all >= least.share_of_all,
        "{share_of_all:.3} of a share is less than {}",
        least.share_of_all
    );
}

/// What an application that dies as soon as it runs, over and over, takes from 16 others, in
/// `rounds` pairs of windows of so many instructions: with it, and without it, since its lives are
/// counted. At least this much of their service is left, and of each one's share.
pub fn crash_loop(rounds: usize, window: u64, least: f64) {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    go_first();
    let (mut without, mut with) = (Service::none(), Service::none());
    let (mut spent, mut crashes) = ([0; SPENDERS.len()], 0);
    for _ in 0..rounds {
        let mut attacked = Attacked::start();
        without.add(&attacked.measure(window));
        attacked.tell(
            &format!("crash {}", u32::MAX),
            "rogue-application was stopped",
        );
        let before = (attacked.crashes(), attacked.spent());
        with.add(&attacked.measure(window));
        crashes += attacked.crashes() - before.0;
        let now = attacked.spent();
        for (sum, (now, before)) in spent.iter_mut().zip(now.into_iter().zip(before.1)) {
            *sum += now - before;
        }
    }
    let left = with.per_instruction() / without.per_instruction();
    let share = least_share(&without, &with);
    println!(
        "{crashes} crashes told of: {left:.3} of the bytes for each instruction of the machine are left, of \
         one's share at least {share:.3}"
    );
    for (name, spent) in SPENDERS.iter().zip(spent) {
        println!(
            "  {name}: {:.3} of the instructions",
            spent as f64 / with.all as f64
        );
    }
    assert!(crashes > 0, "it has not died over and over");
    assert!(left >= least, "{left:.3} of the service is left");
    assert!(share >= least, "{share:.3} of a share is left");
}

/// The least that is left of an application's share.
fn least_share(without: &Service, with: &Service) -> f64 {
    let shares = without.shares().into_iter().zip(with.shares());
    shares
        .map(|(without, with)| with / without)
        .fold(f64::INFINITY, f64::min)
}

/// Has this thread, and whatever it starts, run before others on this host: how the clients' frames
/// are bunched changes what they cost.
fn go_first() {
    let thread = std::fs::read_link("/proc/thread-self").expect("/proc is there");
    let thread = thread.file_name().expect("it is a number");
    let done = Command::new("renice")
        .args(["-n", "-10", "-p"])
        .arg(thread)
        .output();
    if !done.is_ok_and(|output| output.status.success()) {
        println!("the host's other work may disturb the measurement: renice has failed");
    }
}
