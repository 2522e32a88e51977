//! A small machine around the director: `pcie`, the owner of the physical function and
//! applications, each of which does what it should, or not, or says something else.

extern crate std;

use core::fmt;
use std::string::String;
use std::vec::Vec;

use crate::board::{Answer, GrantOperation, Order, RouteOperation, Shown, StageOperation};
use crate::config::{DirectorEntry, DirectorTable};
use crate::machine::{Effects, Found, Life, Machine, NEVER, Target, View};
use crate::report::{Report, Step};

/// Applications.
pub const N: usize = 2;
/// Most functions, from 1; function 0 is the network server's.
pub const FUNCTIONS: usize = 3;
/// The network server's function.
pub(super) const SERVER: u8 = 0;
/// What sequence numbers are brought to.
const SEQUENCE: u32 = 10;

/// What an application really does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// It has no function.
    Away,
    /// It has mapped its function.
    Prepared,
    /// It receives from it.
    Attached,
    /// It transmits through it.
    Direct,
}

/// A mistake that is planted to see it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// The application is told to let go before its frames are routed back.
    ReleaseFirst,
    /// The direct mask is not cleared before the way back.
    MaskStays,
    /// Functions are taken for scrubbed without it.
    NoScrub,
    /// What a predecessor left is not looked at.
    NoRecovery,
    /// A route back that is not confirmed is not asked for again.
    NoRetry,
    /// An application counts as having let go as soon as it is told to.
    NoRelease,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub machine: Machine<N>,
    pub board: Board,
    pub truth: Truth,
}

/// What is in shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Board {
    pub direct: u64,
    pub grant: [Option<Order<GrantOperation>>; N],
    pub route: [Option<Order<RouteOperation>>; N],
    pub mac: [[u8; 6]; N],
    pub stage: [Option<Order<StageOperation>>; N],
    pub shown: [Shown; N],
    pub granted: [Option<Answer>; N],
    pub routed: [Option<Answer>; N],
    pub staged: [Option<Answer>; N],
}

/// What is really so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Truth {
    pub lives: [Life; N],
    /// Who holds each function.
    pub holders: [Option<u8>; FUNCTIONS],
    /// Functions that somebody has held since they were scrubbed.
    pub dirty: [bool; FUNCTIONS],
    /// Where each application's frames go.
    pub routes: [u8; N],
    pub doing: [Doing; N],
    /// It has taken a function and not let go of it, as far as it knows: it still looks at the registers.
    pub uses: [bool; N],
    /// The application has died or lied since it was granted its function: what happens
    /// to its frames is its own affair.
    pub excused: [bool; N],
    /// Somebody has written nonsense on the board: only the end matters.
    pub confused: bool,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The director looks at an application.
    Poll(usize),
    /// A deadline passes, and it looks.
    Deadline(usize),
    /// It dies after so many effects of a step, and its successor starts.
    Crash {
        index: usize,
        late: bool,
        effects: usize,
    },
    /// Somebody wants a mode.
    Wish(usize, Target),
    /// `pcie` does its order; says so.
    Pcie(usize, Conduct),
    /// The owner of the physical function does.
    PhysicalFunction(usize, Conduct),
    /// An application does.
    Application(usize, Conduct),
    Die(usize),
    Restart(usize),
}

/// What may go wrong around an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// Nothing.
    Calm,
    /// There may be no answer.
    Slow,
    /// It may die and be restarted, and there may be no answer.
    Mortal,
    /// Anything.
    Hostile,
}

/// How somebody carries out an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Done, and said so.
    Obey,
    /// Done, but not said.
    Silent,
    /// Not done, and said so.
    Refuse,
    /// Not done, but said to be done.
    Lie,
}

/// A rule that is broken.
pub type Broken = String;

struct Writer<'a> {
    board: &'a mut Board,
    mistake: Mistake,
    /// How many more effects there are before the director dies.
    left: usize,
}

impl Writer<'_> {
    fn alive(&mut self) -> bool {
        let alive = self.left > 0;
        self.left = self.left.saturating_sub(1);
        alive
    }
}

