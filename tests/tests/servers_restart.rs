//! Servers that die at each of their fault points, and what must be left of it: nothing.
//!
//! The default system, in which everybody can be told to fail and is restarted at once. What faults do
//! to clients that are at work is in `recovery.rs`; here it is what each server has to keep.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use segue_fault_points::{Kind, Part, Point};
use segue_system_tests::changed::{OwnImage, build_system, with_policy};
use segue_system_tests::{Cable, TestMachine};

/// Longer than anything here takes on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

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

/// Points that only a new life comes to.
const AT_THE_START: [Point; 2] = [Point::TimerStartSignalled, Point::PortmapServerTold];

/// Points of the port map that these systems do not come to: they have no addresses by DHCP, and
/// nobody binds a port that is held.
const NOT_REACHED: [Point; 3] = [
    Point::PortmapShared,
    Point::PortmapHoldEnded,
    Point::PortmapHeld,
];

struct Test {
    machine: TestMachine,
    // It is removed when the machine is gone.
    _image: OwnImage,
}

impl Test {
    fn boot(system: &str, name: &str) -> Self {
        let image = build_system(system, |text| {
            let policy = r#"restart="on_fault" restart_limit="1000" restart_backoff_ms="0" heartbeat_ms="500""#;
            DOMAINS
                .iter()
                .fold(text, |text, name| with_policy(&text, name, policy))
                .replace("</system>", "<fault_injection/></system>")
        });
        let image = OwnImage::new(name, &image.bytes);
        let mut machine = TestMachine::start(image.machine(), Cable::Peer(1));
        machine.wait_until_it_answers();
        Self {
            machine,
            _image: image,
        }
    }

    fn position(&self) -> usize {
        self.machine.console().position()
    }

    fn type_in(&mut self, line: &str) {
        let typed = self.machine.type_in(format!("{line}\r").as_bytes());
        typed.expect("the machine has a keyboard");
    }

    fn wait_for(&self, position: usize, awaited: &str) -> String {
        let line = self
            .machine
            .console()
            .wait_for_after(position, awaited, LIMIT);
        line.unwrap_or_else(|error| panic!("{error}")).text
    }

