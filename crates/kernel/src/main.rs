//! `segue-kernel build --variant <variant> --output <folder>`: builds a kernel.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use segue_kernel::{Error, Outcome, Variant, build};

const USAGE: &str = "usage: segue-kernel build --variant debug|release|plain --output <folder>";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("segue-kernel: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), Error> {
    match arguments.next().as_deref() {
        Some("build") => {}
        Some("--help" | "-h") => {
            println!("{USAGE}");
            return Ok(());
        }
        _ => return Err(Error::new(USAGE)),
    }
    let mut variant: Option<Variant> = None;
    let mut output: Option<PathBuf> = None;
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| Error::new(format!("`{name}` needs a value; {USAGE}")))?;
        match name.as_str() {
            "--variant" => variant = Some(value.parse()?),
            "--output" => output = Some(value.into()),
            _ => return Err(Error::new(format!("unknown option `{name}`; {USAGE}"))),
        }
    }
    let (Some(variant), Some(output)) = (variant, output) else {
        return Err(Error::new(USAGE));
    };
    let outcome = build(variant, &output, |step| println!("{step}"))?;
    match outcome {
        Outcome::Built => println!("kernel ({variant}): {}", output.join("k32.elf").display()),
        Outcome::UpToDate => println!("kernel ({variant}): up to date"),
    }
    Ok(())
}
