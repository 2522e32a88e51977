//! Applications in both modes that talk to each other: nothing of it leaves the machine.

use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::random::{Random, seed};
use segue_system_tests::switching::{Modes, Switcher};
use segue_system_tests::{Cable, TestMachine, files, system_memory, systems};

use crate::{LIMIT, lines, peer};

/// Those that serve: `http` (and `http-1`) share the address of the server's function, `http-own` has
/// one of its own, `http-guest` one out of a pool.
const SERVERS: [&str; 2] = ["http-own", "http-guest"];
/// Those that visit: `visitor` shares an address, `visitor-own` has its own.
const VISITORS: [&str; 2] = ["visitor", "visitor-own"];
const HOSTS: [&str; 6] = [
    "10.0.2.15",
    "10.0.2.20",
    "10.0.2.32",
    "fd00:5e60::15",
    "fd00:5e60::20",
    "fd00:5e60::32",
];
/// Switches back and forth of each of those that can be switched, under way.
const SWITCHES: usize = 12;

/// The system `visitors` with applications that can be switched and visits without end.
fn image(name: &str, start: &str) -> OwnImage {
    let switched = ["http-own", "http-guest", "visitor-own"];
    let image = build_system("visitors", |text| {
        let direct: String = switched
            .iter()
            .map(|name| format!(r#"<direct_mode application="{name}" start="{start}"/>"#))
            .collect();
        let program = r#"<program_image path="segue-visitor"/>"#;
        assert!(text.contains(program), "adapt this test");
        let rounds = format!(r#"{program}<setvar symbol="rounds" value="1000000"/>"#);
        // Two of them can be switched as they are, and start in the mode of the system's choice.
        let text = switched.iter().fold(text, |text, name| {
            text.replace(&systems::direct_mode(name), "")
        });
        text.replace(program, &rounds)
            .replace("</system>", &format!("{direct}</system>"))
    });
    OwnImage::new(name, &image.bytes)
}

fn boot(image: &OwnImage, seed: u64) -> TestMachine {
    let machine = image.machine().memory_mib(system_memory("visitors"));
    let machine = TestMachine::start(machine, Cable::Peer(seed));
    peer(&machine).record(true);
    machine
}

/// Waits until each visitor has visited all once more, whatever is under way at the start.
fn wait_for_a_round(machine: &TestMachine) {
    let body = files::contents("128k.bin");
    let checksum = files::checksum(&body);
    let visits = || -> Vec<usize> {
        let texts = VISITORS.iter().flat_map(|visitor| {
            HOSTS.map(|host| {
                format!(
                    "{visitor}: {host} gave {} bytes, checksum {checksum:016x}",
                    body.len()
                )
            })
        });
        texts.map(|text| lines(machine, &text)).collect()
    };
    let before = visits();
    let deadline = Instant::now() + LIMIT;
    // The first may have begun before.
    while visits()
        .iter()
        .zip(&before)
        .any(|(now, before)| *now < before + 2)
    {
        assert_eq!(lines(machine, "gave no file"), 0);
        assert!(Instant::now() < deadline, "{before:?}: {:?}", visits());
        thread::sleep(Duration::from_millis(20));
    }
}

/// What was on the wire so far: no frame of a connection.
fn assert_nothing_left(machine: &TestMachine) {
    let mut frames = 0;
    peer(machine).recorded(Duration::from_millis(200), |frame| {
        let is_tcp = match frame[12..14] {
            [8, 0] => frame[23] == 6,
            [0x86, 0xdd] => frame[20] == 6,
            _ => false,
        };
        assert!(!is_tcp, "a frame of a connection left: {frame:02x?}");
        frames += 1;
        false
    });
    println!("{frames} frames left the machine, none of a connection");
    assert_eq!(lines(machine, "gave no file"), 0);
    // Each visit gave the whole file.
    let good = format!(
        "checksum {:016x}",
        files::checksum(&files::contents("128k.bin"))
    );
    assert_eq!(lines(machine, ", checksum "), lines(machine, &good));
}

/// In server mode first, so that all know each other before they switch.
#[test]
fn neighbours_are_reached_across_modes_and_during_switches() {
    let seed = seed();
    let image = image("inside", "server");
    let mut machine = boot(&image, seed);
    wait_for_a_round(&machine);
    let both = |machine: &mut TestMachine, name: &str, direct: bool| {
        let mut switcher = Switcher::new(machine).limit(LIMIT);
        let line = match direct {
            true => switcher.to_direct(name),
            false => switcher.to_server(name),
        };
        line.unwrap_or_else(|error| panic!("{error}"));
    };
    // Only who is visited, both, only who visits.
    for (name, direct) in [
        ("http-own", true),
        ("visitor-own", true),
        ("http-own", false),
        ("http-guest", true),
    ] {
        both(&mut machine, name, direct);
        wait_for_a_round(&machine);
    }
    // Back and forth, while files are on their way.
    let mut random = Random::new(seed);
    let switched = [SERVERS[0], SERVERS[1], VISITORS[1]];
    let mut modes = [false, true, true];
    for _ in 0..switched.len() * SWITCHES {
        let place = random.below(switched.len());
        modes[place] = !modes[place];
        thread::sleep(Duration::from_millis(random.below(30) as u64));
        both(&mut machine, switched[place], modes[place]);
    }
    wait_for_a_round(&machine);
    let shown = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
    shown.consistent().unwrap_or_else(|what| panic!("{what}"));
    println!("{:?}", shown.applications);
    assert_nothing_left(&machine);
}

/// In direct mode as soon as they can, so that most of them ask for each other only then.
#[test]
fn neighbours_find_each_other_in_direct_mode() {
    let image = image("inside-direct", "direct");
    let machine = boot(&image, seed());
    for name in ["http-own", "http-guest", "visitor-own"] {
        machine.expect_line(&format!("director: {name} is in direct mode"));
    }
    wait_for_a_round(&machine);
    assert_nothing_left(&machine);
}
