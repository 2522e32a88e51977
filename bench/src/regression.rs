//! What work costs now against what it cost when `bench/baseline.json` was written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use segue_system_tests::paths;
use serde_json::{Map, Value, json};

use crate::machines::{Counted, Side};
use crate::measure::{Effort, Machines};
use crate::profile::Symbols;
use crate::work::{HEADLINE, Work};

const EFFORT: Effort = Effort {
    time: Duration::from_secs(2),
    repeats: 2,
};
/// Work may become so much dearer.
const TOLERANCE: f64 = 0.05;
/// So often is measured again what seems to have become dearer: on a busy host a measurement can be off.
const TRIES: usize = 3;
/// Parts that are named when work has become dearer.
const NAMED: usize = 12;

/// What a unit of work costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Instructions of the whole machine.
    pub instructions: f64,
    /// By program and part.
    pub parts: BTreeMap<String, f64>,
}

/// Costs by work and side.
pub type Costs = BTreeMap<(String, String), Cost>;

/// The file of costs that must not be exceeded.
pub fn file() -> PathBuf {
    paths::root().join("bench/baseline.json")
}

/// Segue alone, to be measured.
pub struct Bench {
    machines: Machines,
    symbols: Symbols,
}

impl Bench {
    /// Boots it.
    ///
    /// # Errors
    /// A sentence if it does not start.
    pub fn boot() -> Result<Self, String> {
        let mut segue = Counted::segue()?;
        let symbols = Symbols::read(&mut segue)?;
        let machines = Machines {
            linux: None,
            segue,
            sides: vec![Side::Server, Side::Direct],
        };
        Ok(Self { machines, symbols })
    }

    fn instructions(&mut self, work: Work) -> Result<BTreeMap<Side, f64>, String> {
        let measured = self.machines.measure(work, EFFORT)?;
        let sides = [Side::Server, Side::Direct].into_iter();
        Ok(sides
            .filter_map(|side| Some((side, measured.median(side)?.per_unit())))
            .collect())
    }

    fn parts(&mut self, work: Work, side: Side) -> Result<BTreeMap<String, f64>, String> {
        let parts = self
            .machines
            .profile(side, work, EFFORT.time, &self.symbols)?;
        let named = parts.by_part().into_iter();
        Ok(named
            .map(|((program, part), count)| (format!("{program}: {part}"), count.round()))
            .collect())
    }

    /// Measures everything that is watched.
    ///
    /// # Errors
    /// A sentence if a client fails.
    pub fn costs(&mut self) -> Result<Costs, String> {
        let mut costs = Costs::new();
        for work in HEADLINE {
            for (side, instructions) in self.instructions(work)? {
                let parts = self.parts(work, side)?;
                let instructions = instructions.round();
                println!("{}, {}: {instructions}", work.name(), side.name());
                costs.insert(
                    (work.name(), side.name().into()),
                    Cost {
                        instructions,
                        parts,
                    },
                );
            }
        }
        Ok(costs)
    }

    /// Measures everything that is watched and compares it with what it may cost.
    ///
    /// # Errors
    /// What has become dearer, by how much, and where.
    pub fn compare(&mut self, baseline: &Costs) -> Result<(), String> {
        let mut complaints = String::new();
        for work in HEADLINE {
            let mut dearer = Vec::new();
            for _ in 0..TRIES {
                dearer.clear();
                for (side, now) in self.instructions(work)? {
                    let key = (work.name(), side.name().to_owned());
                    let Some(before) = baseline.get(&key) else {
                        return Err(format!("{} has no {}, {}", file().display(), key.0, key.1));
                    };
                    let ratio = now / before.instructions;
                    println!("{}, {}: {now:.0}, {ratio:.3} of what it was", key.0, key.1);
                    if ratio > 1.0 + TOLERANCE {
                        dearer.push((side, now, before));
                    }
                }
                if dearer.is_empty() {
                    break;
                }
            }
            for (side, now, before) in dearer {
                let parts = self.parts(work, side)?;
                complaints += &complaint(
                    &format!("{}, {}", work.name(), side.name()),
                    now,
                    before,
                    &parts,
                );
            }
        }
        match complaints.is_empty() {
            true => Ok(()),
            false => Err(complaints),
        }
    }
}

