//! Orders about routes, as the owner of the physical function carries them out.
//!
//! It is told that something has changed, not what: [`RouteServer::serve`] compares the
//! board with what it has answered. An order that was answered is not carried out again
//! before another takes its place. Whoever starts anew reads in its own answers which those are:
//! an old order to scrub must not be carried out on a function that somebody else has by now.
//! What else it has to know of its predecessor's work it learns from the orders
//! ([`RouteServer::records`]) and the device.

use crate::board::{Answers, Board, Mode, Order, Refused, RouteOperation};
use crate::config::{MAXIMUM_APPLICATIONS, MAXIMUM_FUNCTIONS, RouteTable};
use segue_fault_points::{Point, reached};

#[cfg(test)]
mod tests;

/// A device with virtual functions that can be granted.
///
/// Each method may be called again with the same arguments, to no further effect.
pub trait RouteDevice {
    /// Lets a function work that its holder has reset.
    ///
    /// # Errors
    ///
    /// Why not.
    fn enable(&mut self, function: u8) -> Result<(), Refused>;

    /// Makes frames to `mac` go to this function alone.
    ///
    /// # Errors
    ///
    /// Why not; they go where they went.
    fn route(&mut self, mac: [u8; 6], function: u8) -> Result<(), Refused>;

    /// Takes a function that nobody holds out of use, and everything out of it that its
    /// last holder left.
    ///
    /// # Errors
    ///
    /// Why not; nobody must be given the function.
    fn scrub(&mut self, function: u8) -> Result<(), Refused>;
}

/// What is known of an application from the last order about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Where its frames go.
    pub settled: Settled,
    /// The function that it is about, if it can be granted.
    pub function: Option<u8>,
    /// Whether that function is to work.
    pub works: bool,
}

/// Where the frames to an application go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It depends on how far an order has come.
    No,
    /// Where they went before its last way to direct mode.
    Home,
    /// To this function, one that a route can lead to.
    To(u8),
}

/// Carries out orders about routes. Never trusts the board: what it names is checked.
#[derive(Debug)]
pub struct RouteServer {
    board: Board,
    answers: Answers,
    count: usize,
    /// Functions that can be granted, one bit each.
    functions: u32,
    server_function: u32,
    /// The last order about each application that was answered.
    answered: [Option<Order<RouteOperation>>; MAXIMUM_APPLICATIONS],
}

impl RouteServer {
    /// A server that has answered what its predecessor has. Functions and applications beyond
    /// [`MAXIMUM_FUNCTIONS`] and [`MAXIMUM_APPLICATIONS`] are left out.
    pub fn new(table: &RouteTable, board: Board, answers: Answers) -> Self {
        let count = (table.count as usize).min(MAXIMUM_APPLICATIONS);
        let mut answered = [None; MAXIMUM_APPLICATIONS];
        for (application, answered) in answered.iter_mut().enumerate().take(count) {
            let order = board.route(application);
            *answered = order.filter(|order| answers.to(application, *order).is_some());
        }
        Self {
            board,
            answers,
            count,
            functions: table.functions,
            server_function: table.server_function,
            answered,
        }
    }

    /// What is known of each application about which there was ever an order: for one that starts
    /// anew, before it serves.
    pub fn records(&self) -> impl Iterator<Item = Record> + Clone {
        (0..self.count).filter_map(|application| self.record(application))
    }

    fn record(&self, application: usize) -> Option<Record> {
        let order = self.board.route(application)?;
        let result = self.answers.to(application, order);
        let is_done = result == Some(Ok(()));
        let shown = self.board.shown(application);
        let (function, works, settled) = match order.operation {
            // Nothing was routed yet. One that could not be enabled is off.
            RouteOperation::Enable { function } => (
                Some(function),
                !matches!(result, Some(Err(_))),
                Settled::Home,
            ),
            RouteOperation::Route { function } => {
                let settled = match is_done {
                    true => Settled::To(function),
                    false => Settled::No,
                };
                // On the way back the function works until it is scrubbed.
                match u32::from(function) == self.server_function {
                    true => (shown.function, shown.mode != Mode::Server, settled),
                    false => (Some(function), true, settled),
                }
            }
            RouteOperation::Scrub { function } => {
                let settled = match is_done {
                    true => Settled::Home,
                    false => Settled::No,
                };
                (Some(function), false, settled)
            }
        };
        let settled = match settled {
            Settled::To(to) if !self.is_target(to) => Settled::No,
            other => other,
        };
        Some(Record {
            mac: self.board.mac(application),
            settled,
            function: function.filter(|function| self.granted(*function).is_ok()),
            works,
        })
    }

    /// Carries out each order that has not been answered yet and answers it. Returns
    /// whether there was one: then the director is to be notified. One that starts anew notifies it
    /// in any case: its predecessor may have answered last of all.
    pub fn serve(&mut self, device: &mut impl RouteDevice) -> bool {
        let mut any = false;
        for index in 0..self.count {
            let Some(order) = self.board.route(index) else {
                continue;
            };
            if self.answered[index] == Some(order) {
                continue;
            }
            let result = self.carry_out(index, order.operation, device);
            self.answered[index] = Some(order);
            reached(Point::IgbPfOrderCarriedOut);
            self.answers.give_to(index, order, result);
            any = true;
        }
        any
    }

    fn carry_out(
        &self,
        index: usize,
        operation: RouteOperation,
        device: &mut impl RouteDevice,
    ) -> Result<(), Refused> {
        match operation {
            RouteOperation::Enable { function } => device.enable(self.granted(function)?),
            RouteOperation::Scrub { function } => device.scrub(self.granted(function)?),
            RouteOperation::Route { function } => {
                if !self.is_target(function) {
                    return Err(Refused::Invalid);
                }
                device.route(self.board.mac(index), function)
            }
        }
    }

    /// Whether frames can be routed to the function.
    fn is_target(&self, function: u8) -> bool {
        u32::from(function) == self.server_function || self.granted(function).is_ok()
    }

    /// The function, if it can be granted.
    fn granted(&self, function: u8) -> Result<u8, Refused> {
        let is_granted =
            usize::from(function) < MAXIMUM_FUNCTIONS && self.functions >> function & 1 != 0;
        is_granted.then_some(function).ok_or(Refused::Invalid)
    }
}
