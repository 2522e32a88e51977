//! What steers a stack between two rounds: whoever decides by which way its frames go.

use crate::stack::Stack;
use alloc::boxed::Box;
use smoltcp::time::Instant;

/// Is asked at the start of each round of a stack, before anything else happens.
pub trait Control {
    /// Does a bounded part of what there is to do: attach or detach a function, change the
    /// way of frames. Returns whether there is more to do, so that another round must
    /// follow before the application sleeps.
    fn turn(&mut self, stack: &mut Stack, now: Instant) -> bool;
}

/// The control of a stack that has one.
#[derive(Default)]
pub struct Steering {
    control: Option<Box<dyn Control>>,
    is_busy: bool,
}

impl Stack {
    /// Lets `control` steer this stack from the next round on. The application's code knows
    /// nothing of it.
    pub fn set_control(&mut self, control: Box<dyn Control>) {
        self.steering.control = Some(control);
    }

    /// The control's turn. It is taken out meanwhile, since it acts on the stack.
    #[inline]
    pub(crate) fn steer(&mut self, now: Instant) {
        if let Some(mut control) = self.steering.control.take() {
            self.steering.is_busy = control.turn(self, now);
            self.steering.control = Some(control);
        }
    }

    /// Whether the control needs another round.
    pub(crate) fn is_steered(&self) -> bool {
        self.steering.is_busy
    }
}
