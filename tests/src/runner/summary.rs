//! What came of the tests.

use std::fmt;
use std::time::Duration;

/// What came of one test.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub time: Duration,
    /// The end of its output if it failed.
    pub failure: Option<String>,
}

/// What came of all tests.
#[derive(Clone, Debug)]
pub struct Summary {
    outcomes: Vec<Outcome>,
    time: Duration,
}

impl Summary {
    pub(crate) fn new(outcomes: Vec<Outcome>, time: Duration) -> Self {
        Self { outcomes, time }
    }

    pub(crate) fn add(&mut self, outcomes: Vec<Outcome>, time: Duration) {
        self.outcomes.extend(outcomes);
        self.time = time;
    }

    /// Number of failed tests.
    pub fn failed(&self) -> usize {
        let failed = |outcome: &&Outcome| outcome.failure.is_some();
        self.outcomes.iter().filter(failed).count()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slowest: Vec<&Outcome> = self.outcomes.iter().collect();
        slowest.sort_by_key(|outcome| std::cmp::Reverse(outcome.time));
        writeln!(formatter, "== the ten slowest")?;
        for outcome in slowest.iter().take(10) {
            let seconds = outcome.time.as_secs_f32();
            writeln!(formatter, "{seconds:8.1} s  {}", outcome.name)?;
        }
        let failures = || self.outcomes.iter().filter(|test| test.failure.is_some());
        if self.failed() > 0 {
            writeln!(formatter, "== failed (their output is above)")?;
            for outcome in failures() {
                writeln!(formatter, "  {}", outcome.name)?;
            }
        }
        let passed = self.outcomes.len() - self.failed();
        writeln!(formatter, "== {} s", self.time.as_secs())?;
        writeln!(formatter, "{passed} passed, {} failed", self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let outcome = |name: &str, failed: bool| Outcome {
            name: name.into(),
            time: Duration::from_secs(1),
            failure: failed.then(String::new),
        };
        let outcomes = vec![outcome("a", false), outcome("b", true), outcome("c", false)];
        let summary = Summary::new(outcomes, Duration::from_secs(3));
        let text = summary.to_string();
        assert_eq!(text.lines().last(), Some("2 passed, 1 failed"));
        assert!(text.contains("  b\n"));
    }
}
