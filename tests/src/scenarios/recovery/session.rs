//! One boot of the system `recovery`.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use segue_fault_points::{Kind, Point};
use segue_qemu::Machine;
use segue_status::system::Domain;
use tempfile::TempDir;

use crate::guest_memory::{AddressSpace, Debugger, GuestMemory};
use crate::http::{Client, request};
use crate::instructions::Program;
use crate::recovery::{
    Fault, Injector, Inventory, Ledger, Load, Places, Restart, Served, Times, said,
};
use crate::switching::{Modes, Switcher};
use crate::systems::{BOUND, BOUND_ADDRESS, BOUND_PORT, DIRECT, JOB_COUNT, VISITOR};
use crate::{Cable, TestMachine, paths};

/// Who is visited inside.
const HTTP: &str = "http";
/// Its name.
pub(super) const SYSTEM: &str = "recovery";
/// How long clients may stand still after a restart. On a busy host, with 64 connections that have waited
/// for longer and longer, it takes seconds; this long only if they never go on.
pub(super) const HANG: Duration = Duration::from_secs(90);
/// How long a fault point may take to be reached before it counts as not reached.
const REACHED: Duration = Duration::from_secs(3);
/// How long a server is given to hear of something by itself.
const QUIET: Duration = Duration::from_millis(250);
/// `http` is switched each time that it was to be stirred so often.
const STIRS_IN_A_MODE: u64 = 5;
/// Between two orders to switch an application back, if the first one has come to nothing.
const AGAIN: Duration = Duration::from_secs(5);

/// How long a fault point may take to be reached by who was just started.
const AT_START: Duration = Duration::from_secs(4);

/// A machine with the system `recovery`, whose memory can be looked into.
pub struct Session {
    machine: TestMachine,
    places: Places,
    job: AddressSpace,
    before: Inventory,
    /// Applications that were switched, and whether to direct mode last.
    switched: BTreeMap<&'static str, bool>,
    /// How often `http` was made to do something that it would not do by itself.
    stirs: u64,
    /// Of files that live as long as the machine: it goes away last.
    folder: TempDir,
}

impl Session {
    /// Boots it, and switches the application to direct mode that is to be in it.
    ///
    /// # Panics
    /// If something does not start.
    pub fn boot() -> Self {
        Self::boot_system(SYSTEM, Program::read_faulty)
    }

    /// The same with another system that is like it, whose programs `program` reads.
    ///
    /// # Panics
    /// As [`Self::boot`].
    pub fn boot_system(name: &str, program: fn(&str) -> Program) -> Self {
        Self::boot_machine(TestMachine::machine(name), program)
    }

