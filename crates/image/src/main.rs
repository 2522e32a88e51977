//! `segue-image`: builds the boot image that a system description describes.
#![forbid(unsafe_code)]

mod packaging;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use segue_image::back_end::{self, BootImage, write_atomically};
use segue_image::files::DiskFiles;
use segue_image::model::System;
use segue_image::{Parsed, picture, report};

/// What people see for `--help`.
const USAGE: &str = "\
Builds the boot image that a system description describes.

Usage: segue-image --system FILE --programs FOLDER --output FOLDER [--check]
       segue-image --system FILE --programs FOLDER --package NAME --program FILE
                   --key FILE --output FILE [--label TEXT] [--serial NUMBER]
       segue-image --make-key FILE

  --system FILE      the system description
  --programs FOLDER  where the programs are; those it does not have are looked
                     for beside the system description. segue-init is there, too
  --output FOLDER    gets image.elf, report.txt and system.svg
  --check            only check; write nothing (--output is not needed)
  --help             this text

A package is another program for a protection domain, to be sent to a machine
that runs this system with these programs (docs/upgrade.md):

  --package NAME     makes a package for this protection domain, and no image
  --program FILE     the other program
  --key FILE         the private key to sign it with
  --output FILE      gets the package
  --label TEXT       what it is called (default: the name of the program)
  --serial NUMBER    must be higher than that of each package before (default:
                     the seconds since 1970)
  --make-key FILE    writes a new private key to FILE and the public key, which
                     belongs into the description, to FILE.pub

Mistakes are reported as file:line:column: what is wrong, what to do.
Exit code: 0 done, 1 the description has mistakes, 2 anything else.";

/// The root task's program.
const INIT: &str = "segue-init";

/// What the command line asks for.
enum Task {
    /// To check a system, and with an output to build its image.
    Image {
        inputs: Inputs,
        /// `None`: only check.
        output: Option<PathBuf>,
    },
    /// To make a package.
    Package(Inputs, PackageArguments),
    /// To make a pair of keys.
    Key(PathBuf),
}

/// Where a system is described, and where its programs are.
struct Inputs {
    system: PathBuf,
    programs: PathBuf,
}

/// Which package is to be made.
struct PackageArguments {
    domain: String,
    program: PathBuf,
    key: PathBuf,
    output: PathBuf,
    label: Option<String>,
    serial: Option<u64>,
}

/// Why there is no image.
enum Failure {
    /// The description has mistakes, which have been printed.
    Mistakes,
    /// Anything else, as a sentence.
    Other(String),
}

fn main() -> ExitCode {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |information| {
        if std::thread::current().name() != Some(picture::LAYOUT_THREAD) {
            default_hook(information);
        }
    }));
    let task = match task() {
        Ok(Some(task)) => task,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("segue-image: {why}; --help tells how");
            return ExitCode::from(2);
        }
    };
    let done = match &task {
        Task::Image { inputs, output } => image(inputs, output.as_deref()),
        Task::Package(inputs, arguments) => packaging::package(inputs, arguments),
        Task::Key(path) => packaging::make_key(path),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Mistakes) => ExitCode::from(1),
        Err(Failure::Other(why)) => {
            eprintln!("segue-image: {why}");
            ExitCode::from(2)
        }
    }
}

fn task() -> Result<Option<Task>, String> {
    use lexopt::prelude::{Long, Short};
    let wrong = |error: lexopt::Error| error.to_string();
    let (mut system, mut programs, mut output, mut check) = (None, None, None, false);
    let (mut program, mut key, mut make_key) = (None, None, None);
    let (mut package, mut label, mut serial) = (None, None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(wrong)? {
        let place = match argument {
            Long("system") => &mut system,
            Long("programs") => &mut programs,
            Long("output") => &mut output,
            Long("program") => &mut program,
            Long("key") => &mut key,
            Long("make-key") => &mut make_key,
            Long("package") => {
                package = Some(text(&mut parser)?);
                continue;
            }
            Long("label") => {
                label = Some(text(&mut parser)?);
                continue;
            }
            Long("serial") => {
                let value = text(&mut parser)?;
                let number = value.parse::<u64>();
                serial = Some(number.map_err(|_| format!("--serial {value} is not a number"))?);
                continue;
            }
            Long("check") => {
                check = true;
                continue;
            }
            Long("help") | Short('h') => return Ok(None),
            other => return Err(wrong(other.unexpected())),
        };
        *place = Some(PathBuf::from(parser.value().map_err(wrong)?));
    }
    if let Some(path) = make_key {
        return Ok(Some(Task::Key(path)));
    }
    let inputs = Inputs {
        system: system.ok_or("--system is missing")?,
        programs: programs.ok_or("--programs is missing")?,
    };
    if let Some(domain) = package {
        let arguments = PackageArguments {
            domain,
            program: program.ok_or("--program is missing")?,
            key: key.ok_or("--key is missing")?,
            output: output.ok_or("--output is missing")?,
            label,
            serial,
        };
        return Ok(Some(Task::Package(inputs, arguments)));
    }
    for (given, option) in [
        (program.is_some(), "--program"),
        (key.is_some(), "--key"),
        (label.is_some(), "--label"),
        (serial.is_some(), "--serial"),
    ] {
        if given {
            return Err(format!("{option} belongs to --package, which is missing"));
        }
    }
    if !check && output.is_none() {
        return Err("--output is missing".into());
    }
    let output = output.filter(|_| !check);
    Ok(Some(Task::Image { inputs, output }))
}

/// The value of the option that was read last.
fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    let value = value.into_string();
    value.map_err(|value| format!("{} is not UTF-8", value.display()))
}

