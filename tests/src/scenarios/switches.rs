//! Switches between network server and virtual function while traffic flows.
//!
//! Two scenarios: one with real clients over a tap device, which must notice nothing; one on a
//! machine whose clock counts instructions, which measures how long a stream of numbered datagrams
//! and TCP downloads stand still on the wire.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use segue_qemu::NetworkNamespace;

use super::may_make_tap_devices;
use crate::background::{Downloaded, Downloads, RedisLoad};
use crate::distribution::Distribution;
use crate::gaps::{self, Stream};
use crate::metronome::{ECHO, Metronome, REQUESTS};
use crate::pcap;
use crate::random::Random;
use crate::switching::Switcher;
use crate::systems::KV_ADDRESS;
use crate::udp_stream::UdpStream;
use crate::{Cable, Host, TestMachine};

/// Where `http` listens.
const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
const KV: SocketAddrV4 = SocketAddrV4::new(KV_ADDRESS, 6379);
/// Connections that download at once.
const DOWNLOADS: usize = 32;
/// Time between two datagrams of the stream there and back.
const ECHO_INTERVAL: Duration = Duration::from_millis(2);
/// Applications of the system `switching`.
const SWITCHED: [&str; 3] = ["http", "kv", "metronome"];

/// Switches the applications of the system `switching` back and forth, `count` switches in all, in
/// random order, while 32 clients download from `http`, `redis-benchmark` asks `kv`, and numbered
/// datagrams go to `metronome` and back. No client may notice anything.
pub fn switches_under_load(count: u64, seed: u64) {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let mut random = Random::new(seed);
    let mut machine = TestMachine::boot("switching", Cable::Tap);
    machine.expect_line("kv: listening on 10.0.2.20:6379");
    let Host::Namespace(namespace) = machine.host() else {
        unreachable!("the machine is on a tap");
    };
    let namespace: std::sync::Arc<NetworkNamespace> = namespace.clone();
    let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", DOWNLOADS);
    let downloads = downloads.expect("http answers");
    let redis = RedisLoad::start(namespace, KV, 20, 20_000);
    let socket = machine.host().datagrams().expect("a socket");
    let echoes = UdpStream::start(socket, ECHO, ECHO_INTERVAL);
    assert!(
        downloads.wait_for(DOWNLOADS as u64),
        "{:?}",
        downloads.stop()
    );
    let mut is_direct = [false; SWITCHED.len()];
    let mut switcher = Switcher::new(&mut machine);
    for _ in 0..count {
        let index = random.below(SWITCHED.len());
        let name = SWITCHED[index];
        let line = match is_direct[index] {
            true => switcher.to_server(name),
            false => switcher.to_direct(name),
        };
        line.unwrap_or_else(|error| panic!("{error}"));
        is_direct[index] = !is_direct[index];
    }
    let downloaded = downloads.stop();
    let benchmarks = redis.stop();
    let echoes = echoes.stop().expect("datagrams can be sent");
    println!(
        "{count} switches: {} downloads of 128 KiB, {} rounds of redis-benchmark, {echoes:?}",
        downloaded.completed,
        benchmarks.rounds.len()
    );
    assert_sound(&downloaded);
    assert_eq!(benchmarks.failure, None);
    assert!(!benchmarks.rounds.is_empty());
    assert_eq!(echoes.doubled, 0, "{echoes:?}");
    assert_eq!(echoes.lost, 0, "{echoes:?}");
    let console = machine.console().text();
    for word in ["was stopped", "by force", "error"] {
        assert!(!console.contains(word), "the console speaks of \"{word}\"");
    }
}

fn assert_sound(downloaded: &Downloaded) {
    assert!(downloaded.completed > 0, "{downloaded:?}");
    assert_eq!(
        (downloaded.resets, downloaded.wrong, downloaded.broken),
        (0, 0, 0),
        "{downloaded:?}"
    );
}

/// What a number of switches did to the traffic, in microseconds of the machine's virtual time.
#[derive(Clone, Debug, Default)]
pub struct Interruptions {
    /// For each switch to direct mode the longest time between two numbered datagrams, sent every
    /// 100 microseconds.
    pub to_direct: Vec<u64>,
    /// The same for each switch to server mode.
    pub to_server: Vec<u64>,
    /// Numbered datagrams on the wire, and those that never came, came twice, or late.
    pub sent: u64,
    /// See [`Self::sent`].
    pub missing: u64,
    /// See [`Self::sent`].
    pub doubled: u64,
    /// See [`Self::sent`].
    pub reordered: u64,
    /// For each switch of `http` to direct mode the longest time that a download from it stood still.
    pub stall_to_direct: Vec<u64>,
    /// The same for each switch to server mode.
    pub stall_to_server: Vec<u64>,
}

impl Interruptions {
    /// Of both directions.
    pub fn print(&self) {
        for (name, values) in [
            ("frame gap to direct", &self.to_direct),
            ("frame gap to server", &self.to_server),
            ("TCP stall to direct", &self.stall_to_direct),
            ("TCP stall to server", &self.stall_to_server),
        ] {
            println!("{name}: {}", Distribution::new(values.clone()));
        }
        println!(
            "{} numbered datagrams: {} missing, {} doubled, {} late",
            self.sent, self.missing, self.doubled, self.reordered
        );
    }

    /// Panics if a switch has interrupted the stream for longer than it may, or a frame was lost.
    /// The limits are virtual time: instructions of the machine, whatever the host does meanwhile.
    pub fn judge(&self) {
        for gaps in [&self.to_direct, &self.to_server] {
            let gaps = Distribution::new(gaps.clone());
            assert!(gaps.median() <= Some(2_000), "{gaps}");
            assert!(gaps.maximum() <= Some(20_000), "{gaps}");
        }
        assert_eq!((self.missing, self.doubled), (0, 0), "{self:?}");
    }

