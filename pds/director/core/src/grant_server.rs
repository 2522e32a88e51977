//! Orders about grants, as the manager of configuration space carries them out.
//!
//! As [`crate::route_server`]: it is told that something has changed, not what, compares the
//! board with what it has answered, and never trusts the board.
//!
//! One that starts anew does not know how far its predecessor has come with an order that was not
//! answered. So it first takes back every function that nobody is known to hold
//! ([`GrantServer::recover`]), whatever of it has been given, and then serves as ever.

use crate::board::{Answers, Board, GrantOperation, Order, Refused};
use crate::config::{GrantTable, MAXIMUM_APPLICATIONS, MAXIMUM_FUNCTIONS};
use segue_fault_points::{Point, reached};

#[cfg(test)]
mod tests;

/// What gives capabilities of virtual functions away, and takes them back.
pub trait GrantDevice {
    /// Gives an application, by its place on the board, what it takes to drive a function.
    /// It holds no other, and nobody holds this one.
    ///
    /// # Errors
    ///
    /// Why not. A part may have been given: it is taken back by [`GrantDevice::withdraw`].
    fn grant(&mut self, application: usize, function: u8) -> Result<(), Refused>;

    /// Sees to it that an application that was given a function can use it: what is missing that
    /// does not need to be given anew is put right.
    fn keep(&mut self, application: usize, function: u8);

    /// Takes everything of a function back from whoever has it, whatever of it is there.
    ///
    /// # Errors
    ///
    /// Why something may be left.
    fn withdraw(&mut self, function: u8) -> Result<(), Refused>;

    /// Gives an application that has no function any more something to see where the function's
    /// registers were.
    fn cover(&mut self, application: usize);
}

/// Carries out orders about grants, and knows who holds what.
#[derive(Debug)]
pub struct GrantServer {
    board: Board,
    answers: Answers,
    count: usize,
    /// For each application the functions that it may be granted, one bit each.
    allowed: [u8; MAXIMUM_APPLICATIONS],
    /// Functions that can be granted, one bit each.
    functions: u8,
    /// The application that holds each function, or of which something may be left.
    holders: [Option<usize>; MAXIMUM_FUNCTIONS],
    /// Functions, one bit each, of which something may be left with nobody knows whom.
    left: u8,
    /// Applications whose registers a predecessor may have taken away without a cover.
    uncovered: [bool; MAXIMUM_APPLICATIONS],
    /// The last order about each application that was answered.
    answered: [Option<Order<GrantOperation>>; MAXIMUM_APPLICATIONS],
}

impl GrantServer {
    /// A server that has answered what its predecessor has; what was granted then is granted.
    /// Functions and applications beyond [`MAXIMUM_FUNCTIONS`] and [`MAXIMUM_APPLICATIONS`] are
    /// left out. [`GrantServer::recover`] comes next.
    pub fn new(table: &GrantTable, board: Board, answers: Answers) -> Self {
        let functions = table.functions as u8;
        let mut server = Self {
            board,
            answers,
            count: (table.count as usize).min(MAXIMUM_APPLICATIONS),
            allowed: table.allowed.map(|allowed| allowed & functions),
            functions,
            holders: [None; MAXIMUM_FUNCTIONS],
            left: 0,
            uncovered: [false; MAXIMUM_APPLICATIONS],
            answered: [None; MAXIMUM_APPLICATIONS],
        };
        for application in 0..server.count {
            server.recall(application);
        }
        server
    }

    /// Takes over what was ordered about an application.
    fn recall(&mut self, application: usize) {
        let Some(order) = self.board.grant(application) else {
            return;
        };
        let result = self.answers.to(application, order);
        self.answered[application] = result.map(|_| order);
        let is_done = result == Some(Ok(()));
        match order.operation {
            GrantOperation::Grant { function } if is_done => {
                let is_allowed = self.is_allowed(application, function);
                let holder = self.holders.get_mut(usize::from(function));
                if let Some(holder) = holder.filter(|holder| is_allowed && holder.is_none()) {
                    *holder = Some(application);
                }
            }
            GrantOperation::Grant { .. } => {}
            GrantOperation::Revoke => self.uncovered[application] = !is_done,
        }
    }

    /// Takes back each function that nobody is known to hold, and sees to it that the others can be
    /// used. Once, before the first [`GrantServer::serve`]; all of it may be done again.
    pub fn recover(&mut self, device: &mut impl GrantDevice) {
        for (function, holder) in (0_u8..).zip(self.holders) {
            if self.functions >> function & 1 == 0 {
                continue;
            }
            match holder {
                Some(application) => device.keep(application, function),
                None if device.withdraw(function).is_err() => self.left |= 1 << function,
                None => {}
            }
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
            let result = self.carry_out(application, order.operation, device);
            self.answered[application] = Some(order);
            reached(Point::PcieOrderCarriedOut);
            self.answers.give_to(application, order, result);
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
            GrantOperation::Revoke => self.revoke(application, held, device),
            GrantOperation::Grant { function } => {
                if held == Some(function) {
                    return Ok(());
                }
                let place = usize::from(function);
                let is_free = self.holders.get(place).is_some_and(Option::is_none);
                if held.is_some() || !is_free || !self.is_allowed(application, function) {
                    return Err(Refused::Invalid);
                }
                // Of this one, and of another that it may have had.
                self.take_left(self.allowed[application], device)?;
                self.holders[place] = Some(application);
                let granted = device.grant(application, function);
                if granted.is_err() {
                    self.revoke(application, Some(function), device)?;
                }
                granted
            }
        }
    }

    fn is_allowed(&self, application: usize, function: u8) -> bool {
        let allowed = self.allowed[application];
        usize::from(function) < MAXIMUM_FUNCTIONS && allowed >> function & 1 != 0
    }

    fn revoke(
        &mut self,
        application: usize,
        held: Option<u8>,
        device: &mut impl GrantDevice,
    ) -> Result<(), Refused> {
        match held {
            Some(function) => {
                let withdrawn = device.withdraw(function);
                device.cover(application);
                withdrawn?;
                self.holders[usize::from(function)] = None;
            }
            None => {
                // It may be its function of which something is left.
                self.take_left(self.allowed[application], device)?;
                if core::mem::take(&mut self.uncovered[application]) {
                    device.cover(application);
                }
            }
        }
        Ok(())
    }

    /// Takes back what may be left of functions, one bit each.
    fn take_left(&mut self, functions: u8, device: &mut impl GrantDevice) -> Result<(), Refused> {
        for function in 0..MAXIMUM_FUNCTIONS as u8 {
            if (functions & self.left) >> function & 1 != 0 {
                device.withdraw(function)?;
                self.left &= !(1 << function);
            }
        }
        Ok(())
    }
}
