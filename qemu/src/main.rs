//! `segue-qemu run`: boots an image and shows its console until it is stopped.
#![forbid(unsafe_code)]

mod keyboard;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use segue_qemu::{Error, Forward, Machine, Network, Running};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Boot an image and show its console until it is stopped (Ctrl-C).
    Run(Run),
}

#[derive(Clone, Copy, ValueEnum)]
enum NetworkName {
    /// QEMU's own network; forwards --port of 127.0.0.1 to port 80 of 10.0.2.15.
    User,
    /// A tap device in a network namespace of its own (needs root).
    Tap,
    /// A process that listens on --peer and sees and sends raw frames.
    Peer,
    /// No network device.
    None,
}

#[derive(Args)]
struct Run {
    /// The kernel, as an elf32 file.
    #[arg(long)]
    kernel: PathBuf,
    /// The boot image that segue-image made.
    #[arg(long)]
    image: PathBuf,
    /// Memory of the machine in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// What the network device is connected to.
    #[arg(long, value_enum, default_value_t = NetworkName::User)]
    network: NetworkName,
    /// Port of 127.0.0.1 that leads to the application.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Unix socket of the peer.
    #[arg(long, required_if_eq("network", "peer"))]
    peer: Option<PathBuf>,
    /// Leave the IOMMU out.
    #[arg(long)]
    no_iommu: bool,
    /// Write all frames to this file (pcap); times are virtual, from 0 on.
    #[arg(long)]
    capture: Option<PathBuf>,
    /// Make the machine's time count instructions: 2^N ns each (0: 1 ns).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=10))]
    instruction_clock: Option<u8>,
    /// Print what this QEMU trace event writes, at the end (can be repeated).
    #[arg(long)]
    trace: Vec<String>,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// One more argument for QEMU (can be repeated).
    #[arg(long, allow_hyphen_values = true)]
    qemu_argument: Vec<String>,
}

fn main() -> ExitCode {
    let Action::Run(run) = Arguments::parse().command;
    match execute(&run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("segue-qemu: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(run: &Run) -> Result<ExitCode, Error> {
    // Before anything is started, so that no signal finds this process unprepared.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Error::CannotStart(format!("signal {signal}: {error}")))?;
    }
    let network = match run.network {
        NetworkName::User => Network::User(vec![Forward::http(Some(run.port))]),
        NetworkName::Tap => Network::Tap,
        NetworkName::Peer => Network::PeerSocket(run.peer.clone().unwrap_or_default()),
        NetworkName::None => Network::NoDevice,
    };
    let mut machine = Machine::new(&run.kernel, &run.image)
        .memory_mib(run.memory)
        .network(network)
        .iommu(!run.no_iommu)
        .echo(true);
    if let Some(file) = &run.capture {
        machine = machine.capture_frames(file);
    }
    if let Some(shift) = run.instruction_clock {
        machine = machine.instruction_clock(shift);
    }
    for event in &run.trace {
        machine = machine.trace(event);
    }
    for argument in &run.qemu_argument {
        machine = machine.argument(argument);
    }
    let mut running = machine.start()?;
    announce(run, &running);
    let terminal = running.take_keyboard().and_then(keyboard::connect);
    let code = wait(run, &mut running, &stop)?;
    running.stop();
    drop(terminal);
    if !run.trace.is_empty()
        && let Ok(lines) = running.trace()
    {
        for line in lines {
            println!("trace: {line}");
        }
    }
    Ok(code)
}

fn announce(run: &Run, running: &Running) {
    match run.network {
        NetworkName::User => println!(
            "segue-qemu: http://127.0.0.1:{}/ leads into the machine. Ctrl-C stops it.",
            run.port
        ),
        NetworkName::Tap => {
            if let Some(namespace) = running.namespace() {
                println!(
                    "segue-qemu: the machine is 10.0.2.15 and fd00:5e60::15 in a network namespace \
                     of its own. Reach it as root with\n  \
                     nsenter --net={0} curl http://10.0.2.15/\n  \
                     nsenter --net={0} curl -g 'http://[fd00:5e60::15]/'\n\
                     Ctrl-C stops it.",
                    namespace.path()
                );
            }
        }
        NetworkName::Peer | NetworkName::None => println!("segue-qemu: Ctrl-C stops the machine."),
    }
}

fn wait(run: &Run, running: &mut Running, stop: &AtomicBool) -> Result<ExitCode, Error> {
    let started = Instant::now();
    loop {
        if stop.load(Ordering::Relaxed) {
            println!("segue-qemu: stopped.");
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(seconds) = run.seconds
            && started.elapsed() >= Duration::from_secs(seconds)
        {
            println!("segue-qemu: stopped after {seconds} s.");
            return Ok(ExitCode::SUCCESS);
        }
        let ended = running
            .ended()
            .map_err(|error| Error::Protocol(format!("waiting for QEMU: {error}")))?;
        if let Some(status) = ended {
            println!("segue-qemu: QEMU ended ({status}).");
            return Ok(if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
