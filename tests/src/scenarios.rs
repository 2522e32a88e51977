//! What is done to a machine in tests with the usual counts, in campaigns with larger ones.
//!
//! Each boots a machine of its own and panics with a sentence if something is wrong.

mod hostile;
mod recovery;
mod switches;

pub use hostile::forgeries;
pub use recovery::{
    Corruptions, Outages, Session, corruptions, device_troubles, faults, faults_elsewhere,
    faults_in, given_up, outages, pairs, upgrades,
};
pub use switches::{Interruptions, interruptions, switches_under_load};

use crate::http::{Client, request};
use crate::load::Load;
use crate::random::Random;
use crate::{Cable, Impairment, TestMachine, files, frames};

/// Whether this process may make tap devices. It is tried: in a container root may not.
///
/// # Errors
/// Why it may not.
pub fn may_make_tap_devices() -> Result<(), String> {
    match segue_qemu::NetworkNamespace::new() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A tap device, as load comes from outside, or QEMU's own network for those who may not make one.
fn load_cable() -> Cable {
    match may_make_tap_devices() {
        Ok(()) => Cable::Tap,
        Err(why) => {
            println!("the load goes through QEMU's own network: {why}");
            Cable::User
        }
    }
}

/// Requests over 64 kept connections, every body compared; not one may fail.
pub fn load(requests: u64) {
    load_on(&TestMachine::boot("files", load_cable()), requests);
}

/// The same on this machine, which serves the test files.
pub fn load_on(machine: &TestMachine, requests: u64) {
    let load = Load {
        connections: 64,
        requests,
        files: vec!["1k.bin", "8k.bin", "1k.bin", "128k.bin"],
    };
    load.run(machine.host())
        .unwrap_or_else(|failures| panic!("{failures}"));
    let status = machine.status();
    let answered = status["requests_answered"].as_u64();
    assert!(answered >= Some(requests), "{status}");
    assert_eq!(status["requests_refused"], 0, "{status}");
}

/// A file of 64 MiB, compared by its SHA-256.
pub fn large_file() {
    let machine = TestMachine::boot("large", load_cable());
    let answer = machine.get("/64m.bin");
    assert_eq!(answer.status, 200);
    let expected = files::digest(&files::contents("64m.bin"));
    assert_eq!(files::digest(&answer.body), expected, "SHA-256");
}

/// A file of 16 MiB over a cable that loses, doubles and reorders 1 % of the frames each, in both
/// directions.
pub fn lossy_cable(seed: u64) {
    let machine = TestMachine::boot("large", Cable::Peer(seed));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let mut random = Random::new(seed);
    peer.impair(
        Impairment::new(random.number(), 10),
        Impairment::new(random.number(), 10),
    );
    let answer = machine.get("/16m.bin");
    assert_eq!(answer.status, 200);
    assert!(
        answer.body == files::contents("16m.bin"),
        "the file differs"
    );
    let (to, from) = peer.counts();
    println!("to the machine: {to:?}\nfrom the machine: {from:?}");
    for counts in [to, from] {
        assert!(counts.dropped > 0, "{counts:?}");
        assert!(counts.duplicated > 0, "{counts:?}");
        assert!(counts.reordered > 0, "{counts:?}");
    }
}

/// Connections one after the other from the same ten ports. The machine closes half of them first
/// and so remembers them (TIME-WAIT), the client the other half.
pub fn connections_from_the_same_ports(count: u64, seed: u64) {
    from_the_same_ports_to(&TestMachine::boot("files", Cable::Peer(seed)), count);
}

/// The same on this machine, which serves the test files and whose cable leads to a peer.
pub fn from_the_same_ports_to(machine: &TestMachine, count: u64) {
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let expected = files::contents("1k.bin");
    for number in 0..count {
        let port = 40_000 + (number % 10) as u16;
        let machine_closes = number / 10 % 2 == 0;
        let stream = peer.connect_from(port, 80);
        let mut client = Client::new(stream.unwrap_or_else(|error| {
            panic!("connection {number} from port {port}: {error}");
        }));
        let field = if machine_closes {
            "Connection: close\r\n"
        } else {
            ""
        };
        let answer = client
            .send(request("GET", "/1k.bin", field).as_bytes())
            .and_then(|()| client.response());
        let answer = answer.unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert_eq!(answer.status, 200);
        assert!(answer.body == expected, "connection {number}");
        if machine_closes {
            let end = client.at_end();
            assert!(end.is_ok_and(|end| end), "connection {number} has no end");
        }
        let finished = client.into_stream().finish();
        finished.unwrap_or_else(|error| panic!("connection {number} does not end: {error}"));
    }
    machine.assert_page_loads();
}

/// Frames that are wrong in random ways: counted, dropped, and nothing else.
pub fn random_frames(count: u64, seed: u64) {
    let machine = TestMachine::boot("files", Cable::Peer(seed));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let before = dropped(&machine);
    let mut random = Random::new(seed);
    for number in 0..count {
        peer.inject(&frames::random_frame(&mut random))
            .expect("the machine runs");
        if number % 5_000 == 0 {
            machine.assert_page_loads();
        }
    }
    machine.assert_page_loads();
    assert!(
        dropped(&machine) > before + count / 10,
        "too few of {count} random frames were counted as dropped"
    );
    assert!(!machine.console().text().contains("was stopped"));
}

/// Boots, over and over, each time until the page is there.
pub fn boots(count: u64) {
    for _ in 0..count {
        TestMachine::boot("system", Cable::User).assert_page_loads();
    }
}

/// Frames that were dropped, by the network server or by the application's stack.
pub fn dropped(machine: &TestMachine) -> u64 {
    let status = machine.status();
    let causes = status["dropped"].as_object();
    let causes = causes.unwrap_or_else(|| panic!("no causes of drops in {status}"));
    let by_server: u64 = causes.values().filter_map(serde_json::Value::as_u64).sum();
    let by_stack = ["bad_checksum", "malformed", "not_for_us", "tcp_fragments"].map(|cause| {
        let count = status["stack"][cause].as_u64();
        count.unwrap_or_else(|| panic!("no stack.{cause} in {status}"))
    });
    by_server + by_stack.iter().sum::<u64>()
}
