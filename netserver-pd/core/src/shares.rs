//! How much of the server's time an application may take while others want to run.
//!
//! The server runs before the applications, so whoever makes it work takes time away
//! from the others, in its own time slice and beyond. Fair turns ([`crate::fair`]) do not
//! help, since the others' frames are not there yet. So each application has an account
//! of the time that the server has spent on its frames, a leaky bucket; while others are
//! at work, an account that is too full has to run out before the server goes on with
//! that application's frames. They stay in its ring meanwhile, which slows it down. While
//! nobody else is at work, nobody waits.
//!
//! Time for frames that are dropped is charged several times, since it serves nobody.

use crate::directory::Applications;
use alloc::vec::Vec;

/// One part in so many of an application's fair share of the processor is what the server
/// may spend on what it sends. Sending costs an application that does its own work, too,
/// several times of what it costs the server.
pub const PART: u64 = 4;

/// How often time for dropped frames counts.
pub const WASTE: u64 = 8;

/// What an account holds before its owner has to wait, in nanoseconds.
pub const BURST: u64 = 1_000_000;

/// Longest time without another look, in microseconds: the others may be done.
pub const LONGEST_WAIT: u64 = 2_000;

/// How long others that have stopped to do anything count as being at work, in
/// microseconds.
pub const ACTIVE: u64 = 20_000;

/// Accounts of all applications.
#[derive(Debug)]
pub struct Shares {
    accounts: Vec<Account>,
    /// Others at work, as last counted, and when.
    others: u64,
    counted_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Nanoseconds.
    level: u64,
    /// Microseconds.
    drained_at: u64,
    /// Microseconds; when something was last done for it.
    active_at: Option<u64>,
}

impl Shares {
    /// Empty accounts of so many applications.
    pub fn new(applications: usize) -> Self {
        Self {
            accounts: alloc::vec![Account::default(); applications],
            others: 0,
            counted_at: None,
        }
    }

    /// Something was done for this application: it was sent a frame, or sent one.
    #[inline]
    pub fn note_active(&mut self, application: usize, now: u64) {
        self.accounts[application].active_at = Some(now);
    }

    /// Adds the time spent on `frames` frames of an application, some of them dropped.
    #[inline]
    pub fn charge(&mut self, application: usize, nanoseconds: u64, frames: u64, dropped: u64) {
        let account = &mut self.accounts[application];
        let waste = nanoseconds * (WASTE - 1) * dropped / frames.max(1);
        account.level = account.level.saturating_add(nanoseconds + waste);
    }

    /// How many microseconds this application has to wait; `is_at_work` says whether
    /// another one wants to run, of those that are up.
    pub fn wait(
        &mut self,
        application: usize,
        up: Applications,
        now: u64,
        is_at_work: impl Fn(usize) -> bool,
    ) -> Option<u64> {
        if self.accounts[application].level <= BURST {
            return None;
        }
        // It has frames, even if it has waited for long.
        self.note_active(application, now);
        // Counting costs something for each application: not for each frame.
        if self
            .counted_at
            .is_none_or(|at| now.saturating_sub(at) >= LONGEST_WAIT / 2)
        {
            let is_active = |index: &usize| {
                let at = self
                    .accounts
                    .get(*index)
                    .and_then(|account| account.active_at);
                at.is_some_and(|at| now.saturating_sub(at) <= ACTIVE) && is_at_work(*index)
            };
            self.others = crate::server::members(up).filter(is_active).count() as u64;
            self.counted_at = Some(now);
        }
        // The application itself may be among them.
        let own = u64::from(is_at_work(application));
        let others = self.others.saturating_sub(own);
        let account = &mut self.accounts[application];
        let passed = now.saturating_sub(account.drained_at);
        account.drained_at = now;
        let slowness = PART * (others + 1);
        account.level = account.level.saturating_sub(passed * 1000 / slowness);
        if others == 0 {
            // Nobody has to wait later for what did not hurt anybody.
            account.level = account.level.min(BURST / 2);
        }
        if account.level <= BURST {
            return None;
        }
        let wait = (account.level - BURST) * slowness / 1000;
        Some(wait.clamp(LONGEST_WAIT / 20, LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    /// Application 0 wants all it can get, in spans of `span` microseconds, while `others`
    /// others are at work. Returns the microseconds it got in `time`.
    fn flood(others: usize, span: u64, dropped: u64, time: u64) -> u64 {
        let mut shares = Shares::new(others + 1);
        let up = (1 << (others + 1)) - 1;
        let (mut now, mut got) = (1_000_000, 0);
        let end = now + time;
        while now < end {
            for other in 1..=others {
                shares.note_active(other, now);
            }
            match shares.wait(0, up, now, |_| true) {
                Some(wait) => now += wait,
                None => {
                    shares.note_active(0, now);
                    now += span;
                    got += span;
                    shares.charge(0, span * 1000, 64, dropped);
                }
            }
        }
        got
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_a_part_of_its_share(others in 1usize..63, span in 1u64..1000) {
            let time = 10_000_000;
            let part = time / (PART * (others as u64 + 1));
            let got = flood(others, span, 0, time);
            prop_assert!(got <= part + 2 * (BURST / 1000 + span), "{got} of {part}");
            // And not much less.
            prop_assert!(got + BURST / 1000 + span >= part * 9 / 10, "{got} of {part}");
            let wasted = flood(others, span, 64, time);
            prop_assert!(wasted <= part / WASTE + 2 * (BURST / 1000 + span), "{wasted} of {part}, wasted");
        }
    }

    #[test]
    fn who_is_alone_gets_all() {
        assert_eq!(flood(0, 100, 64, 1_000_000), 1_000_000);
    }

    #[test]
    fn others_count_while_they_are_active_and_at_work() {
        let mut shares = Shares::new(3);
        let full = |shares: &mut Shares| shares.charge(0, 2 * BURST, 1, 0);
        let mut now = 1_000_000;
        let mut wait = |shares: &mut Shares, pass: u64, at_work: usize| {
            now += pass;
            full(shares);
            shares.wait(0, 0b111, now, |index| index == at_work)
        };
        assert_eq!(
            wait(&mut shares, 0, 1),
            None,
            "says so, but has done nothing"
        );
        shares.note_active(1, 1_000_000);
        assert_eq!(wait(&mut shares, 1, 1), None, "counted a moment ago");
        assert!(wait(&mut shares, LONGEST_WAIT, 1).is_some());
        assert_eq!(wait(&mut shares, LONGEST_WAIT, 2), None);
        assert_eq!(wait(&mut shares, ACTIVE, 1), None, "long ago");
    }
}
