//! Results as JSON, a table and pictures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use segue_system_tests::figures::{Figure, number, rounded};
use serde_json::{Map, Value, json};

use crate::hybrid::Course;
use crate::machines::{MEMORY, Side};
use crate::measure::{Measured, Sample};
use crate::packages::Packages;
use crate::plots;
use crate::profile::Parts;
use crate::work::Work;

/// Functions that are named of each breakdown.
const FUNCTIONS: usize = 40;

/// All that was measured in one run.
#[derive(Debug)]
pub struct Report {
    machine: Map<String, Value>,
    idle: BTreeMap<Side, f64>,
    /// MiB in use.
    memory: BTreeMap<Side, f64>,
    /// Milliseconds from power-on to the first answer.
    boot: BTreeMap<Side, f64>,
    course: Option<Course>,
    measured: Vec<Measured>,
    parts: Vec<(Work, Side, Parts)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(packages: &Packages, quick: bool) -> Self {
        let mut machine = Map::new();
        let mut add = |name: &str, value: String| machine.insert(name.into(), value.into());
        add(
            "commit",
            output("git", &["rev-parse", "--short=12", "HEAD"]),
        );
        add("qemu", output("qemu-system-x86_64", &["--version"]));
        add("linux", packages.version("linux-image").into());
        add("nginx", packages.version("nginx").into());
        add("redis", packages.version("redis-server").into());
        add("wrk", output("dpkg-query", &["-Wf", "${Version}", "wrk"]));
        add("redis-benchmark", output("redis-benchmark", &["--version"]));
        add("host", output("uname", &["-srm"]));
        add("effort", if quick { "quick" } else { "full" }.into());
        Self {
            machine,
            idle: BTreeMap::new(),
            memory: BTreeMap::new(),
            boot: BTreeMap::new(),
            course: None,
            measured: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Adds what a side does in a second without work.
    pub fn add_idle(&mut self, side: Side, rate: f64) {
        self.idle.insert(side, rate);
    }

    /// Adds how many MiB of memory a side uses right after the start.
    pub fn add_memory(&mut self, side: Side, mebibytes: f64) {
        self.memory.insert(side, mebibytes);
    }

    /// Adds how long both take from power-on to the first answer, in milliseconds of virtual time.
    pub fn add_boot(&mut self, linux: f64, segue: f64) {
        self.boot = BTreeMap::from([(Side::Linux, linux), (Side::Server, segue)]);
    }

    /// Adds a run with switches.
    pub fn add_course(&mut self, course: Course) {
        self.course = Some(course);
    }

    /// What goes to docs/figures.json.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |name: String, value: f64, unit, about: String| {
            figures.push(Figure::new(name, value, unit, about));
        };
        for measured in &self.measured {
            let (name, unit) = (measured.work.name(), measured.work.unit());
            for side in Side::ALL {
                if let Some(sample) = measured.median(side) {
                    let about = format!("guest instructions for a {unit}, {}", side.about());
                    let name = format!("bench.{name}.{}.instructions", side.name());
                    add(name, sample.per_unit().round(), "instructions", about);
                }
            }
            for side in [Side::Server, Side::Direct] {
                if let Some(ratio) = measured.to_linux(side) {
                    let about = format!(
                        "instructions for a {unit} against Linux's, {}",
                        side.about()
                    );
                    add(
                        format!("bench.{name}.{}_to_linux", side.name()),
                        round(ratio),
                        "ratio",
                        about,
                    );
                }
                let rate = |side| measured.median(side).map(|sample| sample.done.rate);
                if let (Some(linux), Some(rate)) = (rate(Side::Linux), rate(side)) {
                    let about = format!("{unit}s in a second against Linux's, {}", side.about());
                    add(
                        format!("bench.{name}.{}_to_linux_rate", side.name()),
                        round(rate / linux),
                        "ratio",
                        about,
                    );
                }
            }
            if let (Some(server), Some(direct)) =
                (measured.median(Side::Server), measured.median(Side::Direct))
            {
                let ratio = server.per_unit() / direct.per_unit();
                let about = "instructions through the network server against direct mode; the paper has 1.8";
                add(
                    format!("bench.{name}.server_to_direct"),
                    round(ratio),
                    "ratio",
                    about.into(),
                );
            }
        }
        for (side, rate) in &self.idle {
            let about = format!(
                "guest instructions in a second of the host without work, {}",
                side.about()
            );
            add(
                format!("bench.idle.{}.instructions_per_second", side.name()),
                rate.round(),
                "instructions",
                about,
            );
        }
        for (side, mebibytes) in &self.memory {
            let about = format!(
                "memory in use right after the start, of {MEMORY} MiB, {}",
                side.about()
            );
            add(
                format!("bench.memory.{}.mib", side.name()),
                mebibytes.round(),
                "MiB",
                about,
            );
        }
        for (side, milliseconds) in &self.boot {
            let about = format!(
                "virtual time from power-on to the first answer, {}",
                side.about()
            );
            add(
                format!("bench.boot.{}.first_answer_ms", side.name()),
                milliseconds.round(),
                "ms",
                about,
            );
        }
        figures
    }

