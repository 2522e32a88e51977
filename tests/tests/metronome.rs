//! Numbered datagrams in server mode: none is missing and none overtakes another, whatever else the
//! machine has to do. What is printed is what a switch of modes is to be compared with.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use segue_metronome_core::Report;
use segue_system_tests::background::{Downloaded, Downloads};
use segue_system_tests::distribution::Distribution;
use segue_system_tests::gaps::{self, Stream};
use segue_system_tests::metronome::{ECHO, Metronome, REQUESTS};
use segue_system_tests::pcap::{self, Frame};
use segue_system_tests::plot::{Series, plot};
use segue_system_tests::random::{Random, seed};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::udp_stream::{Echoes, UdpStream};
use segue_system_tests::{Cable, Impairment, TestMachine, paths};

/// Where `http` listens.
const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
/// Datagrams of a stream: a third of a second of the machine.
const COUNT: u64 = 3_000;
/// Datagrams of a stream there and back, one for each millisecond of the host.
const ECHOES: u64 = 500;

/// Longer than anything here takes on a busy host.
const ANSWER: Duration = Duration::from_secs(120);

/// A machine whose clock counts instructions (1 ns each) and that writes its frames to `capture`.
fn boot(cable: Cable, capture: &Path) -> TestMachine {
    let machine = TestMachine::machine("metronome")
        .instruction_clock(0)
        .capture_frames(capture);
    let mut machine = TestMachine::start(machine, cable);
    machine.expect_line("metronome: listening on 10.0.2.40:4001 (UDP)");
    machine.wait_until_it_answers();
    machine
}

/// The stream between two marks, whole and in order, and its gaps.
fn judge(name: &str, frames: &[Frame], first: u64, last: u64) -> Series {
    let part = gaps::between(frames, first, last).expect("both marks are in the capture");
    let stream = Stream::of(part, SocketAddr::V4(REQUESTS));
    let summary = stream.summary(COUNT);
    let values = Distribution::new(stream.gaps());
    println!("{name}: on the wire {values}, in microseconds of the machine; {summary:?}");
    assert_eq!(summary.datagrams, COUNT, "{name}: {summary:?}");
    assert_eq!(summary.missing, 0, "{name}: {summary:?}");
    assert_eq!(summary.doubled, 0, "{name}: {summary:?}");
    assert_eq!(summary.reordered, 0, "{name}: {summary:?}");
    let name = name.into();
    Series { name, values }
}

fn assert_sound(downloaded: &Downloaded) {
    assert!(downloaded.completed > 0, "{downloaded:?}");
    assert_eq!(downloaded.failures, [""; 0], "{downloaded:?}");
}

#[test]
fn every_number_is_on_the_wire_once_and_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let machine = boot(Cable::Peer(seed()), &capture);
    let metronome = Metronome::new(machine.host()).expect("a socket");
    let stream = |mark: u64| {
        metronome.mark(mark).expect("the machine runs");
        let tally = metronome.stream(COUNT).expect("the metronome sends");
        metronome.mark(mark + 1).expect("the machine runs");
        println!(
            "sent at most {} microseconds apart, by the sender's clock; {} of {COUNT} came",
            tally.longest_gap(),
            tally.distinct()
        );
        // The marks are on the wire before what is answered.
        metronome.report().expect("the metronome answers")
    };
    let alone = stream(0);
    let downloads = Downloads::start(machine.host(), HTTP, "8k.bin", 8).expect("http answers");
    assert!(downloads.wait_for(1), "{:?}", downloads.stop());
    let before = downloads.completed();
    let beside = stream(2);
    println!(
        "{} downloads of 8 KiB beside it",
        downloads.completed() - before
    );
    let downloaded = downloads.stop();
    assert_sound(&downloaded);
    for report in [alone, beside] {
        assert_eq!(report.sent, COUNT, "{report}");
    }
    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    let series = [
        judge("alone", &frames, 0, 1),
        judge("beside 8 downloads", &frames, 2, 3),
    ];
    let picture = paths::root().join("build/metronome/gaps.svg");
    plot(
        &picture,
        "Time between two datagrams of the metronome, server mode",
        "microseconds of the machine's virtual time",
        &series,
    )
    .expect("a picture can be written");
    println!("{}", picture.display());
    let all = gaps::downloads(&frames, SocketAddr::V4(HTTP));
    let (mut bytes, mut longest) = (0, 0);
    for download in all.values() {
        assert_eq!(download.resets, 0, "{download:?}");
        bytes += download.bytes;
        longest = longest.max(download.longest_stall);
    }
    println!("downloads stood still for at most {longest} microseconds of the machine");
    assert!(bytes >= downloaded.bytes, "{bytes} bytes on the wire");
}

