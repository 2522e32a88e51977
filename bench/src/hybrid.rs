//! A run in which an application is switched while it serves.

use std::time::{Duration, Instant};

use segue_system_tests::background::Downloads;

use crate::machines::{Counted, Service};

/// Connections at once.
const CONNECTIONS: usize = 8;
/// Between two looks at how far they have come.
const LOOK: Duration = Duration::from_millis(250);

/// How the run went.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Seconds since the start, and requests in a second since the last look.
    pub rates: Vec<(f64, f64)>,
    /// Seconds since the start, and instructions for a request since the last look.
    pub costs: Vec<(f64, f64)>,
    /// When it was switched to direct mode and back, in seconds.
    pub switches: [f64; 2],
    /// Files downloaded, connections lost, and answers that were wrong.
    pub counts: [u64; 3],
}

/// Downloads of 128 KiB over eight connections: through the network server, then in direct mode, then
/// through the network server again, for `time` each.
///
/// # Errors
/// A sentence if a switch fails.
pub fn run(machine: &mut Counted, time: Duration) -> Result<Course, String> {
    let host = machine.host();
    let server = Service::Http.at(80);
    let downloads = Downloads::start(&host, server, "128k.bin", CONNECTIONS);
    let downloads = downloads.map_err(|error| format!("{server}: {error}"))?;
    let mut course = Course::default();
    let began = Instant::now();
    let mut last = (began, downloads.completed(), machine.instructions());
    for phase in 0..3 {
        if phase > 0 {
            course.switches[phase - 1] = began.elapsed().as_secs_f64();
            machine.set_direct(Service::Http, phase == 1)?;
        }
        let end = Instant::now() + time;
        while Instant::now() < end {
            std::thread::sleep(LOOK);
            let now = (
                Instant::now(),
                downloads.completed(),
                machine.instructions(),
            );
            let count = (now.1 - last.1) as f64;
            let seconds = (now.0 - last.0).as_secs_f64();
            let at = began.elapsed().as_secs_f64();
            course.rates.push((at, count / seconds));
            if count > 0.0 {
                let instructions = now.2.since(last.2).total() as f64;
                course.costs.push((at, instructions / count));
            }
            last = now;
        }
    }
    let done = downloads.stop();
    course.counts = [done.completed, done.resets + done.broken, done.wrong];
    Ok(course)
}
