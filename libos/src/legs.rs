//! The two legs of a [`Vif`], and how it changes from one to the other.
//!
//! | stage | receives from | transmits through |
//! | --- | --- | --- |
//! | server | the server | the server |
//! | attached, on the way to direct | both, the server first | the server |
//! | direct | both, the server first | the function; see [`Way`] |
//! | draining, on the way back | both, the function first | the server |
//!
//! Order is kept: what came by the leg that is on its way out is older, so it is taken in
//! first; and the new leg does not transmit before the last frames of the old one are
//! completed.

use crate::duplicates::{Duplicates, Leg};
use crate::stack::Stack;
use crate::vif::{Backend, FunctionBackend, Offload, Received, Vif, is_up};
use crate::wire::fill_tcp_checksum;
use alloc::boxed::Box;
use segue_igb_driver::Error;
use smoltcp::time::{Duration, Instant};

/// How long a leg waits for the last frames of the other one before it transmits. Usually
/// they are done in microseconds; if not, order matters less than going on.
const HOLD: Duration = Duration::from_millis(20);
/// How soon a function that is at work is looked at, should its interrupts be lost.
const SOON: Duration = Duration::from_millis(20);
/// One without work is looked at at doubled intervals, up to this one: the interrupt that tells of the
/// first frame after a long silence can be lost, too.
const LATEST: Duration = Duration::from_millis(1_280);
/// Rounds that take in what a function has received before it goes: its ring holds 512
/// frames, a round takes 256.
const LAST_ROUNDS: usize = 4;
/// Copies dropped in one go before the caller has its turn.
const MOST_DUPLICATES: usize = 64;

/// Which legs are in use for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is no function, or it is not used for transmission; `server` is first in
    /// order.
    Server,
    /// Frames go through the function.
    Direct,
    /// As [`Stage::Server`], but what the function brings is older.
    Draining,
}

/// Where a frame goes in direct mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the function.
    Outside,
    /// To a station behind the network server of this machine: the card does not carry
    /// frames from one of its functions to another.
    Inside,
    /// To many: through the function, and a copy to the server, which delivers it inside
    /// the machine.
    Group,
}

/// The hardware addresses of stations inside the machine.
pub struct Stations {
    /// Sorted.
    inside: Box<[[u8; 6]]>,
    /// The last address that was not among them: usually the next one, too.
    outside: [u8; 6],
}

impl Stations {
    /// Where a frame with this destination (its first six bytes) goes.
    #[inline]
    pub fn way(&mut self, frame: &[u8]) -> Way {
        let Some(&to) = frame.first_chunk::<6>() else {
            return Way::Outside;
        };
        if to == self.outside {
            return Way::Outside;
        }
        if to[0] & 1 != 0 {
            return Way::Group;
        }
        if self.inside.binary_search(&to).is_ok() {
            return Way::Inside;
        }
        self.outside = to;
        Way::Outside
    }
}

/// The leg that comes and goes.
pub struct FunctionLeg {
    pub backend: Box<dyn FunctionBackend>,
    pub stations: Stations,
    /// Whether it computes TCP checksums.
    pub checksum: bool,
    /// When it is to be looked at, and how long that was put off.
    watch_at: Option<Instant>,
    wait: Duration,
    /// Frames received and sent, when it was looked at last.
    done: u64,
    failed: bool,
}

impl FunctionLeg {
    /// A leg over `backend`; frames to `inside` go to the network server.
    pub fn new(backend: Box<dyn FunctionBackend>, inside: &[[u8; 6]]) -> Self {
        let mut inside: Box<[[u8; 6]]> = inside.into();
        inside.sort_unstable();
        Self {
            checksum: backend.capabilities().checksum,
            backend,
            stations: Stations {
                inside,
                // Nobody's.
                outside: [0; 6],
            },
            watch_at: None,
            wait: SOON,
            done: 0,
            failed: false,
        }
    }

    /// See [`Stations::way`].
    #[inline]
    pub fn way(&mut self, destination: &[u8]) -> Way {
        self.stations.way(destination)
    }

