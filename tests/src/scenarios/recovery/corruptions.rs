//! Random changes to the network server's memory, from outside.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use segue_fault_points::{Kind, Point};
use segue_status::{crash, system};

use super::session::HANG;
use super::{Session, is_possible};
use crate::distribution::Distribution;
use crate::guest_memory::{AddressSpace, Debugger, GuestMemory, Mapping, PAGE};
use crate::instructions::Program;
use crate::random::Random;
use crate::recovery::{Fault, Injector, Load, Outcome, Places, Served};
use crate::{kernel_image, recovery};

const SERVER: &str = "netserver";
/// Where a stack ends, and the most that one is searched below.
const STACK_TOP: u64 = sel4_microkit_abi::IPC_BUFFER_ADDRESS - PAGE;
const STACK_ROOM: u64 = 0x10_0000;
/// Between two looks at everybody else's memory.
const LOOK_EVERY: u64 = 25;
/// How long clients may stand still before the server counts as damaged without having noticed. On the
/// host's clock, so that a busy host makes more of these, never fewer.
const STILL: Duration = Duration::from_secs(8);
/// Most microseconds of the machine that `init` may take from a stop to the restart.
const DEADLINE: u64 = 100_000;

/// What a change hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    /// Data, zeroed memory, the heap.
    Data,
    Stack,
    /// Code and constants, which a restart takes as they are.
    Code,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    Bit,
    Word,
    Page,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// Clients went on, and the server was not stopped.
    None,
    /// It was stopped, once or several times in a row, and restarted; clients went on.
    Restarted,
    /// Clients stood still, and it did not notice by itself: somebody had to restart it.
    Unnoticed,
}

/// What came of all changes.
#[derive(Clone, Debug, Default)]
pub struct Corruptions {
    effects: BTreeMap<(Area, Extent), BTreeMap<Effect, u64>>,
    /// Microseconds from a stop to the restart, by `init`.
    outages: Vec<u64>,
    /// What became of the clients.
    served: Served,
}

impl Corruptions {
    fn count(&self, effect: Effect) -> u64 {
        let all = self.effects.values();
        all.filter_map(|effects| effects.get(&effect)).sum()
    }
}

impl fmt::Display for Corruptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "changes without effect {}, with a restart {}, unnoticed by the server {}:",
            self.count(Effect::None),
            self.count(Effect::Restarted),
            self.count(Effect::Unnoticed)
        )?;
        for ((area, extent), effects) in &self.effects {
            writeln!(formatter, "  {area:?}, {extent:?}: {effects:?}")?;
        }
        let outages = Distribution::new(self.outages.clone());
        writeln!(
            formatter,
            "  from stop to restart {outages}, in microseconds of the machine"
        )?;
        write!(formatter, "{}", self.served)
    }
}

/// Changes bits, words and pages of the network server's memory, `count` times, while clients are at
/// work. Nobody else's memory may change, the server must be back in time each time that it is stopped,
/// and nothing may be lost in the end. Connections lost and wrong answers are counted: nobody can promise
/// anything about what passes through broken memory.
pub fn corruptions(count: u64, seed: u64) {
    if !is_possible() {
        return;
    }
    let mut random = Random::new(seed);
    let mut session = Session::boot();
    let others = Others::of(session.places());
    let memory = Targets::of(session.places());
    let load = session.load_without_redis();
    let before = others.digests(session.places().memory());
    let mut found = Corruptions::default();
    for number in 0..count {
        let (area, extent) = (memory.area(&mut random), extent(&mut random));
        let what = format!("change {number}: {area:?}, {extent:?}");
        let effect = change(
            &mut session,
            &load,
            &memory,
            (area, extent),
            &mut random,
            &what,
        );
        found.outages.extend(effect.1);
        let effects = found.effects.entry((area, extent)).or_default();
        *effects.entry(effect.0).or_default() += 1;
        if number % LOOK_EVERY == 0 || number + 1 == count {
            let after = others.digests(session.places().memory());
            before.compare(&after, &what);
        }
    }
    // With memory as it was at first, all is well.
    restart(&mut session);
    session.expect_progress(&load, "all changes");
    found.served = session.end(load);
    println!("{count} {found}");
    let after = others.digests(session.places().memory());
    before.compare(&after, "all changes");
    found.served.judge_direct();
    let outages = Distribution::new(found.outages.clone());
    assert!(outages.maximum() <= Some(DEADLINE), "{outages}");
    session.judge_but_for(SERVER);
}

