//! Which fault strikes where.

use std::collections::BTreeMap;
use std::fmt;

use segue_fault_points::{Kind, Point};

use crate::random::Random;

/// A fault to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The protection domain.
    pub domain: String,
    /// Where in its work.
    pub point: String,
    /// What happens there.
    pub kind: Kind,
    /// How often it passes the point before it happens.
    pub skip: u64,
}

impl Fault {
    /// The first time that it reaches the point.
    pub fn at(domain: &str, point: Point, kind: Kind) -> Self {
        Self {
            domain: domain.into(),
            point: point.name().into(),
            kind,
            skip: 0,
        }
    }
}

impl fmt::Display for Fault {
    /// As it is typed at the console.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            point,
            kind,
            skip,
        } = self;
        write!(formatter, "fault {domain} {point} {} {skip}", kind.name())
    }
}

/// How often a point is reached, as far as that was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    /// It was not passed as often as it was to be, so it is to be struck at the first opportunity.
    at_once: bool,
    /// How often it was not reached at all, in a row.
    misses: u32,
}

/// Most passes of a point before a fault strikes there.
const MOST_SKIPPED: usize = 32;

/// Chooses faults: in rounds, each of which has every point with every kind once, in random order, so
/// that a campaign has all of them equally often.
#[derive(Clone, Debug)]
pub struct Chooser {
    domain: String,
    random: Random,
    points: BTreeMap<String, Reach>,
    round: Vec<(String, Kind)>,
    /// So many faults in a row that do not strike have a point left out.
    patience: u32,
}

impl Chooser {
    /// Chooses among all points of a protection domain.
    pub fn of(domain: &str, random: Random) -> Self {
        let points: Vec<&str> = Point::of(domain).map(Point::name).collect();
        Self::new(domain, &points, random)
    }

    /// Chooses among these points of a protection domain.
    pub fn new(domain: &str, points: &[&str], random: Random) -> Self {
        let points = points.iter();
        let points = points.map(|point| ((*point).to_owned(), Reach::default()));
        Self {
            domain: domain.into(),
            random,
            points: points.collect(),
            round: Vec::new(),
            patience: 4,
        }
    }

    /// After how many faults in a row that do not strike a point is left out; otherwise after four.
    #[must_use]
    pub fn patience(mut self, faults: u32) -> Self {
        self.patience = faults;
        self
    }

    /// The next fault; `None` if no point is left.
    pub fn next_fault(&mut self) -> Option<Fault> {
        if self.round.is_empty() {
            let points = self.points.keys();
            self.round = points
                .flat_map(|point| Kind::ALL.map(|kind| (point.clone(), kind)))
                .collect();
        }
        if self.round.is_empty() {
            return None;
        }
        let index = self.random.below(self.round.len());
        let (point, kind) = self.round.swap_remove(index);
        let reach = self.points.get(&point).copied().unwrap_or_default();
        let skip = match self.random.below(2) {
            1 if !reach.at_once && reach.misses == 0 => self.random.below(MOST_SKIPPED) as u64,
            _ => 0,
        };
        Some(Fault {
            domain: self.domain.clone(),
            point,
            kind,
            skip,
        })
    }

    /// Whether the last fault at this point did not strike: it may be one that is reached only when a life
    /// begins.
    pub fn is_rare(&self, point: &str) -> bool {
        self.points.get(point).is_some_and(|reach| reach.misses > 0)
    }

    /// A fault was made that did not strike. After a few of these in a row the point is left out.
    pub fn missed(&mut self, fault: &Fault) {
        let Some(reach) = self.points.get_mut(&fault.point) else {
            return;
        };
        reach.at_once = true;
        if fault.skip > 0 {
            return;
        }
        reach.misses += 1;
        if reach.misses >= self.patience {
            self.points.remove(&fault.point);
            self.round.retain(|(other, _)| *other != fault.point);
        }
    }

    /// A fault struck. One that it took a new life for leaves the point a rare one.
    pub fn struck(&mut self, fault: &Fault) {
        if let Some(reach) = self.points.get_mut(&fault.point) {
            reach.misses = reach.misses.min(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_everything_once() {
        let mut chooser = Chooser::new("netserver", &["a", "b", "c"], Random::new(1));
        for _ in 0..3 {
            let mut round: Vec<(String, &str)> = (0..15)
                .map(|_| chooser.next_fault().unwrap())
                .map(|fault| (fault.point, fault.kind.name()))
                .collect();
            round.sort();
            round.dedup();
            assert_eq!(round.len(), 15);
        }
    }

    #[test]
    fn a_point_that_is_never_reached_is_left_out() {
        let mut chooser = Chooser::new("pcie", &["often", "never"], Random::new(2));
        let mut asked = BTreeMap::<String, u32>::new();
        for _ in 0..100 {
            let fault = chooser.next_fault().unwrap();
            *asked.entry(fault.point.clone()).or_default() += 1;
            match fault.point.as_str() {
                "often" => chooser.struck(&fault),
                _ => chooser.missed(&fault),
            }
        }
        // Perhaps once with others to be passed before.
        assert!((4..=5).contains(&asked["never"]), "{asked:?}");
        let mut none = Chooser::new("pcie", &[], Random::new(2));
        assert_eq!(none.next_fault(), None);
    }

    #[test]
    fn a_fault_is_a_command() {
        let fault = Fault {
            domain: "netserver".into(),
            point: "receive_copied".into(),
            kind: Kind::Deadlock,
            skip: 3,
        };
        assert_eq!(
            fault.to_string(),
            "fault netserver receive_copied deadlock 3"
        );
    }
}
