//! The owners of configuration space and of the NIC's physical function die and come back, and take
//! over what they find, while six virtual functions carry traffic.

use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use segue_qemu::Machine;
use segue_system_tests::background::{Downloaded, Downloads};
use segue_system_tests::changed::{OwnImage, build_system, with_policy};

use segue_system_tests::random::seed;
use segue_system_tests::switching::Switcher;
use segue_system_tests::systems::{SWITCHED, address_of};
use segue_system_tests::{Cable, TestMachine, system_memory};

/// Longer than anything here takes on a busy host.
const LIMIT: Duration = Duration::from_secs(300);
const FILE: &str = "128k.bin";
/// Deaths of each of the two while the functions are in use.
const DEATHS: usize = 6;

struct Fixture {
    machine: TestMachine,
    _image: OwnImage,
}

fn name_of(number: u16) -> String {
    match number {
        0 => "http".into(),
        number => format!("http-{number}"),
    }
}

fn boot(change: impl FnOnce(Machine) -> Machine) -> Fixture {
    let image = build_system("seven", |text| {
        let policy =
            r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0" heartbeat_ms="200""#;
        let text = with_policy(&text, "igb-pf", policy);
        let text = with_policy(&text, "pcie", policy);
        text.replace("</system>", "    <fault_injection/>\n</system>")
    });
    let image = OwnImage::new("adoption", &image.bytes);
    let machine = change(image.machine().memory_mib(system_memory("seven")));
    let mut machine = TestMachine::start(machine, Cable::Peer(seed()));
    machine.wait_until_it_answers();
    Fixture {
        machine,
        _image: image,
    }
}

impl Fixture {
    fn lines(&self, text: &str) -> usize {
        let lines = self.machine.console().lines();
        lines.iter().filter(|line| line.text.contains(text)).count()
    }

    /// Whether a line of the console, from line `position` on, holds all of these.
    fn has_line(&self, position: usize, texts: &[&str]) -> bool {
        let lines = self.machine.console().lines();
        let mut lines = lines.iter().skip(position);
        lines.any(|line| texts.iter().all(|text| line.text.contains(text)))
    }

    fn position(&self) -> usize {
        self.machine.console().position()
    }

    fn expect_after(&self, position: usize, text: &str) {
        let line = self.machine.console().wait_for_after(position, text, LIMIT);
        println!("{}", line.unwrap_or_else(|error| panic!("{error}")).text);
    }

    /// Orders a fault; it strikes when the point is reached next.
    fn order_fault(&mut self, name: &str, point: &str, kind: &str) {
        let command = format!("fault {name} {point} {kind}\r");
        let typed = self.machine.type_in(command.as_bytes());
        typed.expect("the machine has a keyboard");
    }

    fn switch(&mut self, name: &str, mode: &str) {
        let mut switcher = Switcher::new(&mut self.machine).limit(LIMIT);
        let line = match mode {
            "direct" => switcher.to_direct(name),
            _ => switcher.to_server(name),
        };
        println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Starts to download from all applications.
    fn downloads(&self) -> Vec<(String, Downloads)> {
        let host = self.machine.host();
        let start = |number| {
            let server = SocketAddrV4::new(address_of(number), 80);
            let downloads = Downloads::start(host, server, FILE, 1);
            let name = name_of(number);
            let downloads = downloads.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, downloads)
        };
        (0..SWITCHED).map(start).collect()
    }
}