    fn add(&mut self, other: Self) {
        self.to_direct.extend(other.to_direct);
        self.to_server.extend(other.to_server);
        self.sent += other.sent;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.stall_to_direct.extend(other.stall_to_direct);
        self.stall_to_server.extend(other.stall_to_server);
    }
}

/// Switches that share a boot and a capture.
const BATCH: u64 = 40;
/// Numbered datagrams for each switch: it takes some 30 ms of the machine until its line is on the
/// console.
const NUMBERS: u64 = 500;

/// Measures `count` switches of a stream and as many of a server of downloads, in batches.
pub fn interruptions(count: u64, seed: u64) -> Interruptions {
    let mut all = Interruptions::default();
    let mut left = count;
    let mut random = Random::new(seed);
    while left > 0 {
        let batch = left.min(BATCH);
        all.add(of_stream(batch, random.number()));
        all.add(of_downloads(batch, random.number()));
        left -= batch;
    }
    all
}

/// Switches `metronome` while it sends.
fn of_stream(count: u64, seed: u64) -> Interruptions {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let mut machine = boot(seed, &capture);
    let metronome = Metronome::new(machine.host()).expect("a socket");
    let marker = Metronome::new(machine.host()).expect("a socket");
    marker.report().expect("the metronome answers");
    let mut switches = 0;
    let numbers = count * NUMBERS;
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| metronome.stream(numbers));
        while marker.report().expect("the metronome answers").sent < 100 {}
        let mut switcher = Switcher::new(&mut machine);
        while switches < count && !stream.is_finished() {
            marker.mark(2 * switches).expect("the machine runs");
            let line = match switches % 2 {
                0 => switcher.to_direct("metronome"),
                _ => switcher.to_server("metronome"),
            };
            line.unwrap_or_else(|error| panic!("{error}"));
            marker.mark(2 * switches + 1).expect("the machine runs");
            switches += 1;
        }
        stream.join().expect("no panic").expect("datagrams come");
    });
    // The last mark is in the capture before what is answered.
    marker.report().expect("the metronome answers");
    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    let stream = Stream::of(&frames, SocketAddr::V4(REQUESTS));
    let whole = stream.summary(numbers);
    let mut found = Interruptions {
        sent: whole.datagrams,
        missing: whole.missing,
        doubled: whole.doubled,
        reordered: whole.reordered,
        ..Interruptions::default()
    };
    let end = stream_end(&frames);
    for pair in gaps::marks(&frames).chunks_exact(2) {
        // A switch after the last datagram has nothing to interrupt.
        if pair[1].1 >= end {
            break;
        }
        let gap = stream.window(pair[0].1..pair[1].1);
        side(&mut found.to_direct, &mut found.to_server, pair[0].0).push(gap.longest_gap);
    }
    assert!(
        !found.to_direct.is_empty(),
        "no switch ended while the stream went on"
    );
    found
}

/// When the last numbered datagram was on the wire.
fn stream_end(frames: &[pcap::Frame]) -> u64 {
    let numbered = |frame: &&pcap::Frame| {
        let datagram = frame.datagram();
        datagram.is_some_and(|datagram| datagram.source == SocketAddr::V4(REQUESTS))
    };
    let last = frames.iter().rev().find(numbered);
    last.map_or(0, |frame| frame.at)
}

/// Which of two lists a switch belongs to, by the number of the mark before it.
fn side<'a>(
    to_direct: &'a mut Vec<u64>,
    to_server: &'a mut Vec<u64>,
    mark: u64,
) -> &'a mut Vec<u64> {
    if (mark / 2).is_multiple_of(2) {
        to_direct
    } else {
        to_server
    }
}

/// Switches `http` while four clients download from it.
fn of_downloads(count: u64, seed: u64) -> Interruptions {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let mut machine = boot(seed, &capture);
    let marker = Metronome::new(machine.host()).expect("a socket");
    marker.report().expect("the metronome answers");
    let downloads = Downloads::start(machine.host(), HTTP, "1m.bin", 4).expect("http answers");
    assert!(downloads.wait_for(4), "{:?}", downloads.stop());
    let mut switcher = Switcher::new(&mut machine);
    for number in 0..count {
        marker.mark(2 * number).expect("the machine runs");
        let line = match number % 2 {
            0 => switcher.to_direct("http"),
            _ => switcher.to_server("http"),
        };
        line.unwrap_or_else(|error| panic!("{error}"));
        marker.mark(2 * number + 1).expect("the machine runs");
    }
    assert_sound(&downloads.stop());
    marker.report().expect("the metronome answers");
    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    let mut found = Interruptions::default();
    for pair in gaps::marks(&frames).chunks_exact(2) {
        let first = frames.partition_point(|frame| frame.at < pair[0].1);
        let last = frames.partition_point(|frame| frame.at < pair[1].1);
        let window = gaps::downloads(&frames[first..last], SocketAddr::V4(HTTP));
        let longest = window.values().map(|download| download.longest_stall).max();
        let list = side(
            &mut found.stall_to_direct,
            &mut found.stall_to_server,
            pair[0].0,
        );
        list.push(longest.unwrap_or(0));
        assert!(window.values().all(|download| download.resets == 0));
    }
    found
}

/// A machine whose clock counts instructions (1 ns each) and that writes its frames to `capture`.
fn boot(seed: u64, capture: &std::path::Path) -> TestMachine {
    let machine = TestMachine::machine("metronome")
        .instruction_clock(0)
        .capture_frames(capture);
    let mut machine = TestMachine::start(machine, Cable::Peer(seed));
    machine.expect_line("metronome: listening on 10.0.2.40:4001 (UDP)");
    machine.wait_until_it_answers();
    machine
}
