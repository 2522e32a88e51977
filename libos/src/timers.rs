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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a table of what was wanted: nothing comes up late, nothing twice.
        #[test]
        fn timers_come_up_when_they_should(
            steps in proptest::collection::vec((0u32..8, 0i64..100, any::<bool>()), 1..200),
        ) {
            let mut timers = Timers::default();
            let mut wanted = [None; 8];
            let mut armed = [None; 8];
            let mut now = 0;
            for (index, after, forget) in steps {
                let at = index as usize;
                let timer = Timer::Connection(index);
                if forget {
                    timers.disarm(timer, armed[at].take());
                    wanted[at] = None;
                } else {
                    wanted[at] = Some(Instant::from_micros(now + after));
                    armed[at] = timers.arm(timer, armed[at], wanted[at]);
                    prop_assert!(armed[at] <= wanted[at]);
                }
                now += 3;
                let time = Instant::from_micros(now);
                while let Some(due) = timers.next_due(time) {
                    let Timer::Connection(due) = due else {
                        unreachable!("there are only connections here")
                    };
                    let due = due as usize;
                    prop_assert!(armed[due].take().is_some_and(|at| at <= time));
                    if wanted[due].is_some_and(|at| at > time) {
                        armed[due] = timers.arm(Timer::Connection(due as u32), None, wanted[due]);
                    } else {
                        wanted[due] = None;
                    }
                }
                for at in wanted.into_iter().flatten() {
                    prop_assert!(at > time, "a timer is late");
                    prop_assert!(timers.earliest().is_some_and(|first| first <= at));
                }
            }
        }
    }
}
