//! The state machine of mode switches: pure, without memory or clock.
//!
//! For each application, [`Machine::step`] is told what there is to see (its life, the
//! latest answers) and says what to do through [`Effects`]: orders, the direct mask, what
//! to show, what to tell. A switch is made before the old way is broken:
//!
//! - to direct: grant, prepare, enable, attach, route, transmit;
//! - back: drain, route back, release, revoke, scrub.
//!
//! Whatever fails on the way to direct, the way back undoes, from where it is. On the way
//! back nothing gives up: an application that does not play its part is passed over, and
//! what a server does not do is asked for again and again, while nobody gets the function.

use crate::board::{Answer, GrantOperation, Mode, Order, RouteOperation, Shown, StageOperation};
use crate::config::{DirectorTable, MAXIMUM_APPLICATIONS, MAXIMUM_FUNCTIONS};
use crate::director::direct_bit;
use crate::report::{Obstacle, Report, Step};
use crate::stepping::Stepping;

/// How long an application may take for a step, in microseconds.
pub const APPLICATION_TIMEOUT: u64 = 500_000;
/// How long `pcie` and the owner of the physical function may take, in microseconds.
pub const SERVER_TIMEOUT: u64 = 1_000_000;
/// After how long one of these is asked again on the way back, in microseconds.
pub const RETRY_INTERVAL: u64 = 5_000_000;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// One life of an application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Life {
    /// How often it had been restarted before.
    pub restarts: u32,
    /// Whether it lives.
    pub is_running: bool,
}

/// What there is to see of an application.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Its life.
    pub life: Life,
    /// Its MAC address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// The latest answer of `pcie` about it.
    pub grant: Option<Answer>,
    /// The latest answer of the owner of the physical function about it.
    pub route: Option<Answer>,
    /// Its own latest answer.
    pub stage: Option<Answer>,
}

/// What a predecessor left on the board about an application.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// What `pcie` was to do.
    pub grant: Option<Order<GrantOperation>>,
    /// What the owner of the physical function was to do.
    pub route: Option<Order<RouteOperation>>,
    /// The MAC address of the latter.
    pub mac: [u8; 6],
    /// What the application was to do.
    pub stage: Option<Order<StageOperation>>,
    /// What was shown.
    pub shown: Shown,
    /// Whether its bit of the direct mask was set.
    pub direct: bool,
}

/// Where a switch is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To the network server.
    Server,
    /// To a function of its own.
    Direct,
}

/// What the machine does, in the order in which it has to happen.
pub trait Effects {
    /// `pcie` is to do this about an application. The order may be the one that it
    /// already has: then it is to be told again.
    fn order_grant(&mut self, index: usize, order: Order<GrantOperation>);
    /// The owner of the physical function is to do this. As above.
    fn order_route(&mut self, index: usize, mac: [u8; 6], order: Order<RouteOperation>);
    /// An application is to do this itself.
    fn order_stage(&mut self, index: usize, order: Order<StageOperation>);
    /// These applications (by index at the network server) are direct.
    fn set_direct(&mut self, applications: u64);
    /// This is what people see of an application.
    fn show(&mut self, index: usize, shown: &Shown);
    /// This is what they are told.
    fn report(&mut self, index: usize, report: Report);
}

/// The last order to one participant about one application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) sequence: u32,
}

impl Slot {
    /// The next order: its number is neither 0 nor that of the latest answer, whoever
    /// wrote that.
    pub(crate) fn order<O>(&mut self, answer: Option<Answer>, operation: O) -> Order<O> {
        let answered = answer.map_or(0, |answer| answer.sequence);
        loop {
            self.sequence = self.sequence.wrapping_add(1);
            if self.sequence != 0 && self.sequence != answered {
                break;
            }
        }
        Order {
            sequence: self.sequence,
            operation,
        }
    }

    /// The answer, if it is to the last order.
    pub(crate) fn answered(self, answer: Option<Answer>) -> Option<Answer> {
        answer.filter(|answer| answer.sequence == self.sequence && self.sequence != 0)
    }
}

