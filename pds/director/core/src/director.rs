//! The director: the state machine and the policy, over the board and the answers.
//!
//! [`Director::poll`] does all that can be done now and never waits. It is to be called
//! after every notification and at [`Director::next_deadline`].

use crate::board::{
    Answers, Board, GrantOperation, Mode, Order, Pins, RouteOperation, Shown, StageOperation,
    Wanted, Wish,
};
use crate::config::{DirectorEntry, DirectorTable, MAXIMUM_APPLICATIONS, START_DIRECT};
use crate::machine::{Effects, Found, Life, Machine, Target, View};
use crate::policy::{Candidate, Policy, Thresholds};
use crate::report::Report;
use segue_fault_points::{Point, reached};

/// How often an application that is to start in direct mode is helped there in each life.
pub const START_ATTEMPTS: u8 = 3;
/// How long after one attempt the next one is made, in microseconds.
pub const START_INTERVAL: u64 = 5_000_000;
/// How often it is looked whether it runs and has an address, in microseconds.
pub const START_LOOK_INTERVAL: u64 = 1_000_000;

/// Most steps about one application in one go: more than a whole switch has.
const MOST_STEPS: usize = 16;

/// Frames and their bytes, counted from some time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames received and transmitted.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Work {
    /// What has come since `before`; nothing if a counter went back.
    fn since(self, before: Self) -> Self {
        Self {
            frames: self.frames.saturating_sub(before.frames),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

/// What the director sees and reaches beside the board and the answers. Applications are
/// named by their place in the table.
pub trait Surroundings {
    /// The present life of an application.
    fn life(&self, index: usize) -> Life;
    /// The MAC address of an application, if it has one now.
    fn mac(&self, index: usize) -> Option<[u8; 6]>;
    /// Whether the network server runs.
    fn server_is_running(&self) -> bool;
    /// What the network server has counted for an application.
    fn work_at_server(&self, index: usize) -> Work;
    /// `pcie` is to look at the board.
    fn notify_pcie(&mut self);
    /// The owner of the physical function is to look at it.
    fn notify_physical_function(&mut self);
    /// An application is.
    fn notify_application(&mut self, index: usize);
    /// People are to be told this about an application.
    fn say(&mut self, index: usize, report: Report);
}

/// Regions in which answers are given.
#[derive(Clone, Copy, Debug)]
pub struct AnswerRegions<const N: usize> {
    /// Those of `pcie`.
    pub pcie: Answers,
    /// Those of the owner of the physical function.
    pub physical_function: Answers,
    /// Those of each application; one without is never switched.
    pub applications: [Option<Answers>; N],
}

/// How an application that is to start in direct mode gets there.
#[derive(Clone, Copy, Debug, Default)]
struct Start {
    /// Whether it is to.
    is_wanted: bool,
    /// The life that this is about.
    life: Option<u32>,
    /// Attempts left.
    attempts: u8,
    /// When to look again.
    next: u64,
}

/// What was counted when the policy looked last.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    at_server: Work,
    itself: Work,
}

/// The director.
#[derive(Debug)]
pub struct Director<const N: usize = MAXIMUM_APPLICATIONS> {
    machine: Machine<N>,
    board: Board,
    answers: AnswerRegions<N>,
    policy: Option<Policy<N>>,
    counted: [Counted; N],
    /// For whom an operator has decided; the board has the same.
    pins: Pins,
    /// The last wish that was looked at. When the board shows what came of it, it has this number
    /// too.
    wish: u32,
    starts: [Start; N],
}

/// Writes on the board and tells those whom it concerns.
struct Writer<'a, S> {
    board: &'a Board,
    surroundings: &'a mut S,
}

impl<S: Surroundings> Effects for Writer<'_, S> {
    fn order_grant(&mut self, index: usize, order: Order<GrantOperation>) {
        self.board.order_grant(index, order);
        reached(Point::DirectorGrantOrdered);
        self.surroundings.notify_pcie();
    }

    fn order_route(&mut self, index: usize, mac: [u8; 6], order: Order<RouteOperation>) {
        self.board.order_route(index, mac, order);
        reached(Point::DirectorRouteOrdered);
        self.surroundings.notify_physical_function();
    }

    fn order_stage(&mut self, index: usize, order: Order<StageOperation>) {
        self.board.order_stage(index, order);
        reached(Point::DirectorStageOrdered);
        self.surroundings.notify_application(index);
    }

    fn set_direct(&mut self, applications: u64) {
        self.board.set_direct(applications);
        reached(Point::DirectorDirectMarked);
    }

    fn show(&mut self, index: usize, shown: &Shown) {
        self.board.show(index, shown);
    }

    fn report(&mut self, index: usize, report: Report) {
        self.surroundings.say(index, report);
    }
}

