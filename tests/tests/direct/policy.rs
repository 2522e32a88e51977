//! Applications that are switched because of what they have to do.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::background::Downloads;
use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::http::Client;
use segue_system_tests::random::seed;
use segue_system_tests::switching::Modes;
use segue_system_tests::systems::{self, Place};
use segue_system_tests::{Cable, PeerHost, TestMachine, files, system_memory};

use crate::{HTTP, LIMIT, assert_undisturbed, peer};

const OTHER: &str = "http-1";
const OTHER_ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 51), 80);
/// Time between the requests of somebody who has little to ask for.
const PAUSE: Duration = Duration::from_millis(20);

/// Two applications and one function, with a policy.
fn image(name: &str) -> OwnImage {
    let image = build_system("metronome", |text| {
        let program = r#"<program_image path="segue-director"/>"#;
        let functions = r#"functions="1-6""#;
        assert!(
            text.contains(program) && text.contains(functions),
            "adapt this test"
        );
        let thresholds = [
            ("policy_direct_frames", 20),
            ("policy_server_frames", 5),
            ("policy_stay_ms", 500),
        ];
        let thresholds: String = thresholds
            .iter()
            .map(|(symbol, value)| format!(r#"<setvar symbol="{symbol}" value="{value}"/>"#))
            .collect();
        // The page shows the modes.
        let other = systems::http(OTHER, 2, 80, Place::Own(51)) + &systems::direct_mode(OTHER);
        text.replace(program, &format!("{program}{thresholds}"))
            .replace(functions, r#"functions="6""#)
            .replace("</system>", &format!("{other}</system>"))
    });
    OwnImage::new(name, &image.bytes)
}

fn boot(image: &OwnImage) -> TestMachine {
    let machine = image.machine().memory_mib(system_memory("metronome"));
    let mut machine = TestMachine::start(machine, Cable::Peer(seed()));
    machine.expect_line(&format!("{OTHER}: listening on 10.0.2.51:80"));
    machine.wait_until_it_answers();
    machine
}

/// Asks now and then, until `ended`.
fn ask_now_and_then(peer: &PeerHost, ended: &AtomicBool) {
    let expected = files::contents("1k.bin");
    let mut client = Client::new(peer.connect_to(OTHER_ADDRESS).expect("it answers"));
    while !ended.load(Ordering::Relaxed) {
        let answer = client.get("/1k.bin").expect("it answers");
        assert!(answer.body == expected);
        thread::sleep(PAUSE);
    }
}

/// Waits for a line from line `position` on.
fn expect(machine: &TestMachine, position: usize, text: &str) {
    let line = machine.console().wait_for_after(position, text, LIMIT);
    println!("{}", line.unwrap_or_else(|error| panic!("{error}")).text);
}

/// What the page says of an application's mode.
fn mode_on_the_page(machine: &TestMachine, name: &str) -> serde_json::Value {
    let status = machine.status();
    let modes = status["modes"].as_array().expect("a list").iter();
    let mut modes = modes.filter(|mode| mode["name"] == name);
    modes.next().unwrap_or_else(|| panic!("{status}")).clone()
}

#[test]
fn an_application_is_in_direct_mode_while_it_has_much_to_do() {
    let image = image("policy");
    let mut machine = boot(&image);
    let mode = mode_on_the_page(&machine, "http");
    assert_eq!(
        (&mode["mode"], &mode["function"]),
        (&"server".into(), &().into())
    );
    let position = machine.console().position();
    let downloads = Downloads::start(machine.host(), HTTP, "8k.bin", 4).expect("http answers");
    expect(
        &machine,
        position,
        "director: http is in direct mode on virtual function 6",
    );
    let mode = mode_on_the_page(&machine, "http");
    assert_eq!(
        (&mode["mode"], &mode["function"]),
        (&"direct".into(), &6.into())
    );
    assert_eq!(mode["switches"], 1, "{mode}");
    let before = downloads.completed();
    assert!(downloads.wait_for(before + 20), "{:?}", downloads.stop());
    let position = machine.console().position();
    assert_undisturbed("http", &downloads.stop());
    expect(&machine, position, "director: http is in server mode");
    let modes = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
    modes.consistent().unwrap_or_else(|what| panic!("{what}"));
    assert!(modes.all_free(), "{modes:?}");
    let mode = mode_on_the_page(&machine, "http");
    assert_eq!(
        (&mode["mode"], &mode["function"]),
        (&"server".into(), &().into())
    );
    assert_eq!(mode["switches"], 2, "{mode}");
}

#[test]
fn the_busier_of_two_gets_the_only_function() {
    let image = image("busier");
    let mut machine = boot(&image);
    let peer = peer(&machine);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let position = machine.console().position();
        let light = scope.spawn(|| ask_now_and_then(&peer, &ended));
        expect(
            &machine,
            position,
            &format!("director: {OTHER} is in direct mode"),
        );
        // Whoever has much more to do takes its place.
        let position = machine.console().position();
        let downloads = Downloads::start(machine.host(), HTTP, "128k.bin", 6);
        let downloads = downloads.expect("http answers");
        expect(
            &machine,
            position,
            &format!("director: {OTHER} is in server mode"),
        );
        expect(
            &machine,
            position,
            "director: http is in direct mode on virtual function 6",
        );
        let before = downloads.completed();
        assert!(downloads.wait_for(before + 20), "{:?}", downloads.stop());
        let modes = Modes::ask(&mut machine).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(modes.functions[&6].as_deref(), Some("http"), "{modes:?}");
        assert_undisturbed("http", &downloads.stop());
        // And the other one has it again when it is free.
        let position = machine.console().position();
        expect(
            &machine,
            position,
            &format!("director: {OTHER} is in direct mode"),
        );
        ended.store(true, Ordering::Relaxed);
        light.join().expect("it was answered all the time");
    });
    let deadline = Instant::now() + LIMIT;
    while !Modes::ask(&mut machine).is_ok_and(|modes| modes.all_free()) {
        assert!(Instant::now() < deadline, "it is still held");
        thread::sleep(Duration::from_millis(100));
    }
}
