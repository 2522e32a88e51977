//! How long the wire stands still when the network server faults, in the machine's virtual time.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::background::Downloads;
use crate::distribution::Distribution;
use crate::gaps::{self, Stream};
use crate::guest_memory::GuestMemory;
use crate::instructions::Program;
use crate::metronome::{ECHO, Metronome, REQUESTS};
use crate::pcap::{self, Frame};
use crate::random::Random;
use crate::recovery::{Chooser, Fault, Injector, Instants, Ledger, Outcome, Places};
use crate::udp_stream::UdpStream;
use crate::{Cable, TestMachine};

const SYSTEM: &str = "outages";
const SERVER: &str = "netserver";
/// Where `http` listens.
const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
/// Downloads at once.
const DOWNLOADS: usize = 4;
/// Faults that share a boot and a capture.
const BATCH: u64 = 40;
/// Numbered datagrams of a stream: a minute and a half of the machine. It goes through all faults of
/// a batch.
const NUMBERS: u64 = 900_000;
/// Time between two datagrams there and back, beside the stream: so that something is received, too.
const ECHO_INTERVAL: Duration = Duration::from_millis(2);
/// How long a fault point may take to be reached. The machine is slower than in other tests.
const REACHED: Duration = Duration::from_secs(10);
/// How long anything else may take. It takes far less; this long only if it never comes.
const LIMIT: Duration = Duration::from_secs(120);

/// What faults in the network server did to the traffic, in microseconds of the machine's virtual time.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    /// For each fault the longest time between two numbered datagrams, sent every 100 microseconds.
    pub gaps: Vec<u64>,
    /// Of these, faults that the kernel notices, and hangs, which only a missed heartbeat shows.
    pub gaps_of_faults: Vec<u64>,
    /// See [`Self::gaps_of_faults`].
    pub gaps_of_hangs: Vec<u64>,
    /// The parts of what happens: from the fault until `init` stopped the server,
    pub detect: Vec<u64>,
    /// from there until it was started again with fresh memory,
    pub rebuild: Vec<u64>,
    /// from there until it had looked at its device and its channels,
    pub reset: Vec<u64>,
    /// and from there to the next datagram.
    pub rejoin: Vec<u64>,
    /// Numbered datagrams that were lost, for each fault.
    pub lost: Vec<u64>,
    /// Numbered datagrams on the wire.
    pub sent: u64,
    /// Of these, those that came twice: the server had died before it could say that it had sent them.
    pub doubled: u64,
    /// For each fault the longest time that a download stood still.
    pub stalls: Vec<u64>,
    /// Connections that were reset, or ended before their time.
    pub connections_lost: u64,
    /// Downloads that were not what had been asked for.
    pub wrong: u64,
    /// Times that a protection domain was stopped for making no progress without being made to hang.
    pub suspected: u64,
    /// What was injected.
    pub ledger: Ledger,
}

impl Outages {
    /// For people.
    pub fn print(&self) {
        for (name, values) in [
            ("longest gap of the stream", &self.gaps),
            ("  of faults", &self.gaps_of_faults),
            ("  of hangs", &self.gaps_of_hangs),
            ("  detect", &self.detect),
            ("  rebuild", &self.rebuild),
            ("  reset", &self.reset),
            ("  rejoin", &self.rejoin),
            ("datagrams lost", &self.lost),
            ("longest TCP stall", &self.stalls),
        ] {
            println!("{name}: {}", Distribution::new(values.clone()));
        }
        println!(
            "{} numbered datagrams, {} lost, {} twice; {} connections lost, {} downloads wrong; {} \
             suspected wrongly\n{}",
            self.sent,
            self.lost.iter().sum::<u64>(),
            self.doubled,
            self.connections_lost,
            self.wrong,
            self.suspected,
            self.ledger
        );
    }

    /// Panics if the stream stood still for longer than it may, or a connection was lost. The limits are
    /// virtual time: instructions of the machine, whatever the host does meanwhile.
    pub fn judge(&self) {
        let gaps = Distribution::new(self.gaps.clone());
        assert!(gaps.median() <= Some(20_000), "{gaps}");
        assert!(gaps.percentile(99.0) <= Some(100_000), "{gaps}");
        assert_eq!(
            (self.connections_lost, self.wrong, self.suspected),
            (0, 0, 0)
        );
    }

