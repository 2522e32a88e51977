//! Running another image of a protection domain, by order; and going back if that does not work.
//!
//! The new image's pages are filled while the old one still runs. Then the thread is stopped, put into
//! the other address space, and started: what the protection domain is to others (channels, interrupts,
//! regions) stays as it is, and so an upgrade is a restart. The new image is on trial until it says that
//! it is ready. If it faults, hangs, or is not ready in time, the old one is started again.

use segue_status::orders::{Answer, Operation, Order, Outcome};
use segue_status::system::Restart;
use segue_system_image::format::{image_kind, limits};
use sel4::cap::Tcb;

use crate::builder::{Builder, Started};
use crate::failure::{Doing, Failure};
use crate::heartbeat::Heartbeats;
use crate::install::Install;
use crate::refill::Position;
use crate::restart::{Cause, Restarts};
use crate::start;

/// In which a new image is to be ready, in microseconds.
const PATIENCE: u64 = 1_000_000;
/// How often to look whether it is, in microseconds.
const PERIOD: u64 = 2_000;

/// Whose order, and which.
#[derive(Clone, Copy)]
struct Orderer {
    number: usize,
    sequence: u64,
}

/// A new image that has not proved itself yet. Times are microseconds.
#[derive(Clone, Copy)]
struct Trial {
    domain: usize,
    /// What ran before.
    before: Option<usize>,
    orderer: Orderer,
    /// When it is too late.
    until: u64,
    /// How long nothing ran.
    outage: u64,
}

/// All orders, and the one that is being carried out.
pub(crate) struct Upgrades {
    /// The last order of each orderer.
    last: [u64; limits::ORDERERS],
    trial: Option<Trial>,
    /// A program that is being taken over, and who ordered that.
    install: Option<(Install, Orderer)>,
}

impl Upgrades {
    /// There has been no order.
    pub(crate) const fn new() -> Self {
        Self {
            last: [0; limits::ORDERERS],
            trial: None,
            install: None,
        }
    }

