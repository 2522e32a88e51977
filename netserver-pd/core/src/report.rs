//! Console lines about culprits, at most one a second each.

use alloc::vec::Vec;

const INTERVAL_MICROSECONDS: u64 = 1_000_000;

/// When each culprit was last reported.
#[derive(Debug)]
pub struct Reporter {
    last: Vec<Option<u64>>,
    suppressed: Vec<u64>,
}

impl Reporter {
    /// So many culprits, none of whom has been reported.
    pub fn new(culprits: usize) -> Self {
        Self {
            last: alloc::vec![None; culprits],
            suppressed: alloc::vec![0; culprits],
        }
    }

    /// Whether to report `culprit` now, and if so how often it was not since
    /// the last report.
    pub fn admit(&mut self, culprit: usize, now_microseconds: u64) -> Option<u64> {
        let due = self.last[culprit]
            .is_none_or(|last| now_microseconds.saturating_sub(last) >= INTERVAL_MICROSECONDS);
        if !due {
            self.suppressed[culprit] += 1;
            return None;
        }
        self.last[culprit] = Some(now_microseconds);
        Some(core::mem::take(&mut self.suppressed[culprit]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_for_each() {
        let mut reporter = Reporter::new(2);
        assert_eq!(reporter.admit(0, 5), Some(0));
        assert_eq!(reporter.admit(0, 6), None);
        assert_eq!(reporter.admit(1, 7), Some(0));
        assert_eq!(reporter.admit(0, 1_000_004), None);
        assert_eq!(reporter.admit(0, 1_000_005), Some(2));
        assert_eq!(reporter.admit(0, 1_000_006), None);
    }
}
