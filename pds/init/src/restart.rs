//! Starting protection domains again, by the policy in the boot image.

use segue_status::system::{Restart, State};
use segue_system_image::Payload;
use segue_system_image::format::{ProtectionDomain, limits};

use crate::builder::{Builder, Started};
use crate::failure::Failure;
use crate::heartbeat::Heartbeats;
use crate::pacer::Pacer;
use crate::refill::Position;
use crate::{serial_line, start};

/// Who has run so long, in microseconds, has not faulted in a row with what was
/// before.
const CALM: u64 = 10_000_000;
/// Longest time between a fault and the restart, in milliseconds, unless the
/// shortest is longer already.
const LONGEST_BACKOFF: u32 = 1000;
/// From one stop of an application to its next start passes so many times what the last stop and
/// start took `init`: whoever dies over and over takes a twentieth of the machine, however soon its
/// policy wants it back. Its equals would not get their turns otherwise, since who is woken comes
/// first among equals.
const SPACING: u64 = 20;

/// Why a protection domain was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A fault.
    Fault,
    /// It has made no progress for so many microseconds.
    Hang(u64),
    /// It has ended by itself.
    End,
}

/// What a protection domain waits for.
#[derive(Clone, Copy)]
enum Wait {
    /// Nothing: it runs, or is stopped for good.
    Nothing,
    /// Its restart, at that time.
    Until(u64),
    /// Its pages; so far `init` has worked so many microseconds.
    Pages(Position, u64),
}

/// What is known of a protection domain's lives. Times are microseconds of the
/// time stamp counter.
#[derive(Clone, Copy)]
struct Lives {
    faults: u32,
    restarts: u32,
    /// Faults in a row.
    row: u32,
    /// When it was last started.
    started: u64,
    /// When it was last stopped.
    stopped: u64,
    /// What its last stop and start took `init`, in microseconds.
    cost: u64,
    wait: Wait,
    /// It is stopped for good.
    is_buried: bool,
}

const FIRST_LIFE: Lives = Lives {
    faults: 0,
    restarts: 0,
    row: 0,
    started: 0,
    stopped: 0,
    cost: 0,
    wait: Wait::Nothing,
    is_buried: false,
};

impl Lives {
    /// Decides what becomes of a protection domain that was stopped.
    fn stop(&mut self, cause: Cause, now: u64, policy: &ProtectionDomain) -> State {
        if cause != Cause::End {
            self.faults = self.faults.saturating_add(1);
        }
        let before = core::mem::replace(&mut self.stopped, now);
        if now.saturating_sub(self.started) >= CALM {
            self.row = 0;
        }
        if cause == Cause::End && policy.restart_always == 0 {
            return State::Ended;
        }
        if policy.restart_limit == 0 {
            return State::Stopped;
        }
        if self.row >= policy.restart_limit {
            return State::GivenUp;
        }
        let first = policy.restart_backoff;
        let longest = LONGEST_BACKOFF.max(first);
        // At once if there was no fault shortly before.
        let milliseconds = match self.row.checked_sub(1) {
            None => 0,
            Some(doublings) => {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                first.saturating_mul(factor).min(longest)
            }
        };
        self.row += 1;
        let due = now + 1000 * u64::from(milliseconds);
        self.wait = Wait::Until(match policy.paced {
            0 => due,
            _ => due.max(before.saturating_add(self.cost.saturating_mul(SPACING))),
        });
        State::Restarting
    }
}

/// Everybody's lives.
pub(crate) struct Restarts {
    payload: Payload<'static>,
    lives: [Lives; limits::PROTECTION_DOMAINS],
    /// `None` if nobody's restart has to wait for others.
    pacer: Option<Pacer>,
}

impl Restarts {
    /// Nobody has been stopped yet.
    pub(crate) fn new(builder: &mut Builder<'_>) -> Result<Self, Failure> {
        let payload = builder.payload;
        let domains = payload.protection_domains.iter();
        let paced = domains.filter(|domain| domain.paced == 1 && domain.restart_limit > 0);
        // The highest of those who are paced, not each one's own: an equal that spins would keep
        // a low one from its next life.
        let priority = paced.map(|domain| domain.priority as u8).max();
        let takes_programs = builder.sent.iter().any(|sent| sent.image != usize::MAX);
        let pacer = match priority.or(takes_programs.then_some(1)) {
            Some(priority) => Some(Pacer::new(builder, priority)?),
            None => None,
        };
        Ok(Self {
            payload,
            lives: [FIRST_LIFE; limits::PROTECTION_DOMAINS],
            pacer,
        })
    }

    /// How often a protection domain has been started again.
    pub(crate) fn restarts(&self, index: usize) -> u32 {
        self.lives[index].restarts
    }

    /// Another image has been put in the place of what ran, at `now`: a life like any other. Yields how
    /// many there have been besides the first.
    pub(crate) fn swapped(&mut self, index: usize, now: u64) -> u32 {
        let lives = &mut self.lives[index];
        lives.wait = Wait::Nothing;
        lives.started = now;
        lives.restarts = lives.restarts.saturating_add(1);
        lives.restarts
    }

    /// Whether a protection domain is stopped for good.
    pub(crate) fn is_buried(&self, index: usize) -> bool {
        self.lives[index].is_buried
    }

    /// So many microseconds were spent on stopping a protection domain.
    pub(crate) fn note_cost(&mut self, index: usize, microseconds: u64) {
        self.lives[index].cost = microseconds;
    }

