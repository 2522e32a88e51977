//! What happens once the system runs: a protection domain that faults is
//! stopped, reported, and started again if that is its policy; the others go on.

use core::convert::Infallible;

use segue_status::crash::{REGISTERS, Report};
use segue_status::system::State;
use segue_system_image::Payload;
use segue_system_image::format::{ProtectionDomain, Run, run_kind};
use sel4::CapRights;
use sel4::cap::{Tcb, UserContext};

use crate::builder::{Builder, Started};
use crate::clock::ALARM_BADGE;
use crate::failure::Failure;
use crate::restart::Restarts;
use crate::{serial_line, start};

/// Waits for faults, for ever.
pub(crate) fn serve(
    payload: &Payload<'static>,
    mut builder: Builder<'_>,
    started: Started,
) -> Result<Infallible, Failure> {
    let mut restarts = Restarts::new(&mut builder)?;
    let mut report = Report::empty();
    // Who makes reports readable; init says one line itself if nobody does.
    let mut console = started.console;
    loop {
        let (information, badge) = sel4::syscall::recv(builder.slots.fault_endpoint);
        if badge & ALARM_BADGE != 0 {
            restarts.ring();
            restarts.serve(&mut builder, &started, console);
            continue;
        }
        // The badge is the index of the sender, counted from one.
        let Some(index) = (badge as usize).checked_sub(1) else {
            continue;
        };
        let Some(domain) = payload.protection_domains.get(index) else {
            continue;
        };
        report.words = core::array::from_fn(|word| {
            if word < information.length() {
                sel4::message_register(word)
            } else {
                0
            }
        });
        report.label = information.label() as u32;
        stop(&builder, domain, index, &mut report);
        report.time = start::microseconds(started.tsc_megahertz);
        let state = restarts.fault(index, report.time, &started);
        if let Some(crashes) = started.crashes {
            crashes.add(&mut report);
        }
        if payload.header.console == index as u32 {
            console = None;
        }
        match console {
            Some(console) => sel4::syscall::signal(console),
            None => {
                serial_line!(
                    "{} was stopped: {} (at {:#x}).",
                    report.name(),
                    report.reason(),
                    report.registers[0]
                );
                if state == State::GivenUp {
                    serial_line!(
                        "{} is given up: it has faulted {} times in a row.",
                        report.name(),
                        domain.restart_limit.saturating_add(1)
                    );
                }
            }
        }
        restarts.serve(&mut builder, &started, console);
    }
}

/// Stops a protection domain and fills in what is known of it.
fn stop(builder: &Builder<'_>, domain: &ProtectionDomain, index: usize, report: &mut Report) {
    let thread = Tcb(builder.slots.domains[index].thread);
    report.name = domain.name;
    report.domain = index as u32;
    let count = UserContext::COUNT as u64;
    let context = thread.read_registers(true, 0, count).unwrap_or_default();
    let words = context.words();
    report.registers = core::array::from_fn(|register| words[register]);
    const { assert!(REGISTERS.len() < UserContext::COUNT) };
    report.code_length = read(builder, domain, context.rip, &mut report.code) as u32;
    report.stack_address = context.rsp;
    report.stack_length = read(builder, domain, context.rsp, &mut report.stack) as u32;
}

/// Copies bytes of a protection domain's own pages, as far as they are there
/// without a gap, and says how many.
fn read(builder: &Builder<'_>, domain: &ProtectionDomain, address: u64, to: &mut [u8]) -> usize {
    let mut done = 0;
    while done < to.len() {
        let Some(place) = address.checked_add(done as u64) else {
            break;
        };
        let Some((run, index)) = run_at(builder, domain, place) else {
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
fn run_at(builder: &Builder<'_>, domain: &ProtectionDomain, address: u64) -> Option<(Run, usize)> {
    domain
        .runs
        .range()
        .map(|index| (builder.payload.runs[index], index))
        .find(|(run, _)| {
            let length = u64::from(run.pages) << run.page_bits;
            address
                .checked_sub(run.address)
                .is_some_and(|offset| offset < length)
        })
}