    /// The same with this machine, whose system is like it.
    ///
    /// # Panics
    /// As [`Self::boot`].
    pub fn boot_machine(machine: Machine, program: fn(&str) -> Program) -> Self {
        let folder = folder();
        let file = folder.path().join("memory");
        let debugger = folder.path().join("debugger");
        let machine = machine.memory_file(&file).debugger(debugger);
        let mut machine = TestMachine::start(machine, Cable::Tap);
        for line in [
            "metronome: listening on 10.0.2.40:4001 (UDP)",
            "kv: listening on 10.0.2.20:6379",
            "http-direct: listening on 10.0.2.53:80",
            "http-bound: listening on 10.0.2.54:81",
        ] {
            machine.expect_line(line);
        }
        machine.wait_until_it_answers();
        to_direct(&mut machine);
        let memory = GuestMemory::open(&file).expect("QEMU makes the file");
        let job = memory.space_of(&program("segue-spinner"));
        let job = job.expect("the job runs");
        let places = Places::find(memory, program).expect("they run");
        let before = Inventory::take(&mut machine, &places);
        Self {
            before: before.expect("an inventory can be taken"),
            machine,
            places,
            job,
            switched: BTreeMap::new(),
            stirs: 0,
            folder,
        }
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut TestMachine {
        &mut self.machine
    }

    /// Where to look into its memory.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The socket of QEMU's debugger stub.
    pub fn debugger(&self) -> PathBuf {
        self.folder.path().join("debugger")
    }

    /// How far the job has counted.
    pub fn job_count(&self) -> u64 {
        let memory = self.places.memory();
        let place = self.job.translate(memory, JOB_COUNT);
        let count = place.and_then(|place| memory.word(place));
        count.expect("the job's page is there")
    }

    /// What `init` says of a protection domain.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn domain(&self, name: &str) -> Domain {
        let status = self.places.status().expect("the memory can be read");
        let domain = status.find(name).and_then(|index| status.domain(index));
        domain.unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Asks for the other mode of an application, and does not wait for it.
    fn switch(&mut self, name: &'static str) {
        let is_direct = self.switched.entry(name).or_default();
        *is_direct = !*is_direct;
        let mode = if *is_direct { "direct" } else { "server" };
        self.type_line(&format!("switch {name} {mode}"));
    }

    /// Switches the application to direct mode that is to be in it.
    ///
    /// # Panics
    /// If it cannot be switched.
    pub fn to_direct(&mut self) {
        to_direct(&mut self.machine);
    }

    fn type_line(&mut self, line: &str) {
        let typed = Injector::new(&mut self.machine).type_line(line);
        typed.unwrap_or_else(|error| panic!("{line}: {error}"));
    }

    /// Has all applications that were switched back in server mode. To be called before the load ends.
    ///
    /// # Panics
    /// If one does not come back.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + HANG;
        while let Some((&name, _)) = self.switched.first_key_value() {
            self.type_line(&format!("switch {name} server"));
            let again = Instant::now() + AGAIN;
            while Instant::now() < again {
                let modes = Modes::ask(&mut self.machine);
                let modes = modes.unwrap_or_else(|error| panic!("{error}"));
                if modes.applications[name].mode == "server" {
                    self.switched.remove(name);
                    break;
                }
                assert!(Instant::now() < deadline, "{name} stays: {modes:?}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Waits until the job has counted further than this.
    ///
    /// # Panics
    /// If it does not; `what` has happened before.
    pub fn expect_work(&self, count: u64, what: &str) {
        let deadline = Instant::now() + HANG;
        // A number that is lower would be that of another life.
        let mut now = self.job_count();
        while now == count {
            assert!(Instant::now() < deadline, "{what}: the job stands still");
            thread::sleep(Duration::from_millis(1));
            now = self.job_count();
        }
        assert!(now > count, "{what}: the job has begun anew");
    }

    /// The names of all protection domains.
    pub fn names(&self) -> Vec<String> {
        let status = self.places.status().expect("the memory can be read");
        status
            .domains()
            .map(|domain| domain.name().to_owned())
            .collect()
    }

    /// How often a protection domain was restarted.
    pub fn restarts(&self, name: &str) -> u64 {
        u64::from(self.domain(name).restarts)
    }

    /// Waits until a protection domain was restarted so often.
    ///
    /// # Panics
    /// If it is not.
    pub fn wait_for_restarts(&self, name: &str, restarts: u64) {
        let deadline = Instant::now() + HANG;
        while self.restarts(name) < restarts {
            assert!(
                Instant::now() < deadline,
                "{name} was restarted {} times, not {restarts}; the network server: {}",
                self.restarts(name),
                self.places.work_of_netserver().unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// As [`Self::wait_for_restarts`], of a server that may have nothing to do.
    ///
    /// # Panics
    /// If it is not restarted so often.
    pub fn stir_until_restarts(&mut self, name: &str, restarts: u64) {
        let deadline = Instant::now() + HANG;
        let mut stirred = Instant::now();
        while self.restarts(name) < restarts {
            assert!(
                Instant::now() < deadline,
                "{name} was restarted {} times, not {restarts}",
                self.restarts(name)
            );
            thread::sleep(Duration::from_millis(2));
            if stirred.elapsed() >= QUIET {
                stirred = Instant::now();
                self.stir(name);
            }
        }
    }

    /// Makes a fault, and waits until the protection domain is restarted and all clients go on. False if
    /// it did not strike.
    ///
    /// # Panics
    /// If one of both does not happen.
    pub fn fault(&mut self, fault: &Fault, load: &Load, ledger: &mut Ledger) -> bool {
        let began = Instant::now();
        let count = self.job_count();
        // What the console says of it comes late, and perhaps after what it says of the one before.
        let before = self.restarts(&fault.domain);
        let ordered = Injector::new(&mut self.machine).order(fault);
        ordered.unwrap_or_else(|error| panic!("{fault}: {error}"));
        let deadline = Instant::now() + REACHED;
        let mut stirred = Instant::now();
        while self.restarts(&fault.domain) <= before {
            thread::sleep(Duration::from_millis(2));
            if stirred.elapsed() >= QUIET {
                stirred = Instant::now();
                self.stir(&fault.domain);
            }
            if Instant::now() >= deadline {
                let left = Injector::new(&mut self.machine).withdraw(&fault.domain);
                if left.unwrap_or_else(|error| panic!("{fault}: {error}")) {
                    println!("{fault}: not reached");
                    ledger.missed(fault);
                    return false;
                }
                // Then it has struck just now, or the console has died over the order.
                let late = Instant::now() + REACHED;
                while self.restarts(&fault.domain) <= before && Instant::now() < late {
                    thread::sleep(Duration::from_millis(2));
                }
                if self.restarts(&fault.domain) <= before {
                    println!("{fault}: not heard");
                    return false;
                }
            }
        }
        let restart = self.restart(&fault.domain);
        let struck = began.elapsed().as_millis();
        ledger.struck(fault, &restart);
        let times = self.expect_progress(load, &fault.to_string());
        println!("{fault}: restarted within {struck} ms of the host, {times} later they go on");
        self.expect_work(count, &fault.to_string());
        true
    }

    /// Has something happen that a server with nothing to do hears of: a timer that starts anew signals
    /// all its clients, and a driver of the physical function that starts anew asks `pcie`.
    /// Besides, an application is switched to direct mode or back, which many have a part in.
    fn stir(&mut self, domain: &str) {
        match domain {
            "director" | "pcie" | "igb-pf" | "console" | "netserver" => self.switch("kv"),
            // It has to stay in direct mode for a while to get to the points of its function.
            "http" => {
                if self.stirs.is_multiple_of(STIRS_IN_A_MODE) {
                    self.switch("http");
                }
                self.stirs += 1;
            }
            _ => {}
        }
        match domain {
            "portmap" => self.leave_a_held_port(),
            "netserver" => {
                // At an address that is shared the network server answers itself.
                let namespace = self.machine.namespace();
                let address = BOUND_ADDRESS.to_string();
                let ping = || {
                    Command::new("ping")
                        .args(["-c", "1", "-W", "1", &address])
                        .output()
                };
                let sent = namespace.map(|namespace| namespace.run(ping));
                if !matches!(sent, Some(Ok(Ok(_)))) {
                    println!("ping cannot be run: {sent:?}");
                }
            }
            _ => {}
        }
        let others: &[&str] = match domain {
            // Of an application that is gone it takes back the ports, and the next life binds one.
            "portmap" => &[BOUND, "timer"],
            "director" | "igb-pf" | "console" => &["timer"],
            "pcie" => &["igb-pf", "timer"],
            _ => &[],
        };
        // The last of them is what the others hear of.
        let faults: Vec<(Fault, u64)> = others
            .iter()
            .map(|other| Fault::at(other, Point::RuntimeReceived, Kind::Panic))
            .map(|fault| (fault.clone(), self.restarts(&fault.domain)))
            .collect();
        for (fault, _) in &faults {
            let ordered = Injector::new(&mut self.machine).order(fault);
            ordered.unwrap_or_else(|error| panic!("{fault}: {error}"));
        }
        for (fault, before) in faults.iter().rev() {
            self.wait_or_withdraw(fault, *before);
        }
    }

    /// Has the application with a port from the port map end a connection, whose port the port map is
    /// then to hold when the application dies. It may be dead already, or have been killed amid it.
    fn leave_a_held_port(&self) {
        let address = SocketAddrV4::new(BOUND_ADDRESS, BOUND_PORT);
        let visited = self.machine.host().connect_to(address).and_then(|stream| {
            let mut client = Client::new(stream);
            client.send(request("HEAD", "/", "Connection: close\r\n").as_bytes())?;
            client.head()
        });
        if let Err(error) = visited {
            println!("{BOUND}: {error}");
        }
    }

    /// Waits for a while until a protection domain was restarted oftener than before; if it was not, its
    /// faults are taken back.
    fn wait_or_withdraw(&mut self, fault: &Fault, before: u64) {
        for _ in 0..2 {
            let deadline = Instant::now() + REACHED;
            while Instant::now() < deadline {
                if self.restarts(&fault.domain) > before {
                    return;
                }
                thread::sleep(Duration::from_millis(2));
            }
            let left = Injector::new(&mut self.machine).withdraw(&fault.domain);
            if left.unwrap_or_else(|error| panic!("{fault}: {error}")) {
                return;
            }
            // Then it has struck just now, or a console that has died has not heard of it.
        }
    }

    /// Makes a fault in the life that another fault brings about, for points that are reached only when a
    /// life begins. Both count if it strikes, else the first one alone: then it is false.
    ///
    /// # Panics
    /// As [`Self::fault`].
    pub fn fault_at_start(&mut self, fault: &Fault, load: &Load, ledger: &mut Ledger) -> bool {
        let first = Fault::at(&fault.domain, Point::RuntimeReceived, Kind::Panic);
        let before = self.restarts(&fault.domain);
        let mut injector = Injector::new(&mut self.machine);
        let ordered = injector.order_in_turn(&[first.clone(), fault.clone()]);
        ordered.unwrap_or_else(|error| panic!("{fault}: {error}"));
        let mut stirred = Instant::now() - QUIET;
        let deadline = Instant::now() + HANG;
        while self.restarts(&fault.domain) <= before {
            assert!(Instant::now() < deadline, "{first} does not strike");
            thread::sleep(Duration::from_millis(2));
            if stirred.elapsed() >= QUIET {
                stirred = Instant::now();
                self.stir(&fault.domain);
            }
        }
        ledger.struck(&first, &self.restart(&first.domain));
        let deadline = Instant::now() + AT_START;
        while self.restarts(&fault.domain) < before + 2 {
            thread::sleep(Duration::from_millis(2));
            if Instant::now() >= deadline {
                let left = Injector::new(&mut self.machine).withdraw(&fault.domain);
                if left.unwrap_or_else(|error| panic!("{fault}: {error}")) {
                    println!("{fault}: not reached at the start either");
                    ledger.missed(fault);
                    self.expect_progress(load, &first.to_string());
                    return false;
                }
                let late = Instant::now() + REACHED;
                while self.restarts(&fault.domain) < before + 2 && Instant::now() < late {
                    thread::sleep(Duration::from_millis(2));
                }
                if self.restarts(&fault.domain) < before + 2 {
                    println!("{fault}: not heard");
                    self.expect_progress(load, &first.to_string());
                    return false;
                }
            }
        }
        ledger.struck(fault, &self.restart(&fault.domain));
        self.expect_progress(load, &fault.to_string());
        println!("{fault}: restarted, in the life after {first}");
        true
    }

    /// The last restart of a protection domain.
    fn restart(&self, name: &str) -> Restart {
        let domain = self.domain(name);
        Restart {
            reason: String::new(),
            outage: domain.outage as f64 / 1e3,
            restarts: u64::from(domain.restarts),
        }
    }

    /// Waits until all clients have come further, and says how long each took.
    ///
    /// # Panics
    /// If they do not; `what` has happened before.
    pub fn expect_progress(&self, load: &Load, what: &str) -> Times {
        let before = load.progress();
        load.wait_for(before, 1, HANG).unwrap_or_else(|| {
            panic!(
                "after \"{what}\" somebody stands still for {} s: {before:?}, then {:?}; {}\n\
                 {}a second later:\n{}the network server: {}",
                HANG.as_secs(),
                load.progress(),
                self.filters().unwrap_or_default(),
                self.places.channels().unwrap_or_default(),
                {
                    thread::sleep(Duration::from_secs(1));
                    self.places.channels().unwrap_or_default()
                },
                self.places.work_of_netserver().unwrap_or_default()
            )
        })
    }

    /// The filters of the network card as they are: MAC addresses and virtual functions.
    fn filters(&self) -> std::io::Result<String> {
        // 82576 datasheet, section 8.10.16: RAL and RAH, 24 pairs.
        const ARRAYS: [(u64, u64); 2] = [(0xe000_5400, 16), (0xe000_54e0, 8)];
        let mut debugger = Debugger::connect(&self.debugger())?;
        let mut text = String::from("filters of the card:");
        for (base, count) in ARRAYS {
            for address in (0..count).map(|index| base + 8 * index) {
                let (low, high) = (debugger.word(address)?, debugger.word(address + 4)?);
                if high != 0 {
                    text += &format!(" {:08x} {high:08x}", low.swap_bytes());
                }
            }
        }
        Ok(text)
    }

    /// Begins the load and waits until all of it is at work.
    ///
    /// # Panics
    /// If it does not come so far.
    pub fn load(&self) -> Load {
        let load = Load::start(&self.machine).unwrap_or_else(|error| panic!("{error}"));
        self.expect_progress(&load, "the beginning");
        load
    }

    /// The same without `redis-benchmark`.
    ///
    /// # Panics
    /// As [`Self::load`].
    pub fn load_without_redis(&self) -> Load {
        let load = Load::start_without_redis(&self.machine);
        let load = load.unwrap_or_else(|error| panic!("{error}"));
        self.expect_progress(&load, "the beginning");
        load
    }

    /// Ends the load, and says what became of it.
    ///
    /// # Panics
    /// If nothing more could be sent.
    pub fn end(&self, load: Load) -> Served {
        load.stop().expect("datagrams can be sent")
    }

    /// Looks whether all is as it was after the boot, and nobody has faulted by himself.
    ///
    /// # Panics
    /// If not.
    pub fn judge(&mut self) {
        self.judge_inventory();
        let console = self.machine.console().text();
        assert!(!console.contains("is cut off"), "somebody was cut off");
        if !self.console_says(&format!("{HTTP} was stopped: ")) {
            let error = format!("{VISITOR}: error");
            let errors = console.lines().filter(|line| line.contains(&error));
            assert_eq!(
                errors.count(),
                0,
                "who visits {HTTP} inside has seen it fail"
            );
        }
        let mut suspected = 0;
        // What a console that dies has written half cannot be judged.
        let told = self.stops().filter(|stop| stop.is_complete);
        for stop in told.filter(|stop| !stop.is_injected) {
            // A busy host can make it look as if somebody did nothing.
            match stop.is_hang {
                true => suspected += 1,
                false => panic!("nobody has made it fault:\n{}", stop.report),
            }
        }
        if suspected > 0 {
            println!("{suspected} were suspected of hanging without being made to");
        }
    }

    /// The same, but that this one may have faulted as often as it liked.
    ///
    /// # Panics
    /// As [`Self::judge`].
    pub fn judge_but_for(&mut self, name: &str) {
        self.judge_inventory();
        let mut stops = self.stops();
        if let Some(stop) = stops.find(|stop| stop.name != name && !stop.is_hang) {
            panic!("nobody else was to fault:\n{}", stop.report);
        }
    }

    fn judge_inventory(&mut self) {
        let deadline = Instant::now() + HANG;
        // What a client has just ended may be held for a while.
        loop {
            let after = Inventory::take(&mut self.machine, &self.places);
            let after = after.expect("an inventory can be taken");
            if after == self.before {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "not as before: {:?}, then {after:?}",
                self.before
            );
            thread::sleep(Duration::from_secs(1));
        }
        let console = self.machine.console().text();
        for word in ["is given up", "cannot be started again"] {
            assert!(!console.contains(word), "the console speaks of \"{word}\"");
        }
    }

    fn console_says(&self, text: &str) -> bool {
        let lines = self.machine.console().lines();
        lines.iter().any(|line| said(&line.text).contains(text))
    }

    /// All that the console says of protection domains that were stopped.
    fn stops(&self) -> impl Iterator<Item = Stop> {
        let lines = self.machine.console().lines();
        let mut stops: Vec<Stop> = Vec::new();
        let mut is_over = true;
        for line in &lines {
            if let Some((name, reason)) = said(&line.text).split_once(" was stopped: ") {
                stops.push(Stop {
                    name: name.to_owned(),
                    is_hang: reason.starts_with("it made no progress"),
                    is_injected: false,
                    is_complete: false,
                    report: String::new(),
                });
                is_over = false;
            }
            if let Some(stop) = stops.last_mut()
                && !is_over
            {
                stop.is_injected |= line.text.contains(" injected 0x");
                stop.report += &line.text;
                stop.report.push('\n');
                is_over = line.text.contains(" was restarted, ");
                stop.is_complete = is_over;
            }
        }
        stops.into_iter()
    }
}

impl Drop for Session {
    /// Of a machine with which something was wrong, all that it has said is kept.
    fn drop(&mut self) {
        if thread::panicking() {
            let path = paths::root().join(format!("build/console-{}.txt", std::process::id()));
            let text = self.machine.console().text();
            match std::fs::write(&path, text) {
                Ok(()) => println!("the whole console is in {}", path.display()),
                Err(error) => println!("{}: {error}", path.display()),
            }
        }
    }
}

/// A protection domain was stopped.
struct Stop {
    name: String,
    is_hang: bool,
    /// It was made to fault.
    is_injected: bool,
    /// The console has told all of it, up to the restart.
    is_complete: bool,
    /// What the console says of it.
    report: String,
}

/// Switches the application to direct mode that is to be in it. On a busy host it may not answer the
/// director in time; then it is asked again.
fn to_direct(machine: &mut TestMachine) {
    const TRIES: usize = 5;
    const LIMIT: Duration = Duration::from_secs(30);
    for number in 1.. {
        match Switcher::new(machine).limit(LIMIT).to_direct(DIRECT) {
            Ok(line) => return println!("{line}"),
            Err(error) => assert!(number < TRIES, "{error}"),
        }
    }
}

/// A folder for the machine's memory: in memory, if there is such a place.
fn folder() -> TempDir {
    let shared = Path::new("/dev/shm");
    let folder = match shared.is_dir() {
        true => tempfile::tempdir_in(shared),
        false => tempfile::tempdir(),
    };
    folder.expect("a temporary folder can be made")
}