    /// When the image on trial is to be looked at, in microseconds.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        self.trial.map(|trial| trial.until.min(now + PERIOD))
    }

    /// Carries out what has been ordered.
    pub(crate) fn serve(
        &mut self,
        builder: &mut Builder<'_>,
        restarts: &mut Restarts,
        heartbeats: &mut Heartbeats,
        started: &Started,
    ) {
        for number in 0..limits::ORDERERS {
            let Some(order) = builder.orders[number].and_then(|region| Order::read(&region)) else {
                continue;
            };
            if order.sequence == self.last[number] {
                continue;
            }
            self.last[number] = order.sequence;
            let orderer = Orderer {
                number,
                sequence: order.sequence,
            };
            let refused = self.carry_out(&order, orderer, builder, restarts, heartbeats, started);
            if let Err(outcome) = refused {
                answer(orderer, Some(outcome), 0, started);
            }
        }
    }

    fn carry_out(
        &mut self,
        order: &Order,
        orderer: Orderer,
        builder: &mut Builder<'_>,
        restarts: &mut Restarts,
        heartbeats: &mut Heartbeats,
        started: &Started,
    ) -> Result<(), Outcome> {
        let payload = builder.payload;
        let domain = usize::try_from(order.domain).ok();
        let domain = domain.filter(|domain| *domain < payload.protection_domains.len());
        let domain = domain.ok_or(Outcome::Unknown)?;
        let image = match order.image.checked_sub(1) {
            None => None,
            Some(place) => {
                let place = usize::try_from(place).map_err(|_| Outcome::Unknown)?;
                let found = payload.images_of(domain).nth(place);
                Some(found.ok_or(Outcome::Unknown)?)
            }
        };
        if self.trial.is_some() {
            return Err(Outcome::Busy);
        }
        match order.operation.ok_or(Outcome::Unknown)? {
            Operation::Install { length, hash } => {
                let image = image.ok_or(Outcome::Unknown)?;
                if self.install.is_some() {
                    return Err(Outcome::Busy);
                }
                if builder.slots.domains[domain].image == Some(image) {
                    return Err(Outcome::InUse);
                }
                let install = Install::new(builder, image, length, &hash)?;
                self.install = Some((install, orderer));
                restarts.ask();
                answer(orderer, None, 0, started);
                Ok(())
            }
            Operation::Upgrade => {
                let is_there = |image: usize| {
                    payload.images[image].kind == image_kind::PACKED
                        || builder.sent_entry(image) != 0
                };
                if !image.is_none_or(is_there) {
                    return Err(Outcome::Unknown);
                }
                if restarts.is_buried(domain) {
                    return Err(Outcome::Stopped);
                }
                let before = builder.slots.domains[domain].image;
                let swapped = swap(domain, image, builder, restarts, heartbeats, started);
                let outage = swapped.map_err(|_| Outcome::Refused)?;
                let now = start::microseconds(started.tsc_megahertz);
                self.trial = Some(Trial {
                    domain,
                    before,
                    orderer,
                    until: now + PATIENCE,
                    outage,
                });
                answer(orderer, None, outage, started);
                Ok(())
            }
        }
    }

    /// Nobody more important has work: takes over a part of what was sent.
    pub(crate) fn go_on(
        &mut self,
        builder: &mut Builder<'_>,
        restarts: &mut Restarts,
        started: &Started,
    ) {
        let Some((install, orderer)) = &mut self.install else {
            return;
        };
        let orderer = *orderer;
        let outcome = match install.step(builder) {
            Ok(false) => return restarts.ask(),
            Ok(true) => Outcome::Done,
            Err(outcome) => outcome,
        };
        self.install = None;
        answer(orderer, Some(outcome), 0, started);
    }

    /// Looks at the image on trial.
    pub(crate) fn look(
        &mut self,
        builder: &mut Builder<'_>,
        restarts: &mut Restarts,
        heartbeats: &mut Heartbeats,
        started: &Started,
    ) -> bool {
        let Some(trial) = self.trial else {
            return false;
        };
        if heartbeats.is_ready(trial.domain) {
            self.trial = None;
            answer(trial.orderer, Some(Outcome::Done), trial.outage, started);
            return true;
        }
        if start::microseconds(started.tsc_megahertz) < trial.until {
            return false;
        }
        self.go_back(
            trial,
            Outcome::NotReady,
            builder,
            restarts,
            heartbeats,
            started,
        );
        true
    }

    /// Whether a protection domain that was stopped is on trial; then its old image runs again.
    pub(crate) fn stop(
        &mut self,
        domain: usize,
        cause: Cause,
        builder: &mut Builder<'_>,
        restarts: &mut Restarts,
        heartbeats: &mut Heartbeats,
        started: &Started,
    ) -> bool {
        let Some(trial) = self.trial.filter(|trial| trial.domain == domain) else {
            return false;
        };
        let outcome = match cause {
            Cause::Hang(_) => Outcome::Hung,
            Cause::Fault | Cause::End => Outcome::Faulted,
        };
        self.go_back(trial, outcome, builder, restarts, heartbeats, started);
        true
    }

    fn go_back(
        &mut self,
        trial: Trial,
        outcome: Outcome,
        builder: &mut Builder<'_>,
        restarts: &mut Restarts,
        heartbeats: &mut Heartbeats,
        started: &Started,
    ) {
        self.trial = None;
        let (domain, before) = (trial.domain, trial.before);
        let swapped = swap(domain, before, builder, restarts, heartbeats, started);
        let outcome = match swapped {
            Ok(_) => outcome,
            Err(failure) => {
                let name = builder.name_of(domain);
                crate::serial_line!("{name} could not be given its old image back: {failure}.");
                Outcome::Refused
            }
        };
        answer(trial.orderer, Some(outcome), trial.outage, started);
    }
}

fn answer(orderer: Orderer, outcome: Option<Outcome>, outage: u64, started: &Started) {
    if let Some(status) = started.status {
        let answer = Answer {
            sequence: orderer.sequence,
            outcome,
            outage,
        };
        status.set_answer(orderer.number, answer);
    }
    if let Some(Some(orderer)) = started.orderers.get(orderer.number) {
        sel4::syscall::signal(*orderer);
    }
}

/// Stops what runs and starts another image in its place; yields for how many microseconds nothing ran.
fn swap(
    domain: usize,
    image: Option<usize>,
    builder: &mut Builder<'_>,
    restarts: &mut Restarts,
    heartbeats: &mut Heartbeats,
    started: &Started,
) -> Result<u64, Failure> {
    let now = || start::microseconds(started.tsc_megahertz);
    let is_new = builder.slots.domains[domain].image != image;
    let fill = |builder: &Builder<'_>| -> Result<(), Failure> {
        let mut position = Position::default();
        while !builder.refill(domain, image, &mut position)? {}
        Ok(())
    };
    if is_new {
        fill(builder)?;
    }
    let stopped = now();
    Tcb(builder.slots.domains[domain].thread)
        .suspend()
        .doing("a thread could not be stopped", builder.name_of(domain))?;
    if is_new {
        builder.change_image(domain, image)?;
    } else {
        fill(builder)?;
    }
    builder.drop_signals(domain)?;
    heartbeats.change_image(domain, image);
    let begun = now();
    let outage = begun.saturating_sub(stopped);
    let count = restarts.swapped(domain, begun);
    if let Some(status) = started.status {
        let restart = Restart {
            count,
            started: begun,
            outage,
            rebuild: outage,
        };
        status.set_restarted(domain, restart);
        builder.show_free(status);
    }
    builder.run(domain)?;
    Ok(outage)
}
