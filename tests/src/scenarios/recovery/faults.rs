//! Faults at fault points.

use std::net::{Ipv4Addr, SocketAddrV4};

use segue_fault_points::{Kind, Point};

use super::session::{HANG, SYSTEM};
use super::{Session, is_possible};
use crate::background::Downloads;
use crate::changed::{OwnImage, build_system};
use crate::http::Client;
use crate::instructions::Program;
use crate::random::Random;
use crate::recovery::{Chooser, Fault, Injector, Ledger, Served};
use crate::system_memory;
use crate::systems;

/// Faults that share a boot.
const BATCH: u64 = 500;
/// Times that a fault may be tried for each one that is to strike.
const TRIES: u64 = 4;
const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);

/// Servers besides the network server.
const OTHERS: [&str; 6] = ["portmap", "igb-pf", "pcie", "director", "timer", "console"];

/// Those that are made to fault together: the console would die over the second order.
const PAIRED: [&str; 5] = ["portmap", "igb-pf", "pcie", "director", "timer"];

/// So many faults in the network server, at all its points and of all kinds, while 64 clients download,
/// `redis-benchmark` asks, and datagrams go there and back. Nobody may notice.
pub fn faults(count: u64, seed: u64) {
    faults_in("netserver", count, seed);
}

/// The same in another protection domain. The clients of `http` lose their connections if it is that one.
pub fn faults_in(domain: &str, count: u64, seed: u64) {
    if is_possible() {
        in_batches(domain, count, Random::new(seed));
    }
}

/// So many faults in each of the other servers, and in an application; then a quarter as many pairs. The application's clients lose their connections, and nobody
/// else anything.
pub fn faults_elsewhere(count: u64, seed: u64) {
    if !is_possible() {
        return;
    }
    let mut random = Random::new(seed);
    for domain in OTHERS.into_iter().chain(["http"]) {
        in_batches(domain, count, Random::new(random.number()));
    }
    pairs((count / 4).max(4), random.number());
}

fn in_batches(domain: &str, count: u64, random: Random) {
    let mut chooser = Chooser::of(domain, random);
    let (mut ledger, mut served) = (Ledger::default(), Served::default());
    while ledger.count() < count {
        let batch = BATCH.min(count - ledger.count());
        let (more, clients) = batch_of(domain, batch, &mut chooser);
        ledger.add(more);
        served.add(clients);
    }
    println!("{domain}: {ledger}{served}");
    println!(
        "  connections lost {}, wrong answers {}, echoes lost {}",
        served.connections_lost(),
        served.wrong(),
        served.echoes.lost
    );
}

fn batch_of(domain: &str, count: u64, chooser: &mut Chooser) -> (Ledger, Served) {
    let mut session = Session::boot();
    let mut ledger = Ledger::default();
    let load = session.load();
    for _ in 0..count * TRIES {
        if ledger.count() >= count {
            break;
        }
        let fault = chooser.next_fault().expect("some points are reached");
        let has_struck = match chooser.is_rare(&fault.point) {
            true => session.fault_at_start(&fault, &load, &mut ledger),
            false => session.fault(&fault, &load, &mut ledger),
        };
        match has_struck {
            true => chooser.struck(&fault),
            false => chooser.missed(&fault),
        }
    }
    assert!(ledger.count() >= count, "too few faults struck: {ledger}");
    session.settle();
    let served = session.end(load);
    session.judge();
    judge(domain, &served);
    (ledger, served)
}

/// What clients may notice of faults in a protection domain: those of an application that it is gone.
fn judge(domain: &str, served: &Served) {
    served.judge_others();
    match domain {
        "http" => assert_eq!(served.http.wrong, 0, "{:?}", served.http),
        _ => served.judge_http(),
    }
}

