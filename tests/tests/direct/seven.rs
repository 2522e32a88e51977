//! All virtual functions in use: six applications in direct mode beside the network server's, all
//! under load at the same time.

use std::collections::HashMap;
use std::io::Cursor;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::http::Client;
use segue_system_tests::random::seed;
use segue_system_tests::streams::Streams;
use segue_system_tests::switching::{Modes, Switcher};
use segue_system_tests::systems::{self, Place, SWITCHED, address_of};
use segue_system_tests::wire::Judge;
use segue_system_tests::{Cable, TestMachine, files, own_files, system_memory};

use crate::{LIMIT, peer};

/// Connections to each application at the same time.
const CONNECTIONS: usize = 2;
/// Requests on each.
const REQUESTS: usize = 20;
/// The application that could be switched if there were another function.
const SEVENTH: &str = "http-7";
const SEVENTH_ADDRESS: u8 = 71;
/// The one at the network server's own MAC address, which stays there.
const SERVERS: &str = "http-8";
const SERVERS_ADDRESS: u8 = 70;

fn name(number: u16) -> String {
    match number {
        0 => "http".into(),
        _ => format!("http-{number}"),
    }
}

/// Two more applications than the system `seven` has.
fn more() -> String {
    let seventh = systems::http(SEVENTH, 7, 80, Place::Own(SEVENTH_ADDRESS));
    let servers = systems::http(SERVERS, 8, 80, Place::Own(SERVERS_ADDRESS));
    let own = format!(r#"mac="52:54:00:5e:61:{SERVERS_ADDRESS}""#);
    assert!(servers.contains(&own), "adapt this test");
    [
        seventh,
        systems::direct_mode(SEVENTH),
        servers.replace(&own, r#"mac="nic.vf0""#),
    ]
    .concat()
}

/// A station: its MAC address, and the last part of its IP addresses.
fn stations() -> Vec<([u8; 6], Ipv4Addr)> {
    let own = |last: u8| {
        // As `Place::Own` says: decimal to look at.
        let digits = u8::from_str_radix(&last.to_string(), 16).expect("two digits");
        ([0x52, 0x54, 0, 0x5e, 0x61, digits], [10, 0, 2, last].into())
    };
    let mut all: Vec<_> = (0..SWITCHED)
        .map(|number| own(address_of(number).octets()[3]))
        .collect();
    all.push(own(SEVENTH_ADDRESS));
    let servers = [0x52, 0x54, 0, 0x5e, 0x60, 0];
    all.push((servers, [10, 0, 2, SERVERS_ADDRESS].into()));
    all
}

/// A judge for each, by MAC address.
fn judges() -> HashMap<[u8; 6], Judge> {
    let judge = |(mac, ipv4): ([u8; 6], Ipv4Addr)| {
        let last = ipv4.octets()[3].to_string();
        let last = u16::from_str_radix(&last, 16).expect("two digits");
        let ipv6 = Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, last);
        (mac, Judge::at(mac, ipv4, ipv6, vec![80], Vec::new()))
    };
    stations().into_iter().map(judge).collect()
}

#[test]
fn six_applications_in_direct_mode_keep_to_themselves() {
    let seed = seed();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let image = build_system("seven", |text| {
        let text = text.replace("</system>", &format!("{}</system>", more()));
        own_files::describe(text, folder.path())
    });
    let image = OwnImage::new("seven", &image.bytes);
    let machine = image.machine().memory_mib(system_memory("seven"));
    let mut machine = TestMachine::start(machine, Cable::Peer(seed));
    for (_, address) in stations() {
        machine.expect_line(&format!("listening on {address}:80"));
    }
    machine.wait_until_it_answers();
    let peer = peer(&machine);
    peer.record(true);

    let mut switcher = Switcher::new(&mut machine).limit(LIMIT);
    for number in 0..SWITCHED {
        let line = switcher.to_direct(&name(number));
        println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    }
    let refusal = switcher.refused(SEVENTH, "direct");
    let refusal = refusal.unwrap_or_else(|error| panic!("{error}"));
    println!("{refusal}");
    assert!(refusal.ends_with("no virtual function is free for it"));
    let modes = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
    modes.consistent().unwrap_or_else(|what| panic!("{what}"));
    for number in 0..SWITCHED {
        assert_eq!(modes.applications[&name(number)].mode, "direct");
    }
    assert_eq!(modes.applications[SEVENTH].mode, "server");
    assert!(modes.functions.values().all(Option::is_some), "{modes:?}");

    thread::scope(|scope| {
        for (number, (_, address)) in stations().into_iter().enumerate() {
            for _ in 0..CONNECTIONS {
                let stream = peer.connect_to(SocketAddrV4::new(address, 80));
                let stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
                scope.spawn(move || {
                    let mut client = Client::new(stream);
                    let expected = files::digest(&own_files::contents(number));
                    for _ in 0..REQUESTS {
                        let answer = client.get(own_files::PATH);
                        let answer = answer.unwrap_or_else(|error| panic!("{address}: {error}"));
                        assert_eq!(files::digest(&answer.body), expected, "{address}");
                    }
                });
            }
        }
    });

    let mut judges = judges();
    let (mut frames, mut streams) = (HashMap::new(), Streams::default());
    peer.recorded(Duration::from_millis(500), |frame| {
        let mac: [u8; 6] = frame[6..12].try_into().expect("six bytes");
        let judge = judges.get_mut(&mac);
        let judge = judge.unwrap_or_else(|| panic!("from nobody: {frame:02x?}"));
        if let Err(what) = judge.verify(frame) {
            panic!("on the wire: {what}: {frame:02x?}");
        }
        *frames.entry(judge.ipv4).or_insert(0) += 1;
        streams.add(frame);
        false
    });
    peer.record(false);
    println!("frames on the wire: {frames:?}");
    let mut answers = HashMap::<Ipv4Addr, usize>::new();
    for ((source, destination), bytes) in streams.whole() {
        let bytes = bytes.unwrap_or_else(|| panic!("{source} to {destination}: bytes are missing"));
        let place = stations().iter().position(|(_, ipv4)| ipv4 == source.ip());
        let expected = own_files::contents(place.expect("one of the stations"));
        let length = bytes.len() as u64;
        let mut client = Client::new(Cursor::new(bytes));
        while let Ok(answer) = client.response() {
            if answer.body == expected {
                *answers.entry(*source.ip()).or_default() += 1;
            } else {
                // The boot's own question, for a page.
                assert_ne!(answer.status, 200, "{source}: another's bytes");
            }
        }
        assert_eq!(client.stream().position(), length, "{source}: more bytes");
    }
    for (_, address) in stations() {
        let expected = CONNECTIONS * REQUESTS;
        assert_eq!(answers.get(&address), Some(&expected), "{address}");
    }

    let mut switcher = Switcher::new(&mut machine).limit(LIMIT);
    for number in 0..SWITCHED {
        let line = switcher.to_server(&name(number));
        line.unwrap_or_else(|error| panic!("{error}"));
    }
    let line = switcher.to_direct(SEVENTH);
    println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    let line = switcher.to_server(SEVENTH);
    line.unwrap_or_else(|error| panic!("{error}"));
    let modes = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
    modes.consistent().unwrap_or_else(|what| panic!("{what}"));
    assert!(modes.all_free(), "{modes:?}");
}
