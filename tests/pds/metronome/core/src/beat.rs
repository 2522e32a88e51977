//! When the next datagram is due.

/// Microseconds between two datagrams.
pub const PERIOD: u64 = 100;

/// A stream of numbered datagrams under way. Whoever was kept from sending goes on from there and
/// makes up for nothing: a gap stays a gap, and no burst follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    next: u64,
    count: u64,
    due: u64,
}

impl Beat {
    /// `count` datagrams from number 0 on, the first one at `now` (microseconds).
    pub fn new(count: u64, now: u64) -> Self {
        Self {
            next: 0,
            count,
            due: now,
        }
    }

    /// The number of the datagram that is to be sent by now.
    pub fn due(&self, now: u64) -> Option<u64> {
        (!self.is_over() && now >= self.due).then_some(self.next)
    }

    /// It was sent.
    pub fn sent(&mut self, now: u64) {
        self.next = self.next.saturating_add(1);
        let on_time = self.due.saturating_add(PERIOD);
        self.due = if on_time > now {
            on_time
        } else {
            now.saturating_add(PERIOD)
        };
    }

    /// Datagrams sent so far.
    pub fn count_sent(&self) -> u64 {
        self.next
    }

    /// Whether all were sent.
    pub fn is_over(&self) -> bool {
        self.next >= self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_late_is_not_made_up_for() {
        let mut beat = Beat::new(4, 1000);
        assert_eq!(beat.due(999), None);
        assert_eq!(beat.due(1003), Some(0));
        beat.sent(1003);
        // A little late, and back in step.
        assert_eq!(beat.due(1099), None);
        assert_eq!(beat.due(1100), Some(1));
        beat.sent(5000);
        assert_eq!(beat.due(5099), None);
        assert_eq!(beat.due(5100), Some(2));
        beat.sent(5100);
        assert!(!beat.is_over());
        beat.sent(5200);
        assert!(beat.is_over());
        assert_eq!((beat.due(u64::MAX), beat.count_sent()), (None, 4));
    }

    proptest! {
        /// Whenever it is looked at: each number once, in order, and no more than one for each
        /// period that has begun.
        #[test]
        fn each_number_once(count in 0..50u64, steps in prop::collection::vec(0..400u64, 0..200)) {
            let mut beat = Beat::new(count, 0);
            let (mut now, mut sent) = (0, 0);
            for step in steps {
                now += step;
                if let Some(number) = beat.due(now) {
                    prop_assert_eq!(number, sent);
                    beat.sent(now);
                    sent += 1;
                    prop_assert_eq!(beat.due(now), None);
                }
                prop_assert!(sent <= count && sent <= now / PERIOD + 1);
            }
        }
    }
}
