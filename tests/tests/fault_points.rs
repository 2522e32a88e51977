//! Fault points: that faults strike where they are ordered, and that none is in a release.

use std::fs;
use std::time::{Duration, Instant};

use segue_fault_points::{Kind, Point};
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::{Cable, TestMachine, paths};

/// Longer than anything here takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// The servers of the default system, and its application. The console comes last: what it says of
/// others is awaited meanwhile.
const DOMAINS: [&str; 8] = [
    "timer",
    "pcie",
    "igb-pf",
    "portmap",
    "director",
    "netserver",
    "http",
    "console",
];

/// The default system, in which everybody can be told to fail and is restarted at once.
fn image() -> OwnImage {
    let image = build_system("system", |text| {
        let policy =
            r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0" heartbeat_ms="200""#;
        DOMAINS
            .iter()
            .fold(text, |text, name| with_policy(&text, name, policy))
            .replace("</system>", "<fault_injection/></system>")
    });
    OwnImage::new("fault-points", &image.bytes)
}

fn boot(image: &OwnImage) -> TestMachine {
    let mut machine = TestMachine::start(image.machine(), Cable::Peer(1));
    machine.wait_until_it_answers();
    machine
}

/// Types a command and waits for a line that holds `awaited`.
fn command(machine: &mut TestMachine, line: &str, awaited: &str) -> String {
    let position = machine.console().position();
    let typed = machine.type_in(format!("{line}\r").as_bytes());
    typed.expect("the machine has a keyboard");
    wait_for(machine, position, awaited)
}

fn wait_for(machine: &TestMachine, position: usize, awaited: &str) -> String {
    let line = machine.console().wait_for_after(position, awaited, LIMIT);
    line.unwrap_or_else(|error| panic!("{error}")).text
}

/// How often a protection domain has reached a point, as the console says.
fn count(machine: &mut TestMachine, domain: &str, point: Point) -> u64 {
    let row = format!("{:<24} ", point.name());
    let line = command(machine, &format!("fault {domain}"), &row);
    let number = line.split_whitespace().nth(1);
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}

/// Gives everybody something to do until a line holds `awaited`. The port map hears of deaths only,
/// since the application has an address of its own: so the director has to die, too.
fn stir_until(machine: &mut TestMachine, position: usize, awaited: &str) -> String {
    let deadline = Instant::now() + LIMIT;
    let is_of_portmap = awaited.starts_with("portmap ");
    for mode in ["direct", "server"].into_iter().cycle() {
        // Whether anything comes of it does not matter.
        if is_of_portmap {
            let _ = machine.type_in(b"fault director runtime-received panic\r");
        }
        let _ = machine.type_in(format!("switch http {mode}\r").as_bytes());
        let _ = machine.host().connect();
        let line = machine
            .console()
            .wait_for_after(position, awaited, Duration::from_millis(500));
        match line {
            Ok(line) => return line.text,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    unreachable!("the modes are endless")
}

/// What the console says of whom such a fault has stopped.
fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::Panic | Kind::Illegal => "it gave up (a panic) or ran an invalid instruction.",
        Kind::Memory => "it wrote to memory at 0x0, which it was not given.",
        Kind::Loop | Kind::Deadlock => "it made no progress for 200 ms.",
    }
}

#[test]
fn each_kind_strikes_each_protection_domain() {
    let image = image();
    let mut machine = boot(&image);
    for domain in DOMAINS {
        for kind in Kind::ALL {
            let position = machine.console().position();
            let order = format!("fault {domain} runtime-handled {}", kind.name());
            command(&mut machine, &order, "Ordered: ");
            let stopped = format!("{domain} was stopped: {}", reason(kind));
            stir_until(&mut machine, position, &stopped);
            wait_for(&machine, position, &format!("{domain} was restarted, "));
        }
    }
    // Those that were only to stir it.
    command(&mut machine, "fault director withdraw", "withdrawn");
    for domain in DOMAINS {
        let row = command(&mut machine, "fault", &format!("{domain:<20} "));
        let numbers: Vec<u64> = row
            .split_whitespace()
            .skip(1)
            .filter_map(|word| word.parse().ok())
            .collect();
        let kinds = Kind::ALL.len() as u64;
        let is_right = matches!(numbers[..], [points, injected, 0] if points >= 8
            && (injected == kinds || domain == "director" && injected > kinds));
        assert!(is_right, "{row}");
    }
    machine.wait_until_it_answers();
}

#[test]
fn orders_wait_for_their_turn_and_strike_once() {
    let image = image();
    let mut machine = boot(&image);
    let position = machine.console().position();
    // The second strikes in the life that follows the first, before it can do anything.
    for order in [
        "fault http runtime-started panic",
        "fault http runtime-starting memory",
        "fault http runtime-received illegal 3",
    ] {
        command(&mut machine, order, "Ordered: ");
    }
    let list = command(&mut machine, "fault http", "Faults injected in http: ");
    assert!(list.contains("http: 0."), "{list}");
    let before = count(&mut machine, "http", Point::RuntimeReceived);
    // It has long started: only another death brings it there.
    command(
        &mut machine,
        "fault http withdraw",
        "3 faults were withdrawn from http.",
    );
    for order in [
        "fault http runtime-handled panic 2",
        "fault http runtime-starting memory",
        "fault http runtime-received illegal 3",
    ] {
        command(&mut machine, order, "Ordered: ");
    }
    let third = "(restarts so far: 3).";
    stir_until(&mut machine, position, third);
    let lines = machine.console().lines();
    let stopped: Vec<&str> = lines[position..]
        .iter()
        .filter_map(|line| line.text.split_once("http was stopped: "))
        .map(|(_, reason)| reason.trim_end())
        .collect();
    let expected = [Kind::Panic, Kind::Memory, Kind::Illegal].map(reason);
    assert_eq!(stopped, expected);
    // Counts go on over a restart, and nothing strikes again.
    machine.wait_until_it_answers();
    let after = count(&mut machine, "http", Point::RuntimeReceived);
    assert!(after > before, "{before} before, {after} after");
    assert_eq!(count(&mut machine, "http", Point::RuntimeStarting), 4);
    let list = command(&mut machine, "fault http", "Faults injected in http: ");
    assert!(list.contains("http: 3."), "{list}");
}

#[test]
fn a_release_has_no_fault_points() {
    let marks: [&[u8]; 3] = [
        b"fault_injection",
        b"faulty_domains",
        Point::RuntimeStarting.name().as_bytes(),
    ];
    let has = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    let mut programs = 0;
    for entry in fs::read_dir(paths::programs("pd")).expect("the programs are built") {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().expect("a file has a name");
        let faulty = paths::programs("faulty").join(name);
        let is_program = name.to_string_lossy().starts_with("segue-") && path.extension().is_none();
        // `init` cannot be told to fail.
        if !is_program || !faulty.is_file() || path.ends_with("segue-init") {
            continue;
        }
        programs += 1;
        let bytes = fs::read(&path).expect("a program can be read");
        for mark in marks {
            assert!(!has(&bytes, mark), "{}: {mark:?}", path.display());
        }
        // The same look at those that have them.
        let bytes = fs::read(&faulty).expect("a program can be read");
        assert!(has(&bytes, marks[0]), "{}", faulty.display());
        let is_console = path.ends_with("segue-console");
        assert_eq!(has(&bytes, marks[1]), is_console, "{}", faulty.display());
    }
    assert!(programs >= DOMAINS.len(), "{programs}");
}