impl<const N: usize> Director<N> {
    /// Takes over from whoever was director before, at the time `now`. Of the table the
    /// first `N` applications count.
    pub fn new(
        table: &DirectorTable,
        board: Board,
        answers: AnswerRegions<N>,
        thresholds: Thresholds,
        now: u64,
        surroundings: &mut impl Surroundings,
    ) -> Self {
        let mut starts = [Start::default(); N];
        for (start, entry) in starts.iter_mut().zip(table.applications()) {
            start.is_wanted = entry.flags & START_DIRECT != 0;
        }
        let mut director = Self {
            machine: Machine::new(table),
            board,
            answers,
            policy: Policy::new(thresholds),
            counted: [Counted::default(); N],
            pins: board.pins(),
            wish: board.wish_taken(),
            starts,
        };
        let bits = table.applications().iter().map(direct_bit);
        let mut direct = [false; N];
        for (direct, bit) in direct.iter_mut().zip(bits) {
            *direct = board.direct() & bit != 0;
        }
        let mut found = [None; N];
        for (index, found) in found.iter_mut().enumerate().take(director.machine.count()) {
            let view = director.view(index, surroundings);
            let words = Found {
                grant: board.grant(index),
                route: board.route(index),
                mac: board.mac(index),
                stage: board.stage(index),
                shown: board.shown(index),
                direct: direct[index],
            };
            *found = Some((words, view));
        }
        let mut writer = Writer {
            board: &director.board,
            surroundings,
        };
        director.machine.recover(now, &found, &mut writer);
        director.repeat_wishes(surroundings);
        director
    }

    /// What there is to see of an application.
    fn view(&self, index: usize, surroundings: &impl Surroundings) -> View {
        let answers = &self.answers;
        let application = answers.applications[index];
        View {
            life: surroundings.life(index),
            // Asked for only where a switch begins.
            mac: match self.machine.mode(index) {
                Mode::Server => surroundings.mac(index),
                Mode::ToDirect | Mode::Direct | Mode::ToServer => None,
            },
            grant: answers.pcie.answer(index),
            route: answers.physical_function.answer(index),
            stage: application.and_then(|answers| answers.answer(0)),
        }
    }

    /// A switch to direct mode that an operator has asked for and that was undone because the
    /// director died over it begins anew. The next life of the application begins in server mode
    /// all the same.
    fn repeat_wishes(&mut self, surroundings: &impl Surroundings) {
        for index in 0..self.machine.count() {
            let is_pinned = self.pins.direct & !self.pins.server & bit(index) != 0;
            let life = surroundings.life(index);
            let is_same = life.is_running && life.restarts == self.machine.life(index);
            if is_pinned && is_same && self.machine.mode(index) != Mode::Direct {
                // What is in its way was said when it was asked for.
                let _ = self.machine.wish(index, Target::Direct, true);
            }
        }
    }

    /// An operator wants something. The same wish may come again and again.
    pub fn wish(&mut self, wish: Wish, surroundings: &mut impl Surroundings) {
        let index = usize::from(wish.index);
        if wish.sequence == self.wish {
            return;
        }
        self.wish = wish.sequence;
        if index >= self.machine.count() {
            return;
        }
        self.pins.direct &= !bit(index);
        self.pins.server &= !bit(index);
        let target = match wish.wanted {
            Wanted::Auto => None,
            Wanted::Server => Some(Target::Server),
            Wanted::Direct => Some(Target::Direct),
        };
        match target {
            None => {}
            Some(Target::Server) => self.pins.server |= bit(index),
            Some(Target::Direct) => self.pins.direct |= bit(index),
        }
        self.board.set_pins(self.pins);
        let Some(target) = target else { return };
        let server_is_running = surroundings.server_is_running();
        if let Err(obstacle) = self.machine.wish(index, target, server_is_running) {
            let direct = target == Target::Direct;
            surroundings.say(index, Report::NotBegun { direct, obstacle });
        }
    }