fn extent(random: &mut Random) -> Extent {
    match random.below(10) {
        0..4 => Extent::Bit,
        4..8 => Extent::Word,
        _ => Extent::Page,
    }
}

/// Changes something and waits for what comes of it; and how long each restart took.
fn change(
    session: &mut Session,
    load: &Load,
    targets: &Targets,
    (area, extent): (Area, Extent),
    random: &mut Random,
    what: &str,
) -> (Effect, Vec<u64>) {
    let faults = session.domain(SERVER).faults;
    let job = session.job_count();
    let progress = load.progress();
    targets.change(session, area, extent, random);
    let mut effect = Effect::None;
    let mut outages = Vec::new();
    let mut restarts = session.domain(SERVER).restarts;
    let deadline = Instant::now() + HANG;
    let mut still_since = Instant::now();
    // Several files, so that what is damaged has had its turn.
    while !load.is_beyond(progress, 4) {
        assert!(Instant::now() < deadline, "{what}: the server is not back");
        thread::sleep(Duration::from_millis(5));
        let domain = session.domain(SERVER);
        assert!(
            domain.state == system::State::Running || domain.state == system::State::Restarting,
            "{what}: the server is {}",
            domain.state.text()
        );
        if domain.restarts != restarts {
            restarts = domain.restarts;
            outages.push(domain.outage);
            still_since = Instant::now();
        }
        if still_since.elapsed() >= STILL {
            effect = Effect::Unnoticed;
            restart(session);
            restarts = session.domain(SERVER).restarts;
            still_since = Instant::now();
        }
    }
    if effect == Effect::None && session.domain(SERVER).faults > faults {
        effect = Effect::Restarted;
    }
    session.expect_work(job, what);
    (effect, outages)
}

/// Restarts the server as an operator does: here by a fault.
fn restart(session: &mut Session) {
    let fault = Fault::at(SERVER, Point::RuntimeReceived, Kind::Panic);
    let mut injector = Injector::new(session.machine());
    let outcome = injector.inject(&fault);
    let outcome = outcome.unwrap_or_else(|error| panic!("{fault}: {error}"));
    assert_ne!(outcome, Outcome::NotReached, "{fault}");
}

/// The server's memory.
struct Targets {
    space: AddressSpace,
    /// Pages by area.
    pages: [(Area, Vec<Mapping>); 3],
}

impl Targets {
    fn of(places: &Places) -> Self {
        let space = places.netserver();
        let mappings = space.mappings(places.memory()).expect("it has page tables");
        let [writable, constant] = Program::read_faulty("segue-netserver").areas();
        let within = |areas: &[Range<u64>]| -> Vec<Mapping> {
            let is_in = |page: &&Mapping| {
                let end = page.address + page.size;
                let touches = |area: &Range<u64>| area.start < end && page.address < area.end;
                areas.iter().any(touches)
            };
            // A page that nobody has ever touched would stay without effect.
            let used = mappings.iter().filter(|page| page.accessed);
            used.filter(is_in).copied().collect()
        };
        let stack = STACK_TOP - STACK_ROOM..STACK_TOP;
        let pages = [
            (Area::Data, within(&writable)),
            (Area::Stack, within(&[stack])),
            (Area::Code, within(&constant)),
        ];
        for (area, pages) in &pages {
            assert!(!pages.is_empty(), "no pages of {area:?}");
        }
        Self { space, pages }
    }

    /// Mostly what a restart makes new.
    fn area(&self, random: &mut Random) -> Area {
        match random.below(10) {
            0..6 => Area::Data,
            6..9 => Area::Stack,
            _ => Area::Code,
        }
    }