/// Waits until each has downloaded something more.
fn all_go_on(downloads: &[(String, Downloads)]) {
    let before: Vec<_> = downloads.iter().map(|(_, one)| one.completed()).collect();
    let deadline = Instant::now() + LIMIT;
    for ((name, one), before) in downloads.iter().zip(before) {
        while one.completed() < before + 2 {
            assert!(Instant::now() < deadline, "{name} stands still");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn assert_undisturbed(downloads: Vec<(String, Downloads)>) {
    for (name, downloads) in downloads {
        let downloaded: Downloaded = downloads.stop();
        println!(
            "{name}: {} downloads, longest wait {:?}",
            downloaded.completed, downloaded.longest_stall
        );
        assert!(downloaded.completed > 0, "{name}: {downloaded:?}");
        assert_eq!(downloaded.failures, [""; 0], "{name}");
    }
}

#[test]
fn six_functions_go_on_while_their_owners_die() {
    let mut all = boot(|machine| machine);
    for number in 0..SWITCHED {
        all.switch(&name_of(number), "direct");
    }
    let downloads = all.downloads();
    all_go_on(&downloads);
    for kind in ["panic", "illegal", "memory"]
        .into_iter()
        .cycle()
        .take(DEATHS)
    {
        let position = all.position();
        // The one asks the other at its start.
        all.order_fault("pcie", "runtime-received", kind);
        all.order_fault("igb-pf", "runtime-received", kind);
        all.expect_after(position, "igb-pf was restarted");
        all.expect_after(position, "pcie was restarted");
        all.expect_after(position, "7 virtual functions, found running");
        all.expect_after(position, "the NIC runs already and is taken over as it is");
        all_go_on(&downloads);
    }
    assert_eq!(all.lines("not as they should be"), 0);
    assert_eq!(
        all.lines("was reset by its user"),
        all.lines("virtual function 0 was reset")
    );
    assert_undisturbed(downloads);
    // They still do what they are there for.
    for mode in ["server", "direct"] {
        for number in 0..SWITCHED {
            all.switch(&name_of(number), mode);
        }
    }
}

/// Where each of the two dies: on the way to direct mode, and on the way back.
const AMID_DIRECT: &[(&str, &str)] = &[
    ("pcie", "runtime-received"),
    ("pcie", "grant-io-space"),
    ("pcie", "grant-copied"),
    ("pcie", "grant-interrupt"),
    ("pcie", "order-carried-out"),
    ("pcie", "order-answered"),
    ("igb-pf", "enable-noted"),
    ("igb-pf", "enable-checked"),
    ("igb-pf", "checks-lifted"),
    ("igb-pf", "routed"),
    ("igb-pf", "order-carried-out"),
    ("igb-pf", "orders-answered"),
];
const AMID_SERVER: &[(&str, &str)] = &[
    ("igb-pf", "checks-lifted"),
    ("igb-pf", "routed"),
    ("igb-pf", "order-carried-out"),
    ("igb-pf", "orders-answered"),
    ("pcie", "withdraw-bus-master"),
    ("pcie", "withdraw-revoked"),
    ("pcie", "withdraw-interrupt"),
    ("pcie", "withdraw-registers"),
    ("pcie", "cover-unmapped"),
    ("igb-pf", "scrub-addresses"),
    ("igb-pf", "scrub-stopped"),
    ("igb-pf", "scrub-queues"),
];

#[test]
fn switches_end_though_their_owners_die_amid_them() {
    // A busy host must not make the machine late: deadlines are part of a switch.
    let mut all = boot(|machine| machine.instruction_clock(0));
    for number in 0..SWITCHED {
        all.switch(&name_of(number), "direct");
    }
    let downloads = all.downloads();
    all_go_on(&downloads);
    assert_eq!(AMID_SERVER.len(), AMID_DIRECT.len());
    for (number, (server, direct)) in AMID_SERVER.iter().zip(AMID_DIRECT).enumerate() {
        let name = name_of(number as u16 % SWITCHED);
        for (mode, (victim, point)) in [("server", server), ("direct", direct)] {
            println!("{victim} at {point}");
            let position = all.position();
            all.order_fault(victim, point, "panic");
            all.switch(&name, mode);
            all.expect_after(position, &format!("{victim} was restarted"));
        }
        all_go_on(&downloads);
    }
    assert_undisturbed(downloads);
}

#[test]
fn a_death_while_taking_over_is_made_good() {
    let mut all = boot(|machine| machine);
    for number in 0..SWITCHED {
        all.switch(&name_of(number), "direct");
    }
    let downloads = all.downloads();
    all_go_on(&downloads);
    let mut lives = 0;
    for point in ["function-placed", "functions-set-up", "owner-told"] {
        let position = all.position();
        // Orders for one victim strike one after the other.
        all.order_fault("pcie", "runtime-received", "panic");
        all.order_fault("pcie", point, "panic");
        all.order_fault("igb-pf", "runtime-received", "panic");
        all.order_fault("igb-pf", "taken-over", "panic");
        lives += 2;
        for victim in ["pcie", "igb-pf"] {
            let ended = format!("(restarts so far: {lives})");
            let deadline = Instant::now() + LIMIT;
            while !all.has_line(position, &[&format!("{victim} was restarted"), &ended]) {
                assert!(Instant::now() < deadline, "{victim} is not back");
                thread::sleep(Duration::from_millis(10));
            }
        }
        all_go_on(&downloads);
    }
    assert_undisturbed(downloads);
    all.switch("http", "server");
    all.switch("http", "direct");
}
