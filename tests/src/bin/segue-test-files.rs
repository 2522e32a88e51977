//! Writes the files that the test systems serve: `segue-test-files <folder>`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: segue-test-files <folder>");
        return ExitCode::FAILURE;
    };
    match segue_system_tests::files::write_all(folder.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("segue-test-files: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
