//! Somebody else has our address: it is said, and nobody gets into a quarrel.

use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::random::seed;
use segue_system_tests::switching::Switcher;
use segue_system_tests::{Cable, TestMachine, frames};

use crate::{LIMIT, MAC, lines, peer};

/// Who claims our address.
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];
/// How often at each opportunity.
const CLAIMS: usize = 50;

/// An ARP announcement of 10.0.2.15 by `OTHER`, as a request or a reply.
fn announcement(operation: u8) -> Vec<u8> {
    let ours = [10, 0, 2, 15];
    let ethernet = [&[0xff; 6][..], &OTHER, &[8, 6]].concat();
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    [&ethernet[..], &fixed, &OTHER, &ours, &[0; 6], &ours].concat()
}

/// Whether a frame tells everybody unasked where 10.0.2.15 is to be found: a question for its own
/// sender (RFC 5227, 2.3).
fn is_announcement(frame: &[u8]) -> bool {
    frame[..6] == [0xff; 6]
        && frame[12..14] == [8, 6]
        && frame[20..22] == [0, 1]
        && frame[6..12] == MAC
        && frame[28..32] == [10, 0, 2, 15]
        && frame[38..42] == [10, 0, 2, 15]
}

/// `claims`, one after the other and again and again, are said to be about `address`, once.
fn claimed(claims: &[Vec<u8>], address: &str) {
    let began = Instant::now();
    let mut machine = TestMachine::boot("system", Cable::Peer(seed()));
    let peer = peer(&machine);
    peer.record(true);
    let mut announcements = Vec::new();
    let mut switch = |machine: &mut TestMachine, direct: bool| {
        let mut switcher = Switcher::new(machine).limit(LIMIT);
        let line = match direct {
            true => switcher.to_direct("http"),
            false => switcher.to_server("http"),
        };
        line.unwrap_or_else(|error| panic!("{error}"));
        // What is announced is contested, again and again.
        let announced = peer.recorded(LIMIT, is_announcement);
        assert!(announced.is_some(), "nothing was announced");
        for claim in claims.iter().cycle().take(CLAIMS) {
            peer.inject(claim).expect("the machine runs");
            thread::sleep(Duration::from_millis(2));
        }
        machine.assert_page_loads();
        let mut more = 0;
        peer.recorded(Duration::from_secs(1), |frame| {
            more += usize::from(is_announcement(frame));
            false
        });
        announcements.push(1 + more);
    };
    for _ in 0..2 {
        switch(&mut machine, true);
        switch(&mut machine, false);
    }
    switch(&mut machine, true);
    println!("announcements after each switch: {announcements:?}");
    // The claims called forth no more than each switch does anyway.
    assert!(
        announcements.iter().all(|count| *count <= 2),
        "{announcements:?}"
    );
    let said = format!("http: warning: {address} is ours, but 52:54:00:00:00:99 claims it, too");
    let most = 1 + began.elapsed().as_secs() / 60;
    let count = lines(&machine, &said) as u64;
    assert!((1..=most).contains(&count), "said {count} times");
    // It answers questions as before.
    let own = "10.0.2.15".parse().expect("an address");
    peer.inject(&frames::arp_request(own))
        .expect("the machine runs");
    let mut answer = None;
    peer.recorded(LIMIT, |frame| {
        answer = frames::arp_reply(frame, own);
        answer.is_some()
    });
    assert_eq!(answer.map(|mac| mac.0), Some(MAC));
}

#[test]
fn a_claim_to_our_address_is_reported_and_not_contested() {
    claimed(&[announcement(1), announcement(2)], "10.0.2.15");
}

#[test]
fn a_claim_to_our_ipv6_address_is_reported_and_not_contested() {
    let address = frames::ipv6::APPLICATION;
    let to_all = frames::ipv6::advertisement(address, OTHER);
    let mut to_us = to_all.clone();
    to_us[..6].copy_from_slice(&MAC);
    claimed(&[to_all, to_us], "fd00:5e60::15");
}
