//! Starting protection domains again after a fault, by the policy in the boot
//! image.

use segue_status::system::State;
use segue_system_image::Payload;
use segue_system_image::format::{ProtectionDomain, limits};

use crate::builder::{Builder, Started, name};
use crate::clock::Alarm;
use crate::failure::{Doing, Failure};
use crate::{root, serial_line, start};

/// Who has run so long, in microseconds, has not faulted in a row with what was
/// before.
const CALM: u64 = 10_000_000;
/// Longest time between a fault and the restart, in milliseconds, unless the
/// first one takes longer already.
const LONGEST_BACKOFF: u32 = 1000;

/// The priority that the kernel gives `init`.
const PRIORITY: u8 = 255;

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
    /// When it last faulted.
    faulted: u64,
    /// When it is to be started again.
    due: Option<u64>,
}

const FIRST_LIFE: Lives = Lives {
    faults: 0,
    restarts: 0,
    row: 0,
    started: 0,
    faulted: 0,
    due: None,
};

impl Lives {
    /// Counts a fault and decides what becomes of the protection domain.
    fn fault(&mut self, now: u64, policy: &ProtectionDomain) -> State {
        self.faults = self.faults.saturating_add(1);
        self.faulted = now;
        if now.saturating_sub(self.started) >= CALM {
            self.row = 0;
        }
        if policy.restart_limit == 0 {
            return State::Stopped;
        }
        if self.row >= policy.restart_limit {
            return State::GivenUp;
        }
        let first = policy.restart_backoff;
        let longest = LONGEST_BACKOFF.max(first);
        let factor = 1u32.checked_shl(self.row).unwrap_or(u32::MAX);
        let milliseconds = first.saturating_mul(factor).min(longest);
        self.row += 1;
        self.due = Some(now + 1000 * u64::from(milliseconds));
        State::Restarting
    }
}

/// Everybody's lives, and the alarm for those who wait for their next.
pub(crate) struct Restarts {
    payload: Payload<'static>,
    lives: [Lives; limits::PROTECTION_DOMAINS],
    /// `None` if nobody is ever restarted.
    alarm: Option<Alarm>,
    /// The priority at which protection domains are made anew: the highest of those
    /// to whom it may happen. Not each one's own, or a low one's equal that spins
    /// would keep `init` from the faults of others.
    work_priority: u8,
}

impl Restarts {
    /// Takes the clock, if anybody is to be restarted.
    pub(crate) fn new(builder: &mut Builder<'_>) -> Result<Self, Failure> {
        let payload = builder.payload;
        let domains = payload.protection_domains.iter();
        let restarted = domains.filter(|domain| domain.restart_limit > 0);
        let highest = restarted.map(|domain| domain.priority as u8).max();
        let alarm = match highest {
            Some(_) => Some(Alarm::new(builder.allocator, builder.slots.notification)?),
            None => None,
        };
        Ok(Self {
            payload,
            lives: [FIRST_LIFE; limits::PROTECTION_DOMAINS],
            alarm,
            work_priority: highest.unwrap_or(PRIORITY),
        })
    }

    /// Counts a fault and shows what becomes of the protection domain.
    pub(crate) fn fault(&mut self, index: usize, now: u64, started: &Started) -> State {
        let lives = &mut self.lives[index];
        let state = lives.fault(now, &self.payload.protection_domains[index]);
        if let Some(status) = started.status {
            status.set_stopped(index, state, lives.faults);
        }
        state
    }

    /// The alarm has rung.
    pub(crate) fn ring(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.acknowledge();
        }
    }

    /// Starts again whose time has come, and sets the alarm for the next.
    /// `console` is told.
    pub(crate) fn serve(
        &mut self,
        builder: &mut Builder<'_>,
        started: &Started,
        console: Option<u64>,
    ) {
        let Some(alarm) = &self.alarm else {
            return;
        };
        let count = self.payload.protection_domains.len();
        for index in 0..count {
            let lives = &mut self.lives[index];
            let now = start::microseconds(started.tsc_megahertz);
            if lives.due.is_some_and(|due| due <= now) {
                lives.due = None;
                restart(index, lives, self.work_priority, builder, started, console);
            }
        }
        let next = self.lives[..count].iter().filter_map(|lives| lives.due);
        if let Some(due) = next.min() {
            let now = start::microseconds(started.tsc_megahertz);
            alarm.set(due.saturating_sub(now));
        }
    }
}

fn restart(
    index: usize,
    lives: &mut Lives,
    work_priority: u8,
    builder: &mut Builder<'_>,
    started: &Started,
    console: Option<u64>,
) {
    let name = name(&builder.payload.protection_domains[index].name);
    // Taking back and making anew takes as long as the protection domain is large:
    // who matters more is not held up, however often it faults.
    let made = set_priority(work_priority)
        .and_then(|()| builder.remake_domain(index))
        .and_then(|()| set_priority(PRIORITY));
    lives.started = start::microseconds(started.tsc_megahertz);
    let outage = lives.started.saturating_sub(lives.faulted);
    let result = made.and_then(|()| {
        lives.restarts = lives.restarts.saturating_add(1);
        // Before it runs: who asks it or is asked by it must not take it for its
        // predecessor.
        if let Some(status) = started.status {
            status.set_restarted(index, lives.restarts, lives.started, outage);
        }
        builder.run(index)
    });
    match (result, console) {
        (Err(failure), _) => {
            if let Some(status) = started.status {
                status.set_stopped(index, State::GivenUp, lives.faults);
            }
            serial_line!("{name} cannot be started again: {failure}.");
        }
        (Ok(()), None) => serial_line!(
            "{name} was restarted {} ms after its fault (restarts so far: {}).",
            outage / 1000,
            lives.restarts
        ),
        (Ok(()), Some(_)) => {}
    }
    // If it failed half-way.
    let _ = set_priority(PRIORITY);
    if let Some(console) = console {
        sel4::syscall::signal(console);
    }
}

fn set_priority(priority: u8) -> Result<(), Failure> {
    root::THREAD
        .set_priority(priority)
        .doing("the priority could not be changed", "init")
}
