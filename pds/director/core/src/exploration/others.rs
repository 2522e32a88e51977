//! How `pcie`, the owner of the physical function and the applications carry out orders.

use super::world::{Broken, Conduct, Doing, SERVER, World, broken, mac};
use crate::board::{Answer, GrantOperation, Refused, RouteOperation, StageOperation};

impl World {
    pub(super) fn pcie(
        &mut self,
        index: usize,
        mut conduct: Conduct,
        functions: usize,
    ) -> Result<bool, Broken> {
        let Some(order) = self.board.grant[index] else {
            return Ok(false);
        };
        if is_answered(order.sequence, self.board.granted[index]) {
            return Ok(false);
        }
        if let GrantOperation::Grant { function } = order.operation
            && (!(1..=functions).contains(&usize::from(function))
                || self.truth.confused && self.is_dirty_for(index, function))
        {
            conduct = Conduct::Refuse;
        }
        if conduct != Conduct::Refuse {
            match order.operation {
                GrantOperation::Grant { function } => self.granted(index, function)?,
                GrantOperation::Revoke => self.revoked(index),
            }
        }
        say(&mut self.board.granted[index], order.sequence, conduct);
        Ok(true)
    }

    /// Whether another has had the function since it was scrubbed.
    fn is_dirty_for(&self, index: usize, function: u8) -> bool {
        let place = usize::from(function);
        self.truth.dirty[place] && self.truth.holders[place] != Some(index as u8)
    }

    fn granted(&mut self, index: usize, function: u8) -> Result<(), Broken> {
        let place = usize::from(function);
        let holder = &mut self.truth.holders[place];
        match *holder {
            Some(other) if usize::from(other) != index => {
                return Err(broken("a function is granted that another holds", function));
            }
            Some(_) => {}
            None if self.truth.dirty[place] => {
                return Err(broken("a function is granted unscrubbed", function));
            }
            None if self.truth.uses[index] && !self.truth.confused => {
                return Err(broken(
                    "a function is granted to who still uses its last one",
                    index,
                ));
            }
            None => {
                *holder = Some(index as u8);
                self.truth.dirty[place] = true;
                self.truth.excused[index] = false;
            }
        }
        Ok(())
    }

    fn revoked(&mut self, index: usize) {
        for holder in &mut self.truth.holders {
            if *holder == Some(index as u8) {
                *holder = None;
                self.truth.doing[index] = Doing::Away;
            }
        }
    }

    pub(super) fn physical_function(
        &mut self,
        index: usize,
        mut conduct: Conduct,
        functions: usize,
    ) -> Result<bool, Broken> {
        let Some(order) = self.board.route[index] else {
            return Ok(false);
        };
        if is_answered(order.sequence, self.board.routed[index]) {
            return Ok(false);
        }
        let (RouteOperation::Enable { function }
        | RouteOperation::Route { function }
        | RouteOperation::Scrub { function }) = order.operation;
        let is_nonsense = match order.operation {
            RouteOperation::Enable { .. } => false,
            RouteOperation::Route { .. } => self.board.mac[index] != mac(index),
            RouteOperation::Scrub { function } => function == SERVER,
        };
        if usize::from(function) > functions || is_nonsense && self.truth.confused {
            conduct = Conduct::Refuse;
        }
        if conduct != Conduct::Refuse {
            match order.operation {
                RouteOperation::Enable { .. } => {}
                RouteOperation::Route { function } => {
                    if self.board.mac[index] != mac(index) {
                        return Err(broken("a route is about no MAC address", function));
                    }
                    self.truth.routes[index] = function;
                }
                RouteOperation::Scrub { function } => {
                    if function == SERVER {
                        return Err(broken("the server's function is scrubbed", function));
                    }
                    let is_held = self.truth.holders[usize::from(function)].is_some();
                    if is_held && !self.truth.confused {
                        return Err(broken("a held function is scrubbed", function));
                    }
                    if self.truth.routes.contains(&function) && !self.truth.confused {
                        return Err(broken("a function with a route is scrubbed", function));
                    }
                    self.truth.dirty[usize::from(function)] = is_held;
                }
            }
        }
        say(&mut self.board.routed[index], order.sequence, conduct);
        Ok(true)
    }

    pub(super) fn application(&mut self, index: usize, conduct: Conduct) -> bool {
        let Some(order) = self.board.stage[index].filter(|_| self.truth.lives[index].is_running)
        else {
            return false;
        };
        let may_repeat = matches!(conduct, Conduct::Lie | Conduct::Refuse);
        if is_answered(order.sequence, self.board.staged[index]) && !may_repeat {
            return false;
        }
        let mut conduct = conduct;
        match conduct {
            // What it does not do is its own affair.
            Conduct::Lie => {
                self.truth.excused[index] = true;
                self.truth.uses[index] = false;
            }
            Conduct::Refuse => self.truth.uses[index] = false,
            Conduct::Obey | Conduct::Silent => {
                let doing = self.truth.doing[index];
                let holds = self.truth.holders.contains(&Some(index as u8));
                let next = match order.operation {
                    StageOperation::Server => Some(Doing::Away),
                    StageOperation::Prepare { .. } => holds.then_some(Doing::Prepared),
                    StageOperation::Attach => match doing {
                        Doing::Prepared | Doing::Attached => Some(Doing::Attached),
                        Doing::Away | Doing::Direct => None,
                    },
                    StageOperation::Direct => match doing {
                        Doing::Attached | Doing::Direct => Some(Doing::Direct),
                        Doing::Away | Doing::Prepared => None,
                    },
                    StageOperation::Drain => match doing {
                        Doing::Attached | Doing::Direct => Some(Doing::Attached),
                        Doing::Away | Doing::Prepared => None,
                    },
                };
                match next {
                    Some(next) => {
                        self.truth.doing[index] = next;
                        self.truth.uses[index] = next != Doing::Away;
                    }
                    None => conduct = Conduct::Refuse,
                }
            }
        }
        say(&mut self.board.staged[index], order.sequence, conduct);
        true
    }
}

/// Who has answered an order does not carry it out again.
fn is_answered(sequence: u32, answer: Option<Answer>) -> bool {
    answer.is_some_and(|answer| answer.sequence == sequence)
}

fn say(answer: &mut Option<Answer>, sequence: u32, conduct: Conduct) {
    let result = match conduct {
        Conduct::Silent => return,
        Conduct::Obey | Conduct::Lie => Ok(()),
        Conduct::Refuse => Err(Refused::Device),
    };
    *answer = Some(Answer { sequence, result });
}