/// What a test of switches does, with another command of the operator's in the place of the switch:
/// a stream under way, and a mark before and after each command, around which its gaps are looked at.
#[test]
fn commands_at_the_console_are_found_in_the_capture() {
    const COMMANDS: u64 = 5;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let mut machine = boot(Cable::Peer(seed()), &capture);
    let metronome = Metronome::new(machine.host()).expect("a socket");
    let marker = Metronome::new(machine.host()).expect("a socket");
    marker.report().expect("the metronome answers");
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| metronome.stream(4 * COUNT));
        while !stream.is_finished() && marker.report().expect("the metronome answers").sent < 100 {}
        for number in 0..COMMANDS {
            let position = machine.console().position();
            marker.mark(2 * number).expect("the machine runs");
            machine.type_in(b"status\r").expect("the console listens");
            let console = machine.console();
            let answer = console.wait_for_after(position, "of memory are free.", ANSWER);
            answer.unwrap_or_else(|error| panic!("{error}"));
            marker.mark(2 * number + 1).expect("the machine runs");
        }
        stream.join().expect("no panic").expect("datagrams come");
    });
    // The last mark is in the capture before what is answered.
    marker.report().expect("the metronome answers");
    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    let stream = Stream::of(&frames, SocketAddr::V4(REQUESTS));
    assert_eq!(stream.summary(4 * COUNT).missing, 0);
    let marks = gaps::marks(&frames);
    let numbers: Vec<u64> = marks.iter().map(|mark| mark.0).collect();
    assert_eq!(numbers, Vec::from_iter(0..2 * COMMANDS));
    for pair in marks.chunks(2) {
        let while_answered = stream.window(pair[0].1..pair[1].1);
        println!(
            "status from {} to {}: {while_answered:?}",
            pair[0].1, pair[1].1
        );
        assert_eq!((while_answered.missing, while_answered.reordered), (0, 0));
    }
    let instants: Vec<u64> = marks.iter().map(|mark| mark.1).collect();
    let around = stream.around(&instants, 2_000, 10_000);
    let gaps = around.iter().map(|summary| summary.longest_gap);
    println!("around them: {}", Distribution::new(gaps.collect()));
}

/// A stream there and back: both ends count the same.
fn echoes(cable: Cable) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let machine = boot(cable, &folder.path().join("capture.pcap"));
    let metronome = Metronome::new(machine.host()).expect("a socket");
    let socket = machine.host().datagrams().expect("a socket");
    let stream = UdpStream::start(socket, ECHO, Duration::from_millis(1));
    let (echoes, report) = stop_after(ECHOES, &metronome, stream);
    assert_eq!((echoes.doubled, echoes.reordered), (0, 0));
    assert_eq!(
        (report.doubled, report.reordered, report.outside),
        (0, 0, 0)
    );
    assert!(report.distinct <= echoes.sent && echoes.returned <= report.distinct);
    assert_eq!(echoes.returned + echoes.lost, echoes.sent);
    let Some(peer) = machine.host().peer() else {
        return;
    };
    // What a cable does that loses, doubles and reorders is noticed.
    metronome.clear().expect("the metronome forgets");
    let mut random = Random::new(seed());
    peer.impair(
        Impairment::new(random.number(), 20),
        Impairment::new(random.number(), 20),
    );
    let socket = machine.host().datagrams().expect("a socket");
    let stream = UdpStream::start(socket, ECHO, Duration::from_millis(1));
    let (echoes, report) = stop_after(ECHOES, &metronome, stream);
    assert!(echoes.lost > 0 && echoes.doubled > 0, "{echoes:?}");
    assert!(echoes.reordered > 0, "{echoes:?}");
    assert!(report.distinct < echoes.sent, "{report}");
}

/// Ends the stream when so many have come to the metronome; what both say.
fn stop_after(count: u64, metronome: &Metronome, stream: UdpStream) -> (Echoes, Report) {
    let deadline = Instant::now() + ANSWER;
    while metronome.report().expect("the metronome answers").distinct < count {
        assert!(Instant::now() < deadline, "too few datagrams come");
        std::thread::sleep(Duration::from_millis(50));
    }
    let echoes = stream.stop().expect("datagrams can be sent");
    let report = metronome.report().expect("the metronome answers");
    println!("{echoes:?}; {report}");
    (echoes, report)
}

#[test]
fn numbered_datagrams_from_the_peer_come_back() {
    echoes(Cable::Peer(seed()));
}

#[test]
fn numbered_datagrams_from_a_tap_come_back() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    echoes(Cable::Tap);
}
