//! Applications with addresses of their own, beside others that share one, with the clients that
//! people use.

use std::process::Command;
use std::time::{Duration, Instant};

use segue_system_tests::scenarios::may_make_tap_devices;
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

/// Runs a program of this system on the other end of the cable.
fn run(machine: &TestMachine, program: &str, arguments: &[&str]) -> (bool, Vec<u8>) {
    let namespace = machine.namespace().expect("the cable is a tap");
    let output = namespace
        .run(|| Command::new(program).args(arguments).output())
        .expect("the namespace is there")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    (output.status.success(), output.stdout)
}

fn curl(machine: &TestMachine, url: &str) -> Option<Vec<u8>> {
    let options = ["--globoff", "--silent", "--fail", "--max-time", "60"];
    let arguments = [&options[..], &[url]].concat();
    let (fine, body) = run(machine, "curl", &arguments);
    fine.then_some(body)
}

/// Number of requests that an application has answered before this one.
fn answered(machine: &TestMachine, address: &str, port: u16) -> u64 {
    let url = format!("http://{address}:{port}/status.json");
    let body = curl(machine, &url).unwrap_or_else(|| panic!("no answer from {url}"));
    let status: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let number = status["requests_answered"].as_u64();
    number.unwrap_or_else(|| panic!("no number of requests in {status}"))
}

/// The MAC addresses that this end of the cable has found out, by address.
fn neighbours(machine: &TestMachine) -> String {
    let (fine, list) = run(machine, "ip", &["neigh", "show", "dev", "segue0"]);
    assert!(fine, "ip neigh");
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
                let answer = curl(&machine, &url);
                assert!(answer.as_ref() == Some(&body), "{name} at {url}");
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
        let (fine, _) = run(
            &machine,
            "curl",
            &["-g", "-s", "-m", "5", &format!("http://{nobody}/")],
        );
        assert!(!fine, "{nobody} answers");
    }
}

#[test]
fn an_own_address_has_all_ports_and_a_shared_one_each_once() {
    let Some(machine) = boot() else { return };
    // Port 80 is that of three applications at three addresses; 81 is nobody's at two of them.
    let closed = |address: &str, port: u16| {
        let start = Instant::now();
        let url = format!("http://{address}:{port}/");
        assert!(curl(&machine, &url).is_none(), "{url} answers");
        // Refused, not left without an answer.
        assert!(start.elapsed() < Duration::from_secs(60), "{url} is silent");
    };
    for address in [
        "10.0.2.20",
        "[fd00:5e60::20]",
        "10.0.2.32",
        "[fd00:5e60::32]",
    ] {
        assert!(curl(&machine, &format!("http://{address}/1k.bin")).is_some());
        closed(address, 81);
    }
    closed("10.0.2.15", 82);
    closed("[fd00:5e60::15]", 82);
}
