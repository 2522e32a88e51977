//! The figures of `docs/figures.json` and how each is measured.

mod applications;
mod boot;
mod direct;
mod http;
pub mod recovery;
mod size;
pub mod switches;

use std::fmt::Write as _;
use std::fs;

use serde_json::{Map, Value, json};

pub use boot::first_answer;

use crate::paths;

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its flat name.
    pub name: String,
    /// Its value, rounded to what means something.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it says, in a line.
    pub about: String,
}

impl Figure {
    /// With all that is said of it.
    pub fn new(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        about: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            about: about.into(),
        }
    }
}

/// Switches that are measured; a campaign measures more.
const SWITCHES: u64 = 100;

/// Faults that are measured; a campaign measures more.
const FAULTS: u64 = 100;

/// What measures all of them again.
const COMMAND: &str = "make figures";

/// Measures everything; takes a minute or two.
pub fn measure() -> Vec<Figure> {
    let mut figures = Vec::new();
    println!("== sizes");
    figures.extend(size::measure());
    println!("== boot");
    figures.extend(boot::measure());
    for (name, file, requests) in [
        ("http_1k", "1k.bin", 8000),
        ("http_8k", "8k.bin", 6000),
        ("http_128k", "128k.bin", 2000),
    ] {
        println!("== {name}");
        figures.extend(http::measure(name, file, requests));
    }
    figures.extend(measure_direct());
    figures.extend(measure_switches());
    figures.extend(measure_recovery());
    figures.extend(measure_applications());
    figures
}

/// Measures only what direct mode costs against server mode.
pub fn measure_direct() -> Vec<Figure> {
    println!("== direct mode");
    direct::measure()
}

/// Measures only what switches interrupt.
pub fn measure_switches() -> Vec<Figure> {
    println!("== switches");
    switches::measure(SWITCHES)
}

/// Measures only what faults interrupt.
pub fn measure_recovery() -> Vec<Figure> {
    println!("== recovery");
    recovery::measure(FAULTS)
}

/// Measures only what applications cost each other.
pub fn measure_applications() -> Vec<Figure> {
    println!("== applications");
    applications::measure()
}

/// Writes `docs/figures.json`, and `docs/figures.md` from it. Other figures in it stay if `keep`.
///
/// # Errors
/// A sentence if a file cannot be written.
pub fn write(figures: &[Figure], keep: bool) -> Result<(), String> {
    write_from(figures, keep, COMMAND)
}

/// The same, of figures that `command` measures again.
///
/// # Errors
/// As [`write`].
pub fn write_from(figures: &[Figure], keep: bool, command: &str) -> Result<(), String> {
    let folder = paths::root().join("docs");
    let text = fs::read_to_string(folder.join("figures.json"));
    let text = text.map_err(|error| format!("docs/figures.json: {error}"))?;
    let mut all: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    // What another command measures is not lost.
    all.retain(|_, entry| keep || entry["command"] != command);
    for figure in figures {
        let entry = json!({
            "value": figure.value,
            "unit": figure.unit,
            "command": command,
            "about": figure.about,
        });
        all.insert(figure.name.clone(), entry);
    }
    let text =
        serde_json::to_string_pretty(&Value::Object(all)).map_err(|error| error.to_string())?;
    let save = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    save("figures.json", text + "\n")?;
    let text =
        fs::read_to_string(folder.join("figures.json")).map_err(|error| error.to_string())?;
    save("figures.md", page(&text)?)
}

/// The page that shows the contents of `figures.json`.
///
/// # Errors
/// A sentence if it is not what [`write`] wrote.
pub fn page(text: &str) -> Result<String, String> {
    let all: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut page = String::from(
        "# Figures\n\nGenerated from `figures.json`. `make figures` measures all of them again and \
         writes both files; `bench.*` are `make bench`'s ([benchmarks.md](benchmarks.md)).\nInstructions are counted by a QEMU plugin over the whole guest, the \
         kernel included; they hardly depend on the speed\nof the machine that runs QEMU. Load \
         comes from Linux over a tap device, 16 kept connections, one request at a time on\neach; \
          for `applications_*` from the tests' own host, ten requests at a time on each.\n\n\
         | figure | value | unit | what it says |\n| --- | ---: | --- | --- |\n",
    );
    for (name, entry) in &all {
        let value = entry["value"].as_f64().ok_or("a value is no number")?;
        let unit = entry["unit"].as_str().ok_or("a unit is no text")?;
        let about = entry["about"].as_str().ok_or("an explanation is no text")?;
        // Writing to a String does not fail.
        let _ = writeln!(page, "| `{name}` | {} | {unit} | {about} |", number(value));
    }
    Ok(page)
}

/// Digits in groups of three, decimals only if there are any.
pub fn number(value: f64) -> String {
    if value.fract() != 0.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Rounds to `digits` after the point.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(12.0), "12");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(rounded(1.23456, 2), 1.23);
    }

    #[test]
    fn the_page_is_what_the_figures_say() {
        let folder = paths::root().join("docs");
        let Ok(text) = fs::read_to_string(folder.join("figures.json")) else {
            panic!("docs/figures.json is missing: `make figures` writes it");
        };
        let shown =
            fs::read_to_string(folder.join("figures.md")).expect("docs/figures.md is there");
        assert_eq!(
            shown,
            page(&text).unwrap(),
            "`make figures` writes both files"
        );
    }
}