    /// Adds work.
    pub fn add(&mut self, measured: Measured) {
        self.measured.push(measured);
    }

    /// Adds where a side's instructions for some work are.
    pub fn add_parts(&mut self, work: Work, side: Side, parts: Parts) {
        self.parts.push((work, side, parts));
    }

    /// Writes `results.json`, `table.md` and pictures into this folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let save = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let text = serde_json::to_string_pretty(&self.json()).map_err(|error| error.to_string())?;
        save("results.json", text + "\n")?;
        let table = self.table();
        println!("{table}");
        save("table.md", table)?;
        save("breakdown.md", self.breakdown())?;
        self.draw(folder)
    }

    /// The pictures: the run with switches, instructions and rates against Linux's.
    fn draw(&self, folder: &Path) -> Result<(), String> {
        if let Some(course) = &self.course {
            let marks = [
                (course.switches[0], "to direct mode"),
                (course.switches[1], "to server mode"),
            ];
            let title = "128 KiB downloads over 8 connections";
            plots::course(
                &folder.join("hybrid.svg"),
                title,
                "requests in a second",
                &course.rates,
                &marks,
            )?;
            let file = folder.join("hybrid-instructions.svg");
            plots::course(
                &file,
                title,
                "instructions for a request",
                &course.costs,
                &marks,
            )?;
        }
        let sides = Side::ALL.map(Side::name);
        let group = |measured: &Measured, value: &dyn Fn(&Sample) -> f64| {
            let linux = measured.median(Side::Linux).map(value);
            let values = Side::ALL.map(|side| Some(measured.median(side).map(value)? / linux?));
            (measured.work.name(), values.to_vec())
        };
        let groups = |value: &dyn Fn(&Sample) -> f64| -> Vec<_> {
            let all = self.measured.iter();
            all.map(|measured| group(measured, value)).collect()
        };
        plots::bars(
            &folder.join("instructions.svg"),
            "Guest instructions for a unit of work",
            "Linux = 1, less is better",
            &sides,
            &groups(&Sample::per_unit),
        )?;
        plots::bars(
            &folder.join("rates.svg"),
            "Work done in a second",
            "Linux = 1, more is better",
            &sides,
            &groups(&|sample| sample.done.rate),
        )
    }

    /// Where instructions are, for people.
    fn breakdown(&self) -> String {
        let mut text = String::from("# Where Segue's instructions are\n");
        for (work, side, parts) in &self.parts {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "\n## {}, {}\n\nInstructions for each {}, by program and part; then by function.\n\n",
                work.name(),
                side.name(),
                work.unit()
            );
            let _ = writeln!(
                text,
                "| program | part | instructions |\n| --- | --- | ---: |"
            );
            for ((program, part), count) in parts.by_part() {
                let _ = writeln!(text, "| {program} | {part} | {count:.0} |");
            }
            let _ = writeln!(
                text,
                "\n| program | part | function | instructions |\n| --- | --- | --- | ---: |"
            );
            for ((program, part, function), count) in parts.functions().into_iter().take(FUNCTIONS)
            {
                let _ = writeln!(text, "| {program} | {part} | `{function}` | {count:.0} |");
            }
        }
        text
    }

    fn json(&self) -> Value {
        let works: Map<String, Value> = self
            .measured
            .iter()
            .map(|measured| (measured.work.name(), entry(measured)))
            .collect();
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|(work, side, parts)| {
                let parts: Map<String, Value> = parts
                    .by_part()
                    .into_iter()
                    .map(|((program, part), count)| {
                        (format!("{program}: {part}"), json!(count.round()))
                    })
                    .collect();
                json!({ "work": work.name(), "side": side.name(), "instructions": parts })
            })
            .collect();
        let by_side = |values: &BTreeMap<Side, f64>| -> Map<String, Value> {
            let values = values.iter();
            values
                .map(|(side, value)| (side.name().into(), json!(value.round())))
                .collect()
        };
        let course = self.course.as_ref().map(|course| {
            json!({
                "requests_per_second": course.rates,
                "instructions_per_request": course.costs,
                "switches_at_seconds": course.switches,
                "completed": course.counts[0],
                "connections_lost": course.counts[1],
                "wrong": course.counts[2],
            })
        });
        json!({ "machine": self.machine, "memory_mib": by_side(&self.memory), "first_answer_ms": by_side(&self.boot),
            "hybrid": course, "idle_instructions_per_second": by_side(&self.idle), "work": works, "breakdown": parts })
    }

    fn table(&self) -> String {
        // Writing to a String does not fail.
        let mut text = String::from(
            "# Results\n\nGuest instructions for a unit of work, and against Linux's.\n\n\
             | work | unit | Linux | server | direct | server : Linux | direct : Linux | server : direct | furthest apart |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        let ratio = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for measured in &self.measured {
            let count = |side| whole(measured.median(side).map(Sample::per_unit));
            let spreads = Side::ALL
                .into_iter()
                .filter_map(|side| measured.spread(side));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} % |",
                measured.work.name(),
                measured.work.unit(),
                count(Side::Linux),
                count(Side::Server),
                count(Side::Direct),
                ratio(measured.to_linux(Side::Server)),
                ratio(measured.to_linux(Side::Direct)),
                ratio(measured.against(Side::Server, Side::Direct, Sample::per_unit)),
                spreads.fold(0.0, f64::max) * 100.0
            );
        }
        text += "\nWork done in a second, and the time for one unit at a client, against Linux's in the same run.\n\n\
                 | work | rate, server | direct | median time, server | direct | 99 %, server | direct |\n\
                 | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
        for measured in &self.measured {
            let against = |side, value: fn(&Sample) -> f64| {
                let found = measured.against(side, Side::Linux, value);
                ratio(found.filter(|value| value.is_finite()))
            };
            let both = |value| {
                format!(
                    "{} | {}",
                    against(Side::Server, value),
                    against(Side::Direct, value)
                )
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                measured.work.name(),
                both(|sample| sample.done.rate),
                both(|sample| sample.latency(0)),
                both(|sample| sample.latency(1)),
            );
        }
        for (side, rate) in &self.idle {
            let rate = whole(Some(*rate));
            let _ = writeln!(
                text,
                "\nIdle, {}: {rate} instructions a second.",
                side.about()
            );
        }
        for (side, mebibytes) in &self.memory {
            let about = side.about();
            let _ = writeln!(
                text,
                "\nMemory right after the start, {about}: {mebibytes:.0} MiB of {MEMORY}."
            );
        }
        for (side, milliseconds) in &self.boot {
            let about = side.about();
            let _ = writeln!(
                text,
                "\nFirst answer, {about}: {milliseconds:.0} ms of virtual time after power-on."
            );
        }
        if let Some(Course { counts, .. }) = &self.course {
            let [completed, lost, wrong] = counts;
            let _ = writeln!(
                text,
                "\nHybrid run: {completed} downloads of 128 KiB over a switch to direct mode and back; {lost} \
                 connections lost, {wrong} answers wrong."
            );
        }
        text
    }
}

