//! Segue and Linux side by side: the same machine, the same clients, in one run.
//!
//! `make bench` and `make bench-quick` call it; docs/benchmarks.md says what is compared and what not.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use segue_bench::Guest;
use segue_bench::hybrid;
use segue_bench::machines::{self, Counted, SYSTEM, Service, Side};
use segue_bench::measure::{Effort, Machines};
use segue_bench::packages::Packages;
use segue_bench::profile::Symbols;
use segue_bench::regression::{self, Bench};
use segue_bench::report::Report;
use segue_bench::work::{HEADLINE, Work};
use segue_system_tests::{figures, paths, scenarios};

/// Compares Segue with Linux, and writes bench/results.
#[derive(Parser)]
struct Arguments {
    /// A short version, in less than ten minutes.
    #[arg(long)]
    quick: bool,
    /// Measures Segue alone, and writes what later tests hold it to: bench/baseline.json.
    #[arg(long, conflicts_with = "quick")]
    baseline: bool,
    /// Only work whose name holds this text.
    #[arg(long, default_value = "")]
    only: String,
}

/// What the short version measures besides the headline.
const QUICK: &[Work] = &[
    Work::Kv {
        command: "get",
        pipeline: 16,
    },
    Work::PingPong { bytes: 64 },
    Work::PingPong { bytes: 262_144 },
    Work::Upload,
    Work::Datagrams,
];

/// What 16 applications do at once, in the long version.
const MANY: Work = Work::Many { file: "8k.bin" };
const QUICK_EFFORT: Effort = Effort {
    time: Duration::from_secs(2),
    repeats: 3,
};
const EFFORT: Effort = Effort {
    time: Duration::from_secs(3),
    repeats: 4,
};

/// What the long version measures besides.
const MORE: &[Work] = &[
    Work::Http {
        file: "1k.bin",
        connections: 1,
    },
    Work::Http {
        file: "1k.bin",
        connections: 64,
    },
    Work::Http {
        file: "8k.bin",
        connections: 1,
    },
    Work::Http {
        file: "8k.bin",
        connections: 64,
    },
    Work::Http {
        file: "128k.bin",
        connections: 1,
    },
    Work::Http {
        file: "128k.bin",
        connections: 64,
    },
    Work::Http {
        file: "1m.bin",
        connections: 4,
    },
    Work::Kv {
        command: "set",
        pipeline: 16,
    },
    Work::Kv {
        command: "set",
        pipeline: 1000,
    },
    Work::Kv {
        command: "get",
        pipeline: 1000,
    },
    Work::PingPong { bytes: 1024 },
    Work::PingPong { bytes: 8192 },
    Work::PingPong { bytes: 65_536 },
    Work::PingPong { bytes: 524_288 },
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("segue-bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The Linux side's echo server, which is built along with this.
fn echo() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.with_file_name("segue-bench-echo"))
}

fn write_baseline() -> Result<(), String> {
    let costs = Bench::boot()?.costs()?;
    let text = serde_json::to_string_pretty(&regression::to_json(&costs));
    let text = text.map_err(|error| error.to_string())?;
    let file = regression::file();
    std::fs::write(&file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))?;
    println!(
        "{} is written: commit it alone, and say why",
        file.display()
    );
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let began = Instant::now();
    scenarios::may_make_tap_devices().map_err(|why| {
        format!(
            "each machine needs a tap device in a network namespace of its own, which only root can make: run this as \
             root. ({why})"
        )
    })?;
    machines::check_built(&paths::image(SYSTEM))?;
    if arguments.baseline {
        return write_baseline();
    }
    let folder = paths::root().join("build/linux");
    let say = |what: &str| println!("== {what} ({} s)", began.elapsed().as_secs());
    say("Debian packages");
    let packages = Packages::fetch(&folder.join("packages"))?;
    say("Linux guest");
    let files = paths::root().join("build/test-files/files");
    let guest = Guest::build(&packages, &files, &echo()?, &folder.join("initramfs"))?;
    let mut report = Report::new(&packages, arguments.quick);
    let effort = match arguments.quick {
        true => QUICK_EFFORT,
        false => EFFORT,
    };
    let is_chosen = |name: &str| name.contains(&arguments.only);
    side_by_side(arguments, effort, &guest, &mut report, &say)?;
    if !arguments.quick && is_chosen(&MANY.name()) {
        say("booting both with 16 applications");
        let mut machines = Machines {
            linux: Some(Counted::many_on_linux(&guest)?),
            segue: Counted::many_on_segue()?,
            sides: vec![Side::Linux, Side::Server],
        };
        say(&MANY.name());
        report.add(machines.measure(MANY, effort)?);
    }
    if !arguments.quick && is_chosen("boot") {
        say("boot to the first answer, in virtual time");
        let times = [Some(&guest), None].map(machines::time_to_first_answer);
        let [linux, segue] = times;
        report.add_boot(linux?, segue?);
    }
    // What is kept is what a whole run has found.
    let mut folder = paths::root().join("bench/results");
    if arguments.quick || !arguments.only.is_empty() {
        folder.push("quick");
    }
    report.write(&folder)?;
    // Figures are those of a whole run.
    if !arguments.quick && arguments.only.is_empty() {
        figures::write_from(&report.figures(), true, "make bench")?;
        println!("docs/figures.json and docs/figures.md are written.");
    }
    say(&format!("done: {} has the results", folder.display()));
    Ok(())
}

/// Everything that is measured on two machines that have been booted once.
fn side_by_side(
    arguments: &Arguments,
    effort: Effort,
    guest: &Guest,
    report: &mut Report,
    say: &impl Fn(&str),
) -> Result<(), String> {
    say("booting both");
    let linux = Counted::linux(guest)?;
    let mut machines = Machines {
        segue: Counted::segue()?,
        linux: Some(linux),
        sides: Side::ALL.to_vec(),
    };
    machines.add_memory(report)?;
    let symbols = Symbols::read(&mut machines.segue)?;
    say("idle");
    for side in Side::ALL {
        let rate = machines.idle(side, Service::Http, Duration::from_secs(5))?;
        report.add_idle(side, rate);
    }
    let more = if arguments.quick { &[][..] } else { MORE };
    let works = HEADLINE.iter().chain(QUICK).chain(more);
    for work in works.filter(|work| work.name().contains(&arguments.only)) {
        say(&work.name());
        let measured = machines.measure(*work, effort)?;
        for side in Side::ALL {
            if let Some(sample) = measured.median(side) {
                println!(
                    "  {:8} {:>10.0} instructions for a {}",
                    side.name(),
                    sample.per_unit(),
                    work.unit()
                );
            }
        }
        report.add(measured);
        for side in [Side::Server, Side::Direct] {
            let parts = machines.profile(side, *work, effort.time, &symbols)?;
            report.add_parts(*work, side, parts);
        }
    }
    if "hybrid".contains(&arguments.only) {
        say("hybrid: a switch to direct mode and back under load");
        report.add_course(hybrid::run(&mut machines.segue, 2 * effort.time)?);
    }
    Ok(())
}
