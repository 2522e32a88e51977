//! What the machine does next about one application.

use crate::board::{GrantOperation, Refused, RouteOperation, StageOperation};
use crate::machine::{
    APPLICATION_TIMEOUT, Application, Effects, Machine, NEVER, RETRY_INTERVAL, SERVER_TIMEOUT,
    Target, View, is_usable,
};
use crate::report::{Hitch, Obstacle, Participant, Report, Step};
use segue_fault_points::{Point, reached};

/// One step of one application.
pub(crate) struct Stepping<'a, E, const N: usize> {
    pub(crate) machine: &'a mut Machine<N>,
    pub(crate) index: usize,
    pub(crate) now: u64,
    pub(crate) view: &'a View,
    pub(crate) effects: &'a mut E,
}

impl<E: Effects, const N: usize> Stepping<'_, E, N> {
    pub(crate) fn step(mut self) -> bool {
        let application = self.application();
        let (step, wanted) = (application.step, application.wanted);
        if self.has_ended() {
            self.end();
            return true;
        }
        if step == Step::Server {
            if wanted == Target::Server {
                self.application().waits = false;
                return false;
            }
            if self.has_let_go() {
                self.begin();
                return true;
            }
            if !core::mem::replace(&mut self.application().waits, true) {
                self.report(Report::Waits);
            }
            return false;
        }
        if wanted == Target::Server && (step == Step::Direct || step.is_on_the_way_to_direct()) {
            self.go_back();
            return true;
        }
        let answer = self.answer();
        if step == Step::Direct {
            let Some(Err(refused)) = answer else {
                return false;
            };
            self.application().fail();
            let function = self.function();
            self.report(Report::AsksBack { function, refused });
            self.go_back();
            return true;
        }
        let is_late = self.now >= self.application().deadline;
        match answer.filter(|_| !self.application().refused) {
            Some(Ok(())) => self.advance(),
            Some(Err(refused)) => self.fail(Hitch::Refused(refused)),
            None if is_late && self.application().stuck => self.ask_again(),
            None if is_late => self.fail(Hitch::Late),
            None => return false,
        }
        true
    }

    fn application(&mut self) -> &mut Application {
        &mut self.machine.applications[self.index]
    }

    fn function(&mut self) -> u8 {
        self.application().function().unwrap_or(0)
    }

    fn report(&mut self, report: Report) {
        self.effects.report(self.index, report);
    }

    fn show(&mut self) {
        let shown = self.application().shown();
        self.effects.show(self.index, &shown);
    }

    /// The answer to what is waited for; in direct mode, to the application's last order.
    fn answer(&mut self) -> Option<Result<(), Refused>> {
        let view = self.view;
        let application = self.application();
        let answer = match application.step.participant() {
            Some(Participant::Pcie) => application.grant.answered(view.grant),
            Some(Participant::PhysicalFunction) => application.route.answered(view.route),
            Some(Participant::Application) | None => application.stage.answered(view.stage),
        };
        answer.map(|answer| answer.result)
    }

    /// Whether the life that holds the function has ended, and this is news.
    fn has_ended(&mut self) -> bool {
        let life = self.view.life;
        let application = self.application();
        application.step != Step::Server
            && !application.gone
            && (!life.is_running || life.restarts != application.life)
    }

    /// The life that holds the function has ended: what it has is taken back.
    fn end(&mut self) {
        let function = self.function();
        let application = self.application();
        application.gone = true;
        application.wanted = Target::Server;
        application.fail();
        self.report(Report::Gone { function });
        match self.application().step {
            // For its next life; so do the others.
            Step::Drain | Step::Release => {
                self.order_stage(StageOperation::Server);
                self.break_off();
            }
            Step::RouteBack | Step::Revoke | Step::Scrub => {
                self.order_stage(StageOperation::Server);
                let application = self.application();
                if application.step == Step::RouteBack && application.stuck {
                    self.break_off();
                }
            }
            _ => self.go_back(),
        }
    }

    /// From a step in which the application is waited for to one in which it is not.
    fn break_off(&mut self) {
        let application = self.application();
        if application.step != Step::Drain {
            return self.enter(Step::Revoke);
        }
        if application.routed {
            return self.enter(Step::RouteBack);
        }
        self.order_stage(StageOperation::Server);
        self.enter(Step::Revoke);
    }

    /// Whether the application has answered the last order to it. One whose function was taken
    /// back without waiting for it may use it still, as far as it knows: it sees pages that mean
    /// nothing there, which have to stay until it has let go.
    fn has_let_go(&mut self) -> bool {
        let view = self.view;
        let stage = self.application().stage;
        stage.sequence == 0 || stage.answered(view.stage).is_some()
    }

    /// Begins a switch to direct mode.
    fn begin(&mut self) {
        let index = self.index;
        let free = self.machine.free();
        let life = self.view.life;
        let now = self.now;
        let mac = self.view.mac.filter(|mac| is_usable(*mac));
        let is_in_use = self
            .machine
            .applications
            .iter()
            .enumerate()
            .any(|(other, a)| other != index && a.step != Step::Server && mac == Some(a.mac));
        let application = self.application();
        let functions = application.allowed & free;
        let obstacle = match mac {
            _ if application.allowed == 0 => Obstacle::NotAllowed,
            _ if !life.is_running => Obstacle::NotRunning,
            None => Obstacle::NoAddress,
            // A predecessor's at this address, which is not taken back yet.
            Some(_) if is_in_use => Obstacle::AddressInUse,
            Some(_) if functions == 0 => Obstacle::NoFunction,
            Some(mac) => {
                *application = Application {
                    wanted: Target::Direct,
                    claimed: functions & functions.wrapping_neg(),
                    mac,
                    life: life.restarts,
                    decided: now,
                    ..application.at_rest()
                };
                return self.enter(Step::Grant);
            }
        };
        application.wanted = Target::Server;
        self.report(Report::NotBegun {
            direct: true,
            obstacle,
        });
    }

    /// Turns round, from wherever it is on the way to direct mode or in it.
    pub(crate) fn go_back(&mut self) {
        let now = self.now;
        let application = self.application();
        application.wanted = Target::Server;
        application.was_direct = application.step == Step::Direct;
        application.decided = now;
        let bit = application.bit;
        if self.machine.direct & bit != 0 {
            self.machine.direct &= !bit;
            self.effects.set_direct(self.machine.direct);
        }
        let application = self.application();
        let Application {
            gone,
            routed,
            prepared,
            transmits,
            ..
        } = *application;
        if gone {
            self.order_stage(StageOperation::Server);
        }
        self.enter(match () {
            () if transmits && !gone => Step::Drain,
            () if routed => Step::RouteBack,
            () if prepared && !gone => Step::Release,
            () => Step::Revoke,
        });
    }

    /// The step went well.
    fn advance(&mut self) {
        let function = self.function();
        let application = self.application();
        let next = match application.step {
            Step::Grant => Step::Prepare,
            Step::Prepare => Step::Enable,
            Step::Enable => Step::Attach,
            Step::Attach => Step::Route,
            Step::Route => Step::Transmit,
            Step::Transmit => return self.arrive_direct(),
            Step::Drain => {
                if application.routed {
                    Step::RouteBack
                } else {
                    Step::Release
                }
            }
            Step::RouteBack => {
                application.routed = false;
                if application.revoked {
                    Step::Scrub
                } else if application.gone {
                    Step::Revoke
                } else if application.forced {
                    // It may answer late; nobody waits.
                    self.order_stage(StageOperation::Server);
                    Step::Revoke
                } else {
                    Step::Release
                }
            }
            Step::Release => Step::Revoke,
            Step::Revoke => {
                application.revoked = true;
                if application.routed {
                    Step::RouteBack
                } else {
                    Step::Scrub
                }
            }
            Step::Scrub => {
                application.claimed &= application.claimed.wrapping_sub(1);
                Step::Scrub
            }
            Step::Server | Step::Direct => return,
        };
        if next == Step::Scrub && self.application().claimed == 0 {
            return self.arrive_server(function);
        }
        self.enter(next);
    }

    /// The step did not go well.
    fn fail(&mut self, hitch: Hitch) {
        let function = self.function();
        let application = self.application();
        let step = application.step;
        application.fail();
        if step.is_on_the_way_to_direct() {
            self.report(Report::Failed {
                step,
                function,
                hitch,
            });
            return self.go_back();
        }
        if step.participant() == Some(Participant::Application) {
            application.forced = true;
            self.report(Report::Forced {
                step,
                function,
                hitch,
            });
            return self.break_off();
        }
        let is_news = !application.stuck;
        application.stuck = true;
        application.quarantined = true;
        application.refused = hitch != Hitch::Late;
        let was_wanted = core::mem::replace(&mut application.wanted, Target::Server);
        if is_news {
            self.report(Report::Stuck {
                step,
                function,
                hitch,
            });
        }
        if was_wanted == Target::Direct {
            self.report(Report::NotBegun {
                direct: true,
                obstacle: Obstacle::NotScrubbed,
            });
        }
        let deadline = self.now.saturating_add(RETRY_INTERVAL);
        let application = self.application();
        application.deadline = deadline;
        // A life that has ended must not keep the function; one that has not, gets its
        // frames from there as long as they go there.
        if step == Step::RouteBack && application.gone && !application.revoked {
            self.enter(Step::Revoke);
        }
    }

    /// A server is asked again for what it has not done.
    fn ask_again(&mut self) {
        let deadline = self.now.saturating_add(RETRY_INTERVAL);
        let application = self.application();
        if !application.refused {
            // The same order, which it may be about to answer.
            let slot = match application.step.participant() {
                Some(Participant::Pcie) => &mut application.grant,
                _ => &mut application.route,
            };
            slot.sequence = slot.sequence.wrapping_sub(1);
        }
        self.order();
        let application = self.application();
        application.refused = false;
        application.deadline = deadline;
    }

    /// Goes on to a step: orders what it needs.
    pub(crate) fn enter(&mut self, step: Step) {
        let now = self.now;
        let application = self.application();
        application.step = step;
        application.stuck = false;
        application.refused = false;
        let timeout = match step.participant() {
            Some(Participant::Application) => APPLICATION_TIMEOUT,
            Some(Participant::Pcie | Participant::PhysicalFunction) => SERVER_TIMEOUT,
            None => NEVER,
        };
        application.deadline = now.saturating_add(timeout);
        // Before the order: a successor must know which function it is about.
        self.show();
        reached(Point::DirectorStepShown);
        self.order();
    }

    /// Orders what the present step needs.
    fn order(&mut self) {
        let function = self.function();
        let server_function = self.machine.server_function;
        let application = self.application();
        match application.step {
            Step::Server | Step::Direct => {}
            Step::Grant => self.order_grant(GrantOperation::Grant { function }),
            Step::Prepare => {
                application.prepared = true;
                self.order_stage(StageOperation::Prepare { function });
            }
            Step::Enable => self.order_route(RouteOperation::Enable { function }),
            Step::Attach => self.order_stage(StageOperation::Attach),
            Step::Route => {
                application.routed = true;
                self.order_route(RouteOperation::Route { function });
            }
            Step::Transmit => {
                application.transmits = true;
                self.order_stage(StageOperation::Direct);
            }
            Step::Drain => self.order_stage(StageOperation::Drain),
            Step::RouteBack => self.order_route(RouteOperation::Route {
                function: server_function,
            }),
            Step::Release => self.order_stage(StageOperation::Server),
            Step::Revoke => self.order_grant(GrantOperation::Revoke),
            Step::Scrub => self.order_route(RouteOperation::Scrub { function }),
        }
    }

    fn order_grant(&mut self, operation: GrantOperation) {
        let answer = self.view.grant;
        let order = self.application().grant.order(answer, operation);
        self.effects.order_grant(self.index, order);
    }

    fn order_route(&mut self, operation: RouteOperation) {
        let answer = self.view.route;
        let application = self.application();
        let mac = application.mac;
        let order = application.route.order(answer, operation);
        self.effects.order_route(self.index, mac, order);
    }

    pub(crate) fn order_stage(&mut self, operation: StageOperation) {
        let answer = self.view.stage;
        let order = self.application().stage.order(answer, operation);
        self.effects.order_stage(self.index, order);
    }

    fn arrive_direct(&mut self) {
        let now = self.now;
        let bit = self.application().bit;
        self.machine.direct |= bit;
        self.effects.set_direct(self.machine.direct);
        let function = self.function();
        let application = self.application();
        let microseconds = now.saturating_sub(application.decided);
        application.step = Step::Direct;
        application.deadline = NEVER;
        application.switches = application.switches.wrapping_add(1);
        application.last_switch = microseconds;
        self.show();
        self.report(Report::IsDirect {
            function,
            microseconds,
        });
    }

    /// The last function is scrubbed, which was `function`.
    fn arrive_server(&mut self, function: u8) {
        let Application {
            was_direct,
            gone,
            quarantined,
            ..
        } = *self.application();
        let application = self.application();
        let rest = application.at_rest();
        let decided = core::mem::replace(application, rest).decided;
        let microseconds = self.now.saturating_sub(decided);
        if was_direct {
            let application = self.application();
            application.switches = application.switches.wrapping_add(1);
            application.last_switch = microseconds;
        }
        reached(Point::DirectorRested);
        self.show();
        if quarantined {
            self.report(Report::Free { function });
        }
        if was_direct && !gone {
            self.report(Report::IsServer { microseconds });
        }
    }
}