    /// Counts a stop and shows what becomes of the protection domain.
    pub(crate) fn stop(
        &mut self,
        index: usize,
        cause: Cause,
        now: u64,
        builder: &mut Builder<'_>,
        started: &Started,
    ) -> State {
        let lives = &mut self.lives[index];
        let state = lives.stop(cause, now, &self.payload.protection_domains[index]);
        if let Some(status) = started.status {
            let idle = match cause {
                Cause::Hang(idle) => idle,
                _ => 0,
            };
            status.set_stopped(index, state, lives.faults, idle);
        }
        if state != State::Restarting {
            lives.is_buried = true;
            bury(index, builder);
        }
        state
    }

    /// Asks to be told when nobody more important has work.
    pub(crate) fn ask(&mut self) {
        if let Some(pacer) = &mut self.pacer {
            pacer.ask();
        }
    }

    /// The pacer says that nobody more important has work.
    pub(crate) fn go_on(
        &mut self,
        builder: &mut Builder<'_>,
        heartbeats: &mut Heartbeats,
        started: &Started,
        console: Option<u64>,
    ) {
        if let Some(pacer) = &mut self.pacer {
            pacer.answered();
        }
        let count = self.payload.protection_domains.len();
        let waiting = |index: &usize| {
            let is_paced = self.payload.protection_domains[*index].paced == 1;
            is_paced && matches!(self.lives[*index].wait, Wait::Pages(..))
        };
        if let Some(index) = (0..count).find(waiting) {
            self.work(index, builder, heartbeats, started, console);
        }
    }

    /// Begins and goes on with the restarts whose time has come.
    pub(crate) fn serve(
        &mut self,
        builder: &mut Builder<'_>,
        heartbeats: &mut Heartbeats,
        started: &Started,
        console: Option<u64>,
    ) {
        let mut waiting = false;
        for index in 0..self.payload.protection_domains.len() {
            let now = start::microseconds(started.tsc_megahertz);
            if matches!(self.lives[index].wait, Wait::Until(due) if due <= now) {
                self.lives[index].wait = Wait::Pages(Position::default(), 0);
            }
            if self.payload.protection_domains[index].paced == 0 {
                while matches!(self.lives[index].wait, Wait::Pages(..)) {
                    self.work(index, builder, heartbeats, started, console);
                }
            }
            waiting |= matches!(self.lives[index].wait, Wait::Pages(..));
        }
        if let Some(pacer) = &mut self.pacer
            && waiting
        {
            pacer.ask();
        }
    }

    /// When the next restart begins, in microseconds.
    pub(crate) fn due(&self) -> Option<u64> {
        let times = self.lives.iter().filter_map(|lives| match lives.wait {
            Wait::Until(due) => Some(due),
            _ => None,
        });
        times.min()
    }

    /// Does a part of a restart.
    fn work(
        &mut self,
        index: usize,
        builder: &mut Builder<'_>,
        heartbeats: &mut Heartbeats,
        started: &Started,
        console: Option<u64>,
    ) {
        let lives = &mut self.lives[index];
        let Wait::Pages(mut position, worked) = lives.wait else {
            return;
        };
        let before = start::microseconds(started.tsc_megahertz);
        let filled = builder.refill(index, builder.slots.domains[index].image, &mut position);
        let now = start::microseconds(started.tsc_megahertz);
        let worked = worked + now.saturating_sub(before);
        let result = match filled {
            Ok(false) => {
                lives.wait = Wait::Pages(position, worked);
                return;
            }
            Ok(true) => {
                lives.wait = Wait::Nothing;
                lives.started = now;
                lives.cost = lives.cost.saturating_add(worked);
                lives.restarts = lives.restarts.saturating_add(1);
                heartbeats.forget(index);
                // Before it runs: who asks it or is asked by it must not take it for its
                // predecessor.
                if let Some(status) = started.status {
                    let restart = Restart {
                        count: lives.restarts,
                        started: now,
                        outage: now.saturating_sub(lives.stopped),
                        rebuild: worked,
                    };
                    status.set_restarted(index, restart);
                    builder.show_free(status);
                }
                builder
                    .drop_signals(index)
                    .and_then(|()| builder.run(index))
            }
            Err(failure) => Err(failure),
        };
        let name = builder.name_of(index);
        match (result, console) {
            (Err(failure), _) => {
                lives.wait = Wait::Nothing;
                if let Some(status) = started.status {
                    status.set_stopped(index, State::GivenUp, lives.faults, 0);
                }
                serial_line!("{name} cannot be started again: {failure}.");
                lives.is_buried = true;
                bury(index, builder);
            }
            (Ok(()), None) => serial_line!(
                "{name} was restarted, {} ms after its fault (restarts so far: {}).",
                now.saturating_sub(lives.stopped) / 1000,
                lives.restarts
            ),
            (Ok(()), Some(_)) => {}
        }
        if let Some(console) = console {
            sel4::syscall::signal(console);
        }
    }
}

/// Sees to it that nobody waits for a protection domain that is stopped for good, and that its
/// devices do no more.
fn bury(index: usize, builder: &mut Builder<'_>) {
    let done = builder
        .disconnect_devices(index)
        .and_then(|()| builder.leave_answering(index));
    if let Err(failure) = done {
        let name = builder.name_of(index);
        serial_line!("{name} is stopped, but not all of it could be taken back: {failure}.");
    }
}
