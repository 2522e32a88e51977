//! The network server dies under load and is started again: nobody loses a connection, and what is
//! lost on the way is small. All times are the machine's own.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use segue_system_tests::background::Downloads;
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::gaps::{self, Stream};
use segue_system_tests::metronome::{Metronome, REQUESTS};
use segue_system_tests::pcap;
use segue_system_tests::random::seed;
use segue_system_tests::{Cable, TestMachine, frames, system_memory};

/// Where `http` listens.
const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
/// Datagrams of the stream around each death.
const COUNT: u64 = 3_000;
const DEATHS: u64 = 5;
/// Longer than anything here takes on a busy host.
const ANSWER: Duration = Duration::from_secs(120);
/// Longest gap in the stream that is allowed, in microseconds of the machine.
const LONGEST_GAP: u64 = 20_000;

fn boot(capture: &std::path::Path) -> (TestMachine, OwnImage) {
    let image = build_system("metronome", |text| {
        let own = r#"path="segue-netserver""#;
        assert!(text.contains(own), "adapt this test");
        let text = text.replace(own, r#"path="segue-fragile-netserver""#);
        let policy =
            r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0" heartbeat_ms="500""#;
        with_policy(&text, "netserver", policy)
    });
    let image = OwnImage::new("netserver-restart", &image.bytes);
    let machine = image.machine().memory_mib(system_memory("metronome"));
    let machine = machine.instruction_clock(0).capture_frames(capture);
    let mut machine = TestMachine::start(machine, Cable::Peer(seed()));
    machine.expect_line("metronome: listening on 10.0.2.40:4001 (UDP)");
    machine.wait_until_it_answers();
    (machine, image)
}

#[test]
fn connections_survive_the_network_server() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let (machine, _image) = boot(&capture);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let peer = peer.clone();
    let metronome = Metronome::new(machine.host()).expect("a socket");
    let asker = Metronome::new(machine.host()).expect("a socket");
    let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", 8).expect("http answers");
    assert!(downloads.wait_for(8), "{:?}", downloads.stop());
    // A broadcast of an unknown type is what it stumbles over.
    let (_, mut fatal) = frames::wrong().swap_remove(0);
    fatal[..6].fill(0xff);
    for death in 0..DEATHS {
        asker.mark(2 * death).expect("the machine runs");
        thread::scope(|scope| {
            let stream = scope.spawn(|| metronome.stream(COUNT));
            thread::sleep(Duration::from_millis(30));
            let position = machine.console().position();
            peer.inject(&fatal).expect("the machine runs");
            let console = machine.console();
            let line = console.wait_for_after(position, "netserver was restarted", ANSWER);
            println!("{}", line.unwrap_or_else(|error| panic!("{error}")).text);
            let tally = stream.join().expect("no panic").expect("datagrams come");
            println!("{} of {COUNT} datagrams came", tally.distinct());
        });
        asker.mark(2 * death + 1).expect("the machine runs");
        asker.report().expect("the metronome answers");
    }
    let before = downloads.completed();
    assert!(downloads.wait_for(before + 8), "{:?}", downloads.stop());
    let downloaded = downloads.stop();
    println!("{} downloads", downloaded.completed);
    assert_eq!(downloaded.failures, [""; 0], "{downloaded:?}");
    for line in machine.console().lines() {
        if line.text.contains("netserver") || line.text.contains("channel") {
            println!("{}", line.text);
        }
    }

    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    // The wire's silence after each fatal frame.
    for (place, frame) in frames.iter().enumerate() {
        if frame.bytes == fatal {
            let after = &frames[place + 1..];
            let sent = after
                .iter()
                .find(|other| other.bytes[6..12] != fatal[6..12]);
            let came = after
                .iter()
                .take_while(|other| Some(*other) != sent)
                .count();
            println!(
                "silent for {:?} us after {} us; {came} frames came meanwhile",
                sent.map(|sent| sent.at - frame.at),
                frame.at
            );
        }
    }
    let mut longest = 0;
    for death in 0..DEATHS {
        let part = gaps::between(&frames, 2 * death, 2 * death + 1).expect("marks");
        let stream = Stream::of(part, SocketAddr::V4(REQUESTS));
        let summary = stream.summary(COUNT);
        println!("death {death}: {summary:?}");
        longest = longest.max(summary.longest_gap);
        assert_eq!(summary.missing, 0, "what was handed in is sent");
    }
    let all = gaps::downloads(&frames, SocketAddr::V4(HTTP));
    let mut stalls: Vec<_> = all
        .values()
        .map(|download| (download.longest_stall, download.stall_began))
        .collect();
    stalls.sort_unstable();
    println!("longest gap {longest}, stalls of downloads and when they began {stalls:?}");
    assert!(all.values().all(|download| download.resets == 0));
    assert!(longest <= LONGEST_GAP);
}
