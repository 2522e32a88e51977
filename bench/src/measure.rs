//! Work done by all sides in turn, and what it cost each of them.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::instructions::Instructions;

use crate::machines::{Counted, MEMORY, Service, Side};
use crate::profile::{Parts, Symbols};
use crate::report::Report;
use crate::work::{Done, Work};

/// For so long after a switch frames are compared in case they come twice; that is no part of either mode.
const SETTLED: Duration = Duration::from_millis(1500);

/// How long and how often everything is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of one measurement.
    pub time: Duration,
    /// Measurements that count; a rehearsal comes before them.
    pub repeats: usize,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Instructions of the whole machine from before the first unit until after the last one.
    pub instructions: Instructions,
    /// What was done meanwhile.
    pub done: Done,
}

impl Sample {
    /// Instructions for a unit of work.
    pub fn per_unit(&self) -> f64 {
        self.instructions.total() as f64 / self.done.units.max(1) as f64
    }

    /// The median (0) or the 99th percentile (1) of the time for a unit, in microseconds; not a number if
    /// the client does not tell.
    pub fn latency(&self, which: usize) -> f64 {
        let latency = self
            .done
            .latency
            .and_then(|latency| latency.get(which).copied());
        latency.unwrap_or(f64::NAN)
    }
}

/// The measurements of one kind of work.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The work.
    pub work: Work,
    /// What it cost each side, the cheapest measurement first.
    pub samples: BTreeMap<Side, Vec<Sample>>,
}

impl Measured {
    /// The middle one of a side's measurements; of two in the middle, the cheaper one.
    pub fn median(&self, side: Side) -> Option<&Sample> {
        let samples = self.samples.get(&side)?;
        samples.get(samples.len().saturating_sub(1) / 2)
    }

    /// How far the measurements of a side lie apart, against the median.
    pub fn spread(&self, side: Side) -> Option<f64> {
        let samples = self.samples.get(&side)?;
        let (least, most) = (samples.first()?.per_unit(), samples.last()?.per_unit());
        Some((most - least) / self.median(side)?.per_unit())
    }

    /// The instructions of a side against Linux's.
    pub fn to_linux(&self, side: Side) -> Option<f64> {
        self.against(side, Side::Linux, Sample::per_unit)
    }

    /// Something of a side against the same of another.
    pub fn against(&self, side: Side, other: Side, value: fn(&Sample) -> f64) -> Option<f64> {
        Some(value(self.median(side)?) / value(self.median(other)?))
    }
}

/// The machines side by side.
pub struct Machines {
    /// Linux; none when Segue is measured against itself.
    pub linux: Option<Counted>,
    /// Segue.
    pub segue: Counted,
    /// Those that take turns.
    pub sides: Vec<Side>,
}

impl Machines {
    /// Adds to a report how much memory is in use right after the start.
    ///
    /// # Errors
    /// A sentence if a machine does not say.
    pub fn add_memory(&mut self, report: &mut Report) -> Result<(), String> {
        const TEXT: &str = " KiB of memory are free";
        let all = f64::from(MEMORY);
        if let Some(linux) = &self.linux {
            let line = linux.expect(TEXT)?;
            let free = line
                .strip_suffix(TEXT)
                .and_then(|line| line.rsplit(' ').next());
            let free = free.and_then(|number| number.parse::<f64>().ok());
            let free = free.ok_or(format!("Linux says {line}"))?;
            report.add_memory(Side::Linux, all - free / 1024.0);
        }
        report.add_memory(Side::Server, all - self.segue.free_memory()? as f64);
        Ok(())
    }

    fn machine(&mut self, side: Side) -> Result<&mut Counted, String> {
        match side {
            Side::Linux => self.linux.as_mut().ok_or("Linux is not there".into()),
            Side::Server | Side::Direct => Ok(&mut self.segue),
        }
    }

    /// Does something with a side's machine while `service` is in the side's mode.
    fn in_mode<T>(
        &mut self,
        side: Side,
        service: Service,
        action: impl FnOnce(&mut Counted) -> Result<T, String>,
    ) -> Result<T, String> {
        let machine = self.machine(side)?;
        if side != Side::Direct {
            return action(machine);
        }
        machine.set_direct(service, true)?;
        thread::sleep(SETTLED);
        let result = action(machine)?;
        machine.set_direct(service, false)?;
        Ok(result)
    }

    /// Has the sides do the work in turn, so that whatever else the host does meets all of them.
    ///
    /// # Errors
    /// A sentence if a client or a switch fails.
    pub fn measure(&mut self, work: Work, effort: Effort) -> Result<Measured, String> {
        let mut samples: BTreeMap<Side, Vec<Sample>> = BTreeMap::new();
        for repeat in 0..=effort.repeats {
            for side in self.sides.clone() {
                let is_rehearsal = repeat == 0;
                let sample = self.sample(side, work, effort.time, is_rehearsal)?;
                if !is_rehearsal {
                    samples.entry(side).or_default().push(sample);
                }
            }
        }
        for samples in samples.values_mut() {
            samples.sort_by(|one, other| one.per_unit().total_cmp(&other.per_unit()));
        }
        Ok(Measured { work, samples })
    }

    fn sample(
        &mut self,
        side: Side,
        work: Work,
        time: Duration,
        is_rehearsal: bool,
    ) -> Result<Sample, String> {
        self.in_mode(side, work.service(), |machine| {
            let time = match is_rehearsal {
                true => {
                    work.prepare(machine)?;
                    time / 2
                }
                false => time,
            };
            let before = machine.instructions();
            let done = work.run(machine, time)?;
            let instructions = machine.instructions().since(before);
            Ok(Sample { instructions, done })
        })
    }

    /// Where a side's instructions for the work are: for a unit, by program and part.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub fn profile(
        &mut self,
        side: Side,
        work: Work,
        time: Duration,
        symbols: &Symbols,
    ) -> Result<Parts, String> {
        self.in_mode(side, work.service(), |machine| {
            let before = machine.counter().profile();
            let done = work.run(machine, time)?;
            let after = machine.counter().profile();
            Ok(symbols.parts(&before, &after, done.units))
        })
    }

    /// Instructions in a second of the host's clock of a side that nobody wants anything of; `service` is
    /// what is in direct mode.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub fn idle(&mut self, side: Side, service: Service, time: Duration) -> Result<f64, String> {
        self.in_mode(side, service, |machine| {
            // What has just ended has ended.
            thread::sleep(Duration::from_secs(2));
            let (before, began) = (machine.instructions(), Instant::now());
            thread::sleep(time);
            let instructions = machine.instructions().since(before).total();
            Ok(instructions as f64 / began.elapsed().as_secs_f64())
        })
    }
}
