//! The state of every protection domain, kept current by `init`.
//!
//! A header of [`HEADER_SIZE`] bytes, then a record of [`RECORD_SIZE`] bytes
//! for each protection domain. Names and priorities are written before the
//! count and never change; every other field is one atomic word.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use segue_shared_memory::Region;

use crate::name;
use crate::orders::{Answer, Outcome};

/// First word of the region, once it is written.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SEGSTAT1");
/// Bytes before the first record.
pub const HEADER_SIZE: usize = 128;
/// Bytes of a record.
pub const RECORD_SIZE: usize = 128;
/// Bytes of the region that holds all protection domains that can exist.
pub const REGION_SIZE: usize = HEADER_SIZE + 63 * RECORD_SIZE;

const HEADER_MAGIC: usize = 0;
const HEADER_COUNT: usize = 8;
const HEADER_MEMORY_FREE: usize = 16;
/// First of the answers to orders.
const HEADER_ANSWERS: usize = 24;
const ANSWER_SIZE: usize = 24;
/// Who may give orders.
pub const ORDERERS: usize = 4;
const HEADER_SLOTS_FREE: usize = HEADER_ANSWERS + ORDERERS * ANSWER_SIZE;
const _: () = assert!(HEADER_SLOTS_FREE + 8 <= HEADER_SIZE);
/// Word of an outcome that is not known yet.
const UNDER_WAY: u32 = u32::MAX;

const NAME: usize = 0;
const STATE: usize = 64;
const PRIORITY: usize = 68;
const FAULTS: usize = 72;
const RESTARTS: usize = 76;
const STARTED: usize = 80;
const MEMORY: usize = 88;
const CAPABILITIES: usize = 96;
const OUTAGE: usize = 104;
const IDLE: usize = 112;
const REBUILD: usize = 120;

/// One life of a protection domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incarnation {
    /// How often it had been restarted before. `init` raises it before the first
    /// instruction of the new incarnation: who compares it, never takes one for
    /// its predecessor.
    pub restarts: u32,
    /// Whether it lives.
    pub is_running: bool,
}

/// What a protection domain is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    #[default]
    Absent,
    /// Started and not stopped.
    Running,
    /// Stopped after a fault, for good: its policy is to never start it again.
    Stopped,
    /// Stopped after a fault; it will be started again.
    Restarting,
    /// Stopped after a fault, for good: it has faulted too often in a row.
    GivenUp,
    /// It has ended by itself, and its policy is not to start it again then.
    Ended,
}

impl State {
    fn word(self) -> u32 {
        match self {
            State::Absent => 0,
            State::Running => 1,
            State::Stopped => 2,
            State::Restarting => 3,
            State::GivenUp => 4,
            State::Ended => 5,
        }
    }

    fn from_word(word: u32) -> Self {
        match word {
            1 => State::Running,
            2 => State::Stopped,
            3 => State::Restarting,
            4 => State::GivenUp,
            5 => State::Ended,
            _ => State::Absent,
        }
    }

    /// A word or two for people.
    pub fn text(self) -> &'static str {
        match self {
            State::Absent => "absent",
            State::Running => "running",
            State::Stopped => "stopped",
            State::Restarting => "restarting",
            State::GivenUp => "given up",
            State::Ended => "ended",
        }
    }
}

/// What the region says of one protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name, NUL-padded.
    pub name: [u8; 64],
    /// What it is doing.
    pub state: State,
    /// Its priority.
    pub priority: u32,
    /// How often it has faulted.
    pub faults: u32,
    /// How often it has been restarted.
    pub restarts: u32,
    /// Microseconds from its last fault to its last restart.
    pub outage: u64,
    /// Microseconds from its last progress to the moment when it was last stopped, if it was
    /// stopped because it made none, as far as that was seen; else 0.
    pub idle: u64,
    /// Microseconds that its last restart took `init`, part of the outage.
    pub rebuild: u64,
    /// When it was last started, in microseconds of the time stamp counter.
    pub started: u64,
    /// Bytes of memory that are its own.
    pub memory: u64,
    /// Capabilities in its CSpace.
    pub capabilities: u32,
}

impl Domain {
    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.name)
    }
}

/// A restart of a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Counts its restarts from 1.
    pub count: u32,
    /// When it is started, in microseconds of the time stamp counter.
    pub started: u64,
    /// Microseconds from the moment when it was stopped.
    pub outage: u64,
    /// Microseconds of it that `init` worked.
    pub rebuild: u64,
}

/// The region.
#[derive(Clone, Copy, Debug)]
pub struct SystemStatus {
    region: Region,
}

