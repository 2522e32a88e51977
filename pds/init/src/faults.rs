//! What happens once the system runs: a protection domain that faults is
//! stopped, reported, and started again if that is its policy; the others go on.

use core::convert::Infallible;

use segue_status::crash::{REGISTERS, Report, label};
use segue_status::system::State;
use segue_system_image::Payload;
use segue_system_image::format::{ProtectionDomain, Run, Span, layout, run_kind};
use sel4::CapRights;
use sel4::cap::{Tcb, UserContext};

use crate::builder::{Builder, Started};
use crate::clock::{ALARM_BADGE, Alarm};
use crate::failure::Failure;
use crate::heartbeat::Heartbeats;
use crate::pacer::PACER_BADGE;
use crate::restart::{Cause, Restarts};
use crate::upgrade::Upgrades;
use crate::{serial_line, start};

/// Waits for faults, and for those who hang, for ever.
pub(crate) fn serve(
    payload: &Payload<'static>,
    mut builder: Builder<'_>,
    started: Started,
) -> Result<Infallible, Failure> {
    let mut watcher = Watcher {
        upgrades: Upgrades::new(),
        restarts: Restarts::new(&mut builder)?,
        heartbeats: Heartbeats::new(&mut builder)?,
        report: Report::empty(),
        console: started.console,
        console_index: payload.header.console,
        started,
    };
    // Nobody is restarted or looked at without it.
    let is_needed = |domain: &ProtectionDomain| domain.restart_limit > 0 || domain.heartbeat > 0;
    let has_orders = builder.orders[0].is_some();
    let alarm = match has_orders || payload.protection_domains.iter().any(is_needed) {
        true => Some(Alarm::new(builder.allocator, builder.slots.notification)?),
        false => None,
    };
    if let Some(status) = watcher.started.status {
        // Before anybody runs. From here on nothing more is taken: this does not change again.
        builder.show_free(status);
    }
    loop {
        watcher.set(alarm.as_ref());
        let (information, badge) = sel4::syscall::recv(builder.slots.fault_endpoint);
        if badge & (ALARM_BADGE | PACER_BADGE | layout::ORDER_BADGE) != 0 {
            if badge & ALARM_BADGE != 0
                && let Some(alarm) = &alarm
            {
                alarm.acknowledge();
            }
            watcher.look(&mut builder, badge);
            continue;
        }
        // The badge is the index of the sender, counted from one.
        let Some(index) = (badge as usize).checked_sub(1) else {
            continue;
        };
        if index >= payload.protection_domains.len() {
            continue;
        }
        watcher.report.words = core::array::from_fn(|word| {
            if word < information.length() {
                sel4::message_register(word)
            } else {
                0
            }
        });
        watcher.report.label = information.label() as u32;
        watcher.stop(&mut builder, index, Cause::Fault);
    }
}

/// What `init` does while the system runs.
struct Watcher {
    upgrades: Upgrades,
    restarts: Restarts,
    heartbeats: Heartbeats,
    report: Report,
    /// Who makes reports readable; `init` says one line itself if nobody does.
    console: Option<u64>,
    console_index: u32,
    started: Started,
}

impl Watcher {
    /// Has the alarm ring when there is something to do.
    fn set(&self, alarm: Option<&Alarm>) {
        let now = start::microseconds(self.started.tsc_megahertz);
        let next = [
            self.restarts.due(),
            self.heartbeats.due(),
            self.upgrades.due(now),
        ];
        if let Some(alarm) = alarm
            && let Some(due) = next.into_iter().flatten().min()
        {
            alarm.set(due.saturating_sub(now));
        }
    }

    /// Does what has been ordered, looks for those who hang, and goes on with restarts. `badge`
    /// says who has signalled.
    fn look(&mut self, builder: &mut Builder<'_>, badge: u64) {
        let (started, console) = (&self.started, self.console);
        if badge & PACER_BADGE != 0 {
            self.restarts
                .go_on(builder, &mut self.heartbeats, started, console);
        }
        let (restarts, heartbeats) = (&mut self.restarts, &mut self.heartbeats);
        if badge & PACER_BADGE != 0 {
            self.upgrades.go_on(builder, restarts, started);
        }
        if badge & layout::ORDER_BADGE != 0 {
            self.upgrades.serve(builder, restarts, heartbeats, started);
        }
        self.upgrades.look(builder, restarts, heartbeats, started);
        let now = start::microseconds(started.tsc_megahertz);
        if let Some((index, idle)) = self.heartbeats.look(now) {
            let heartbeat = builder.payload.protection_domains[index].heartbeat;
            self.report.label = label::NO_PROGRESS;
            self.report.words = [u64::from(heartbeat), 0, 0, 0, 0];
            self.stop(builder, index, Cause::Hang(idle));
        } else {
            self.restarts
                .serve(builder, &mut self.heartbeats, started, console);
        }
    }

