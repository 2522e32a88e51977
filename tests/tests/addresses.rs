//! Applications with addresses of their own, beside others that share one, with the clients that
//! people use.

use std::process::Command;
use std::time::{Duration, Instant};

use segue_qemu::Network;
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::switching::Switcher;
use segue_system_tests::{Cable, TestMachine, files};

/// An application, its addresses, and the MAC address of both.
struct Application {
    name: &'static str,
    ipv4: &'static str,
    ipv6: &'static str,
    port: u16,
    mac: &'static str,
}

const APPLICATIONS: [Application; 4] = [
    Application {
        name: "http",
        ipv4: "10.0.2.15",
        ipv6: "fd00:5e60::15",
        port: 80,
        mac: "52:54:00:5e:60:00",
    },
    Application {
        name: "http-1",
        ipv4: "10.0.2.15",
        ipv6: "fd00:5e60::15",
        port: 81,
        mac: "52:54:00:5e:60:00",
    },
    Application {
        name: "http-own",
        ipv4: "10.0.2.20",
        ipv6: "fd00:5e60::20",
        port: 80,
        mac: "52:54:00:5e:61:20",
    },
    Application {
        name: "http-guest",
        ipv4: "10.0.2.32",
        ipv6: "fd00:5e60::32",
        port: 80,
        mac: "52:54:00:5e:62:00",
    },
];

/// Requests to each application at each of its addresses: another number for each.
fn requests(index: usize) -> usize {
    3 + index
}

fn boot() -> Option<TestMachine> {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return None;
    }
    let machine = TestMachine::start(TestMachine::machine("addresses"), Cable::Tap);
    for Application { name, .. } in &APPLICATIONS {
        machine.expect_line(&format!("{name}: listening on "));
    }
    machine.expect_line("netserver: the virtual function is running");
    Some(machine)
}

/// Seconds within which an answer comes that comes.
const ANSWER: &str = "60";
/// How long the visits inside may take.
const VISITS: Duration = Duration::from_secs(180);
/// How long the cable is listened to at a time.
const SILENCE: Duration = Duration::from_millis(200);
/// How curl ends if the port is closed.
const REFUSED: i32 = 7;

/// Runs a program of this system on the other end of the cable; how it ends, and what it prints.
fn run(machine: &TestMachine, program: &str, arguments: &[&str]) -> (Option<i32>, Vec<u8>) {
    let namespace = machine.namespace().expect("the cable is a tap");
    let output = namespace
        .run(|| Command::new(program).args(arguments).output())
        .expect("the namespace is there")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    (output.status.code(), output.stdout)
}

/// What is at `url`, or how curl ends.
fn curl(machine: &TestMachine, url: &str, seconds: &str) -> Result<Vec<u8>, Option<i32>> {
    let options = ["--globoff", "--silent", "--fail", "--max-time", seconds];
    match run(machine, "curl", &[&options[..], &[url]].concat()) {
        (Some(0), body) => Ok(body),
        (code, _) => Err(code),
    }
}

/// Number of requests that an application has answered before this one.
fn answered(machine: &TestMachine, address: &str, port: u16) -> u64 {
    let url = format!("http://{address}:{port}/status.json");
    let body = curl(machine, &url, ANSWER).unwrap_or_else(|code| panic!("{url}: {code:?}"));
    let status: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let number = status["requests_answered"].as_u64();
    number.unwrap_or_else(|| panic!("no number of requests in {status}"))
}

/// The MAC addresses that this end of the cable has found out, by address.
fn neighbours(machine: &TestMachine) -> String {
    let (code, list) = run(machine, "ip", &["neigh", "show", "dev", "segue0"]);
    assert_eq!(code, Some(0), "ip neigh");
    String::from_utf8(list).expect("text")
}

#[test]
fn each_application_is_reached_at_its_addresses() {
    let Some(machine) = boot() else { return };
    let body = files::contents("1k.bin");
    for (index, application) in APPLICATIONS.iter().enumerate() {
        let Application {
            name, ipv4, port, ..
        } = application;
        let bracketed = format!("[{}]", application.ipv6);
        let before = answered(&machine, ipv4, *port);
        for address in [ipv4, bracketed.as_str()] {
            for _ in 0..requests(index) {
                let url = format!("http://{address}:{port}/1k.bin");
                let answer = curl(&machine, &url, ANSWER);
                assert!(answer.as_ref() == Ok(&body), "{name} at {url}");
            }
        }
        // Its own requests, at both addresses, and the question before: nobody else's.
        let own = 2 * requests(index) as u64 + 1;
        assert_eq!(answered(&machine, ipv4, *port) - before, own, "{name}");
    }

    // Who was asked for an address has answered with its own MAC address.
    let neighbours = neighbours(&machine);
    for application in &APPLICATIONS {
        for address in [application.ipv4, application.ipv6] {
            let line = format!("{address} lladdr {} ", application.mac);
            assert!(neighbours.contains(&line), "{line}in\n{neighbours}");
        }
    }

    // A member of the pool that nobody has, and an address of nobody.
    for nobody in ["10.0.2.33", "[fd00:5e60::33]", "10.0.2.21"] {
        let answer = curl(&machine, &format!("http://{nobody}/"), "5");
        assert!(answer.is_err(), "{nobody} answers");
    }
}

