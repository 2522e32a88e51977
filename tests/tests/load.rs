//! Load and large transfers.

use segue_system_tests::http::{Client, request};
use segue_system_tests::load::Load;
use segue_system_tests::random::{Random, seed};
use segue_system_tests::{Cable, Impairment, TestMachine, files};

fn root() -> bool {
    // What `Cable::Tap` needs.
    std::process::Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

/// Root tests on a tap device, as load comes from outside; others on QEMU's own network.
fn load_cable() -> Cable {
    if root() { Cable::Tap } else { Cable::User }
}

#[test]
fn twenty_thousand_requests_over_64_kept_connections() {
    let machine = TestMachine::boot("files", load_cable());
    let load = Load {
        connections: 64,
        requests: 20_000,
        files: vec!["1k.bin", "8k.bin", "1k.bin", "128k.bin"],
    };
    load.run(machine.host())
        .unwrap_or_else(|failures| panic!("{failures}"));
    let status = machine.status();
    assert!(
        status["requests_answered"].as_u64() >= Some(20_000),
        "{status}"
    );
    assert_eq!(status["requests_refused"], 0, "{status}");
}

#[test]
fn load_over_the_network_that_needs_no_rights() {
    let machine = TestMachine::boot("files", Cable::User);
    // QEMU's listener has a backlog of one: many connections at once wait for each other outside.
    let load = Load {
        connections: 8,
        requests: 2_000,
        files: vec!["1k.bin", "8k.bin"],
    };
    load.run(machine.host())
        .unwrap_or_else(|failures| panic!("{failures}"));
}

#[test]
fn a_file_of_64_mib_arrives_whole() {
    let machine = TestMachine::boot("large", load_cable());
    let answer = machine.get("/64m.bin");
    assert_eq!(answer.status, 200);
    let expected = files::digest(&files::contents("64m.bin"));
    assert_eq!(files::digest(&answer.body), expected, "SHA-256");
}

#[test]
fn a_file_of_16_mib_survives_a_lossy_cable() {
    let seed = seed();
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

/// Ten client ports are used fifty times each, one after the other. The machine closes half of the
/// connections first and so remembers them (TIME-WAIT), the client the other half.
#[test]
fn five_hundred_connections_from_the_same_ports() {
    let machine = TestMachine::boot("files", Cable::Peer(seed()));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let expected = files::contents("1k.bin");
    for number in 0..500_u16 {
        let port = 40_000 + number % 10;
        let machine_closes = number / 10 % 2 == 0;
        let stream = peer.connect_from(port, 80);
        let mut client = Client::new(
            stream.unwrap_or_else(|error| panic!("connection {number} from port {port}: {error}")),
        );
        let field = if machine_closes {
            "Connection: close\r\n"
        } else {
            ""
        };
        client
            .send(request("GET", "/1k.bin", field).as_bytes())
            .unwrap();
        let answer = client.response();
        let answer = answer.unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert_eq!(answer.status, 200);
        assert!(answer.body == expected, "connection {number}");
        if machine_closes {
            assert!(client.at_end().unwrap(), "connection {number}");
        }
        let finished = client.into_stream().finish();
        finished.unwrap_or_else(|error| panic!("connection {number} does not end: {error}"));
    }
    machine.assert_page_loads();
}