    /// Stops a protection domain, reports it, and starts it again if that is its policy. Label
    /// and words of the report say why.
    fn stop(&mut self, builder: &mut Builder<'_>, index: usize, cause: Cause) {
        let begun = start::microseconds(self.started.tsc_megahertz);
        let report = &mut self.report;
        stop(builder, index, report);
        self.heartbeats.copy(index, &mut report.watch);
        // What it has written of its work is of a life that is over.
        self.heartbeats.end(index);
        report.time = start::microseconds(self.started.tsc_megahertz);
        report.restarts = self.restarts.restarts(index);
        report.tsc_megahertz = self.started.tsc_megahertz;
        let cause = if report.is_exit() { Cause::End } else { cause };
        let (restarts, heartbeats) = (&mut self.restarts, &mut self.heartbeats);
        let started = &self.started;
        let on_trial = self
            .upgrades
            .stop(index, cause, builder, restarts, heartbeats, started);
        let state = if on_trial {
            State::Running
        } else {
            restarts.stop(index, cause, report.time, builder, started)
        };
        if let Some(crashes) = self.started.crashes {
            crashes.add(report);
        }
        let is_over = !matches!(state, State::Restarting | State::Running);
        if self.console_index == index as u32 && is_over {
            self.console = None;
        }
        match self.console {
            Some(console) => sel4::syscall::signal(console),
            None => {
                serial_line!(
                    "{} was stopped: {} (at {:#x}).",
                    report.name(),
                    report.reason(),
                    report.registers[0]
                );
                if state == State::GivenUp {
                    let limit = builder.payload.protection_domains[index].restart_limit;
                    serial_line!(
                        "{} is given up: it has faulted {} times in a row.",
                        report.name(),
                        limit.saturating_add(1)
                    );
                }
            }
        }
        let (started, console) = (&self.started, self.console);
        let now = start::microseconds(started.tsc_megahertz);
        self.restarts.note_cost(index, now.saturating_sub(begun));
        self.restarts
            .serve(builder, &mut self.heartbeats, started, console);
    }
}

/// Stops a protection domain and fills in what is known of it.
fn stop(builder: &Builder<'_>, index: usize, report: &mut Report) {
    let domain = &builder.payload.protection_domains[index];
    let thread = Tcb(builder.slots.domains[index].thread);
    report.name = domain.name;
    report.domain = index as u32;
    report.image = builder.slots.domains[index].image.map_or(0, |image| {
        let mut images = builder.payload.images_of(index);
        images.position(|place| place == image).unwrap_or(0) as u32 + 1
    });
    let runs = builder.runs(index);
    let count = UserContext::COUNT as u64;
    let context = thread.read_registers(true, 0, count).unwrap_or_default();
    let words = context.words();
    report.registers = core::array::from_fn(|register| words[register]);
    const { assert!(REGISTERS.len() < UserContext::COUNT) };
    report.code_length = read(builder, runs, context.rip, &mut report.code) as u32;
    report.stack_address = context.rsp;
    report.stack_length = read(builder, runs, context.rsp, &mut report.stack) as u32;
}

/// Copies bytes of a protection domain's own pages, as far as they are there
/// without a gap, and says how many.
fn read(builder: &Builder<'_>, runs: Span, address: u64, to: &mut [u8]) -> usize {
    let mut done = 0;
    while done < to.len() {
        let Some(place) = address.checked_add(done as u64) else {
            break;
        };
        let Some((run, index)) = run_at(builder, runs, place) else {
            break;
        };
        let page_size = 1u64 << run.page_bits;
        let offset = place - run.address;
        let within = (offset % page_size) as usize;
        let length = (page_size as usize - within).min(to.len() - done);
        let frame = u64::from(builder.slots.runs[index]) + offset / page_size;
        let part = &mut to[done..done + length];
        if run.kind == run_kind::IN_PLACE {
            part.copy_from_slice(builder.payload.data(run.offset + offset, length as u64));
        } else {
            let page_bits = u32::from(run.page_bits);
            let copied = builder
                .window
                .look(frame, page_bits, CapRights::READ, |memory| {
                    memory.read(within, part);
                });
            if copied.is_err() {
                break;
            }
        }
        done += length;
    }
    done
}

/// The run of pages that an address lies in, and its index.
fn run_at(builder: &Builder<'_>, runs: Span, address: u64) -> Option<(Run, usize)> {
    runs.range()
        .map(|index| (builder.payload.runs[index], index))
        .find(|(run, _)| {
            let length = u64::from(run.pages) << run.page_bits;
            address
                .checked_sub(run.address)
                .is_some_and(|offset| offset < length)
        })
}