    fn add(&mut self, other: Self) {
        self.gaps.extend(other.gaps);
        self.gaps_of_faults.extend(other.gaps_of_faults);
        self.gaps_of_hangs.extend(other.gaps_of_hangs);
        self.detect.extend(other.detect);
        self.rebuild.extend(other.rebuild);
        self.reset.extend(other.reset);
        self.rejoin.extend(other.rejoin);
        self.lost.extend(other.lost);
        self.sent += other.sent;
        self.doubled += other.doubled;
        self.stalls.extend(other.stalls);
        self.connections_lost += other.connections_lost;
        self.wrong += other.wrong;
        self.suspected += other.suspected;
        self.ledger.add(other.ledger);
    }
}

/// A machine whose clock counts instructions (1 ns each) and that writes its frames to a file.
struct Clocked {
    machine: TestMachine,
    places: Places,
    marker: Metronome,
    chooser: Chooser,
    ledger: Ledger,
    folder: TempDir,
}

/// A fault that struck.
struct Struck {
    is_hang: bool,
    instants: Instants,
}

/// Measures `count` faults of the server of a stream and as many of that of downloads, in batches.
pub fn outages(count: u64, seed: u64) -> Outages {
    let mut all = Outages::default();
    let mut random = Random::new(seed);
    // Points that are reached only when a life begins would take two faults at once.
    let mut chooser = Chooser::of(SERVER, Random::new(random.number())).patience(1);
    let mut left = count;
    while left > 0 {
        let batch = left.min(BATCH);
        for measure in [of_stream, of_downloads] {
            let mut clocked = Clocked::boot(random.number(), chooser);
            let mut found = measure(&mut clocked, batch);
            found.suspected = clocked.suspected();
            found.ledger = clocked.ledger;
            chooser = clocked.chooser;
            all.add(found);
        }
        left -= batch;
    }
    all
}

impl Clocked {
    fn boot(seed: u64, chooser: Chooser) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("memory");
        let machine = TestMachine::machine(SYSTEM)
            .instruction_clock(0)
            .memory_file(&file)
            .capture_frames(folder.path().join("capture.pcap"));
        let mut machine = TestMachine::start(machine, Cable::Peer(seed));
        machine.expect_line("metronome: listening on 10.0.2.40:4001 (UDP)");
        machine.wait_until_it_answers();
        let memory = GuestMemory::open(&file).expect("QEMU makes the file");
        let marker = Metronome::new(machine.host()).expect("a socket");
        marker.report().expect("the metronome answers");
        Self {
            places: Places::find(memory, Program::read_faulty).expect("they run"),
            marker,
            machine,
            chooser,
            ledger: Ledger::default(),
            folder,
        }
    }

    /// Makes a fault that strikes, between the marks 2 `number` and 2 `number` + 1: the second one comes
    /// when `goes_on` says so. `None` if none has struck before `is_over`.
    fn fault(
        &mut self,
        number: u64,
        is_over: impl Fn(&Metronome) -> bool,
        goes_on: impl FnOnce(&Metronome),
    ) -> Option<Struck> {
        while !is_over(&self.marker) {
            let fault = self.chooser.next_fault().expect("some points are reached");
            self.marker.mark(2 * number).expect("the machine runs");
            let mut injector = Injector::new(&mut self.machine).limits(REACHED, LIMIT);
            let outcome = injector.inject(&fault);
            let outcome = outcome.unwrap_or_else(|error| panic!("{fault}: {error}"));
            let Outcome::Struck(restart) = outcome else {
                println!("{fault}: not reached");
                self.chooser.missed(&fault);
                self.ledger.missed(&fault);
                continue;
            };
            goes_on(&self.marker);
            self.marker.mark(2 * number + 1).expect("the machine runs");
            self.chooser.struck(&fault);
            self.ledger.struck(&fault, &restart);
            let struck = self.struck(&fault);
            println!("{fault}: {:?}", struck.instants);
            return Some(struck);
        }
        None
    }

    fn struck(&self, fault: &Fault) -> Struck {
        let instants = self
            .places
            .instants_of_netserver()
            .expect("the memory can be read");
        Struck {
            is_hang: fault.kind.is_hang(),
            instants: instants.expect("it was restarted"),
        }
    }

    /// How often somebody was stopped for making no progress without being made to hang.
    fn suspected(&self) -> u64 {
        let lines = self.machine.console().lines();
        let stopped = lines
            .iter()
            .filter(|line| line.text.contains(" was stopped: it made no progress"));
        (stopped.count() as u64).saturating_sub(self.ledger.hangs())
    }

    /// All frames so far, and of each fault the time between its marks. A mark that was sent again,
    /// since the fault before it did not strike, counts when it was sent last.
    fn frames(&self, faults: u64) -> (Vec<Frame>, Vec<[u64; 2]>) {
        // The last mark is in the capture before what is answered.
        self.marker.report().expect("the metronome answers");
        let capture = self.folder.path().join("capture.pcap");
        let frames = pcap::read(&capture).expect("QEMU writes a capture");
        let marks = gaps::marks(&frames);
        let last = |wanted: u64| {
            let found = marks.iter().rev().find(|mark| mark.0 == wanted);
            found.expect("the mark is in the capture").1
        };
        let windows = (0..faults).map(|number| [last(2 * number), last(2 * number + 1)]);
        let windows = windows.collect();
        (frames, windows)
    }
}

