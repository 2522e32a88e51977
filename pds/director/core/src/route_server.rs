//! Orders about routes, as the owner of the physical function carries them out.
//!
//! It is told that something has changed, not what: [`RouteServer::serve`] compares the
//! board with what it has answered. An order that was answered is not carried out again
//! before another takes its place; whoever starts anew has answered nothing.

use crate::board::{Answer, Answers, Board, Order, Refused, RouteOperation};
use crate::config::{MAXIMUM_APPLICATIONS, MAXIMUM_FUNCTIONS, RouteTable};

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
    /// A server that has answered nothing yet. Functions and applications beyond
    /// [`MAXIMUM_FUNCTIONS`] and [`MAXIMUM_APPLICATIONS`] are left out.
    pub fn new(table: &RouteTable, board: Board, answers: Answers) -> Self {
        Self {
            board,
            answers,
            count: (table.count as usize).min(MAXIMUM_APPLICATIONS),
            functions: table.functions,
            server_function: table.server_function,
            answered: [None; MAXIMUM_APPLICATIONS],
        }
    }

    /// Carries out each order that has not been answered yet and answers it. Returns
    /// whether there was one: then the director is to be notified.
    pub fn serve(&mut self, device: &mut impl RouteDevice) -> bool {
        let mut any = false;
        for index in 0..self.count {
            let Some(order) = self.board.route(index) else {
                continue;
            };
            if self.answered[index] == Some(order) {
                continue;
            }
            let sequence = order.sequence;
            let result = self.carry_out(index, order.operation, device);
            self.answered[index] = Some(order);
            self.answers.give(index, Answer { sequence, result });
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
                if u32::from(function) != self.server_function {
                    self.granted(function)?;
                }
                device.route(self.board.mac(index), function)
            }
        }
    }

    /// The function, if it can be granted.
    fn granted(&self, function: u8) -> Result<u8, Refused> {
        let is_granted =
            usize::from(function) < MAXIMUM_FUNCTIONS && self.functions >> function & 1 != 0;
        is_granted.then_some(function).ok_or(Refused::Invalid)
    }
}
