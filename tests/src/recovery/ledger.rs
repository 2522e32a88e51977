//! What was injected, and what became of it.

use std::collections::BTreeMap;
use std::fmt;

use super::{Fault, Restart};
use crate::distribution::Distribution;

/// Counts faults by point and kind.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    struck: BTreeMap<(String, String), BTreeMap<&'static str, u64>>,
    /// Times that a fault did not strike, by point.
    missed: BTreeMap<(String, String), u64>,
    /// Microseconds from fault to restart as `init` tells, faults and hangs apart.
    outages: [Vec<u64>; 2],
}

impl Ledger {
    /// A fault struck.
    pub fn struck(&mut self, fault: &Fault, restart: &Restart) {
        let key = (fault.domain.clone(), fault.point.clone());
        let kinds = self.struck.entry(key).or_default();
        *kinds.entry(fault.kind.name()).or_default() += 1;
        let outage = (restart.outage * 1e3).round() as u64;
        self.outages[usize::from(fault.kind.is_hang())].push(outage);
    }

    /// A fault did not strike.
    pub fn missed(&mut self, fault: &Fault) {
        let key = (fault.domain.clone(), fault.point.clone());
        *self.missed.entry(key).or_default() += 1;
    }

    /// Faults that struck.
    pub fn count(&self) -> u64 {
        self.struck.values().flat_map(BTreeMap::values).sum()
    }

    /// Faults that struck and are noticed by a missed heartbeat only.
    pub fn hangs(&self) -> u64 {
        self.outages[1].len() as u64
    }

    /// Faults that struck in one protection domain.
    pub fn count_of(&self, domain: &str) -> u64 {
        let of_it = self.struck.iter().filter(|((other, _), _)| other == domain);
        of_it.flat_map(|(_, kinds)| kinds.values()).sum()
    }

    /// Points at which no fault struck, though some were made.
    pub fn never_reached(&self) -> Vec<String> {
        let missed = self.missed.keys();
        let never = missed.filter(|key| !self.struck.contains_key(*key));
        never
            .map(|(domain, point)| format!("{domain} {point}"))
            .collect()
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: Self) {
        for (key, kinds) in other.struck {
            let all = self.struck.entry(key).or_default();
            for (kind, count) in kinds {
                *all.entry(kind).or_default() += count;
            }
        }
        for (key, count) in other.missed {
            *self.missed.entry(key).or_default() += count;
        }
        for (all, more) in self.outages.iter_mut().zip(other.outages) {
            all.extend(more);
        }
    }
}

impl fmt::Display for Ledger {
    /// A line for each point.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} faults:", self.count())?;
        for ((domain, point), kinds) in &self.struck {
            let key = (domain.clone(), point.clone());
            write!(formatter, "  {domain} {point}:")?;
            for (kind, count) in kinds {
                write!(formatter, " {kind} {count}")?;
            }
            match self.missed.get(&key) {
                Some(missed) => writeln!(formatter, " (not reached in time: {missed})")?,
                None => writeln!(formatter)?,
            }
        }
        for point in self.never_reached() {
            writeln!(formatter, "  {point}: never reached")?;
        }
        for (name, outages) in ["faults", "hangs"].iter().zip(&self.outages) {
            let outages = Distribution::new(outages.clone());
            writeln!(
                formatter,
                "  {name}: from fault to restart {outages}, in microseconds of the machine"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_fault_points::Kind;

    #[test]
    fn all_is_counted() {
        let fault = |point: &str, kind| Fault {
            domain: "timer".into(),
            point: point.into(),
            kind,
            skip: 0,
        };
        let restart = Restart {
            reason: String::new(),
            outage: 0.5,
            restarts: 1,
        };
        let mut ledger = Ledger::default();
        ledger.struck(&fault("set", Kind::Panic), &restart);
        ledger.struck(&fault("set", Kind::Panic), &restart);
        ledger.struck(&fault("set", Kind::Loop), &restart);
        ledger.missed(&fault("set", Kind::Loop));
        ledger.missed(&fault("cancel", Kind::Loop));
        assert_eq!((ledger.count(), ledger.count_of("timer")), (3, 3));
        assert_eq!(ledger.count_of("pcie"), 0);
        assert_eq!(ledger.never_reached(), ["timer cancel"]);
        let mut all = ledger.clone();
        all.add(ledger);
        assert_eq!(all.count(), 6);
        let text = all.to_string();
        for expected in [
            "6 faults:",
            "  timer set: loop 2 panic 4 (not reached in time: 2)",
            "  timer cancel: never reached",
            "  faults: from fault to restart median 500,",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