    /// Does all that can be done now.
    pub fn poll(&mut self, now: u64, surroundings: &mut impl Surroundings) {
        self.start(now, surroundings);
        self.decide(now, surroundings);
        for index in 0..self.machine.count() {
            for _ in 0..MOST_STEPS {
                let view = self.view(index, surroundings);
                let mut writer = Writer {
                    board: &self.board,
                    surroundings,
                };
                if !self.machine.step(index, now, &view, &mut writer) {
                    break;
                }
            }
        }
        // Now the board shows what has become of it. Before, a successor looks at it once more.
        if self.board.wish_taken() != self.wish {
            self.board.set_wish_taken(self.wish);
        }
    }

    /// When to call [`Self::poll`] at the latest, in microseconds; `None` if not before
    /// something is notified.
    pub fn next_deadline(&self) -> Option<u64> {
        let starts = self.starts.iter().enumerate().take(self.machine.count());
        let start = starts
            .filter(|(index, start)| start.is_wanted && self.pins.all() & bit(*index) == 0)
            .filter(|(_, start)| start.attempts > 0 || start.life.is_none())
            .map(|(_, start)| start.next)
            .min();
        let policy = self.policy.as_ref().map(Policy::next);
        [self.machine.next_deadline(), policy, start]
            .into_iter()
            .flatten()
            .min()
    }

    /// Helps those to direct mode that are to start in it.
    fn start(&mut self, now: u64, surroundings: &impl Surroundings) {
        let starts = self.starts.iter_mut().enumerate();
        for (index, start) in starts.take(self.machine.count()) {
            if !start.is_wanted || self.pins.all() & bit(index) != 0 {
                continue;
            }
            let life = surroundings.life(index);
            if !life.is_running {
                start.life = None;
                start.next = now.saturating_add(START_LOOK_INTERVAL);
                continue;
            }
            if start.life != Some(life.restarts) {
                start.life = Some(life.restarts);
                start.attempts = START_ATTEMPTS;
                start.next = now;
            }
            let mode = self.machine.mode(index);
            if mode == Mode::Direct && self.machine.life(index) == life.restarts {
                start.attempts = 0;
            }
            if start.attempts == 0 || now < start.next {
                continue;
            }
            start.next = now.saturating_add(START_LOOK_INTERVAL);
            if mode == Mode::Server && surroundings.mac(index).is_some() {
                start.attempts -= 1;
                start.next = now.saturating_add(START_INTERVAL);
                // A wish for direct mode is in nobody's way; if this one is, the next is not.
                let _ = self.machine.wish(index, Target::Direct, true);
            }
        }
    }

    /// Lets the policy decide, if it is time.
    fn decide(&mut self, now: u64, surroundings: &impl Surroundings) {
        let Some(policy) = self.policy.as_mut().filter(|policy| now >= policy.next()) else {
            return;
        };
        let count = self.machine.count();
        let mut candidates = [Candidate::default(); N];
        for (index, candidate) in candidates.iter_mut().enumerate().take(count) {
            let itself = self.answers.applications[index].map_or(Work::default(), |answers| {
                let load = answers.load();
                Work {
                    frames: load.frames,
                    bytes: load.bytes,
                }
            });
            let counted = Counted {
                at_server: surroundings.work_at_server(index),
                itself,
            };
            let before = core::mem::replace(&mut self.counted[index], counted);
            let mode = self.machine.mode(index);
            // Who is in server mode cannot make itself busier than it is by its own account.
            let work = match mode {
                Mode::Server | Mode::ToDirect => counted.at_server.since(before.at_server),
                Mode::Direct | Mode::ToServer => counted.itself.since(before.itself),
            };
            let is_running = surroundings.life(index).is_running;
            *candidate = Candidate {
                frames: work.frames,
                bytes: work.bytes,
                mode,
                function: self.machine.function(index),
                allowed: self.machine.allowed(index),
                is_ready: is_running && (mode != Mode::Server || surroundings.mac(index).is_some()),
                is_pinned: self.pins.all() & bit(index) != 0,
            };
        }
        let server_is_running = surroundings.server_is_running();
        let machine = &mut self.machine;
        policy.decide(
            now,
            machine.free(),
            &candidates[..count],
            |index, target| {
                // What is in the way now is no news; the policy comes again.
                let _ = machine.wish(index, target, server_is_running);
            },
        );
    }
}

/// An application's bit among those of the table.
fn bit(index: usize) -> u64 {
    1u64.checked_shl(index as u32).unwrap_or(0)
}

/// An application's bit in the direct mask.
pub(crate) fn direct_bit(entry: &DirectorEntry) -> u64 {
    let place = u32::from(entry.owner).wrapping_sub(1);
    1u64.checked_shl(place).unwrap_or(0)
}
