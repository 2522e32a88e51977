//! Runs the scenarios of the system tests at large counts; goes on where it was interrupted.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match segue_system_tests::campaign::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("segue-campaign: {sentence}");
            ExitCode::FAILURE
        }
    }
}
