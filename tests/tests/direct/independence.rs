//! Failures of one part leave the others alone: the network server dies beside applications in direct
//! mode, an application in direct mode dies beside those behind the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::thread;
use std::time::Duration;

use segue_system_tests::background::Downloads;
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::gaps::{self, Stream, Summary};
use segue_system_tests::http::{Client, request};
use segue_system_tests::metronome::{Metronome, REQUESTS};
use segue_system_tests::pcap::{self, Frame};
use segue_system_tests::random::seed;
use segue_system_tests::switching::{Modes, Switcher};
use segue_system_tests::systems::KV_ADDRESS;
use segue_system_tests::{Cable, PeerStream, TestMachine, frames, system_memory};

use crate::{HTTP, LIMIT, assert_undisturbed, peer};

/// Datagrams of a stream: almost a second of the machine.
const COUNT: u64 = 8_000;
/// Added to the number of the mark at a stream's beginning: the mark at what happens meanwhile.
const FAILURE: u64 = 100;
/// The key-value server's MAC address.
const KV_MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 0x20];
const KV: SocketAddrV4 = SocketAddrV4::new(KV_ADDRESS, 6379);

/// The system `switching` with another program in the place of one of its own.
fn boot(seed: u64, [own, other]: [&str; 2], capture: &Path) -> (TestMachine, OwnImage) {
    let image = build_system("switching", |text| {
        let own = format!(r#"path="{own}""#);
        assert!(text.contains(&own), "adapt this test");
        // What is left without it is to be seen.
        let text = with_policy(&text, "netserver", r#"restart="never""#);
        text.replace(&own, &format!(r#"path="{other}""#))
    });
    let image = OwnImage::new(other, &image.bytes);
    let machine = image.machine().memory_mib(system_memory("switching"));
    let machine = machine.instruction_clock(0).capture_frames(capture);
    let mut machine = TestMachine::start(machine, Cable::Peer(seed));
    for name in ["metronome", "kv"] {
        machine.expect_line(&format!("{name}: listening on 10.0.2."));
    }
    machine.wait_until_it_answers();
    (machine, image)
}

fn switch_to_direct(machine: &mut TestMachine, name: &str) {
    let line = Switcher::new(machine).limit(LIMIT).to_direct(name);
    println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
}

/// A stream while `meanwhile` happens somewhere in its first half, between these marks.
fn stream(machine: &TestMachine, [first, last]: [u64; 2], meanwhile: impl FnOnce()) {
    let metronome = Metronome::new(machine.host()).expect("a socket");
    let asker = Metronome::new(machine.host()).expect("a socket");
    asker.mark(first).expect("the machine runs");
    asker.report().expect("the metronome answers");
    thread::scope(|scope| {
        let stream = scope.spawn(|| metronome.stream(COUNT));
        // Until it has begun, the report is about the one before.
        while !stream.is_finished() {
            let sent = asker.report().expect("the metronome answers").sent;
            if (COUNT / 8..COUNT).contains(&sent) {
                break;
            }
        }
        asker.mark(first + FAILURE).expect("the machine runs");
        meanwhile();
        let tally = stream.join().expect("no panic").expect("datagrams come");
        println!("{} of {COUNT} datagrams came", tally.distinct());
    });
    asker.mark(last).expect("the machine runs");
    asker.report().expect("the metronome answers");
}

/// The stream between two marks: all of it was on the wire, and the failure was amid it.
fn judge(what: &str, frames: &[Frame], [first, last]: [u64; 2]) -> Summary {
    let part = |first, last| {
        let part = gaps::between(frames, first, last).expect("both marks are in the capture");
        Stream::of(part, SocketAddr::V4(REQUESTS)).summary(COUNT)
    };
    let [before, after] =
        [[first, first + FAILURE], [first + FAILURE, last]].map(|[first, last]| part(first, last));
    assert!(
        before.datagrams > 0 && after.datagrams > 0,
        "{what}: not amid it"
    );
    let summary = part(first, last);
    println!("{what}: {summary:?}");
    let counts = (summary.datagrams, summary.missing);
    assert_eq!(counts, (COUNT, 0), "{what}: {summary:?}");
    assert_eq!((summary.doubled, summary.reordered), (0, 0), "{what}");
    summary
}

/// Sends a command of the key-value server's; whether the answer comes in time.
fn ping(machine: &TestMachine, client: &mut PeerStream) -> bool {
    let mut answer = [0; 7];
    let sent = client.write_all(b"*1\r\n$4\r\nPING\r\n");
    let read = sent.and_then(|()| client.read_exact(&mut answer));
    assert!(read.is_ok(), "{read:?}\n{}", machine.console().tail());
    &answer == b"+PONG\r\n"
}

#[test]
fn applications_in_direct_mode_do_not_need_the_network_server() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let programs = ["segue-netserver", "segue-fragile-netserver"];
    let (mut machine, _image) = boot(seed(), programs, &capture);
    let peer = peer(&machine);
    let mut to_kv = peer.connect_to(KV).expect("kv answers");
    assert!(ping(&machine, &mut to_kv));
    switch_to_direct(&mut machine, "http");
    switch_to_direct(&mut machine, "metronome");
    let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", 2).expect("http answers");
    assert!(downloads.wait_for(2), "{:?}", downloads.stop());

    stream(&machine, [0, 1], || ());
    // A broadcast of an unknown type is what it stumbles over.
    let (_, mut fatal) = frames::wrong().swap_remove(0);
    fatal[..6].fill(0xff);
    stream(&machine, [2, 3], || {
        peer.inject(&fatal).expect("the machine runs");
        let line = machine.expect_line("netserver was stopped: ");
        println!("{line}");
    });
    let before = downloads.completed();
    assert!(downloads.wait_for(before + 4), "{:?}", downloads.stop());

    // Who is behind the server is cut off: here it is not started again.
    peer.record(true);
    let mut echo = frames::echo_request(1, b"");
    echo[..6].copy_from_slice(&KV_MAC);
    echo[30..34].copy_from_slice(&KV_ADDRESS.octets());
    peer.inject(&echo).expect("the machine runs");
    let from_kv = |frame: &[u8]| frame[6..12] == KV_MAC;
    assert_eq!(peer.recorded(Duration::from_secs(3), from_kv), None);
    peer.record(false);

    // Nobody goes there, and the refusal says why.
    let refusal = Switcher::new(&mut machine)
        .limit(LIMIT)
        .refused("http", "server");
    let refusal = refusal.unwrap_or_else(|error| panic!("{error}"));
    println!("{refusal}");
    assert!(refusal.ends_with("http stays in direct mode: the network server does not run"));
    let modes = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
    modes.consistent().unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(modes.applications["http"].mode, "direct");
    let before = downloads.completed();
    assert!(downloads.wait_for(before + 4), "{:?}", downloads.stop());
    assert_undisturbed("in direct mode", &downloads.stop());
    let metronome = Metronome::new(machine.host()).expect("a socket");
    metronome.report().expect("the metronome answers");

    // But one that can leave it is back, with its connection.
    switch_to_direct(&mut machine, "kv");
    assert!(ping(&machine, &mut to_kv));

    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    let alone = judge("while all run", &frames, [0, 1]);
    let beside = judge("while the network server dies", &frames, [2, 3]);
    println!(
        "longest gap: {} us while the server runs, {} us while it dies",
        alone.longest_gap, beside.longest_gap
    );
}

#[test]
fn applications_behind_the_server_do_not_notice_one_in_direct_mode_die() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let programs = ["segue-http", "segue-fragile"];
    let (mut machine, _image) = boot(seed(), programs, &capture);
    let peer = peer(&machine);
    let mut to_kv = peer.connect_to(KV).expect("kv answers");
    switch_to_direct(&mut machine, "http");
    stream(&machine, [0, 1], || ());
    let mut client = Client::new(peer.connect_to(HTTP).expect("http answers"));
    stream(&machine, [2, 3], || {
        let fault = request("GET", "/fault/panic", "");
        client.send(fault.as_bytes()).expect("it can be sent");
        println!("{}", machine.expect_line("http was stopped: "));
        assert!(ping(&machine, &mut to_kv));
    });
    println!("{}", machine.expect_line("http is gone: virtual function"));
    let modes = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
    modes.consistent().unwrap_or_else(|what| panic!("{what}"));
    assert!(modes.all_free(), "{modes:?}");
    assert!(ping(&machine, &mut to_kv));
    // Its function is somebody else's now.
    switch_to_direct(&mut machine, "kv");
    assert!(ping(&machine, &mut to_kv));
    let frames = pcap::read(&capture).expect("QEMU writes a capture");
    let alone = judge("while all run", &frames, [0, 1]);
    let beside = judge("while http dies", &frames, [2, 3]);
    println!(
        "longest gap: {} us before, {} us while http dies",
        alone.longest_gap, beside.longest_gap
    );
}
