//! Writes what the system tests need beside git: large files, and descriptions that serve them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use segue_system_tests::{paths, systems};

fn main() -> ExitCode {
    match systems::write_all(&paths::root()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("segue-test-files: {sentence}");
            ExitCode::FAILURE
        }
    }
}
