//! Which applications are to be in direct mode, by what they have to do.
//!
//! Each [`INTERVAL`] the policy is told how many frames every application has had since the
//! last time. It goes by a rate averaged over about [`WEIGHT`] intervals, so that a burst
//! does not switch anybody. Two thresholds and a shortest stay in either mode keep it from
//! flapping. If there are too few functions the busiest get them; who has one gives way
//! only to somebody clearly busier.

use crate::board::Mode;
use crate::config::MAXIMUM_APPLICATIONS;
use crate::machine::Target;

/// How often loads are looked at, in microseconds.
pub const INTERVAL: u64 = 100_000;
/// A rate is an average in which the last interval counts as one of so many.
pub const WEIGHT: u64 = 8;
/// Who is so many times as busy as somebody in direct mode takes its function.
pub const FACTOR: u64 = 2;

/// Rates are kept in so many parts of a frame a second.
const SCALE: u64 = 256;
/// A greater number of frames in an interval cannot be.
const MOST_FRAMES: u64 = 1 << 24;

/// What an operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Frames a second from which on an application is to be in direct mode.
    pub direct_frames: u64,
    /// Frames a second below which it is to be in server mode.
    pub server_frames: u64,
    /// How long it stays in a mode at least, in microseconds.
    pub stay: u64,
}

/// An application, as the policy sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Frames received and transmitted since the last time.
    pub frames: u64,
    /// Their bytes: of two that are equally busy the one with more goes first.
    pub bytes: u64,
    /// Its mode.
    pub mode: Mode,
    /// The function that it holds, or may still hold.
    pub function: Option<u8>,
    /// Functions that it may have, one bit each.
    pub allowed: u8,
    /// Whether it can be switched: it runs and has an address.
    pub is_ready: bool,
    /// Whether an operator has decided for it.
    pub is_pinned: bool,
}

/// What the policy remembers of an application.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// Frames a second, times [`SCALE`].
    rate: u64,
    /// Bytes of the last interval.
    bytes: u64,
    mode: Mode,
    /// Since when it is in this mode, or was wanted to leave it.
    since: u64,
}

/// The policy for up to `N` applications.
#[derive(Clone, Debug)]
pub struct Policy<const N: usize = MAXIMUM_APPLICATIONS> {
    thresholds: Thresholds,
    memory: [Memory; N],
    /// When loads were looked at last.
    last: Option<u64>,
}

impl<const N: usize> Policy<N> {
    /// A policy; `None` if the thresholds want none, which is so if there is none for direct
    /// mode. One for server mode that is not below it counts as if it were equal.
    pub fn new(thresholds: Thresholds) -> Option<Self> {
        let direct_frames = thresholds.direct_frames;
        (direct_frames != 0).then_some(Self {
            thresholds: Thresholds {
                server_frames: thresholds.server_frames.min(direct_frames),
                ..thresholds
            },
            memory: [Memory::default(); N],
            last: None,
        })
    }

    /// When to call [`Self::decide`] again, in microseconds.
    pub fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.saturating_add(INTERVAL))
    }

    /// Frames a second of an application.
    pub fn rate(&self, index: usize) -> u64 {
        self.memory[index].rate / SCALE
    }

    /// Looks at all of them; `free` are the functions that nobody has, one bit each. Says
    /// through `want` who is to go where.
    pub fn decide(
        &mut self,
        now: u64,
        free: u8,
        candidates: &[Candidate],
        mut want: impl FnMut(usize, Target),
    ) {
        let elapsed = self.last.map(|last| now.saturating_sub(last));
        self.last = Some(now);
        for (memory, candidate) in self.memory.iter_mut().zip(candidates) {
            memory.take(now, elapsed, candidate);
        }
        let Thresholds {
            direct_frames,
            server_frames,
            ..
        } = self.thresholds;
        for (index, candidate) in candidates.iter().enumerate().take(N) {
            let is_idle = self.memory[index].rate < server_frames.saturating_mul(SCALE);
            if is_idle && self.may_leave(index, now, candidate, Mode::Direct) {
                self.memory[index].since = now;
                want(index, Target::Server);
            }
        }
        // Functions that are free, or will be: who is on the way back holds one as yet.
        let mut coming = 0;
        for candidate in candidates.iter().filter(|c| c.mode == Mode::ToServer) {
            coming |= set(candidate.function);
        }
        let mut free = free;
        let mut seen = [false; N];
        loop {
            let busy = (0..candidates.len().min(N)).filter(|index| {
                !seen[*index]
                    && self.memory[*index].rate >= direct_frames.saturating_mul(SCALE)
                    && self.may_leave(*index, now, &candidates[*index], Mode::Server)
            });
            let busiest = busy.max_by_key(|index| {
                let memory = &self.memory[*index];
                (memory.rate, memory.bytes, core::cmp::Reverse(*index))
            });
            let Some(index) = busiest else { return };
            seen[index] = true;
            let allowed = candidates[index].allowed;
            if let Some(function) = lowest(free & allowed) {
                free &= !function;
                self.memory[index].since = now;
                want(index, Target::Direct);
            } else if let Some(function) = lowest(coming & allowed) {
                coming &= !function;
            } else if let Some(other) = self.gives_way(index, now, candidates) {
                self.memory[other].since = now;
                want(other, Target::Server);
            }
        }
    }

    /// Whether the policy may take an application out of `mode`.
    fn may_leave(&self, index: usize, now: u64, candidate: &Candidate, mode: Mode) -> bool {
        let stay = self.thresholds.stay.max(INTERVAL);
        let stayed = now.saturating_sub(self.memory[index].since) >= stay;
        candidate.mode == mode && candidate.is_ready && !candidate.is_pinned && stayed
    }

    /// Who has to give its function to application `index`: of those that may, the least
    /// busy.
    fn gives_way(&self, index: usize, now: u64, candidates: &[Candidate]) -> Option<usize> {
        let allowed = candidates[index].allowed;
        let others = candidates.iter().enumerate().take(N);
        let others = others.filter(|(other, candidate)| {
            set(candidate.function) & allowed != 0
                && self.may_leave(*other, now, candidate, Mode::Direct)
                && self.memory[*other].rate.saturating_mul(FACTOR) <= self.memory[index].rate
        });
        let least = others.min_by_key(|(other, _)| self.memory[*other].rate);
        least.map(|(other, _)| other)
    }
}

impl Memory {
    fn take(&mut self, now: u64, elapsed: Option<u64>, candidate: &Candidate) {
        let frames = candidate.frames.min(MOST_FRAMES);
        let scaled = frames * SCALE * 1_000_000;
        if let Some(rate) = elapsed.and_then(|elapsed| scaled.checked_div(elapsed)) {
            self.rate = self.rate - self.rate / WEIGHT + rate / WEIGHT;
        }
        self.bytes = candidate.bytes;
        if candidate.mode != self.mode {
            self.mode = candidate.mode;
            self.since = now;
        }
    }
}

/// A function as a set.
fn set(function: Option<u8>) -> u8 {
    function.map_or(0, |function| 1u8.checked_shl(function.into()).unwrap_or(0))
}

/// The lowest member of a set, as a set.
fn lowest(set: u8) -> Option<u8> {
    (set != 0).then_some(set & set.wrapping_neg())
}
