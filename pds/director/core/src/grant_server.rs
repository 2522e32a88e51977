//! Orders about grants, as the manager of configuration space carries them out.
//!
//! As [`crate::route_server`]: it is told that something has changed, not what, compares the
//! board with what it has answered, and never trusts the board.

use crate::board::{Answer, Answers, Board, GrantOperation, Order, Refused};
use crate::config::{GrantTable, MAXIMUM_APPLICATIONS, MAXIMUM_FUNCTIONS};

#[cfg(test)]
mod tests;

/// What gives capabilities of virtual functions away, and takes them back.
pub trait GrantDevice {
    /// Gives an application, by its place on the board, what it takes to drive a function.
    /// It holds no other, and nobody holds this one.
    ///
    /// # Errors
    ///
    /// Why not. A part may have been given: it is taken back by [`GrantDevice::revoke`].
    fn grant(&mut self, application: usize, function: u8) -> Result<(), Refused>;

    /// Takes everything of a function back from an application, whatever of it is there.
    ///
    /// # Errors
    ///
    /// Why something may be left.
    fn revoke(&mut self, application: usize, function: u8) -> Result<(), Refused>;
}

/// Carries out orders about grants, and knows who holds what.
#[derive(Debug)]
pub struct GrantServer {
    board: Board,
    answers: Answers,
    count: usize,
    /// For each application the functions that it may be granted, one bit each.
    allowed: [u8; MAXIMUM_APPLICATIONS],
    /// The application that holds each function, or of which something may be left.
    holders: [Option<usize>; MAXIMUM_FUNCTIONS],
    /// The last order about each application that was answered.
    answered: [Option<Order<GrantOperation>>; MAXIMUM_APPLICATIONS],
}

impl GrantServer {
    /// A server that has answered nothing yet; nobody holds anything. Functions and
    /// applications beyond [`MAXIMUM_FUNCTIONS`] and [`MAXIMUM_APPLICATIONS`] are left out.
    pub fn new(table: &GrantTable, board: Board, answers: Answers) -> Self {
        let functions = table.functions as u8;
        Self {
            board,
            answers,
            count: (table.count as usize).min(MAXIMUM_APPLICATIONS),
            allowed: table.allowed.map(|allowed| allowed & functions),
            holders: [None; MAXIMUM_FUNCTIONS],
            answered: [None; MAXIMUM_APPLICATIONS],
        }
    }

    /// Carries out each order that has not been answered yet and answers it. Returns
    /// whether there was one: then the director is to be notified.
    pub fn serve(&mut self, device: &mut impl GrantDevice) -> bool {
        let mut any = false;
        for application in 0..self.count {
            let Some(order) = self.board.grant(application) else {
                continue;
            };
            if self.answered[application] == Some(order) {
                continue;
            }
            let sequence = order.sequence;
            let result = self.carry_out(application, order.operation, device);
            self.answered[application] = Some(order);
            self.answers.give(application, Answer { sequence, result });
            any = true;
        }
        any
    }

    fn carry_out(
        &mut self,
        application: usize,
        operation: GrantOperation,
        device: &mut impl GrantDevice,
    ) -> Result<(), Refused> {
        let held = (0..)
            .zip(self.holders)
            .find(|(_, holder)| *holder == Some(application))
            .map(|(function, _)| function);
        match operation {
            GrantOperation::Revoke => match held {
                Some(function) => self.revoke(application, function, device),
                None => Ok(()),
            },
            GrantOperation::Grant { function } => {
                if held == Some(function) {
                    return Ok(());
                }
                let place = usize::from(function);
                let is_free = self.holders.get(place).is_some_and(Option::is_none);
                if held.is_some() || !is_free || self.allowed[application] >> function & 1 == 0 {
                    return Err(Refused::Invalid);
                }
                self.holders[place] = Some(application);
                let granted = device.grant(application, function);
                if granted.is_err() {
                    self.revoke(application, function, device)?;
                }
                granted
            }
        }
    }

    fn revoke(
        &mut self,
        application: usize,
        function: u8,
        device: &mut impl GrantDevice,
    ) -> Result<(), Refused> {
        device.revoke(application, function)?;
        self.holders[usize::from(function)] = None;
        Ok(())
    }
}
