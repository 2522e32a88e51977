//! What goes wrong in the middle of a switch, and wishes faster than switches.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::background::Downloads;
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::http::{Client, request};
use segue_system_tests::random::{Random, seed};
use segue_system_tests::switching::{Modes, Switcher};
use segue_system_tests::systems::{self, Place};
use segue_system_tests::{Cable, PeerHost, TestMachine, files, system_memory};

use crate::{HTTP, LIMIT, assert_undisturbed, lines, peer};

/// Deaths around switches.
const DEATHS: usize = 50;
/// Microseconds, within which a death comes: a switch takes some 10 ms to direct mode, 2 ms back.
const INSTANTS: [usize; 2] = [25_000, 5_000];
/// Wishes without waiting.
const WISHES: usize = 100;
/// Milliseconds between wishes that are in each other's way.
const PAUSE: usize = 15;
/// The other application, at an address of its own.
const OTHER: &str = "http-1";
const OTHER_ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 51), 80);

/// The system `metronome` whose `http` faults when it is asked to and is started again, with another
/// application that serves the same files.
fn image(name: &str) -> OwnImage {
    let image = build_system("metronome", |text| {
        let program = r#"<program_image path="segue-http"/>"#;
        assert!(text.contains(program), "adapt this test");
        let policy = r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0""#;
        let other = systems::http(OTHER, 2, 80, Place::Own(51)) + &systems::direct_mode(OTHER);
        with_policy(&text, "http", policy)
            .replace(program, r#"<program_image path="segue-fragile"/>"#)
            .replace("</system>", &format!("{other}</system>"))
    });
    OwnImage::new(name, &image.bytes)
}

fn boot(image: &OwnImage, seed: u64) -> TestMachine {
    let machine = image.machine().memory_mib(system_memory("metronome"));
    let mut machine = TestMachine::start(machine, Cable::Peer(seed));
    machine.expect_line(&format!("{OTHER}: listening on 10.0.2.51:80"));
    machine.wait_until_it_answers();
    peer(&machine).keep_alive(true);
    machine
}

/// Waits until the page of `http` loads.
fn until_it_answers(peer: &PeerHost) {
    let deadline = Instant::now() + LIMIT;
    let expected = files::contents("8k.bin");
    loop {
        let answer = peer
            .connect_to(HTTP)
            .and_then(|stream| Client::new(stream).get("/8k.bin"));
        match answer {
            Ok(answer) => return assert!(answer.body == expected),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until everybody is plainly in a mode.
fn until_it_is_settled(machine: &mut TestMachine) -> Modes {
    let deadline = Instant::now() + LIMIT;
    loop {
        let modes = Modes::ask(machine).unwrap_or_else(|error| panic!("{error}"));
        match modes.consistent() {
            Ok(()) => return modes,
            Err(what) => assert!(Instant::now() < deadline, "{what}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What the director has said of `http`, without numbers and times, and how often.
fn sentences(machine: &TestMachine) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in machine.console().lines() {
        let Some((_, said)) = line.text.split_once("director: ") else {
            continue;
        };
        if said.contains("http ") {
            let said = said.split(", ").next().unwrap_or_default();
            let said: String = said.chars().filter(|c| !c.is_ascii_digit()).collect();
            *counts.entry(said).or_insert(0) += 1;
        }
    }
    counts
}

fn type_in(machine: &mut TestMachine, command: &str) {
    let line = format!("{command}\r");
    machine
        .type_in(line.as_bytes())
        .expect("the console listens");
}

#[test]
fn an_application_that_dies_around_a_switch_ends_up_in_a_mode() {
    let seed = seed();
    let image = image("middle");
    let mut machine = boot(&image, seed);
    let peer = peer(&machine);
    let mut random = Random::new(seed);
    let downloads = Downloads::start(machine.host(), OTHER_ADDRESS, "128k.bin", 1);
    let downloads = downloads.expect("the other application answers");
    for number in 1..=DEATHS {
        if number == DEATHS / 2 {
            let line = Switcher::new(&mut machine).limit(LIMIT).to_direct(OTHER);
            line.unwrap_or_else(|error| panic!("{error}"));
        }
        let before = downloads.completed();
        // It is in server mode. Half of the deaths are to come on the way back.
        let back = random.below(2);
        let wish = ["direct", "server"][back];
        if back == 1 {
            let line = Switcher::new(&mut machine).limit(LIMIT).to_direct("http");
            line.unwrap_or_else(|error| panic!("{number}: {error}"));
        }
        let stream = peer.connect_to(HTTP);
        let mut client = Client::new(stream.unwrap_or_else(|error| panic!("{number}: {error}")));
        let instant = Duration::from_micros(random.below(INSTANTS[back]) as u64);
        let fault = request("GET", ["/fault/panic", "/fault/stack"][random.below(2)], "");
        let is_first = random.below(4) == 0;
        if is_first {
            client.send(fault.as_bytes()).expect("it can be sent");
            thread::sleep(instant / 10);
        }
        type_in(&mut machine, &format!("switch http {wish}"));
        if !is_first {
            thread::sleep(instant);
            client.send(fault.as_bytes()).expect("it can be sent");
        }
        machine.expect_line(&format!("(restarts so far: {number})"));
        let end = client.response().map(|_| ()).map_err(|error| error.kind());
        assert_ne!(end, Ok(()), "{number}: the fault was answered");
        until_it_answers(&peer);
        let modes = until_it_is_settled(&mut machine);
        let http = &modes.applications["http"];
        // The other one goes on, and what is not held is free.
        assert!(downloads.wait_for(before + 1), "{:?}", downloads.stop());
        let other = number >= DEATHS / 2;
        let held = usize::from(http.function.is_some()) + usize::from(other);
        let taken = modes.functions.values().filter(|holder| holder.is_some());
        assert_eq!(taken.count(), held, "{modes:?}");
        if http.mode == "direct" {
            // The wish came to its next life.
            let line = Switcher::new(&mut machine).limit(LIMIT).to_server("http");
            line.unwrap_or_else(|error| panic!("{number}: {error}"));
        }
        // The next switch works.
        if number % 5 == 0 {
            let mut switcher = Switcher::new(&mut machine).limit(LIMIT);
            let line = switcher.to_direct("http");
            line.unwrap_or_else(|error| panic!("{number}: {error}"));
            until_it_answers(&peer);
            let line = Switcher::new(&mut machine).limit(LIMIT).to_server("http");
            line.unwrap_or_else(|error| panic!("{number}: {error}"));
            until_it_answers(&peer);
        }
    }
    assert_undisturbed("the other application", &downloads.stop());
    for (sentence, count) in sentences(&machine) {
        println!("{count} times: {sentence}");
    }
    assert_eq!(lines(&machine, " is for nobody: "), 0);
    assert_eq!(lines(&machine, &format!("{OTHER} was stopped")), 0);
}

#[test]
fn the_last_of_many_wishes_is_granted() {
    let seed = seed();
    let image = image("wishes");
    let mut machine = boot(&image, seed);
    let peer = peer(&machine);
    let mut random = Random::new(seed);
    let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", 2);
    let downloads = downloads.expect("http answers");
    // Faster than they can be granted, and so that each comes in the middle of the one before.
    for (wishes, pause) in [
        (WISHES, 1),
        (WISHES - 1, 1),
        (WISHES, PAUSE),
        (WISHES - 1, PAUSE),
    ] {
        let mode = |number: usize| ["direct", "server"][number % 2];
        for number in 0..wishes {
            type_in(&mut machine, &format!("switch http {}", mode(number)));
            thread::sleep(Duration::from_millis(random.below(pause) as u64));
        }
        let last = mode(wishes - 1);
        let deadline = Instant::now() + LIMIT;
        // All lines are typed one after the other, so the table is shown after the last wish.
        while until_it_is_settled(&mut machine).applications["http"].mode != last {
            assert!(Instant::now() < deadline, "{last} mode was wished for last");
        }
        let before = downloads.completed();
        assert!(downloads.wait_for(before + 2), "{:?}", downloads.stop());
        let modes = until_it_is_settled(&mut machine);
        assert_eq!(modes.applications["http"].mode, last);
        let http = &modes.applications["http"];
        println!("{wishes} wishes, up to {pause} ms apart: {http:?}");
    }
    assert_undisturbed("http", &downloads.stop());
    until_it_answers(&peer);
    let closed = peer.connect_to(SocketAddrV4::new(*HTTP.ip(), 81));
    assert_eq!(
        closed.err().map(|error| error.kind()),
        Some(ErrorKind::ConnectionRefused)
    );
}
