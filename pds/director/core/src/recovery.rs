//! What a director does with what its predecessor left on the board.
//!
//! An application that is plainly in one of the two modes stays in it. Of all others only
//! the function is of interest; whatever was under way is undone. Where the board does not
//! say which function it is, all that the application may have are taken for its own
//! until they are revoked and scrubbed.

use crate::board::{Answer, GrantOperation, Mode, Order, RouteOperation, StageOperation};
use crate::machine::{Effects, Found, Machine, Target, View, is_usable};
use crate::report::{Report, Step};
use crate::stepping::Stepping;

/// Whether an order was carried out.
fn is_done<O>(order: &Order<O>, answer: Option<Answer>) -> bool {
    answer.is_some_and(|answer| answer.sequence == order.sequence && answer.result.is_ok())
}

impl Found {
    /// The function that is shown, if no order speaks of another one.
    fn function(&self, server_function: u8, view: &View) -> Option<u8> {
        let shown = self.shown.function?;
        let granted = match self.grant.map(|order| order.operation) {
            Some(GrantOperation::Grant { function }) => function,
            _ => shown,
        };
        // What was scrubbed may be of the last switch.
        let route = self.route.filter(|order| {
            !matches!(order.operation, RouteOperation::Scrub { .. }) || !is_done(order, view.route)
        });
        let routed = match route.map(|order| order.operation) {
            Some(RouteOperation::Route { function }) if function == server_function => shown,
            Some(
                RouteOperation::Enable { function }
                | RouteOperation::Route { function }
                | RouteOperation::Scrub { function },
            ) => function,
            None => shown,
        };
        let prepared = match self.stage.map(|order| order.operation) {
            Some(StageOperation::Prepare { function }) => function,
            _ => shown,
        };
        (granted == shown && routed == shown && prepared == shown).then_some(shown)
    }

    /// Whether its frames are known not to go to a function: none was enabled yet, or the
    /// way back is confirmed.
    fn is_routed_back(&self, server_function: u8, view: &View) -> bool {
        // One damaged word must not be believed: that of another order has to agree.
        let stage = self.stage.map(|order| order.operation);
        let grant = self.grant.map(|order| order.operation);
        self.route.is_some_and(|order| match order.operation {
            RouteOperation::Enable { .. } => {
                matches!(stage, Some(StageOperation::Prepare { .. }))
            }
            RouteOperation::Scrub { .. } => grant == Some(GrantOperation::Revoke),
            RouteOperation::Route { function } => {
                function == server_function && is_done(&order, view.route)
            }
        })
    }

    /// Whether nothing is held, and nothing under way.
    fn is_server(&self, view: &View) -> bool {
        let revoked = self.grant.is_none_or(|order| {
            order.operation == GrantOperation::Revoke && is_done(&order, view.grant)
        });
        let scrubbed = self.route.is_none_or(|order| {
            matches!(order.operation, RouteOperation::Scrub { .. }) && is_done(&order, view.route)
        });
        let told = self
            .stage
            .is_none_or(|order| order.operation == StageOperation::Server);
        let shown = self.shown.mode == Mode::Server && self.shown.function.is_none();
        revoked && scrubbed && told && shown && !self.direct
    }

    /// Whether it drives this function, and all of them have said so.
    fn is_direct(&self, view: &View, function: u8) -> bool {
        let granted = self.grant.is_some_and(|order| {
            order.operation == GrantOperation::Grant { function } && is_done(&order, view.grant)
        });
        let routed = self.route.is_some_and(|order| {
            order.operation == RouteOperation::Route { function } && is_done(&order, view.route)
        });
        let told = self.stage.is_some_and(|order| {
            order.operation == StageOperation::Direct && is_done(&order, view.stage)
        });
        let lives = view.life.is_running && view.life.restarts == self.shown.life;
        let shown = self.shown.mode == Mode::Direct && is_usable(self.mac);
        granted && routed && told && lives && shown && self.direct
    }
}

impl<const N: usize> Machine<N> {
    /// Goes on from what was found about each application.
    pub fn recover(
        &mut self,
        now: u64,
        found: &[Option<(Found, View)>; N],
        effects: &mut impl Effects,
    ) {
        let mut undo = [false; N];
        for (index, undo) in undo.iter_mut().enumerate().take(self.count) {
            *undo = found[index].is_some_and(|(found, view)| !self.take(index, now, &found, &view));
        }
        for (index, undo) in undo.iter_mut().enumerate().take(self.count) {
            let claimed = self.applications[index].claimed;
            let mut others = self.applications.iter().enumerate();
            let is_disputed = others.any(|(other, a)| other != index && a.claimed & claimed != 0);
            *undo |= is_disputed;
        }
        let kept = (0..self.count).filter(|index| !undo[*index]);
        let kept = kept.map(|index| &self.applications[index]);
        let (direct, held) = kept.fold((0, 0), |(direct, held), application| {
            let bit = if application.step == Step::Direct {
                application.bit
            } else {
                0
            };
            (direct | bit, held | application.claimed)
        });
        // First: the network server must not leave to others what they do not get.
        self.direct = direct;
        effects.set_direct(direct);
        for (index, found) in found.iter().enumerate() {
            let Some((_, view)) = found.as_ref().filter(|_| undo[index]) else {
                continue;
            };
            let application = &mut self.applications[index];
            if application.claimed == 0 {
                application.claimed = application.allowed & !held;
            }
            application.fail();
            effects.report(index, Report::Undone);
            Stepping {
                machine: self,
                index,
                now,
                view,
                effects,
            }
            .go_back();
        }
    }

    /// Takes over what was found about an application; says whether it can stay so.
    fn take(&mut self, index: usize, now: u64, found: &Found, view: &View) -> bool {
        let server_function = self.server_function;
        let application = &mut self.applications[index];
        let sequence = |order: Option<u32>, answer: Option<Answer>| {
            let answered = answer.map_or(0, |answer| answer.sequence);
            order.unwrap_or(answered)
        };
        application.grant.sequence = sequence(found.grant.map(|o| o.sequence), view.grant);
        application.route.sequence = sequence(found.route.map(|o| o.sequence), view.route);
        application.stage.sequence = sequence(found.stage.map(|o| o.sequence), view.stage);
        application.switches = found.shown.switches;
        application.last_switch = found.shown.last_switch;
        application.failures = found.shown.failures;
        application.life = found.shown.life;
        application.decided = now;
        if found.is_server(view) {
            return true;
        }
        let function = found.function(server_function, view);
        let function =
            function.filter(|function| *function < 8 && application.allowed >> function & 1 != 0);
        application.claimed = function.map_or(0, |function| 1 << function);
        application.mac = found.mac;
        application.routed = is_usable(found.mac) && !found.is_routed_back(server_function, view);
        application.prepared = true;
        application.transmits = found.stage.is_some_and(|order| {
            matches!(
                order.operation,
                StageOperation::Direct | StageOperation::Drain
            )
        });
        application.gone = !view.life.is_running || view.life.restarts != found.shown.life;
        if function.is_some_and(|function| found.is_direct(view, function)) {
            application.step = Step::Direct;
            application.wanted = Target::Direct;
            return true;
        }
        // Only until it is undone, which is done at once.
        application.step = Step::Drain;
        false
    }
}