/// Two servers that fault at once, every other time the network server and the driver of the physical
/// function; or one that faults again while it starts. Nobody may notice.
pub fn pairs(count: u64, seed: u64) {
    if !is_possible() {
        return;
    }
    let mut random = Random::new(seed);
    let mut session = Session::boot();
    let load = session.load();
    for number in 0..count {
        let domains = match number % 4 {
            0 | 2 => ["netserver", "igb-pf"],
            1 => {
                let first = random.below(PAIRED.len());
                let second = (first + 1 + random.below(PAIRED.len() - 1)) % PAIRED.len();
                [PAIRED[first], PAIRED[second]]
            }
            _ => {
                let twice = random.below(PAIRED.len() + 1);
                [PAIRED.get(twice).copied().unwrap_or("netserver"); 2]
            }
        };
        let points = match domains[0] == domains[1] {
            // Again, in the life that the first one brings about.
            true => [Point::RuntimeReceived, Point::RuntimeStarting],
            false => [Point::RuntimeReceived; 2],
        };
        let mut kind = || Kind::ALL[random.below(Kind::ALL.len())];
        let faults: Vec<Fault> = domains
            .iter()
            .zip(points)
            .map(|(domain, point)| Fault::at(domain, point, kind()))
            .collect();
        both(&mut session, &faults);
        let what: Vec<String> = faults.iter().map(Fault::to_string).collect();
        session.expect_progress(&load, &what.join("; "));
    }
    session.settle();
    let served = session.end(load);
    println!("{count} pairs:\n{served}");
    served.judge();
    session.judge();
}

/// Makes all of these faults without waiting, then waits for all restarts.
fn both(session: &mut Session, faults: &[Fault]) {
    let restarts = |fault: &Fault| {
        let of_it = faults.iter().filter(|other| other.domain == fault.domain);
        session.restarts(&fault.domain) + of_it.count() as u64
    };
    let awaited: Vec<u64> = faults.iter().map(restarts).collect();
    let mut injector = Injector::new(session.machine());
    for of_one in faults.chunk_by(|fault, other| fault.domain == other.domain) {
        let ordered = injector.order_in_turn(of_one);
        ordered.unwrap_or_else(|error| panic!("{of_one:?}: {error}"));
    }
    for (fault, awaited) in faults.iter().zip(awaited) {
        session.stir_until_restarts(&fault.domain, awaited);
    }
}

/// Who faults as soon as it starts, over and over, is given up, and the rest goes on: an application,
/// then the director, whom others ask.
pub fn given_up() {
    if !is_possible() {
        return;
    }
    const LIMIT: usize = 3;
    let names = ["kv", "director"];
    let image = build_system(SYSTEM, |text| {
        names.iter().fold(text, |text, name| {
            let limit = LIMIT.to_string();
            let changed = systems::with_attribute(&text, name, "restart_limit", &limit);
            changed.unwrap_or_else(|error| panic!("{error}"))
        })
    });
    let image = OwnImage::new("given-up", &image.bytes);
    let machine = image.machine().memory_mib(system_memory(SYSTEM));
    let mut session = Session::boot_machine(machine, Program::read_faulty);
    let machine = session.machine();
    let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", 4).expect("http answers");
    for name in names {
        let mut injector = Injector::new(machine);
        let again = std::iter::repeat_n(Point::RuntimeStarting, LIMIT);
        let points = std::iter::once(Point::RuntimeReceived).chain(again);
        let faults: Vec<Fault> = points
            .map(|point| Fault::at(name, point, Kind::Panic))
            .collect();
        let ordered = injector.order_in_turn(&faults);
        ordered.unwrap_or_else(|error| panic!("{error}"));
        // Who has nothing to do hears of a timer that starts anew.
        let stir = Fault::at("timer", Point::RuntimeReceived, Kind::Panic);
        let ordered = injector.order(&stir);
        ordered.unwrap_or_else(|error| panic!("{error}"));
        println!("{}", machine.expect_line(&format!("{name} is given up")));
        let page = machine.host().connect();
        let page = page.and_then(|connection| Client::new(connection).get("/stops.txt"));
        let page = page.expect("http answers").body;
        let stopped = format!("{name} was stopped: ");
        let page = String::from_utf8_lossy(&page);
        assert!(page.contains(&stopped), "/stops.txt says {page}");
        let before = downloads.completed();
        let deadline = std::time::Instant::now() + HANG;
        while downloads.completed() < before + 8 {
            assert!(std::time::Instant::now() < deadline, "http stands still");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let downloaded = downloads.stop();
    let harm = (downloaded.resets, downloaded.wrong, downloaded.broken);
    assert_eq!(harm, (0, 0, 0), "{downloaded:?}");
}