fn entry(measured: &Measured) -> Value {
    let mut entry = Map::new();
    entry.insert("unit".into(), measured.work.unit().into());
    for (side, samples) in &measured.samples {
        let Some(median) = measured.median(*side) else {
            continue;
        };
        let units = median.done.units.max(1) as f64;
        let mut one = json!({
            "instructions": median.per_unit().round(),
            "user": (median.instructions.user as f64 / units).round(),
            "kernel": (median.instructions.kernel as f64 / units).round(),
            "all": samples.iter().map(|sample| sample.per_unit().round()).collect::<Vec<_>>(),
            "spread": measured.spread(*side),
            "rate": median.done.rate,
        });
        if let Some([median, high]) = median.done.latency {
            one["latency_us"] = json!({ "median": median, "p99": high });
        }
        if *side != Side::Linux {
            let against = |value: fn(&Sample) -> f64| measured.against(*side, Side::Linux, value);
            one["to_linux"] = json!({
                "instructions": measured.to_linux(*side),
                "rate": against(|sample| sample.done.rate),
                "latency_median": against(|sample| sample.latency(0)),
                "latency_p99": against(|sample| sample.latency(1)),
            });
        }
        entry.insert(side.name().into(), one);
    }
    Value::Object(entry)
}

/// A ratio with as many digits as mean something.
fn round(ratio: f64) -> f64 {
    rounded(ratio, if ratio < 0.1 { 4 } else { 3 })
}

/// An amount without decimals.
fn whole(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| number(value.round()))
}

/// The first line that a program prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or("?")
        .to_owned()
}
