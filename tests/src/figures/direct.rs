//! Direct mode against server mode: the same application, the same load, one run.

use std::process::Command;
use std::time::Instant;

use super::{Figure, rounded};
use crate::background::rates;
use crate::instructions::{Counter, Instructions};
use crate::load::Load;
use crate::switching::Switcher;
use crate::systems::KV_ADDRESS;
use crate::{Cable, Host, TestMachine};

/// Connections at once.
const CONNECTIONS: usize = 16;
/// Measurements in each mode, of which the median counts; the first is a rehearsal.
const REPEATS: usize = 4;
/// Requests of `redis-benchmark` in a measurement.
const GETS: u64 = 20_000;

/// A machine with `http` and `kv`, both of which can be switched.
fn boot() -> (TestMachine, Counter) {
    let (machine, counter) = Counter::add(TestMachine::machine("switching"));
    let mut machine = TestMachine::start(machine, Cable::Tap);
    machine.wait_until_it_answers();
    machine.expect_line("kv: listening on 10.0.2.20:6379");
    (machine, counter)
}

fn switch(machine: &mut TestMachine, name: &str, direct: bool) {
    let mut switcher = Switcher::new(machine);
    let line = match direct {
        true => switcher.to_direct(name),
        false => switcher.to_server(name),
    };
    line.unwrap_or_else(|error| panic!("{error}"));
}

/// The median of what `work` costs for each of `units`, with and without direct mode.
fn compare(
    machine: &mut TestMachine,
    name: &str,
    mut work: impl FnMut(&TestMachine) -> Instructions,
    units: u64,
) -> [f64; 2] {
    let modes = [false, true];
    let mut samples = modes.map(|_| Vec::new());
    for repeat in 0..REPEATS {
        for (direct, samples) in modes.into_iter().zip(&mut samples) {
            if direct {
                switch(machine, name, true);
            }
            let count = work(machine).total() / units;
            if repeat > 0 {
                samples.push(count);
            }
            if direct {
                switch(machine, name, false);
            }
        }
    }
    samples.map(|mut samples| {
        samples.sort_unstable();
        println!("{name}: instructions for each: {samples:?}");
        samples[samples.len() / 2] as f64
    })
}

fn figures(name: &str, what: &str, [server, direct]: [f64; 2]) -> Vec<Figure> {
    vec![
        Figure::new(
            format!("{name}.direct.instructions_per_request"),
            direct,
            "instructions",
            format!("guest instructions for {what} in direct mode"),
        ),
        Figure::new(
            format!("{name}.switchable.instructions_per_request"),
            server,
            "instructions",
            "the same application in server mode, at an address of its own".to_owned(),
        ),
        Figure::new(
            format!("{name}.direct_to_server"),
            rounded(direct / server, 3),
            "ratio",
            "direct mode against server mode, in one run".to_owned(),
        ),
    ]
}

/// HTTP requests, and GETs of the key-value server.
pub(super) fn measure() -> Vec<Figure> {
    let (mut machine, mut counter) = boot();
    let mut all = Vec::new();
    for (name, file, requests) in [
        ("http_1k", "1k.bin", 6000),
        ("http_8k", "8k.bin", 4000),
        ("http_128k", "128k.bin", 1000),
    ] {
        let load = Load {
            connections: CONNECTIONS,
            requests,
            files: vec![file],
        };
        let work = |machine: &TestMachine| {
            let start = counter.read();
            load.run(machine.host())
                .unwrap_or_else(|failures| panic!("{failures}"));
            counter.read().since(start)
        };
        let size = file.trim_end_matches(".bin").to_uppercase();
        let counts = compare(&mut machine, "http", work, requests);
        all.extend(figures(name, &format!("a GET of {size}B"), counts));
    }
    let work = |machine: &TestMachine| {
        let start = counter.read();
        gets(machine);
        counter.read().since(start)
    };
    let counts = compare(&mut machine, "kv", work, GETS);
    all.extend(figures(
        "kv_get",
        "a GET of redis-benchmark, not pipelined",
        counts,
    ));
    all.push(throughput(&mut machine));
    all
}

/// `redis-benchmark`: GETs over 16 connections, one at a time on each.
fn gets(machine: &TestMachine) {
    let Host::Namespace(namespace) = machine.host() else {
        unreachable!("the machine is on a tap");
    };
    let output = namespace.run(|| {
        Command::new("redis-benchmark")
            .args(["-h", &KV_ADDRESS.to_string(), "-t", "get", "--csv"])
            .args(["-c", &CONNECTIONS.to_string(), "-n", &GETS.to_string()])
            .output()
    });
    let output = output
        .unwrap_or_else(|error| panic!("{error}"))
        .expect("redis-benchmark starts");
    let rates = rates(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(rates.len(), 1, "{output:?}");
}

/// Bytes per second of downloads in direct mode against those in server mode, turn by turn.
fn throughput(machine: &mut TestMachine) -> Figure {
    let load = Load {
        connections: 4,
        requests: 60,
        files: vec!["1m.bin"],
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..REPEATS {
        for (mode, times) in times.iter_mut().enumerate() {
            if mode == 1 {
                switch(machine, "http", true);
            }
            let start = Instant::now();
            load.run(machine.host())
                .unwrap_or_else(|failures| panic!("{failures}"));
            times.push(start.elapsed().as_secs_f64());
            if mode == 1 {
                switch(machine, "http", false);
            }
        }
    }
    let [server, direct] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Figure::new(
        "bulk.direct_to_server",
        rounded(server / direct, 2),
        "ratio",
        "bytes per second of downloads of 1 MiB over 4 connections in direct mode against those in \
         server mode, turn by turn in one run",
    )
}
