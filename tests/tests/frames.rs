//! What the machine does with single frames, right and wrong.

use std::time::Duration;

use segue_system_tests::random::seed;
use segue_system_tests::scenarios::{self, dropped};
use segue_system_tests::{Cable, TestMachine, frames};

/// An answer that has not come by then does not come.
const ANSWER: Duration = Duration::from_secs(20);

fn boot(seed: u64) -> TestMachine {
    TestMachine::boot("files", Cable::Peer(seed))
}

#[test]
fn echo_requests_are_answered() {
    let machine = boot(1);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.record(true);
    for (sequence, length) in [(1, 0), (2, 1), (3, 56), (4, 1000), (5, 1472)] {
        let data: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        peer.inject(&frames::echo_request(sequence, &data)).unwrap();
        let mut found = None;
        peer.recorded(ANSWER, |frame| {
            found = frames::echo_reply(frame);
            found.is_some()
        });
        assert_eq!(found, Some((sequence, data)), "{length} bytes");
    }
}

#[test]
fn only_its_own_address_is_resolved() {
    let machine = boot(1);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let stranger = "10.0.2.77".parse().unwrap();
    let own = "10.0.2.15".parse().unwrap();
    peer.record(true);
    peer.inject(&frames::arp_request(stranger)).unwrap();
    peer.inject(&frames::arp_request(own)).unwrap();
    let mut answers = Vec::new();
    peer.recorded(ANSWER, |frame| {
        for address in [stranger, own] {
            answers.extend(frames::arp_reply(frame, address).map(|mac| (address, mac)));
        }
        !answers.is_empty()
    });
    // Answers keep the order of the questions: one for the stranger would have come first.
    assert_eq!(answers, [(own, frames::APPLICATION_MAC)]);
}

#[test]
fn wrong_frames_are_counted_and_dropped() {
    let machine = boot(1);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    for (what, frame) in &frames::wrong() {
        let before = dropped(&machine);
        for _ in 0..10 {
            peer.inject(frame)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        machine.assert_page_loads();
        let counted = dropped(&machine) - before;
        assert_eq!(counted, 10, "{what}: so many of ten were counted");
    }
    let status = machine.status();
    for domain in status["protection_domains"].as_array().unwrap() {
        assert_eq!(domain["state"], "running", "{status}");
    }
}

#[test]
fn random_frames_do_no_harm() {
    scenarios::random_frames(100_000, seed());
}