impl Effects for Writer<'_> {
    fn order_grant(&mut self, index: usize, order: Order<GrantOperation>) {
        if self.alive() {
            self.board.grant[index] = Some(order);
        }
    }
    fn order_route(&mut self, index: usize, mac: [u8; 6], order: Order<RouteOperation>) {
        if self.alive() {
            self.board.mac[index] = mac;
            self.board.route[index] = Some(order);
            let scrub = matches!(order.operation, RouteOperation::Scrub { .. });
            if scrub && self.mistake == Mistake::NoScrub {
                self.board.routed[index] = Some(Answer {
                    sequence: order.sequence,
                    result: Ok(()),
                });
            }
        }
    }
    fn order_stage(&mut self, index: usize, mut order: Order<StageOperation>) {
        if self.alive() {
            if self.mistake == Mistake::ReleaseFirst && order.operation == StageOperation::Drain {
                order.operation = StageOperation::Server;
            }
            self.board.stage[index] = Some(order);
            if order.operation == StageOperation::Server && self.mistake == Mistake::NoRelease {
                self.board.staged[index] = Some(Answer {
                    sequence: order.sequence,
                    result: Ok(()),
                });
            }
        }
    }
    fn set_direct(&mut self, applications: u64) {
        if self.alive() {
            self.board.direct = match self.mistake {
                Mistake::MaskStays => self.board.direct | applications,
                _ => applications,
            };
        }
    }
    fn show(&mut self, index: usize, shown: &Shown) {
        if self.alive() {
            self.board.shown[index] = *shown;
        }
    }
    fn report(&mut self, _: usize, _: Report) {}
}

fn table(functions: usize) -> DirectorTable {
    let mut table = DirectorTable::EMPTY;
    table.count = N as u32;
    table.functions = (1 << (functions + 1)) - 1;
    table.server_function = u32::from(SERVER);
    for (index, entry) in table.entries.iter_mut().enumerate().take(N) {
        *entry = DirectorEntry {
            functions: table.functions,
            owner: index as u16 + 1,
            ..DirectorEntry::EMPTY
        };
    }
    table
}

pub(super) fn mac(index: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, index as u8]
}

impl World {
    pub fn new(functions: usize) -> Self {
        let alive = Life {
            restarts: 0,
            is_running: true,
        };
        Self {
            machine: Machine::new(&table(functions)),
            board: Board {
                direct: 0,
                grant: [None; N],
                route: [None; N],
                mac: [[0; 6]; N],
                stage: [None; N],
                shown: [Shown::default(); N],
                granted: [None; N],
                routed: [None; N],
                staged: [None; N],
            },
            truth: Truth {
                lives: [alive; N],
                holders: [None; FUNCTIONS],
                dirty: [false; FUNCTIONS],
                routes: [SERVER; N],
                doing: [Doing::Away; N],
                uses: [false; N],
                excused: [true; N],
                confused: false,
            },
        }
    }

    fn view(&self, index: usize) -> View {
        View {
            life: self.truth.lives[index],
            mac: Some(mac(index)),
            grant: self.board.granted[index],
            route: self.board.routed[index],
            stage: self.board.staged[index],
        }
    }

    fn found(&self, index: usize) -> Found {
        Found {
            grant: self.board.grant[index],
            route: self.board.route[index],
            mac: self.board.mac[index],
            stage: self.board.stage[index],
            shown: self.board.shown[index],
            direct: self.board.direct >> index & 1 != 0,
        }
    }

    /// One step of the director about an application; says whether anything was done.
    fn step(&mut self, index: usize, late: bool, effects: usize, mistake: Mistake) -> bool {
        let now = if late { 1 << 40 } else { 0 };
        if late && self.machine.applications[index].stuck && mistake == Mistake::NoRetry {
            return false;
        }
        let view = self.view(index);
        let mut writer = Writer {
            board: &mut self.board,
            mistake,
            left: effects,
        };
        self.machine.step(index, now, &view, &mut writer)
    }

    /// Another director starts.
    pub fn succeed(&mut self, functions: usize, mistake: Mistake) {
        self.machine = Machine::new(&table(functions));
        if mistake == Mistake::NoRecovery {
            for index in 0..N {
                let application = &mut self.machine.applications[index];
                let grant = self.board.grant[index];
                application.grant.sequence = grant.map_or(0, |order| order.sequence);
                let route = self.board.route[index];
                application.route.sequence = route.map_or(0, |order| order.sequence);
                let stage = self.board.stage[index];
                application.stage.sequence = stage.map_or(0, |order| order.sequence);
            }
            return;
        }
        let found = core::array::from_fn(|index| Some((self.found(index), self.view(index))));
        let mut writer = Writer {
            board: &mut self.board,
            mistake,
            left: usize::MAX,
        };
        self.machine.recover(0, &found, &mut writer);
    }

