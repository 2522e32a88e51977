//! When the network card is looked at although nothing has been heard of it: an interrupt can
//! be lost, a device can stop, the word that a function is enabled can have come too early.
//!
//! The watch is close while there is something to watch, and a little longer; then the card is
//! looked at so seldom that it costs next to nothing. It decides what is to be done; who asks it
//! does it.

/// How soon a card that is at work is looked at, in microseconds.
const SOON: u64 = 20_000;
/// A card without work is looked at at doubled intervals, up to this one: the interrupt that tells of
/// the first frame after a long silence can be lost, too.
const LATEST: u64 = 1_280_000;
/// How soon a function that does not run is looked at, in microseconds, and at doubled
/// intervals again.
const FIRST_PROBE: u64 = 2_000;
/// A function that does not run is looked at this often at least, in microseconds.
const LAST_PROBE: u64 = 256_000;

/// What is seen of the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Its queues were started.
    pub is_running: bool,
    /// It can be started, as far as its registers say.
    pub is_ready: bool,
    /// Its queues are still as they were started.
    pub is_intact: bool,
    /// Frames are under way, and none was completed for a long time.
    pub is_stalled: bool,
    /// Frames are under way.
    pub is_under_way: bool,
    /// Frames received and completed so far.
    pub done: u64,
    /// Something waits to be looked at that no interrupt has told of.
    pub is_untold: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// The function is to be started.
    Start,
    /// Nothing was completed since the last time: the card is told again what there is.
    Nudge,
    /// The card was reset by somebody else, or does not move: it is started anew.
    StartAnew,
    /// It has not moved even so: it is reset, and waits to be enabled.
    Reset,
}

/// The watch over one network card.
#[derive(Debug, Default)]
pub struct Watch {
    at: Option<u64>,
    wait: u64,
    done: u64,
    has_started_anew: bool,
    /// Something was found that no interrupt had told of, and none has come since.
    is_suspicious: bool,
    lost: bool,
}

impl Watch {
    /// When [`Self::look`] is to be called, in microseconds.
    pub fn at(&self) -> Option<u64> {
        self.at
    }

    /// Whether [`Self::begin`] has something to do now that the card is at work.
    #[inline]
    pub fn is_slow(&self) -> bool {
        self.at.is_none() || self.wait > SOON
    }

    /// Watches closely from now on: the card is at work.
    pub fn begin(&mut self, now: u64) {
        self.wait = SOON;
        let soon = now + SOON;
        self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
    }

    /// Watches for the moment at which a function that does not run can be started.
    pub fn begin_probing(&mut self, now: u64) {
        self.wait = FIRST_PROBE;
        self.at = Some(now + FIRST_PROBE);
    }

    /// An interrupt has come: perhaps the one that seemed to be lost.
    #[inline]
    pub fn note_interrupt(&mut self) {
        self.is_suspicious = false;
    }

    /// Whether an interrupt was found to be lost since the last call. What it should have told
    /// of has been looked at meanwhile.
    pub fn take_lost(&mut self) -> bool {
        core::mem::take(&mut self.lost)
    }

