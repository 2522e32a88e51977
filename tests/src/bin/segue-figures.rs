//! Measures the figures of `docs/figures.json` and writes them. Needs root for the tap device.
//! `segue-figures applications` measures those about applications only.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use segue_system_tests::{figures, scenarios};

fn main() -> ExitCode {
    if let Err(why) = scenarios::may_make_tap_devices() {
        eprintln!("segue-figures: the load has to come over a tap device. {why}");
        return ExitCode::FAILURE;
    }
    let only_applications = std::env::args().nth(1).as_deref() == Some("applications");
    let figures = if only_applications {
        figures::measure_applications()
    } else {
        figures::measure()
    };
    for figure in &figures {
        println!("{} = {} {}", figure.name, figure.value, figure.unit);
    }
    match figures::write(&figures, only_applications) {
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