/// All about one application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Application {
    /// Its bit in the direct mask.
    pub(crate) bit: u64,
    /// Functions that it may have.
    pub(crate) allowed: u8,
    pub(crate) step: Step,
    /// Where it is to be in the end.
    pub(crate) wanted: Target,
    /// Functions that it holds, or may hold: one, unless a predecessor left nonsense.
    pub(crate) claimed: u8,
    /// The MAC address that its frames have.
    pub(crate) mac: [u8; 6],
    /// The life that the grant was made for.
    pub(crate) life: u32,
    /// Its frames may go to the function: from the order on until the way back is confirmed.
    pub(crate) routed: bool,
    /// It was told to take the function.
    pub(crate) prepared: bool,
    /// It was told to transmit through the function.
    pub(crate) transmits: bool,
    /// `pcie` has revoked.
    pub(crate) revoked: bool,
    /// That life has ended.
    pub(crate) gone: bool,
    /// It is not waited for any more.
    pub(crate) forced: bool,
    /// In this step a server has not done what it had to; it is asked again at the deadline.
    pub(crate) stuck: bool,
    /// That server has refused: its answer does not count any more.
    pub(crate) refused: bool,
    /// A server was stuck in some step of this way back: nobody counts on the function.
    pub(crate) quarantined: bool,
    /// It is to be switched, but has not let go of its last function yet; that was reported.
    pub(crate) waits: bool,
    /// Something of this switch has failed.
    pub(crate) failed: bool,
    /// It was in direct mode when the way back began.
    pub(crate) was_direct: bool,
    /// When this switch was decided, in microseconds.
    pub(crate) decided: u64,
    /// Until when the present step is waited for, in microseconds.
    pub(crate) deadline: u64,
    /// The last order to `pcie`.
    pub(crate) grant: Slot,
    /// To the owner of the physical function.
    pub(crate) route: Slot,
    /// To the application.
    pub(crate) stage: Slot,
    pub(crate) switches: u64,
    pub(crate) last_switch: u64,
    pub(crate) failures: u64,
}

impl Application {
    const IDLE: Self = Self {
        bit: 0,
        allowed: 0,
        step: Step::Server,
        wanted: Target::Server,
        claimed: 0,
        mac: [0; 6],
        life: 0,
        routed: false,
        prepared: false,
        transmits: false,
        revoked: false,
        gone: false,
        forced: false,
        stuck: false,
        refused: false,
        quarantined: false,
        waits: false,
        failed: false,
        was_direct: false,
        decided: 0,
        deadline: NEVER,
        grant: Slot { sequence: 0 },
        route: Slot { sequence: 0 },
        stage: Slot { sequence: 0 },
        switches: 0,
        last_switch: 0,
        failures: 0,
    };

    /// The function that this is about.
    pub(crate) fn function(&self) -> Option<u8> {
        (self.claimed != 0).then_some(self.claimed.trailing_zeros() as u8)
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.step {
            Step::Server => Mode::Server,
            Step::Direct => Mode::Direct,
            step if step.is_on_the_way_to_direct() => Mode::ToDirect,
            _ => Mode::ToServer,
        }
    }

    pub(crate) fn shown(&self) -> Shown {
        Shown {
            mode: self.mode(),
            // Who finds no function on the board takes any for possible.
            function: self.function().filter(|_| self.claimed.is_power_of_two()),
            switches: self.switches,
            last_switch: self.last_switch,
            failures: self.failures,
            life: self.life,
        }
    }

    /// The same in server mode, without a function.
    pub(crate) fn at_rest(&self) -> Self {
        Self {
            bit: self.bit,
            allowed: self.allowed,
            wanted: self.wanted,
            life: self.life,
            grant: self.grant,
            route: self.route,
            stage: self.stage,
            switches: self.switches,
            last_switch: self.last_switch,
            failures: self.failures,
            ..Self::IDLE
        }
    }