    /// The time has come: what is to be done, with what is seen now. The caller looks at the
    /// rings in any case.
    pub fn look(&mut self, now: u64, sight: &Sight) -> Action {
        if !sight.is_running {
            if self.wait == 0 || self.wait > LAST_PROBE {
                self.wait = FIRST_PROBE;
            }
            self.at = Some(now + self.wait);
            self.wait = (2 * self.wait).min(LAST_PROBE);
            return if sight.is_ready {
                Action::Start
            } else {
                Action::Nothing
            };
        }
        // It may have been on its way only.
        self.lost |= core::mem::replace(&mut self.is_suspicious, sight.is_untold);
        let has_moved = sight.done != self.done;
        self.done = sight.done;
        if has_moved || sight.is_under_way || sight.is_untold {
            self.wait = SOON;
        } else {
            self.wait = (2 * self.wait).clamp(SOON, LATEST);
        }
        self.at = Some(now + self.wait);
        if has_moved {
            self.has_started_anew = false;
        }
        if !sight.is_intact {
            return Action::StartAnew;
        }
        if sight.is_stalled {
            return if core::mem::replace(&mut self.has_started_anew, true) {
                self.has_started_anew = false;
                Action::Reset
            } else {
                Action::StartAnew
            };
        }
        if sight.is_under_way && !has_moved {
            return Action::Nudge;
        }
        Action::Nothing
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const RUNNING: Sight = Sight {
        is_running: true,
        is_ready: true,
        is_intact: true,
        is_stalled: false,
        is_under_way: false,
        done: 0,
        is_untold: false,
    };

    #[test]
    fn a_card_without_work_is_seldom_looked_at() {
        let mut watch = Watch::default();
        assert_eq!(watch.at(), None);
        watch.begin(1_000);
        let mut times = Vec::new();
        while let Some(at) = watch.at().filter(|at| *at < 9_000_000) {
            times.push(at);
            let sight = Sight { done: 5, ..RUNNING };
            assert_eq!(watch.look(at, &sight), Action::Nothing);
        }
        assert_eq!(times.len(), 13, "{times:?}");
        let mut last = times.windows(2).rev().take(5);
        assert!(last.all(|pair| pair[1] - pair[0] == LATEST), "{times:?}");
        assert!(watch.is_slow());
        watch.begin(9_000_000);
        assert_eq!(watch.at(), Some(9_020_000));
        assert!(!watch.is_slow());
        // The work goes on.
        for done in 6..100 {
            let at = watch.at().unwrap();
            let sight = Sight { done, ..RUNNING };
            assert_eq!(watch.look(at, &sight), Action::Nothing);
            assert_eq!(watch.at(), Some(at + 20_000));
        }
    }

    #[test]
    fn a_card_that_does_not_move_is_told_again_then_started_anew_then_reset() {
        let mut watch = Watch::default();
        watch.begin(0);
        let under_way = Sight {
            is_under_way: true,
            ..RUNNING
        };
        let stalled = Sight {
            is_stalled: true,
            ..under_way
        };
        assert_eq!(watch.look(20_000, &under_way), Action::Nudge);
        assert_eq!(watch.look(40_000, &under_way), Action::Nudge);
        assert_eq!(watch.look(600_000, &stalled), Action::StartAnew);
        assert_eq!(watch.look(620_000, &under_way), Action::Nudge);
        assert_eq!(watch.look(1_200_000, &stalled), Action::Reset);
        assert_eq!(watch.look(1_800_000, &stalled), Action::StartAnew);
        let moves = Sight {
            done: 1,
            ..under_way
        };
        assert_eq!(watch.look(1_820_000, &moves), Action::Nothing);
        let stalled = Sight { done: 1, ..stalled };
        assert_eq!(watch.look(2_800_000, &stalled), Action::StartAnew);
    }

    #[test]
    fn a_lost_interrupt_and_a_foreign_reset_are_noticed() {
        let mut watch = Watch::default();
        watch.begin(0);
        let untold = Sight {
            is_untold: true,
            ..RUNNING
        };
        for (now, came) in [(20_000, true), (40_000, false)] {
            assert_eq!(watch.look(now, &untold), Action::Nothing);
            if came {
                watch.note_interrupt();
            }
            assert!(!watch.take_lost(), "it may still come");
            assert_eq!(watch.look(now + 10_000, &RUNNING), Action::Nothing);
            assert_eq!(watch.take_lost(), !came);
        }
        let reset = Sight {
            is_intact: false,
            ..RUNNING
        };
        assert_eq!(watch.look(60_000, &reset), Action::StartAnew);
    }

    #[test]
    fn a_function_is_probed_until_it_can_be_started() {
        let mut watch = Watch::default();
        watch.begin_probing(0);
        let mut looks = 0;
        while watch.at().unwrap() < 1_000_000 {
            let at = watch.at().unwrap();
            assert_eq!(watch.look(at, &Sight::default()), Action::Nothing);
            looks += 1;
        }
        assert_eq!(looks, 10);
        let ready = Sight {
            is_ready: true,
            ..Sight::default()
        };
        let at = watch.at().unwrap();
        assert_eq!(watch.look(at, &ready), Action::Start);
        assert!(watch.at().unwrap() <= at + LAST_PROBE);
    }
}