/// Faults while the metronome sends.
fn of_stream(clocked: &mut Clocked, count: u64) -> Outages {
    let metronome = Metronome::new(clocked.machine.host()).expect("a socket");
    let socket = clocked.machine.host().datagrams().expect("a socket");
    metronome.begin(NUMBERS).expect("the metronome sends");
    let echoes = UdpStream::start(socket, ECHO, ECHO_INTERVAL);
    let sent = |marker: &Metronome| marker.report().expect("the metronome answers").sent;
    let mut struck = Vec::new();
    while (struck.len() as u64) < count {
        let number = struck.len() as u64;
        let one = clocked.fault(
            number,
            |marker| sent(marker) >= NUMBERS,
            |marker| {
                // Some more of the stream.
                let before = sent(marker);
                while sent(marker) < (before + 20).min(NUMBERS) {}
            },
        );
        let Some(one) = one else { break };
        struck.push(one);
    }
    assert!(
        !struck.is_empty(),
        "no fault struck while the stream went on"
    );
    drop(echoes);
    let (frames, windows) = clocked.frames(struck.len() as u64);
    let stream = Stream::of(&frames, SocketAddr::V4(REQUESTS));
    let mut found = Outages {
        sent: stream.summary(0).datagrams,
        doubled: stream.summary(0).doubled,
        ..Outages::default()
    };
    for (one, [first, last]) in struck.iter().zip(windows) {
        let instants = one.instants;
        // What was on its way when it happened may come in between.
        let window = stream.window(first..last);
        let began = window.gap_began;
        found.gaps.push(window.longest_gap);
        match one.is_hang {
            true => found.gaps_of_hangs.push(window.longest_gap),
            false => found.gaps_of_faults.push(window.longest_gap),
        }
        found.lost.push(window.missing);
        // The stream may have gone on for a while without the server: from what it had handed over.
        let fault = instants.fault.unwrap_or(began).min(instants.stopped);
        found.detect.push(instants.stopped - fault);
        found
            .rebuild
            .push(instants.started.saturating_sub(instants.stopped));
        found
            .reset
            .push(instants.ready.saturating_sub(instants.started));
        let next = stream.next_after(instants.ready);
        found
            .rejoin
            .push(next.map_or(0, |next| next - instants.ready));
    }
    found
}

/// Faults while four clients download.
fn of_downloads(clocked: &mut Clocked, count: u64) -> Outages {
    let downloads = Downloads::start(clocked.machine.host(), HTTP, "128k.bin", DOWNLOADS);
    let downloads = downloads.expect("http answers");
    let goes_on = |_: &Metronome| {
        let enough = downloads.completed() + 2 * DOWNLOADS as u64;
        let deadline = Instant::now() + LIMIT;
        while downloads.completed() < enough {
            assert!(Instant::now() < deadline, "the downloads stand still");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    goes_on(&clocked.marker);
    for number in 0..count {
        let struck = clocked.fault(number, |_| false, goes_on);
        struck.expect("it is tried until one strikes");
    }
    let downloaded = downloads.stop();
    let (frames, windows) = clocked.frames(count);
    let mut found = Outages {
        connections_lost: downloaded.resets + downloaded.broken,
        wrong: downloaded.wrong,
        ..Outages::default()
    };
    for failure in &downloaded.failures {
        println!("{failure}");
    }
    for [first, last] in windows {
        let first = frames.partition_point(|frame| frame.at < first);
        let last = frames.partition_point(|frame| frame.at < last);
        let window = gaps::downloads(&frames[first..last], SocketAddr::V4(HTTP));
        let longest = window.values().map(|download| download.longest_stall).max();
        found.stalls.push(longest.unwrap_or(0));
    }
    found
}
