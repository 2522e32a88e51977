//! Runs the scenarios of the system tests at large counts, all or those that are named; goes on where it
//! was interrupted.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match segue_system_tests::campaign::run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("segue-campaign: {sentence}");
            ExitCode::FAILURE
        }
    }
}