    /// Gives the card what was queued, and has it looked at later.
    pub fn commit(&mut self, now: Instant) {
        self.backend.commit();
        if (self.watch_at.is_none() || self.wait > SOON)
            && (self.backend.outstanding() > 0 || self.backend.done() != self.done)
        {
            self.wait = SOON;
            let soon = now + SOON;
            self.watch_at = Some(self.watch_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Looks at a function that has perhaps something to say and has not been heard. Returns
    /// whether a frame was found that no interrupt had told of.
    fn watch(&mut self, now: Instant) -> bool {
        if self.watch_at.is_none_or(|at| now < at) {
            return false;
        }
        let backend = &mut self.backend;
        let done = backend.done();
        let has_moved = core::mem::replace(&mut self.done, done) != done;
        // If it was at work a moment ago, an interrupt may just be on its way.
        let found = !has_moved && backend.has_work();
        let is_under_way = backend.outstanding() > 0;
        self.wait = if has_moved || found || is_under_way {
            SOON
        } else {
            (self.wait * 2).min(LATEST)
        };
        self.watch_at = Some(now + self.wait);
        if backend.is_stalled(now) {
            if !core::mem::replace(&mut self.failed, true) {
                log::error!("the virtual function has not sent a frame for half a second");
            }
        } else if !has_moved {
            // Perhaps it receives nothing any more.
            backend.nudge();
        }
        found
    }
}

/// Transmits a frame that exists already. `software` says that the leg leaves checksums to
/// the Vif.
pub fn transmit_copy(
    leg: &mut (impl Backend + ?Sized),
    software: bool,
    frame: &[u8],
    offload: Offload,
) -> bool {
    let software = offload.checksum && software;
    let asked = Offload {
        checksum: offload.checksum && !software,
        ..offload
    };
    leg.transmit(frame.len(), asked, &mut |to| {
        to.copy_from_slice(frame);
        if software {
            fill_tcp_checksum(to);
        }
        true
    })
}

impl Vif {
    /// [`Vif::begin`] with a function, or soon after there was one.
    #[inline(never)]
    pub(crate) fn begin_legs(&mut self) {
        let now = self.now;
        let changing = self.function.is_some() && self.stage != Stage::Direct;
        if let Some(duplicates) = &mut self.duplicates {
            if changing {
                duplicates.extend(now);
            } else if !duplicates.turn(now) {
                self.duplicates = None;
            }
        }
        let mut all_repeated = true;
        if let Some(leg) = &mut self.function {
            // Before it begins, since that takes in what was sent.
            self.counters.found_late += u64::from(leg.watch(now));
            leg.backend.begin();
            if self.stage == Stage::Direct
                && let Some(server) = &mut self.server
            {
                let FunctionLeg {
                    backend, checksum, ..
                } = &mut **leg;
                let counters = &mut self.counters;
                all_repeated = server.take_lost(&mut |frame, offload| {
                    if !backend.can_transmit(frame.len()) {
                        return false;
                    }
                    let taken = transmit_copy(&mut **backend, !*checksum, frame, offload);
                    counters.count_repetition(taken);
                    true
                });
            }
        }
        self.repeating = !all_repeated;
        // It would send what is left again itself, to the wrong place.
        if all_repeated && let Some(server) = &mut self.server {
            server.begin();
        }
        if let Some(until) = self.hold_until
            && (now >= until || self.old_leg_is_done())
        {
            self.hold_until = None;
        }
    }

    fn old_leg_is_done(&self) -> bool {
        match self.stage {
            Stage::Direct => match &self.server {
                Some(server) => !server.is_up() || server.outstanding() == 0,
                None => true,
            },
            Stage::Server | Stage::Draining => match &self.function {
                Some(leg) => leg.failed || leg.backend.outstanding() == 0,
                None => true,
            },
        }
    }

    /// [`Vif::receive`] with a function, or soon after there was one.
    #[inline(never)]
    pub(crate) fn receive_from_legs(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let Self {
            server,
            function,
            stage,
            duplicates,
            counters,
            ..
        } = self;
        for _ in 0..MOST_DUPLICATES {
            let from_server = &mut |buffer: &mut [u8]| server.as_mut()?.receive(buffer);
            let from_function = &mut |buffer: &mut [u8]| function.as_mut()?.backend.receive(buffer);
            let (leg, received) = if *stage == Stage::Draining {
                match from_function(buffer) {
                    Some(received) => (Leg::Function, received),
                    None => (Leg::Server, from_server(buffer)?),
                }
            } else {
                match from_server(buffer) {
                    Some(received) => (Leg::Server, received),
                    None => (Leg::Function, from_function(buffer)?),
                }
            };
            let Some(duplicates) = duplicates else {
                return Some(received);
            };
            let frame = buffer.get(..received.length).unwrap_or_default();
            if !duplicates.has_come(leg, frame) {
                return Some(received);
            }
            counters.duplicates += 1;
        }
        None
    }

    /// When the legs want to be looked at, frames or not.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let watch = self.function.as_ref().and_then(|leg| leg.watch_at);
        match (watch, self.hold_until) {
            (Some(watch), Some(hold)) => Some(watch.min(hold)),
            (watch, hold) => watch.or(hold),
        }
    }

    fn legs_change(&mut self) {
        let now = self.now;
        match &mut self.duplicates {
            Some(duplicates) => duplicates.extend(now),
            None if self.server.is_some() => {
                self.duplicates = Some(Box::new(Duplicates::new(self.secret, now)));
            }
            None => {}
        }
    }

    /// Transmits through the other leg from now on, once this one is done.
    fn transmit_in(&mut self, stage: Stage) {
        self.legs_change();
        self.stage = stage;
        self.repeating = false;
        self.hold_until = (!self.old_leg_is_done()).then(|| self.now + HOLD);
    }

    fn attach(
        &mut self,
        backend: Box<dyn FunctionBackend>,
        inside: &[[u8; 6]],
    ) -> Result<(), Box<dyn FunctionBackend>> {
        let (can, must) = (backend.capabilities(), self.capabilities());
        if self.function.is_some()
            || can.maximum_frame < must.maximum_frame
            || can.segmentation < must.segmentation
        {
            return Err(backend);
        }
        self.legs_change();
        self.function = Some(Box::new(FunctionLeg::new(backend, inside)));
        Ok(())
    }

    fn detach(&mut self) -> Option<Box<dyn FunctionBackend>> {
        let mut leg = self.function.take()?;
        self.legs_change();
        self.stage = Stage::Server;
        self.hold_until = None;
        self.repeating = false;
        let software = !self.capabilities().checksum;
        let Self {
            server, counters, ..
        } = self;
        let stopped = leg.backend.stop(&mut |frame, offload| {
            let taken = server
                .as_mut()
                .is_some_and(|server| transmit_copy(&mut **server, software, frame, offload));
            counters.count_repetition(taken);
        });
        if let Err(error) = stopped {
            log::warn!("{error}");
        }
        Some(leg.backend)
    }
}

impl Stack {
    /// Receives from a virtual function, too, which must run
    /// ([`FunctionBackend::start`]); frames still go through the network server. In direct
    /// mode, frames to the hardware addresses `inside` will go through the server.
    ///
    /// # Errors
    ///
    /// If there is a function already, or this one can do less than the stack relies on.
    /// It is given back.
    pub fn attach(
        &mut self,
        function: Box<dyn FunctionBackend>,
        inside: &[[u8; 6]],
    ) -> Result<(), Box<dyn FunctionBackend>> {
        self.vif.attach(function, inside)
    }

    /// Transmits through the function from now on, and announces it
    /// ([`Stack::announce`]). Returns whether there is a function that runs. A round must
    /// follow.
    pub fn direct(&mut self) -> bool {
        match &self.vif.function {
            Some(leg) if leg.backend.is_up() => {}
            _ => return false,
        }
        if self.vif.stage != Stage::Direct {
            self.vif.transmit_in(Stage::Direct);
            self.announce();
        }
        true
    }

    /// Transmits through the network server from now on, and announces it; frames are
    /// still received from both. A round must follow. Does nothing if there is no server.
    pub fn drain(&mut self) {
        if self.vif.stage == Stage::Direct && self.vif.server.is_some() {
            self.vif.transmit_in(Stage::Draining);
            self.announce();
        }
    }

    /// Stops the function and lets it go. What it has received is taken in before; what it
    /// is not known to have sent is sent again through the network server, as far as there
    /// is room. A round must follow. Returns it, for the caller to drop; `None` if there
    /// is none.
    pub fn detach(&mut self) -> Option<Box<dyn FunctionBackend>> {
        self.vif.function.as_ref()?;
        for _ in 0..LAST_ROUNDS {
            if self.poll(self.now) == 0 {
                break;
            }
        }
        let was_direct = self.vif.stage == Stage::Direct;
        let function = self.vif.detach()?;
        if was_direct && is_up(&self.vif.server) {
            self.announce();
        }
        Some(function)
    }

    /// Starts the function of a stack that is always direct, when it has been enabled, and
    /// announces it. A round must follow. Does nothing if it runs.
    ///
    /// # Errors
    ///
    /// If the function does not answer, or a queue does not start.
    pub fn start_function(&mut self) -> Result<(), Error> {
        let Some(leg) = &mut self.vif.function else {
            return Err(Error::NotPresent);
        };
        let ran = leg.backend.is_up();
        leg.backend.start()?;
        if !ran && self.is_direct() {
            self.announce();
        }
        Ok(())
    }

    /// Whether frames go through the function.
    pub fn is_direct(&self) -> bool {
        self.vif.stage == Stage::Direct && self.vif.function.is_some()
    }

    /// Whether the function does not send frames any more. [`Stack::next_deadline`] sees to
    /// it that this is noticed.
    pub fn function_failed(&self) -> bool {
        self.vif.function.as_ref().is_some_and(|leg| leg.failed)
    }
}
