//! Runs every test of the workspace: each in a process of its own, two at a time, timed.
//!
//! Unit and property tests of all crates that run on the host, documentation tests, the system
//! tests, and a bounded time of fuzzing. Ends in the ten slowest tests and `N passed, 0 failed`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use segue_system_tests::runner::{self, Options};

#[derive(Parser)]
#[command(about = "Runs every test of the workspace.")]
struct Arguments {
    /// Run only tests whose name (`crate::module::test`) holds this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Tests that run at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds that one test may take before it is ended and counted as failed.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// Seconds of fuzzing for each target.
    #[arg(long, default_value_t = 20)]
    fuzz_seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        only: arguments.only,
        jobs: arguments.jobs.max(1),
        limit: std::time::Duration::from_secs(arguments.limit),
        fuzz_seconds: arguments.fuzz_seconds,
    };
    match runner::run(&options) {
        Ok(summary) => {
            print!("{summary}");
            if summary.failed() == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(sentence) => {
            eprintln!("segue-test: {sentence}");
            ExitCode::FAILURE
        }
    }
}