#[test]
fn an_own_address_has_all_ports_and_a_shared_one_each_once() {
    let Some(machine) = boot() else { return };
    for address in [
        "10.0.2.20",
        "[fd00:5e60::20]",
        "10.0.2.32",
        "[fd00:5e60::32]",
    ] {
        let answer = curl(&machine, &format!("http://{address}/1k.bin"), ANSWER);
        assert!(answer.is_ok(), "{address}");
    }
    // Port 81 is that of an application at the shared address, and nobody's at the others.
    for closed in [
        "10.0.2.20:81",
        "[fd00:5e60::20]:81",
        "10.0.2.32:81",
        "[fd00:5e60::32]:81",
        "10.0.2.15:82",
        "[fd00:5e60::15]:82",
    ] {
        let answer = curl(&machine, &format!("http://{closed}/"), ANSWER);
        assert_eq!(answer, Err(Some(REFUSED)), "{closed}");
    }
}

/// A broadcast from outside: who has 10.0.2.20?
fn arp_request() -> Vec<u8> {
    let ethernet = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 2, 8, 6,
    ];
    let sender = [0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 2, 10, 0, 2, 2];
    let target = [0, 0, 0, 0, 0, 0, 10, 0, 2, 20];
    [&ethernet[..], &sender, &target].concat()
}

#[test]
fn applications_visit_each_other_without_leaving_the_machine() {
    let machine = TestMachine::machine("visitors").network(Network::Peer);
    let mut running = machine.start().unwrap_or_else(|error| panic!("{error}"));
    let mut peer = running.take_peer().expect("a machine on a peer has one");
    let all_are_visited = |name: &str| {
        let line = format!("{name}: all are visited");
        running.console().wait_for(&line, Duration::ZERO).is_ok()
    };
    // What leaves the machine meanwhile.
    let mut frames = Vec::new();
    let end = Instant::now() + VISITS;
    while !(all_are_visited("visitor") && all_are_visited("visitor-own")) {
        let console = running.console().tail();
        assert!(Instant::now() < end, "visits take too long:\n{console}");
        frames.extend(peer.receive(SILENCE).expect("QEMU runs"));
    }
    let body = files::contents("128k.bin");
    let sum = files::checksum(&body);
    for visitor in ["visitor", "visitor-own"] {
        for Application { ipv4, ipv6, .. } in &APPLICATIONS {
            for host in [ipv4, ipv6] {
                let line = format!(
                    "{visitor}: {host} gave {} bytes, checksum {sum:016x}",
                    body.len()
                );
                let found = running.console().wait_for(&line, Duration::ZERO);
                assert!(found.is_ok(), "{line}\n{}", running.console().tail());
            }
        }
    }
    // The cable does lead outside: the answer to a question shows it.
    peer.send(&arp_request()).expect("QEMU runs");
    let answer = |frame: &[u8]| frame[12..14] == [8, 6] && frame[28..32] == [10, 0, 2, 20];
    while !frames.iter().any(|frame| answer(frame)) {
        let frame = peer.receive(VISITS).expect("QEMU runs");
        frames.push(frame.expect("an answer"));
    }
    // Nobody outside has a connection.
    for frame in &frames {
        let is_tcp = match frame[12..14] {
            [8, 0] => frame[23] == 6,
            [0x86, 0xdd] => frame[20] == 6,
            _ => false,
        };
        assert!(!is_tcp, "a frame of a connection left: {frame:02x?}");
    }
}

/// The director learns a pool member's MAC address from the port map's table, so it can be moved, too.
#[test]
fn an_address_out_of_a_pool_goes_along_to_direct_mode() {
    let Some(mut machine) = boot() else { return };
    let expected = files::contents("8k.bin");
    for name in ["http-guest", "http-own"] {
        Switcher::new(&mut machine)
            .to_direct(name)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let check = |machine: &TestMachine| {
        for application in &APPLICATIONS {
            for host in [
                application.ipv4.to_owned(),
                format!("[{}]", application.ipv6),
            ] {
                let url = format!("http://{host}:{}/8k.bin", application.port);
                assert_eq!(curl(machine, &url, ANSWER).as_ref(), Ok(&expected), "{url}");
            }
        }
    };
    check(&machine);
    Switcher::new(&mut machine)
        .to_server("http-guest")
        .unwrap_or_else(|error| panic!("{error}"));
    check(&machine);
}