    fn change(&self, session: &Session, area: Area, extent: Extent, random: &mut Random) {
        let (_, pages) = &self.pages[area as usize];
        let page = pages[random.below(pages.len())];
        let memory = session.places().memory();
        let physical = self.space.translate(memory, page.address);
        let physical = physical.expect("the page is there");
        let mut bytes = vec![0; PAGE as usize];
        memory.read(physical, &mut bytes).expect("it is memory");
        // Every other time something that is not zero, if there is anything: most of the heap is.
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = match random.below(2) {
            1 if !used.is_empty() => used[random.below(used.len())],
            _ => random.below(bytes.len()),
        };
        let range = match extent {
            Extent::Bit => {
                bytes[at] ^= 1 << random.below(8);
                at..at + 1
            }
            Extent::Word => {
                let at = at & !7;
                bytes[at..at + 8].copy_from_slice(&random.number().to_le_bytes());
                at..at + 8
            }
            Extent::Page => {
                random.fill(&mut bytes);
                0..bytes.len()
            }
        };
        let place = physical + range.start as u64;
        match area {
            // QEMU must translate it anew; nothing else makes it new again, so it is put back, as a
            // flipped bit in a cache goes away with the line.
            Area::Code => {
                let mut before = vec![0; range.len()];
                memory.read(place, &mut before).expect("it is memory");
                let write = |bytes: &[u8]| {
                    let debugger = Debugger::connect(&session.debugger());
                    let mut debugger = debugger.expect("QEMU listens");
                    debugger.write(place, bytes).expect("it is memory");
                };
                write(&bytes[range]);
                thread::sleep(Duration::from_millis(200));
                write(&before);
            }
            _ => memory.write(place, &bytes[range]).expect("it is memory"),
        }
    }
}

/// Everybody else's memory, as far as it must not change.
struct Others {
    /// By name of the program.
    spaces: Vec<(String, AddressSpace)>,
    /// Physical addresses and lengths of what everybody may only read, and nobody may write.
    constant: Vec<(u64, u64)>,
    kernel: (u64, u64),
}

/// Page tables by their addresses, each with its entries.
type Tables = Vec<(u64, Vec<u64>)>;

/// Of [`Others`].
#[derive(PartialEq, Eq)]
struct Digests {
    tables: Vec<(String, Tables)>,
    constant: [u8; 32],
    kernel: [u8; 32],
}

impl Others {
    fn of(places: &Places) -> Self {
        let memory = places.memory();
        let mut spaces = Vec::new();
        for name in recovery::PROGRAMS {
            let found = memory.spaces_of(&Program::read_faulty(name));
            let found = found.expect("the memory can be read");
            assert!(!found.is_empty(), "nobody runs {name}");
            let found = found.into_iter().map(|space| (name.to_owned(), space));
            spaces.extend(found.filter(|(_, space)| *space != places.netserver()));
        }
        let pages = |space: &AddressSpace| space.mappings(memory).expect("it has page tables");
        let all: Vec<Mapping> = spaces.iter().flat_map(|(_, space)| pages(space)).collect();
        let server = pages(&places.netserver());
        // Whoever may write to a page, it may change; `init` writes what it says of all.
        let writable = all.iter().chain(&server).filter(|page| page.writable);
        let mut changing: HashSet<u64> = writable.map(|page| page.physical).collect();
        for (address, length) in [
            (recovery::SYSTEM_STATUS, system::REGION_SIZE),
            (recovery::CRASH_REPORTS, crash::REGION_SIZE),
        ] {
            for page in (address..address + length as u64).step_by(PAGE as usize) {
                let physical = places.console().translate(memory, page);
                changing.insert(physical.expect("the console sees it"));
            }
        }
        let constant: HashSet<(u64, u64)> = all
            .iter()
            .filter(|page| page.cached && !page.writable && !changing.contains(&page.physical))
            .map(|page| (page.physical, page.size))
            .filter(|(physical, size)| physical + size <= memory.size())
            .collect();
        let mut constant: Vec<(u64, u64)> = constant.into_iter().collect();
        constant.sort_unstable();
        let bytes: u64 = constant.iter().map(|(_, size)| size).sum();
        println!(
            "{} other address spaces, {} KiB that nobody may write",
            spaces.len(),
            bytes / 1024
        );
        Self {
            spaces,
            constant,
            kernel: kernel_image::code(),
        }
    }

    fn digests(&self, memory: &GuestMemory) -> Digests {
        let tables = self.spaces.iter().map(|(name, space)| {
            let tables = space.tables(memory).expect("it has page tables");
            (name.clone(), tables)
        });
        let digest = |pieces: Vec<(u64, u64)>| memory.digest(pieces).expect("it is memory");
        Digests {
            tables: tables.collect(),
            constant: digest(self.constant.clone()),
            kernel: digest(vec![self.kernel]),
        }
    }
}

impl Digests {
    fn compare(&self, after: &Self, what: &str) {
        for ((name, before), (_, after)) in self.tables.iter().zip(&after.tables) {
            assert!(before == after, "{what}: page tables of {name} changed");
        }
        assert!(
            self.constant == after.constant,
            "{what}: constant memory changed"
        );
        assert!(self.kernel == after.kernel, "{what}: the kernel changed");
    }
}
