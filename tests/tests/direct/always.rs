//! An application on a function of its own from the start, without network server and port map.

use std::process::Command;
use std::time::Duration;

use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::random::seed;
use segue_system_tests::scenarios::{self, may_make_tap_devices};
use segue_system_tests::{Cable, TestMachine, files, frames};

use crate::{HTTP, MAC, assert_echoes, get, peer};

/// Frames for other stations.
const STRAY_FRAMES: usize = 1_000;

fn boot(cable: Cable) -> TestMachine {
    let machine = TestMachine::boot("always-direct", cable);
    let console = machine.console().text();
    for absent in ["netserver:", "portmap:", "director:"] {
        assert!(!console.contains(absent), "{absent}\n{console}");
    }
    machine
}

#[test]
fn files_load_and_echoes_are_answered() {
    let machine = boot(Cable::Peer(seed()));
    machine.assert_page_loads();
    for name in ["1k.bin", "128k.bin", "1m.bin"] {
        let body = machine.get(&format!("/{name}")).body;
        let expected = files::digest(&files::contents(name));
        assert_eq!(files::digest(&body), expected, "{name}");
    }
    assert_echoes(&peer(&machine), MAC);
    let status = machine.status();
    assert!(status["modes"].is_null(), "{status}");
    for domain in status["protection_domains"].as_array().expect("a list") {
        assert_eq!(domain["state"], "running", "{status}");
    }
}

#[test]
fn a_large_file_comes_over_both_versions_of_ip() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let image = build_system("always-direct", |text| {
        text.replace("test-files/files", "test-files/large")
            .replace("256M", "512M")
    });
    let image = OwnImage::new("always-direct", &image.bytes);
    let machine = TestMachine::start(image.machine().memory_mib(512), Cable::Tap);
    machine.expect_line("http: listening on 10.0.2.15:80");
    let namespace = machine.namespace().expect("the cable is a tap");
    let expected = files::digest(&files::contents("16m.bin"));
    for host in ["10.0.2.15", "[fd00:5e60::15]"] {
        let url = format!("http://{host}/16m.bin");
        let options = [
            "--globoff",
            "--silent",
            "--show-error",
            "--fail",
            "--retry-connrefused",
            "--retry",
            "9",
        ];
        let output = namespace.run(|| {
            let limit = ["60", "curl"];
            Command::new("timeout")
                .args(limit)
                .args(options)
                .arg(&url)
                .output()
        });
        let output = output.expect("the namespace is there").expect("curl runs");
        assert!(output.status.success(), "{url}: {output:?}");
        assert_eq!(files::digest(&output.stdout), expected, "{url}");
        let ping = |count: &str| {
            let output = namespace.run(|| {
                let arguments = ["60", "ping", "-c", count, "-i", "0.2", "-s", "1400"];
                let host = host.trim_matches(['[', ']']);
                Command::new("timeout").args(arguments).arg(host).output()
            });
            output.expect("the namespace is there").expect("ping runs")
        };
        // The first answer may be lost while the machine asks who we are.
        ping("1");
        let ping = ping("5");
        let text = String::from_utf8_lossy(&ping.stdout);
        assert!(
            text.contains("5 received, 0% packet loss"),
            "{host}: {text}"
        );
    }
}

#[test]
fn two_thousand_requests_over_64_connections() {
    scenarios::load_on(&boot(Cable::Peer(seed())), 2_000);
}

#[test]
fn connections_in_a_row_come_from_the_same_ports() {
    scenarios::from_the_same_ports_to(&boot(Cable::Peer(seed())), 200);
}

#[test]
fn frames_for_others_are_ignored() {
    let machine = boot(Cable::Peer(seed()));
    let peer = peer(&machine);
    peer.record(true);
    let stranger = "10.0.2.77".parse().expect("an address");
    for number in 0..STRAY_FRAMES {
        // To its address, but to another station; and asking for another station.
        let mut request = frames::echo_request(number as u16, b"stray");
        request[..6].copy_from_slice(&[0x52, 0x54, 0, 0x5e, 0x61, 0x16]);
        peer.inject(&request).expect("the machine runs");
        peer.inject(&frames::arp_request(stranger))
            .expect("the machine runs");
    }
    let own = "10.0.2.15".parse().expect("an address");
    let mut answer = None;
    // As a host does that gets no answer: what it asks may have met a full ring.
    for _ in 0..60 {
        peer.inject(&frames::arp_request(own))
            .expect("the machine runs");
        peer.recorded(Duration::from_secs(1), |frame| {
            assert_eq!(frames::echo_reply_of(frame, MAC), None);
            assert_eq!(frames::arp_reply(frame, stranger), None);
            answer = frames::arp_reply(frame, own);
            answer.is_some()
        });
        if answer.is_some() {
            break;
        }
    }
    assert_eq!(answer.map(|mac| mac.0), Some(MAC));
    peer.record(false);
    let expected = files::contents("8k.bin");
    assert!(get(&peer, HTTP, "/8k.bin") == expected);
}