    /// All that may happen now, as far as it can.
    pub fn events(&self, surroundings: [Surroundings; N]) -> Vec<Event> {
        use Conduct::{Lie, Obey, Refuse, Silent};
        let mut events = Vec::new();
        for (index, surroundings) in surroundings.into_iter().enumerate() {
            let application = &self.machine.applications[index];
            let is_waiting = application.deadline != NEVER;
            events.push(Event::Poll(index));
            events.push(Event::Wish(
                index,
                match application.wanted {
                    Target::Direct => Target::Server,
                    Target::Server => Target::Direct,
                },
            ));
            events.push(Event::Pcie(index, Obey));
            events.push(Event::PhysicalFunction(index, Obey));
            events.push(Event::Application(index, Obey));
            if surroundings == Surroundings::Calm {
                continue;
            }
            if is_waiting {
                events.push(Event::Deadline(index));
            }
            if surroundings == Surroundings::Slow {
                continue;
            }
            events.push(match self.truth.lives[index].is_running {
                true => Event::Die(index),
                false => Event::Restart(index),
            });
            if surroundings == Surroundings::Mortal {
                continue;
            }
            for conduct in [Refuse, Silent] {
                events.push(Event::Pcie(index, conduct));
                events.push(Event::PhysicalFunction(index, conduct));
                events.push(Event::Application(index, conduct));
            }
            events.push(Event::Application(index, Lie));
            for effects in 0..5 {
                for late in [false, true] {
                    if is_waiting || !late {
                        events.push(Event::Crash {
                            index,
                            late,
                            effects,
                        });
                    }
                }
            }
        }
        events
    }

    /// Lets it happen; says whether it could.
    pub fn happen(
        &mut self,
        event: Event,
        functions: usize,
        mistake: Mistake,
    ) -> Result<bool, Broken> {
        let could = match event {
            Event::Poll(index) => self.step(index, false, usize::MAX, mistake),
            Event::Deadline(index) => {
                self.machine.applications[index].deadline != NEVER
                    && self.step(index, true, usize::MAX, mistake)
            }
            Event::Crash {
                index,
                late,
                effects,
            } => {
                self.step(index, late, effects, mistake);
                self.succeed(functions, mistake);
                true
            }
            Event::Wish(index, target) => self.machine.wish(index, target, true).is_ok(),
            Event::Pcie(index, conduct) => self.pcie(index, conduct, functions)?,
            Event::PhysicalFunction(index, conduct) => {
                self.physical_function(index, conduct, functions)?
            }
            Event::Application(index, conduct) => self.application(index, conduct),
            Event::Die(index) => {
                let life = &mut self.truth.lives[index];
                let was_running = core::mem::replace(&mut life.is_running, false);
                self.truth.excused[index] = true;
                self.truth.doing[index] = Doing::Away;
                self.truth.uses[index] = false;
                was_running
            }
            Event::Restart(index) => {
                let life = &mut self.truth.lives[index];
                let was_running = core::mem::replace(&mut life.is_running, true);
                if !was_running {
                    life.restarts += 1;
                }
                !was_running
            }
        };
        if could {
            self.normalise();
            self.check()?;
        }
        Ok(could)
    }

    /// Makes worlds equal that differ only in numbers without meaning.
    fn normalise(&mut self) {
        let board = &mut self.board;
        for index in 0..N {
            let application = &mut self.machine.applications[index];
            normalise(
                &mut board.grant[index],
                &mut board.granted[index],
                &mut application.grant.sequence,
            );
            normalise(
                &mut board.route[index],
                &mut board.routed[index],
                &mut application.route.sequence,
            );
            normalise(
                &mut board.stage[index],
                &mut board.staged[index],
                &mut application.stage.sequence,
            );
            application.decided = 0;
            application.switches = 0;
            application.last_switch = 0;
            application.failures = 0;
            application.failed = false;
            application.was_direct = false;
            if application.deadline != NEVER {
                application.deadline = 1;
            }
            let shown = &mut board.shown[index];
            let life = &mut self.truth.lives[index];
            let is_other = application.step != Step::Server && application.life != life.restarts;
            life.restarts = u32::from(is_other);
            application.life = 0;
            *shown = Shown {
                mode: shown.mode,
                function: shown.function,
                ..Shown::default()
            };
        }
    }