/// Says by how much something has become dearer, and which parts have changed most.
fn complaint(name: &str, now: f64, before: &Cost, parts: &BTreeMap<String, f64>) -> String {
    let mut text = format!(
        "{name}: {now:.0} instructions, {:+.1} % of {:.0}\n",
        (now / before.instructions - 1.0) * 100.0,
        before.instructions
    );
    let names: std::collections::BTreeSet<&String> =
        before.parts.keys().chain(parts.keys()).collect();
    let of = |parts: &BTreeMap<String, f64>, name: &String| parts.get(name).copied().unwrap_or(0.0);
    let mut changes: Vec<(f64, &String)> = names
        .into_iter()
        .map(|name| (of(parts, name) - of(&before.parts, name), name))
        .collect();
    changes.sort_by(|one, other| other.0.abs().total_cmp(&one.0.abs()));
    for (change, part) in changes.into_iter().take(NAMED) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {change:+7.0}  {part} (now {:.0})", of(parts, part));
    }
    text
}

/// Costs as they are in the file.
pub fn to_json(costs: &Costs) -> Value {
    let mut all = Map::new();
    for ((work, side), cost) in costs {
        let entry = all.entry(work.clone()).or_insert_with(|| json!({}));
        entry[side] = json!({ "instructions": cost.instructions, "parts": cost.parts });
    }
    Value::Object(all)
}

/// Reads the file's text.
///
/// # Errors
/// A sentence if it is not what [`to_json`] wrote.
pub fn from_json(text: &str) -> Result<Costs, String> {
    let all: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(text).map_err(|error| format!("{}: {error}", file().display()))?;
    let mut costs = Costs::new();
    for (work, sides) in all {
        for (side, value) in sides {
            let parts = value["parts"].as_object().into_iter().flatten();
            let parts = parts.filter_map(|(name, count)| Some((name.clone(), count.as_f64()?)));
            let cost = Cost {
                instructions: value["instructions"]
                    .as_f64()
                    .ok_or(format!("{}: {work} has no instructions", file().display()))?,
                parts: parts.collect(),
            };
            costs.insert((work.clone(), side), cost);
        }
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: f64, parts: &[(&str, f64)]) -> Cost {
        let parts = parts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Cost {
            instructions,
            parts: parts.collect(),
        }
    }

    #[test]
    fn costs_are_read_as_they_were_written() {
        let key = |work: &str, side: &str| (work.to_owned(), side.to_owned());
        let costs = Costs::from([
            (key("a", "server"), cost(10.0, &[("x: y", 7.0)])),
            (key("a", "direct"), cost(9.0, &[])),
            (key("b", "server"), cost(8.0, &[("z: z", 1.0)])),
        ]);
        assert_eq!(from_json(&to_json(&costs).to_string()), Ok(costs));
        assert!(from_json("{\"a\":{\"server\":{}}}").is_err());
    }

    #[test]
    fn a_complaint_names_what_has_changed_most() {
        let before = cost(1000.0, &[("http: smoltcp", 600.0), ("http: copies", 400.0)]);
        let now = cost(
            1300.0,
            &[
                ("http: smoltcp", 610.0),
                ("http: hashing", 290.0),
                ("http: copies", 400.0),
            ],
        );
        let text = complaint("http_1k_c16, server", now.instructions, &before, &now.parts);
        assert!(
            text.starts_with("http_1k_c16, server: 1300 instructions, +30.0 % of 1000\n"),
            "{text}"
        );
        let first = text.lines().nth(1).expect("parts follow");
        assert!(first.contains("+290  http: hashing (now 290)"), "{text}");
    }
}
