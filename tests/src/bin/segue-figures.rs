//! Measures the figures of `docs/figures.json` and writes them. Needs root for the tap device.
//! `segue-figures applications`, `direct`, `switches` or `recovery` measures those about one thing only.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use segue_system_tests::{figures, scenarios};

fn main() -> ExitCode {
    if let Err(why) = scenarios::may_make_tap_devices() {
        eprintln!("segue-figures: the load has to come over a tap device. {why}");
        return ExitCode::FAILURE;
    }
    let only = std::env::args().nth(1);
    let figures = match only.as_deref() {
        Some("applications") => figures::measure_applications(),
        Some("direct") => figures::measure_direct(),
        Some("switches") => figures::measure_switches(),
        Some("recovery") => figures::measure_recovery(),
        Some(other) => {
            eprintln!(
                "segue-figures: {other} is not known: write applications, direct, switches or recovery"
            );
            return ExitCode::FAILURE;
        }
        None => figures::measure(),
    };
    for figure in &figures {
        println!("{} = {} {}", figure.name, figure.value, figure.unit);
    }
    match figures::write(&figures, only.is_some()) {
        Ok(()) => {
            println!("docs/figures.json and docs/figures.md are written.");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("segue-figures: {sentence}");
            ExitCode::FAILURE
        }
    }
}
