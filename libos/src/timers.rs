//! Deadlines, each thing at most one.

use alloc::collections::BTreeSet;
use smoltcp::time::Instant;

/// What a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A connection, by its index.
    Connection(u32),
    /// A handshake, by its index.
    Handshake(u32),
}

/// Deadlines in order.
///
/// A deadline that moves later, as it does with nearly every segment, is not
/// touched: [`Timers::next_due`] gives it back too early, and the owner arms it
/// again. So the number of sleeping connections costs a busy one nothing.
#[derive(Default)]
pub struct Timers {
    set: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Makes sure that `timer` comes up at `deadline` or before. `armed` is what
    /// this function returned for the timer last time, `None` at first.
    #[must_use]
    pub fn arm(
        &mut self,
        timer: Timer,
        armed: Option<Instant>,
        deadline: Option<Instant>,
    ) -> Option<Instant> {
        match (armed, deadline) {
            (_, None) => armed,
            (Some(at), Some(deadline)) if at <= deadline => armed,
            (_, Some(deadline)) => {
                if let Some(at) = armed {
                    self.set.remove(&(at, timer));
                }
                self.set.insert((deadline, timer));
                Some(deadline)
            }
        }
    }

    /// Forgets a timer.
    pub fn disarm(&mut self, timer: Timer, armed: Option<Instant>) {
        if let Some(at) = armed {
            self.set.remove(&(at, timer));
        }
    }

    /// Takes out the next timer that is due.
    pub fn next_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.set.first()?;
        if at > now {
            return None;
        }
        self.set.pop_first();
        Some(timer)
    }

    /// The earliest deadline.
    pub fn earliest(&self) -> Option<Instant> {
        self.set.first().map(|&(at, _)| at)
    }
}
