//! What an HTTP request costs.

use serde_json::Value;

use super::{Figure, rounded};
use crate::instructions::{Counter, Instructions};
use crate::load::Load;
use crate::{Cable, TestMachine};

/// Connections at once.
const CONNECTIONS: usize = 16;
/// Measurements, of which the median counts; the first is a rehearsal.
const REPEATS: usize = 6;

struct Sample {
    instructions: Instructions,
    status: [Value; 2],
}

pub(super) fn measure(name: &str, file: &'static str, requests: u64) -> Vec<Figure> {
    let (machine, mut counter) = Counter::add(TestMachine::machine("files"));
    let mut machine = TestMachine::start(machine, Cable::Tap);
    machine.wait_until_it_answers();
    let load = Load {
        connections: CONNECTIONS,
        requests,
        files: vec![file],
    };
    let mut samples: Vec<Sample> = (0..REPEATS)
        .map(|_| {
            let before = machine.status();
            let start = counter.read();
            load.run(machine.host())
                .unwrap_or_else(|failures| panic!("{failures}"));
            let instructions = counter.read().since(start);
            Sample {
                instructions,
                status: [before, machine.status()],
            }
        })
        .skip(1)
        .collect();
    samples.sort_by_key(|sample| sample.instructions.total());
    let spread = |sample: &Sample| sample.instructions.total() / requests;
    println!(
        "instructions per request: {:?}",
        samples.iter().map(spread).collect::<Vec<_>>()
    );
    let median = &samples[samples.len() / 2];
    figures(name, file, requests, median)
}

fn figures(name: &str, file: &str, requests: u64, sample: &Sample) -> Vec<Figure> {
    let channel = |counter: &str| difference(sample, &["frame_channels", "0", counter]);
    let server = |counter: &str| difference(sample, &["server", counter]);
    let sent = channel("transmitted_frames");
    let received = channel("received_frames");
    let frames = sent + received;
    let per_request = |count: u64| (count as f64 / requests as f64).round();
    let notifications = channel("notifications") + channel("notifications_received");
    let size = file.trim_end_matches(".bin").to_uppercase();
    let mut figures = Vec::new();
    let mut add = |suffix: &str, value: f64, unit: &'static str, about: String| {
        figures.push(Figure::new(
            format!("{name}.server.{suffix}"),
            value,
            unit,
            about,
        ));
    };
    let total = sample.instructions;
    add(
        "instructions_per_request",
        per_request(total.total()),
        "instructions",
        format!("guest instructions for a GET of {size}B through the network server"),
    );
    add(
        "kernel_instructions_per_request",
        per_request(total.kernel),
        "instructions",
        "of these, in the kernel".into(),
    );
    add(
        "frames_per_request",
        rounded(frames / requests as f64, 2),
        "frames",
        "frames over the frame channel, both directions; up to 64 KiB each when sent".into(),
    );
    add(
        "notifications_per_frame",
        rounded(notifications / frames, 3),
        "notifications",
        "notifications over the frame channel, both directions, for each frame".into(),
    );
    add(
        "interrupts_per_frame",
        rounded(server("interrupts") / frames, 3),
        "interrupts",
        "interrupts of the virtual function for each frame".into(),
    );
    add(
        "transmit_copied_bytes_per_frame",
        rounded(channel("copied_bytes") / sent, 1),
        "bytes",
        format!(
            "bytes of a sent frame that the server copies (headers only); a frame has {:.0} on average",
            channel("transmitted_bytes") / sent
        ),
    );
    figures
}

/// How much a counter has grown.
fn difference(sample: &Sample, path: &[&str]) -> f64 {
    let [before, after] = sample.status.each_ref().map(|status| {
        let pointer = format!("/{}", path.join("/"));
        let value = status.pointer(&pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no {pointer} in {status}"))
    });
    (after - before) as f64
}