    /// Counts a failure, once for each switch.
    pub(crate) fn fail(&mut self) {
        if !self.failed {
            self.failed = true;
            self.failures = self.failures.wrapping_add(1);
        }
    }
}

/// Switches of up to `N` applications.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine<const N: usize = MAXIMUM_APPLICATIONS> {
    pub(crate) count: usize,
    /// Functions that can be granted.
    pub(crate) functions: u8,
    pub(crate) server_function: u8,
    /// The direct mask.
    pub(crate) direct: u64,
    pub(crate) applications: [Application; N],
}

const _: () = assert!(MAXIMUM_FUNCTIONS <= 8, "a set of functions is a byte");

/// Whether a MAC address can be an application's.
pub(crate) fn is_usable(mac: [u8; 6]) -> bool {
    mac != [0; 6] && mac[0] & 1 == 0
}

impl<const N: usize> Machine<N> {
    /// Everybody is in server mode, and nothing was ever ordered.
    pub fn new(table: &DirectorTable) -> Self {
        let server_function = table.server_function.min(u32::from(u8::MAX)) as u8;
        let others = |function: &u32| *function != u32::from(server_function);
        let functions = (0..MAXIMUM_FUNCTIONS as u32)
            .filter(others)
            .fold(0, |set, function| set | 1 << function)
            & table.functions as u8;
        let mut applications = [Application::IDLE; N];
        let mut count = 0;
        for (application, entry) in applications.iter_mut().zip(table.applications()) {
            application.bit = direct_bit(entry);
            application.allowed = entry.functions as u8 & functions;
            count += 1;
        }
        Self {
            count,
            functions,
            server_function,
            direct: 0,
            applications,
        }
    }

    /// How many applications there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mode of an application.
    pub fn mode(&self, index: usize) -> Mode {
        self.applications[index].mode()
    }

    /// The function it holds, or is about to hold, or has not got rid of.
    pub fn function(&self, index: usize) -> Option<u8> {
        self.applications[index].function()
    }

    /// Which life of an application the function is for.
    pub fn life(&self, index: usize) -> u32 {
        self.applications[index].life
    }

    /// Functions that it may have, one bit each.
    pub fn allowed(&self, index: usize) -> u8 {
        self.applications[index].allowed
    }

    /// Functions that nobody has, one bit each.
    pub fn free(&self) -> u8 {
        let claimed = self.applications.iter().fold(0, |set, a| set | a.claimed);
        self.functions & !claimed
    }

    /// When to call [`Self::step`] again at the latest, in microseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.applications[..self.count].iter().map(|a| a.deadline);
        deadlines.min().filter(|deadline| *deadline != NEVER)
    }

    /// Somebody wants an application to be in a mode. `server_is_running`: whether there is
    /// a network server for it to go to.
    ///
    /// # Errors
    ///
    /// What is in the way; then nothing changes. What is in the way of a function is found
    /// by [`Self::step`], which reports it.
    pub fn wish(
        &mut self,
        index: usize,
        target: Target,
        server_is_running: bool,
    ) -> Result<(), Obstacle> {
        let application = &mut self.applications[index];
        match target {
            Target::Server
                if application.wanted == Target::Direct
                    && application.mode() != Mode::ToServer
                    && application.step != Step::Server
                    && !server_is_running =>
            {
                return Err(Obstacle::NoServer);
            }
            Target::Direct if application.quarantined => return Err(Obstacle::NotScrubbed),
            Target::Server | Target::Direct => application.wanted = target,
        }
        Ok(())
    }

    /// Looks at an application and does what is to be done next; says whether anything
    /// was: then there may be more.
    pub fn step(
        &mut self,
        index: usize,
        now: u64,
        view: &View,
        effects: &mut impl Effects,
    ) -> bool {
        Stepping {
            machine: self,
            index,
            now,
            view,
            effects,
        }
        .step()
    }
}