    /// Types a command, again if the console has died over it, until a line holds `awaited`.
    fn insist(&mut self, line: &str, awaited: &str) {
        let position = self.position();
        let deadline = Instant::now() + LIMIT;
        loop {
            self.type_in(line);
            let console = self.machine.console();
            match console.wait_for_after(position, awaited, Duration::from_secs(5)) {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    /// How often `domain` has been restarted, as the console has said: two in quick succession are
    /// one line.
    fn restarts(&self, domain: &str) -> usize {
        let lines = self.machine.console().lines();
        let numbers = lines.iter().filter_map(|line| restart(&line.text, domain));
        numbers.max().unwrap_or(0)
    }

    /// Lets `domain` fail at `point`, after it was reached `skip` times, and does `stir` until it
    /// has been restarted.
    fn fail(&mut self, domain: &str, point: Point, skip: u32, mut stir: impl FnMut(&mut Self)) {
        let before = self.restarts(domain);
        let name = point.name();
        let kind = if skip % 2 == 0 {
            Kind::Panic
        } else {
            Kind::Illegal
        };
        let mut deaths = 1;
        if AT_THE_START.contains(&point) {
            // Not before the other one is ordered.
            self.type_in(&format!("fault {domain} runtime-handled panic 50"));
            deaths += 1;
        }
        self.type_in(&format!("fault {domain} {name} {} {skip}", kind.name()));
        let deadline = Instant::now() + LIMIT;
        while self.restarts(domain) < before + deaths {
            assert!(Instant::now() < deadline, "{domain} does not get to {name}");
            stir(self);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The number in a line that says that `domain` was restarted. There may be a prompt before it.
fn restart(line: &str, domain: &str) -> Option<usize> {
    let (_, rest) = line.split_once(&format!("{domain} was restarted, "))?;
    let (_, number) = rest.split_once("(restarts so far: ")?;
    number.trim_end().strip_suffix(").")?.parse().ok()
}

fn points(domain: &'static str) -> impl Iterator<Item = Point> {
    Point::of(domain)
        .filter(move |point| point.part() == Part::Server(domain))
        .filter(|point| !NOT_REACHED.contains(point))
}

/// Asks for the page.
fn ask(test: &mut Test) {
    test.machine.wait_until_it_answers();
}

#[test]
fn time_goes_on_when_the_timer_dies() {
    let mut test = Test::boot("system", "timer-dies");
    for point in points("timer") {
        test.fail("timer", point, 0, ask);
    }
    // What waits for a time goes on: more than the console may say at once comes out whole, at
    // the pace of its ticks.
    let position = test.position();
    for _ in 0..6 {
        test.type_in("status");
        test.type_in("help");
    }
    test.type_in("done");
    test.wait_for(position, "There is no command \"done\".");
    let lines = test.machine.console().lines();
    let shown = lines[position..].iter();
    let shown = shown.filter(|line| line.text.contains("MiB of memory are free."));
    assert_eq!(shown.count(), 6);
    ask(&mut test);
}

#[test]
fn no_port_is_lost_when_the_port_map_dies() {
    let mut test = Test::boot("binder", "portmap-dies");
    // While a program binds and releases ports as fast as it can.
    let done = |test: &Test| {
        let lines = test.machine.console().lines();
        lines.iter().any(|line| line.text.contains(" cycles, "))
    };
    let mut points_seen = 0;
    for point in [
        Point::PortmapBegun,
        Point::PortmapBound,
        Point::PortmapCarriedOut,
        Point::PortmapAnswered,
        Point::PortmapFreed,
    ] {
        if !done(&test) {
            test.fail("portmap", point, 100, |_| {});
            points_seen += 1;
        }
    }
    assert!(points_seen > 0, "the program was too fast: let it do more");
    test.machine.expect_line("binder: 65536 cycles, 0 refused");
    test.machine
        .expect_line("binder: the tables after the cycles: as they were");
    test.machine.expect_line("binder: held: Ok(())");

    // While another one, which has a port behind the same address, dies and comes back.
    for point in points("portmap") {
        test.fail("portmap", point, 0, |test| {
            let position = test.position();
            test.insist("fault http runtime-handled panic", "Ordered: http");
            let _ = test.machine.host().connect();
            test.wait_for(position, "http was restarted, ");
            ask(test);
        });
    }
    // Each life has the same port to give back, over both versions of IP.
    let position = test.position();
    test.insist("fault http runtime-handled panic", "Ordered: http");
    let _ = test.machine.host().connect();
    let line = test.wait_for(position, "portmap: http is gone: ");
    assert!(line.contains(" 2 ports were taken back"), "{line}");
    ask(&mut test);
    let lines = test.machine.console().lines();
    let mended = lines
        .iter()
        .find(|line| line.text.contains("made no sense"));
    assert!(mended.is_none(), "{mended:?}");
}

#[test]
fn what_an_operator_wants_outlives_the_director() {
    let mut test = Test::boot("system", "director-dies");
    for point in points("director") {
        for skip in [0, 1] {
            let mut modes = ["direct", "server"].into_iter().cycle();
            let mut wanted = "";
            test.fail("director", point, skip, |test| {
                wanted = modes.next().expect("it is endless");
                test.insist(&format!("switch http {wanted}"), "Asked for: http, ");
                let _ = test.machine.host().connect();
                std::thread::sleep(Duration::from_millis(200));
            });
            // Nobody asks for it once more.
            test.insist("vf", &format!("{:<20} {wanted:<10} ", "http"));
            ask(&mut test);
        }
    }
}

#[test]
fn everything_is_told_when_the_console_dies() {
    let mut test = Test::boot("system", "console-dies");
    for point in points("console") {
        for skip in [0, 1] {
            test.fail("console", point, skip, |test| {
                test.type_in("switch http auto");
                let before = test.restarts("http");
                test.type_in("fault http runtime-handled panic");
                let deadline = Instant::now() + Duration::from_secs(20);
                while test.restarts("http") == before && Instant::now() < deadline {
                    let _ = test.machine.host().connect();
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            ask(&mut test);
        }
    }
    test.insist("status", "MiB of memory are free.");
    // Each restart is told, the console's own as well; twice only if the console has died while
    // it was being sent.
    let lines = test.machine.console().lines();
    let mut told: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    for line in &lines {
        for domain in ["http", "console"] {
            let number = restart(&line.text, domain);
            if let Some(number) = number {
                *told.entry((domain, number)).or_default() += 1;
            }
        }
    }
    for domain in ["http", "console"] {
        let numbers: Vec<usize> = told
            .keys()
            .filter(|(name, _)| *name == domain)
            .map(|(_, number)| *number)
            .collect();
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "{domain}");
    }
    let deaths = told.keys().filter(|(name, _)| *name == "console").count();
    let twice = told.values().map(|count| count - 1).sum::<usize>();
    assert!(twice <= deaths, "{twice} lines twice in {deaths} deaths");
    let reports = |domain: &str| {
        let start = format!("{domain} was stopped: ");
        lines
            .iter()
            .filter(|line| line.text.contains(&start))
            .count()
    };
    assert!(reports("console") >= deaths, "{}", reports("console"));
}
