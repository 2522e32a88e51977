//! Direct mode: applications without servers, many of them, beside each other and beside failures.

mod always;
mod clients;
mod conflict;
mod independence;
mod inside;
mod middle;
mod policy;
mod seven;
mod wire;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use segue_system_tests::background::Downloaded;
use segue_system_tests::frames;
use segue_system_tests::http::Client;
use segue_system_tests::{PeerHost, TestMachine};

/// An answer that has not come by then does not come.
const ANSWER: Duration = Duration::from_secs(60);
/// Longer than anything here takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);
/// The default application's.
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 0x15];
/// Where it listens.
const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);

/// The host at the other end of the cable.
fn peer(machine: &TestMachine) -> PeerHost {
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.clone()
}

/// Gets a file on a connection of its own.
fn get(peer: &PeerHost, from: SocketAddrV4, path: &str) -> Vec<u8> {
    let stream = peer.connect_to(from);
    let stream = stream.unwrap_or_else(|error| panic!("{from}: {error}"));
    let answer = Client::new(stream).get(path);
    let answer = answer.unwrap_or_else(|error| panic!("{from}{path}: {error}"));
    assert_eq!(answer.status, 200, "{from}{path}");
    answer.body
}

/// Asserts that there were downloads and all were right.
fn assert_undisturbed(who: &str, downloaded: &Downloaded) {
    println!(
        "{who}: {} downloads, {} bytes",
        downloaded.completed, downloaded.bytes
    );
    assert!(downloaded.completed > 0, "{who}: {downloaded:?}");
    assert_eq!(downloaded.failures, [""; 0], "{who}");
}

/// Asserts that an application that has this MAC address answers echo requests to 10.0.2.15.
fn assert_echoes(peer: &PeerHost, mac: [u8; 6]) {
    peer.record(true);
    for (sequence, length) in [(1, 0), (2, 56), (3, 1472)] {
        let data: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        let mut request = frames::echo_request(sequence, &data);
        request[..6].copy_from_slice(&mac);
        peer.inject(&request).expect("the machine runs");
        let mut found = None;
        peer.recorded(ANSWER, |frame| {
            found = frames::echo_reply_of(frame, mac);
            found.is_some()
        });
        assert_eq!(found, Some((sequence, data)), "{length} bytes");
    }
    peer.record(false);
}

/// How many lines of the console hold `text`.
fn lines(machine: &TestMachine, text: &str) -> usize {
    let lines = machine.console().lines();
    lines.iter().filter(|line| line.text.contains(text)).count()
}