/// Reads and checks a description; says what is wrong with it.
fn parse(inputs: &Inputs) -> Result<Parsed, Failure> {
    let name = inputs.system.display().to_string();
    let text = std::fs::read(&inputs.system)
        .map_err(|error| other(format!("cannot read {name}"), error))?;
    let files = DiskFiles {
        programs: inputs.programs.clone(),
        base: inputs
            .system
            .parent()
            .unwrap_or(Path::new(""))
            .to_path_buf(),
    };
    let text = String::from_utf8(text).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        eprintln!("{}", not_text(&name, error.as_bytes(), place));
        Failure::Mistakes
    })?;
    segue_image::parse(&text, &files).map_err(|found| {
        for diagnostic in found {
            eprintln!("{}", diagnostic.line(&name));
        }
        Failure::Mistakes
    })
}

fn image(inputs: &Inputs, output: Option<&Path>) -> Result<(), Failure> {
    let name = inputs.system.display().to_string();
    let parsed = parse(inputs)?;
    for warning in &parsed.warnings {
        eprintln!("{}", warning.line(&name));
    }
    let image =
        back_end::build(&parsed.system, &inputs.programs.join(INIT)).map_err(|problems| {
            let place = parsed.machine;
            for problem in problems {
                eprintln!("{name}:{}:{}: {problem}", place.line, place.column);
            }
            Failure::Mistakes
        })?;
    match output {
        Some(output) => {
            let name = inputs.system.file_name().unwrap_or_default();
            write(output, &name.to_string_lossy(), &parsed, &image)
        }
        None => {
            println!("{name} is fine");
            summary(&parsed.system, &image);
            Ok(())
        }
    }
}

/// Says where a file stops being text.
fn not_text(name: &str, bytes: &[u8], place: usize) -> String {
    let before = String::from_utf8_lossy(bytes.get(..place).unwrap_or_default());
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
    format!("{name}:{line}:{column}: this is not UTF-8: save the file as UTF-8")
}

fn write(output: &Path, name: &str, parsed: &Parsed, image: &BootImage) -> Result<(), Failure> {
    let report = report::text(name, parsed, &image.summary);
    let picture = picture::draw(&parsed.system);
    std::fs::create_dir_all(output)
        .map_err(|error| other(format!("cannot make {}", output.display()), error))?;
    let image_path = output.join("image.elf");
    // The image last: where it is, the rest is, too.
    let files = [
        (&output.join("report.txt"), report.as_bytes()),
        (&output.join("system.svg"), picture.as_bytes()),
        (&image_path, &image.bytes),
    ];
    for (path, bytes) in files {
        write_atomically(path, bytes)
            .map_err(|error| other(format!("cannot write {}", path.display()), error))?;
    }
    println!(
        "{}: {}",
        image_path.display(),
        kibibytes(image.summary.image_bytes)
    );
    summary(&parsed.system, image);
    Ok(())
}

fn summary(system: &System, image: &BootImage) {
    let summary = &image.summary;
    println!(
        "{} protection domains, {} channels; takes {} of {} of memory, {} of {} capability slots",
        system.protection_domains.len(),
        system.channels.len(),
        kibibytes(summary.memory_needed),
        kibibytes(summary.memory_available),
        summary.slots_needed,
        summary.slots_available
    );
}

fn kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

fn other(what: String, error: impl Display) -> Failure {
    Failure::Other(format!("{what}: {error}"))
}