    /// What must always be so.
    fn check(&self) -> Result<(), Broken> {
        let truth = &self.truth;
        if truth.confused {
            return Ok(());
        }
        for index in 0..N {
            let route = truth.routes[index];
            if self.board.direct >> index & 1 != 0 && route == SERVER {
                return Err(broken("who is direct has no route", index));
            }
            if route == SERVER || truth.excused[index] {
                continue;
            }
            if truth.holders[usize::from(route)] != Some(index as u8) {
                return Err(broken("frames go to a function that is not held", index));
            }
            if !matches!(truth.doing[index], Doing::Attached | Doing::Direct) {
                return Err(broken("frames go to who is not attached", index));
            }
        }
        let claims = self.machine.applications.iter().map(|a| a.claimed);
        if claims.clone().fold(0, |sum, set| sum + u32::from(set))
            != u32::from(claims.clone().fold(0, |sum, set| sum | set))
        {
            return Err(broken("a function is claimed twice", ""));
        }
        for function in 1..FUNCTIONS {
            let holder = truth.holders[function];
            let is_claimed = claims.clone().any(|set| set >> function & 1 != 0);
            if (truth.dirty[function] || holder.is_some()) && !is_claimed {
                return Err(broken("a function is free that is not", function));
            }
        }
        Ok(())
    }

    /// What must be so when everybody has done what he should.
    pub fn check_clean(&self) -> Result<(), Broken> {
        let truth = &self.truth;
        for (index, application) in self.machine.applications.iter().enumerate() {
            let held = (1..FUNCTIONS as u8)
                .find(|function| truth.holders[usize::from(*function)] == Some(index as u8));
            let direct = self.board.direct >> index & 1 != 0;
            let route = truth.routes[index];
            let is_clean = match application.step {
                Step::Server => {
                    held.is_none()
                        && !direct
                        && route == SERVER
                        && truth.doing[index] == Doing::Away
                        && application.claimed == 0
                }
                Step::Direct => {
                    held == Some(route)
                        && direct
                        && application.claimed == 1 << route
                        && truth.lives[index].is_running
                        && (truth.doing[index] == Doing::Direct || truth.excused[index])
                }
                _ => false,
            };
            if !is_clean {
                return Err(broken("it does not end in a clean mode", index));
            }
        }
        let held = truth.holders.iter().filter(|holder| holder.is_some());
        if held.count() != truth.dirty.iter().filter(|dirty| **dirty).count() {
            return Err(broken("a function stays unscrubbed", ""));
        }
        Ok(())
    }

    /// Everybody does what he should, until nothing more happens, or what has happened is
    /// `known` to end well.
    pub fn settle(
        &mut self,
        functions: usize,
        mistake: Mistake,
        mut known: impl FnMut(&Self) -> bool,
    ) -> Result<(), Broken> {
        for _ in 0..200 {
            if known(self) {
                return Ok(());
            }
            let before = self.clone();
            for index in 0..N {
                self.happen(Event::Poll(index), functions, mistake)?;
                self.happen(Event::Pcie(index, Conduct::Obey), functions, mistake)?;
                let pf = Event::PhysicalFunction(index, Conduct::Obey);
                self.happen(pf, functions, mistake)?;
                self.happen(Event::Application(index, Conduct::Obey), functions, mistake)?;
            }
            if *self == before {
                let mut passed = false;
                for index in 0..N {
                    passed |= self.happen(Event::Deadline(index), functions, mistake)?;
                }
                if !passed {
                    return self.check_clean();
                }
            }
        }
        Err(broken("it does not end", ""))
    }
}

pub(super) fn broken(rule: &str, about: impl fmt::Display) -> Broken {
    std::format!("{rule}: {about}")
}

fn normalise<O>(order: &mut Option<Order<O>>, answer: &mut Option<Answer>, sequence: &mut u32) {
    // A number may be known from an answer alone, if the order was lost.
    let Some(order) = order else { return };
    assert_eq!(
        *sequence, order.sequence,
        "the number of the last order is known"
    );
    *answer = answer.filter(|answer| answer.sequence == order.sequence);
    if let Some(answer) = answer {
        answer.sequence = SEQUENCE;
    }
    order.sequence = SEQUENCE;
    *sequence = SEQUENCE;
}
