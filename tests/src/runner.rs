//! The test runner behind `make test`.

mod build;
mod execute;
mod summary;

use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use summary::{Outcome, Summary};

/// How to run the tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only tests whose name holds this text.
    pub only: String,
    /// Tests that run at the same time.
    pub jobs: usize,
    /// Time that one test may take.
    pub limit: Duration,
    /// Seconds of fuzzing for each target; 0 for none.
    pub fuzz_seconds: u64,
}

/// One test to be run.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// `package::target::test`, unique in the workspace.
    name: String,
    /// The command line.
    command: Vec<String>,
    /// Where it runs: the package's folder, as under cargo.
    folder: std::path::PathBuf,
    /// Boots a machine: listed line by line.
    system: bool,
}

/// Builds and runs all tests.
///
/// # Errors
/// A sentence if the tests cannot be built or listed.
pub fn run(options: &Options) -> Result<Summary, String> {
    let started = Instant::now();
    println!("== building the tests");
    let mut tests = build::tests()?;
    let mut jobs = Vec::new();
    if options.fuzz_seconds > 0 {
        println!("== building the fuzz targets");
        jobs.extend(build::fuzz_targets(options.fuzz_seconds)?);
    }
    tests.retain(|test| test.name.contains(&options.only));
    jobs.retain(|test| test.name.contains(&options.only));
    // The long ones first, so that no single one is left over at the end.
    tests.sort_by_key(|test| !test.system);
    let split = tests.partition_point(|test| test.system);
    let quick = tests.split_off(split);
    let all: Vec<Test> = quick.into_iter().chain(tests).chain(jobs).collect();
    println!(
        "== {} tests, {} at a time; each test has a process of its own",
        all.len(),
        options.jobs
    );
    let outcomes = run_all(&all, options);
    let mut summary = Summary::new(outcomes, started.elapsed());
    if options.only.is_empty() {
        println!("== documentation tests");
        summary.add(build::documentation_tests()?, started.elapsed());
    }
    Ok(summary)
}

fn run_all(tests: &[Test], options: &Options) -> Vec<Outcome> {
    let next = Mutex::new((0, Vec::with_capacity(tests.len())));
    let (next, tests_length) = (&next, tests.len());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(move || {
                loop {
                    let index = {
                        let mut state = next.lock().expect("no test thread panics");
                        if state.0 == tests_length {
                            break;
                        }
                        state.0 += 1;
                        state.0 - 1
                    };
                    let outcome = execute::execute(&tests[index], options.limit);
                    let mut state = next.lock().expect("no test thread panics");
                    report(&outcome, &tests[index], state.1.len() + 1, tests_length);
                    state.1.push(outcome);
                }
            });
        }
    });
    let state = next.lock().expect("no test thread panics");
    state.1.clone()
}

/// A line for each failure and each test that boots a machine, and one for every fifty others.
fn report(outcome: &Outcome, test: &Test, number: usize, total: usize) {
    let seconds = outcome.time.as_secs_f32();
    if let Some(output) = &outcome.failure {
        println!(
            "[{number}/{total}] FAILED {} ({seconds:.1} s)\n{output}",
            outcome.name
        );
    } else if test.system || outcome.time > Duration::from_secs(5) {
        println!("[{number}/{total}] ok {} ({seconds:.1} s)", outcome.name);
    } else if number.is_multiple_of(50) || number == total {
        println!("[{number}/{total}] ...");
    }
}
