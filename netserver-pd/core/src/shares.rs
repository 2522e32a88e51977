//! How much of the server's time an application may take while others are there.
//!
//! The server runs before the applications, so whoever makes it work takes time away
//! from the others, in its own time slice and beyond. Fair turns ([`crate::fair`]) do not
//! help, since the others' frames are not there yet. So each application has accounts
//! of the time that the server has spent on its frames, leaky buckets; an account that is
//! too full has to run out before the server goes on with that application's frames. They
//! stay in its ring meanwhile, which slows it down. Who is alone never waits.
//!
//! Most frames are asked for: they answer others, or carry so much that they are worth
//! their headers. Whoever sends them does work of its own, several times of what it costs
//! the server; it waits only while others want to run. The rest, frames that are dropped
//! and small ones that nobody has asked for, is what floods are made of. For those there is
//! a small part of the time while anybody else is active.

use crate::directory::Applications;
use alloc::vec::Vec;

/// One part in so many of an application's fair share of the processor is what the server
/// may spend on frames that were asked for, while others want to run.
pub const PART: u64 = 4;

/// One part in so many of the time is what the server may spend on other frames of an
/// application, while others are active.
pub const UNASKED_PART: u64 = 1024;

/// A frame of so many bytes is worth its headers.
pub const LARGE: usize = 512;

/// How many small frames may answer a received one.
pub const ANSWERS: u32 = 1;

/// Most answers that may be outstanding.
pub const MOST_ANSWERS: u32 = 256;

/// What an account holds before its owner has to wait, in nanoseconds.
pub const BURST: u64 = 1_000_000;

/// The same for frames that nobody has asked for.
pub const UNASKED_BURST: u64 = 200_000;

/// Longest time without another look, in microseconds: the others may be done.
pub const LONGEST_WAIT: u64 = 2_000;

/// How long others that have stopped to do anything count as being active, in
/// microseconds.
pub const ACTIVE: u64 = 20_000;

/// Accounts of all applications.
#[derive(Debug)]
pub struct Shares {
    accounts: Vec<Account>,
    others: Others,
    counted_at: Option<u64>,
}

/// Applications other than the one in question, as last counted.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    active: Applications,
    at_work: Applications,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    asked: Bucket,
    unasked: Bucket,
    /// Small frames that it may send in answer to what it has received.
    answers: u32,
    /// Microseconds; when something was last done for it.
    active_at: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Nanoseconds.
    level: u64,
    /// Microseconds.
    drained_at: u64,
    /// One part in so many of the time runs out of it.
    slowness: u64,
}

impl Account {
    const EMPTY: Self = Self {
        asked: Bucket::new(PART),
        unasked: Bucket::new(UNASKED_PART),
        answers: 0,
        active_at: None,
    };
}

impl Bucket {
    const fn new(slowness: u64) -> Self {
        Self {
            level: 0,
            drained_at: 0,
            slowness,
        }
    }

    /// Adds so many nanoseconds. What could have run out before is not saved up.
    #[inline]
    fn charge(&mut self, nanoseconds: u64, now: u64) {
        self.drain(now);
        self.level = self.level.saturating_add(nanoseconds);
    }

    #[inline]
    fn drain(&mut self, now: u64) {
        let passed = now.saturating_sub(self.drained_at);
        self.drained_at = now;
        if self.level > 0 {
            let drained = passed.saturating_mul(1000) / self.slowness;
            self.level = self.level.saturating_sub(drained);
        }
    }

    /// Microseconds until it holds no more than `burst`, if one part in `slowness` of the
    /// time runs out of it; never if nobody minds.
    fn wait(&mut self, burst: u64, slowness: Option<u64>, now: u64) -> Option<u64> {
        if self.level <= burst {
            return None;
        }
        let Some(slowness) = slowness else {
            // Nobody has to wait later for what did not hurt anybody.
            self.level = burst / 2;
            self.drained_at = now;
            return None;
        };
        self.slowness = slowness;
        self.drain(now);
        let over = self.level.checked_sub(burst).filter(|over| *over > 0)?;
        Some(over * slowness / 1000)
    }
}

impl Shares {
    /// Empty accounts of so many applications.
    pub fn new(applications: usize) -> Self {
        Self {
            accounts: alloc::vec![Account::EMPTY; applications],
            others: Others::default(),
            counted_at: None,
        }
    }

    /// Something was done for this application: it was sent a frame, or sent one.
    #[inline]
    pub fn note_active(&mut self, application: usize, now: u64) {
        self.accounts[application].active_at = Some(now);
    }

    /// This application was sent a frame, which it may answer.
    #[inline]
    pub fn note_received(&mut self, application: usize, now: u64) {
        let account = &mut self.accounts[application];
        account.answers = (account.answers + ANSWERS).min(MOST_ANSWERS);
        account.active_at = Some(now);
    }

