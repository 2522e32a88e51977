//! An application that faults is started again; it takes nothing of its old life with it and
//! disturbs nobody.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use segue_qemu::Machine;
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::http::{Client, Response, request};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, PeerHost, TestMachine, files, paths, systems};
use serde_json::Value;

/// Longer than a restart takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);
/// Crashes under load.
const CRASHES: u64 = 20;
/// Connections that load the application that crashes.
const CLIENTS: usize = 4;

/// The default application, which faults when it is asked to, and beside it at port 81 one that
/// does not.
fn image(name: &str, policy: &str) -> OwnImage {
    let change = |text: String| {
        let program = r#"<program_image path="segue-http"/>"#;
        assert!(text.contains(program), "adapt this test");
        let other = format!("{}</system>", systems::more_applications(2));
        with_policy(&text, "http", policy)
            .replace(program, r#"<program_image path="segue-fragile"/>"#)
            .replace("</system>", &other)
    };
    OwnImage::new(name, &build_system("files", change).bytes)
}

/// Boots it and waits until both applications answer.
fn boot(image: &OwnImage) -> TestMachine {
    let mut machine = TestMachine::start(image.machine(), Cable::Peer(1));
    machine.wait_until_it_answers();
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.keep_alive(true);
    until_it_answers(peer, 81);
    machine
}

fn get(peer: &PeerHost, port: u16, path: &str) -> std::io::Result<Response> {
    Client::new(peer.connect(port)?).get(path)
}

/// Waits until the application at `port` serves.
fn until_it_answers(peer: &PeerHost, port: u16) {
    let deadline = Instant::now() + LIMIT;
    let expected = files::contents("1k.bin");
    loop {
        match get(peer, port, "/1k.bin") {
            Ok(answer) => return assert!(answer.status == 200 && answer.body == expected),
            Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Asks the application at port 80 to fault until one has done so: it may not be there yet.
fn crash(peer: &PeerHost, path: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < deadline, "nobody takes {path}");
        let Ok(stream) = peer.connect(80) else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let mut client = Client::new(stream);
        if client.send(request("GET", path, "").as_bytes()).is_ok() {
            let answer = client.response();
            assert!(answer.is_err(), "{path} was answered: {answer:?}");
            return;
        }
    }
}

/// What the other application's page says of a protection domain.
fn domain(peer: &PeerHost, name: &str) -> Value {
    let answer = get(peer, 81, "/status.json").expect("the other application answers");
    let status: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let domains = status["protection_domains"].as_array().cloned();
    let found = domains.unwrap_or_default().into_iter();
    let mut found = found.filter(|domain| domain["name"] == name);
    found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// How often a line of the console holds `text`.
fn lines(machine: &TestMachine, text: &str) -> u64 {
    let lines = machine.console().lines();
    lines.iter().filter(|line| line.text.contains(text)).count() as u64
}

#[test]
fn an_application_that_crashes_under_load_comes_back_and_leaves_nothing_behind() {
    // Crashes come in a row, and each is to be the first as far as time goes.
    let policy = r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0""#;
    let image = image("restart", policy);
    let machine = boot(&image);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let (done, served, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let downloads = AtomicU64::new(0);
    thread::scope(|scope| {
        // The other application's client notices nothing.
        scope.spawn(|| {
            let expected = files::digest(&files::contents("1m.bin"));
            let mut client = Client::new(peer.connect(81).expect("a connection"));
            while !done.load(Ordering::Relaxed) {
                let answer = client.get("/1m.bin").expect("an undisturbed download");
                assert_eq!(files::digest(&answer.body), expected, "SHA-256");
                downloads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let expected = files::contents("128k.bin");
                let mut client = None;
                while !done.load(Ordering::Relaxed) {
                    let connection = match client.take() {
                        Some(connection) => Ok(connection),
                        None => peer.connect(80).map(Client::new),
                    };
                    let answer = connection.and_then(|mut connection| {
                        let answer = connection.get("/128k.bin")?;
                        client = Some(connection);
                        Ok(answer)
                    });
                    match answer {
                        // Whatever comes as a whole is right.
                        Ok(answer) => {
                            assert!(answer.status == 200 && answer.body == expected);
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            lost.fetch_add(1, Ordering::Relaxed);
                            thread::sleep(Duration::from_millis(10));
                        }
                    }
                }
            });
        }
        for number in 1..=CRASHES {
            let before = (
                served.load(Ordering::Relaxed),
                downloads.load(Ordering::Relaxed),
            );
            crash(peer, ["/fault/panic", "/fault/stack"][number as usize % 2]);
            machine.expect_line(&format!("(restarts so far: {number})"));
            // It serves again, everybody, before it crashes again.
            let deadline = Instant::now() + LIMIT;
            while served.load(Ordering::Relaxed) < before.0 + CLIENTS as u64
                || downloads.load(Ordering::Relaxed) == before.1
            {
                assert!(
                    Instant::now() < deadline,
                    "after crash {number} nothing is served"
                );
                thread::sleep(Duration::from_millis(5));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{served:?} files served, {lost:?} connections lost, {downloads:?} downloads");
    assert!(lost.into_inner() >= CRASHES, "it was not under load");

    let http = domain(peer, "http");
    assert_eq!(http["state"], "running", "{http}");
    assert_eq!(
        (&http["restarts"], &http["faults"]),
        (&CRASHES.into(), &CRASHES.into()),
        "{http}"
    );
    // Each life had the port of HTTP, for IPv4 and IPv6, and lost it once.
    assert_eq!(
        lines(&machine, "portmap: http is gone: 2 ports were taken back"),
        CRASHES
    );
    assert_eq!(lines(&machine, "portmap: http is gone:"), CRASHES);
    assert_eq!(lines(&machine, "of a predecessor were given back"), 0);
    assert_eq!(lines(&machine, "cannot listen"), 0);
    assert_eq!(lines(&machine, "is cut off"), 0);
    let outages: Vec<String> = (machine.console().lines().iter())
        .filter_map(|line| line.text.split_once("http was restarted, "))
        .filter_map(|(_, rest)| rest.split_once(" after"))
        .map(|(time, _)| time.to_owned())
        .collect();
    println!("outages: {}", outages.join(", "));
}

#[test]
fn who_faults_too_often_in_a_row_is_given_up() {
    let policy = r#"restart="on_fault" restart_limit="3" restart_backoff_ms="20""#;
    let image = image("given-up", policy);
    let machine = boot(&image);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    for number in 1..=4 {
        crash(peer, "/fault/panic");
        match number {
            4 => machine.expect_line(
                "http is given up: it has faulted too often in a row (faults so far: 4).",
            ),
            _ => machine.expect_line(&format!("(restarts so far: {number})")),
        };
    }
    // Nobody has its port any more, and the rest is as it was.
    let deadline = Instant::now() + LIMIT;
    loop {
        let refused = peer.connect(80).err().map(|error| error.kind());
        if refused == Some(ErrorKind::ConnectionRefused) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "port 80 is still somebody's: {refused:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
    until_it_answers(peer, 81);
    let http = domain(peer, "http");
    assert_eq!(http["state"], "given up", "{http}");
    assert_eq!(
        (&http["restarts"], &http["faults"]),
        (&3.into(), &4.into()),
        "{http}"
    );
    assert_eq!(
        lines(&machine, "portmap: http is gone: 2 ports were taken back"),
        4
    );
    assert_eq!(lines(&machine, "http was restarted"), 3);
    // It waited longer each time.
    let outages: Vec<u64> = (machine.console().lines().iter())
        .filter_map(|line| line.text.split_once("http was restarted, "))
        .filter_map(|(_, rest)| rest.split('.').next()?.parse().ok())
        .collect();
    assert_eq!(outages.len(), 3);
    for (outage, least) in outages.iter().zip([0, 20, 40]) {
        assert!(*outage >= least, "{outages:?} ms");
    }
    // Nothing else has faulted.
    let stopped: HashSet<String> = (machine.console().lines().iter())
        .filter_map(|line| line.text.split_once(" was stopped: "))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(stopped, HashSet::from(["http".to_owned()]));
}

/// A server that dies in each way there is: whoever is inside a call to it is answered, before it
/// is there again and after it is given up.
#[test]
fn who_calls_a_server_that_dies_is_answered() {
    let image = paths::image("lives");
    let machine = Machine::new(paths::kernel("release"), image).memory_mib(128);
    let machine = machine.start().unwrap_or_else(|error| panic!("{error}"));
    let end = "mourner was stopped: it has ended by itself.";
    let line = machine.console().wait_for(end, LIMIT);
    line.unwrap_or_else(|error| panic!("{error}\n{}", machine.console().tail()));
    let lines = machine.console().lines();
    let said = |start: &str| -> Vec<String> {
        let lines = lines
            .iter()
            .filter_map(|line| line.text.strip_prefix(start));
        lines.map(|rest| rest.trim_end().to_owned()).collect()
    };
    let gone_at_last = ["a panic: gone"; 5];
    let expected = [
        "an answer: answer 0",
        "a panic: gone",
        "an answer: answer 0",
        "an endless loop: gone",
        "an answer: answer 0",
        "its end: gone",
        "an answer: answer 0",
        "long work: answer 1",
        "an answer: answer 2",
    ];
    let expected = expected.iter().chain(&gone_at_last);
    let expected: Vec<&str> = expected
        .chain(&["an answer at the end: gone"])
        .copied()
        .collect();
    assert_eq!(said("mourner: asked for "), expected);
    let panic = "it gave up (a panic) or ran an invalid instruction.";
    let causes = [
        panic,
        "it made no progress for 40 ms.",
        "it has ended by itself.",
    ];
    let causes: Vec<&str> = causes.iter().chain(&[panic; 4]).copied().collect();
    assert_eq!(said("mortal was stopped: "), causes);
    assert_eq!(said("mortal was restarted, ").len(), 5);
    assert_eq!(said("mortal was started again, ").len(), 1);
    assert_eq!(said("mortal is given up: ").len(), 1);
    // What it was doing: it was asked for an endless loop.
    assert!(
        lines.iter().any(|line| line.text.ends_with(" asked 0x2")),
        "{}",
        machine.console().tail()
    );
}

/// Nothing is allocated for a restart, so there may be as many as one likes; here without console or
/// network, and each life calls, shares memory and is notified.
#[test]
fn a_thousand_restarts_use_nothing_up() {
    const RESTARTS: u64 = 1000;
    let policy = format!(r#"restart="on_fault" restart_limit="{RESTARTS}" restart_backoff_ms="0""#);
    let image = build_system("hello", |text| with_policy(&text, "hello", &policy));
    let image = OwnImage::new("thousand", &image.bytes);
    let machine = Machine::new(paths::kernel("debug"), image.path()).memory_mib(128);
    let machine = machine.start().unwrap_or_else(|error| panic!("{error}"));
    let end = format!(
        "hello is given up: it has faulted {} times in a row.",
        RESTARTS + 1
    );
    let line = machine.console().wait_for(&end, LIMIT);
    line.unwrap_or_else(|error| panic!("{error}\n{}", machine.console().tail()));
    let lines = machine.console().lines();
    let count = |text: &str| lines.iter().filter(|line| line.text.contains(text)).count() as u64;
    assert_eq!(count("hello was restarted, "), RESTARTS);
    assert_eq!(count("hello: echo answered 8 1001"), RESTARTS + 1);
    assert_eq!(count("hello: shared memory holds 42"), RESTARTS + 1);
    assert_eq!(
        count("hello was stopped: it read memory at 0xdead0000, which it was not given"),
        RESTARTS + 1
    );
}

/// Whoever has addresses of its own, by name or out of a pool, has the same ones in its next life.
#[test]
fn an_application_that_is_restarted_keeps_its_addresses() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let names = ["http-own", "http-guest"];
    let addresses = [
        ["10.0.2.20", "[fd00:5e60::20]"],
        ["10.0.2.32", "[fd00:5e60::32]"],
    ];
    let image = build_system("addresses", |text| {
        names.iter().fold(
            text.replace("segue-http\"", "segue-fragile\""),
            |text, name| with_policy(&text, name, r#"restart="on_fault""#),
        )
    });
    let image = OwnImage::new("addresses-again", &image.bytes);
    let machine = TestMachine::start(image.machine().memory_mib(512), Cable::Tap);
    let namespace = machine.namespace().expect("the cable is a tap");
    let curl = |url: &str| {
        let output = namespace.run(|| {
            let options = ["--globoff", "--silent", "--fail", "--max-time", "10"];
            Command::new("curl").args(options).arg(url).output()
        });
        let output = output.expect("the namespace is there").expect("curl runs");
        output.status.success().then_some(output.stdout)
    };
    let body = files::contents("1k.bin");
    let expect_all = || {
        for address in addresses.iter().flatten() {
            let deadline = Instant::now() + LIMIT;
            let url = format!("http://{address}/1k.bin");
            while curl(&url).as_ref() != Some(&body) {
                assert!(Instant::now() < deadline, "{url}");
            }
        }
    };
    expect_all();
    for life in 1..=3 {
        for (name, addresses) in names.iter().zip(addresses) {
            let url = format!("http://{}/fault/panic", addresses[life % 2]);
            assert_eq!(curl(&url), None);
            let again = format!("{name} was restarted, ");
            let deadline = Instant::now() + LIMIT;
            while lines(&machine, &again) < life as u64 {
                assert!(Instant::now() < deadline, "{name}: {life}");
                thread::sleep(Duration::from_millis(10));
            }
        }
        expect_all();
    }
    assert_eq!(lines(&machine, " was restarted, "), 6);
    for name in names {
        let gone = format!("portmap: {name} is gone:");
        assert_eq!(lines(&machine, &gone), 3, "{name}");
    }
}