impl SystemStatus {
    /// Takes a region of at least [`REGION_SIZE`] bytes; `None` if it is
    /// smaller.
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= REGION_SIZE).then_some(Self { region })
    }

    fn record(&self, index: usize) -> Option<Region> {
        self.region
            .part(HEADER_SIZE + index.checked_mul(RECORD_SIZE)?, RECORD_SIZE)
    }

    /// How many protection domains there are; zero until `init` has written
    /// all of them.
    pub fn count(&self) -> usize {
        if self.region.load64(HEADER_MAGIC, Acquire) != MAGIC {
            return 0;
        }
        (self.region.load64(HEADER_COUNT, Acquire) as usize).min(63)
    }

    /// Bytes of memory that no one has, as of the last restart or upgrade.
    pub fn free_memory(&self) -> u64 {
        self.region.load64(HEADER_MEMORY_FREE, Relaxed)
    }

    /// Capability slots of `init` that nothing is in, as of the last restart or upgrade.
    pub fn free_slots(&self) -> u64 {
        self.region.load64(HEADER_SLOTS_FREE, Relaxed)
    }

    /// Says what is left of memory, in bytes, and of capability slots.
    pub fn set_free(&self, memory: u64, slots: u64) {
        self.region.store64(HEADER_MEMORY_FREE, memory, Relaxed);
        self.region.store64(HEADER_SLOTS_FREE, slots, Relaxed);
    }

    /// The protection domain of index `index`.
    pub fn domain(&self, index: usize) -> Option<Domain> {
        if index >= self.count() {
            return None;
        }
        let record = self.record(index)?;
        let mut name = [0; 64];
        record.read(NAME, &mut name);
        Some(Domain {
            name,
            state: State::from_word(record.load32(STATE, Acquire)),
            priority: record.load32(PRIORITY, Relaxed),
            faults: record.load32(FAULTS, Relaxed),
            restarts: record.load32(RESTARTS, Relaxed),
            outage: record.load64(OUTAGE, Relaxed),
            idle: record.load64(IDLE, Relaxed),
            rebuild: record.load64(REBUILD, Relaxed),
            started: record.load64(STARTED, Relaxed),
            memory: record.load64(MEMORY, Relaxed),
            capabilities: record.load32(CAPABILITIES, Relaxed),
        })
    }

    /// All protection domains.
    pub fn domains(&self) -> impl Iterator<Item = Domain> {
        (0..self.count()).filter_map(|index| self.domain(index))
    }

    /// Writes a whole record; `init` does so before [`SystemStatus::publish`].
    pub fn set_domain(&self, index: usize, domain: &Domain) {
        let Some(record) = self.record(index) else {
            return;
        };
        record.write(NAME, &domain.name);
        record.store32(PRIORITY, domain.priority, Relaxed);
        record.store32(FAULTS, domain.faults, Relaxed);
        record.store32(RESTARTS, domain.restarts, Relaxed);
        record.store64(OUTAGE, domain.outage, Relaxed);
        record.store64(IDLE, domain.idle, Relaxed);
        record.store64(REBUILD, domain.rebuild, Relaxed);
        record.store64(STARTED, domain.started, Relaxed);
        record.store64(MEMORY, domain.memory, Relaxed);
        record.store32(CAPABILITIES, domain.capabilities, Relaxed);
        record.store32(STATE, domain.state.word(), Release);
    }

    /// Makes `count` records visible to readers.
    pub fn publish(&self, count: usize) {
        self.region.store64(HEADER_COUNT, count as u64, Release);
        self.region.store64(HEADER_MAGIC, MAGIC, Release);
    }

    /// Which incarnation of a protection domain there is.
    pub fn incarnation(&self, index: usize) -> Option<Incarnation> {
        if index >= self.count() {
            return None;
        }
        let record = self.record(index)?;
        // The state is written last.
        let state = State::from_word(record.load32(STATE, Acquire));
        Some(Incarnation {
            restarts: record.load32(RESTARTS, Acquire),
            is_running: state == State::Running,
        })
    }

    /// What became of the last order of an orderer that `init` has looked at.
    pub fn answer(&self, orderer: usize) -> Option<Answer> {
        let place = Self::answer_place(orderer)?;
        let sequence = self.region.load64(place, Acquire);
        Some(Answer {
            sequence,
            outcome: Outcome::from_word(self.region.load32(place + 8, Relaxed)),
            outage: self.region.load64(place + 16, Relaxed),
        })
    }

    /// Answers an order.
    pub fn set_answer(&self, orderer: usize, answer: Answer) {
        let Some(place) = Self::answer_place(orderer) else {
            return;
        };
        let word = answer.outcome.map_or(UNDER_WAY, Outcome::word);
        self.region.store32(place + 8, word, Relaxed);
        self.region.store64(place + 16, answer.outage, Relaxed);
        self.region.store64(place, answer.sequence, Release);
    }

    fn answer_place(orderer: usize) -> Option<usize> {
        (orderer < ORDERERS).then_some(HEADER_ANSWERS + orderer * ANSWER_SIZE)
    }

    /// The index of the protection domain of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        (0..self.count()).find(|index| {
            let mut bytes = [0; 64];
            self.record(*index).is_some_and(|record| {
                record.read(NAME, &mut bytes);
                crate::name(&bytes) == name
            })
        })
    }

    /// Notes that a protection domain has been stopped, and whether it will be started
    /// again (`state`). It had made no progress for `idle` microseconds, if that is why.
    pub fn set_stopped(&self, index: usize, state: State, faults: u32, idle: u64) {
        let Some(record) = self.record(index) else {
            return;
        };
        record.store64(IDLE, idle, Relaxed);
        record.store32(FAULTS, faults, Relaxed);
        record.store32(STATE, state.word(), Release);
    }

    /// Notes that a protection domain is started again. To be called before it runs.
    pub fn set_restarted(&self, index: usize, restart: Restart) {
        let Some(record) = self.record(index) else {
            return;
        };
        record.store64(STARTED, restart.started, Relaxed);
        record.store64(OUTAGE, restart.outage, Relaxed);
        record.store64(REBUILD, restart.rebuild, Relaxed);
        record.store32(RESTARTS, restart.count, Release);
        record.store32(STATE, State::Running.word(), Release);
    }
}
