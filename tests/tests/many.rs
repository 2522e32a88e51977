//! Many applications at one address.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use segue_system_tests::http::Client;
use segue_system_tests::systems::APPLICATIONS;
use segue_system_tests::{Cable, PeerHost, TestMachine, files, frames};

const ANSWER: Duration = Duration::from_secs(30);
/// Connections to each application at the same time.
const CONNECTIONS: u64 = 2;
const FILES: [&str; 2] = ["1k.bin", "8k.bin"];

/// Requests on each connection to the application at this port: another number for each.
fn requests(port: u16) -> u64 {
    10 + u64::from(port - 80)
}

/// How many requests the application at this port has answered before this one.
fn answered(peer: &PeerHost, port: u16) -> u64 {
    let stream = peer
        .connect(port)
        .unwrap_or_else(|error| panic!("port {port}: {error}"));
    let answer = Client::new(stream).get("/status.json").expect("an answer");
    let status: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let number = status["requests_answered"].as_u64();
    number.unwrap_or_else(|| panic!("no number of requests in {status}"))
}

#[test]
fn sixteen_applications_share_an_address() {
    let machine = TestMachine::boot("many", Cable::Peer(1));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let ports = 80..80 + APPLICATIONS;
    let before: Vec<_> = ports.clone().map(|port| answered(peer, port)).collect();
    let bodies = FILES.map(|name| (format!("/{name}"), files::contents(name)));
    // All connections of all applications at once.
    thread::scope(|scope| {
        for port in ports.clone() {
            for _ in 0..CONNECTIONS {
                let bodies = &bodies;
                let stream = peer
                    .connect(port)
                    .unwrap_or_else(|error| panic!("port {port}: {error}"));
                scope.spawn(move || {
                    let mut client = Client::new(stream);
                    for (path, body) in bodies.iter().cycle().take(requests(port) as usize) {
                        let answer = client
                            .get(path)
                            .unwrap_or_else(|error| panic!("port {port}: {error}"));
                        assert_eq!(answer.status, 200, "port {port}");
                        assert!(answer.body == *body, "port {port}: a wrong body");
                    }
                });
            }
        }
    });
    for (port, before) in ports.zip(before) {
        // Each has answered its own, and one question about the number before.
        let own = CONNECTIONS * requests(port) + 1;
        assert_eq!(answered(peer, port) - before, own, "port {port}");
    }

    // A port of nobody, and what concerns the address as a whole.
    let refused = peer.connect(80 + APPLICATIONS).err();
    let kind = refused.map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::ConnectionRefused));
    peer.record(true);
    for (sequence, length) in [(1, 0), (2, 56), (3, 1472)] {
        let data: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        peer.inject(&frames::echo_request(sequence, &data)).unwrap();
        let mut found = None;
        peer.recorded(ANSWER, |frame| {
            found = frames::echo_reply(frame);
            found.is_some()
        });
        assert_eq!(found, Some((sequence, data)), "{length} bytes");
    }
    let status = machine.status();
    assert_eq!(status["server"]["answered"], 5, "{status}");
}