    /// Whether a frame of this many bytes that an application sends was asked for.
    #[inline]
    pub fn is_asked(&mut self, application: usize, wire_length: usize) -> bool {
        let answers = &mut self.accounts[application].answers;
        if wire_length >= LARGE {
            return true;
        }
        let is_answer = *answers > 0;
        *answers = answers.saturating_sub(1);
        is_answer
    }

    /// Adds the time spent on `frames` frames of an application, some of them dropped or
    /// not asked for.
    #[inline]
    pub fn charge(
        &mut self,
        application: usize,
        nanoseconds: u64,
        frames: u64,
        unasked: u64,
        now: u64,
    ) {
        let account = &mut self.accounts[application];
        let part = match unasked {
            0 => 0,
            _ => nanoseconds * unasked.min(frames) / frames.max(1),
        };
        if part > 0 {
            account.unasked.charge(part, now);
        }
        account.asked.charge(nanoseconds - part, now);
    }

    /// How many microseconds this application has to wait; `is_at_work` says whether
    /// one wants to run, of those that are up.
    pub fn wait(
        &mut self,
        application: usize,
        up: Applications,
        now: u64,
        is_at_work: impl Fn(usize) -> bool,
    ) -> Option<u64> {
        let account = &self.accounts[application];
        if account.asked.level <= BURST && account.unasked.level <= UNASKED_BURST {
            return None;
        }
        // Counting costs something for each application: not for each frame.
        let counted = self.counted_at.map(|at| now.saturating_sub(at));
        if counted.is_none_or(|passed| passed >= LONGEST_WAIT / 2) {
            self.count(up, now, is_at_work);
        }
        let others = |set: Applications| (set & !(1 << application)).count_ones();
        let at_work = u64::from(others(self.others.at_work));
        let active = u64::from(others(self.others.active));
        let account = &mut self.accounts[application];
        let slowness = (at_work > 0).then_some(PART * (active + 1));
        // They may be done soon.
        let asked = account.asked.wait(BURST, slowness, now);
        let asked = asked.map(|wait| wait.clamp(LONGEST_WAIT / 20, LONGEST_WAIT));
        let slowness = (active > 0).then_some(UNASKED_PART);
        let unasked = account.unasked.wait(UNASKED_BURST, slowness, now);
        let unasked = unasked.map(|wait| wait.clamp(LONGEST_WAIT / 20, ACTIVE));
        asked.max(unasked)
    }

    fn count(&mut self, up: Applications, now: u64, is_at_work: impl Fn(usize) -> bool) {
        let mut others = Others::default();
        for index in crate::server::members(up) {
            let active_at = self
                .accounts
                .get(index)
                .and_then(|account| account.active_at);
            if active_at.is_some_and(|at| now.saturating_sub(at) <= ACTIVE) {
                others.active |= 1 << index;
                others.at_work |= Applications::from(is_at_work(index)) << index;
            }
        }
        self.others = others;
        self.counted_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    /// Application 0 wants all it can get, in spans of `span` microseconds, while `others`
    /// others are at work. Returns the microseconds it got in `time`.
    fn flood(others: usize, span: u64, unasked: u64, time: u64) -> u64 {
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
                    shares.charge(0, span * 1000, 64, unasked, now);
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
            let part = time / UNASKED_PART;
            let unasked = flood(others, span, 64, time);
            prop_assert!(unasked <= part + 2 * (BURST / 1000 + span), "{unasked} of {part}");
            prop_assert!(unasked + BURST / 1000 + span >= part * 9 / 10, "{unasked} of {part}");
        }
    }

    #[test]
    fn who_is_alone_gets_all() {
        assert_eq!(flood(0, 100, 64, 1_000_000), 1_000_000);
    }

    #[test]
    fn others_count_while_they_are_active_and_at_work() {
        let mut shares = Shares::new(3);
        let mut now = 1_000_000;
        let mut wait = |shares: &mut Shares, pass: u64, at_work: usize| {
            now += pass;
            shares.charge(0, 2 * BURST, 1, 0, now);
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

    #[test]
    fn who_is_idle_saves_nothing_up() {
        let mut shares = Shares::new(2);
        for now in [1_000_000, 10_000_000] {
            shares.note_active(1, now);
            shares.charge(0, 2 * UNASKED_BURST, 1, 1, now);
            let wait = shares.wait(0, 0b11, now, |_| true);
            assert!(wait >= Some(ACTIVE), "{wait:?}");
        }
    }

    #[test]
    fn a_small_frame_is_asked_for_by_a_received_one() {
        let mut shares = Shares::new(2);
        assert!(shares.is_asked(0, LARGE) && !shares.is_asked(0, LARGE - 1));
        shares.note_received(0, 0);
        let answers = (0..10).filter(|_| shares.is_asked(0, 60)).count();
        assert_eq!(answers, ANSWERS as usize);
        assert!(!shares.is_asked(1, 60));
        for _ in 0..2 * MOST_ANSWERS {
            shares.note_received(1, 0);
        }
        let answers = (0..2 * MOST_ANSWERS)
            .filter(|_| shares.is_asked(1, 60))
            .count();
        assert_eq!(answers, MOST_ANSWERS as usize);
    }
}
