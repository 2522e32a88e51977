//! Orders of the director, and the answers to them.
//!
//! The director alone writes the *board*; all who take part read it. Each of them has a
//! region of its own to answer in, which the director reads. An order is one atomic word:
//! a sequence number, an operation, a virtual function. It stays until the next one, and
//! carrying it out twice does no harm, so whoever starts anew looks at the board and goes
//! on. Whatever one side writes, the other can read a word that means nothing, no more.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use segue_shared_memory::Region;

use crate::config::MAXIMUM_APPLICATIONS;

/// Bytes of the board.
pub const BOARD_SIZE: usize = 0x2000;
/// Bytes of a region for answers.
pub const ANSWERS_SIZE: usize = 0x1000;

const DIRECT: usize = 0x00;
const PINNED_DIRECT: usize = 0x08;
const PINNED_SERVER: usize = 0x10;
const WISH_TAKEN: usize = 0x18;
const ENTRIES: usize = 0x40;
const ENTRY_SIZE: usize = 0x40;
const GRANT: usize = 0x00;
const ROUTE: usize = 0x08;
const MAC: usize = 0x10;
const STAGE: usize = 0x18;
const SHOWN: usize = 0x20;
const SWITCHES: usize = 0x28;
const LAST_SWITCH: usize = 0x30;
const FAILURES: usize = 0x38;

const _: () = assert!(ENTRIES + MAXIMUM_APPLICATIONS * ENTRY_SIZE <= BOARD_SIZE);
const _: () = assert!(MAXIMUM_APPLICATIONS * 8 <= ANSWERS_SIZE);

/// An order with its sequence number; 0 is that of no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order<O> {
    /// Answers carry the same.
    pub sequence: u32,
    /// What is to be done.
    pub operation: O,
}

/// To the manager of configuration space, about one application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantOperation {
    /// It is to hold this virtual function.
    Grant {
        /// The function.
        function: u8,
    },
    /// It is to hold none.
    Revoke,
}

/// To the owner of the physical function, about one application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteOperation {
    /// The function was reset by its user: it is to work.
    Enable {
        /// The function.
        function: u8,
    },
    /// Frames to the application's MAC address go to this function.
    Route {
        /// The function.
        function: u8,
    },
    /// Nobody has the function: it is to be off, and all its registers as after a reset
    /// of the whole device.
    Scrub {
        /// The function.
        function: u8,
    },
}

/// To the application itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StageOperation {
    /// All frames through the network server; the function is let go.
    Server,
    /// Take the function's registers and memory, and reset it.
    Prepare {
        /// The function.
        function: u8,
    },
    /// Start its queues, and receive from both.
    Attach,
    /// Transmit through the function.
    Direct,
    /// Transmit through the network server, and receive from both.
    Drain,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Of the order.
    pub sequence: u32,
    /// How it ended.
    pub result: Result<(), Refused>,
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refused {
    /// The order means nothing, or not now.
    Invalid = 1,
    /// The kernel refused a step.
    Kernel = 2,
    /// The device does not do what it must.
    Device = 3,
    /// There is none to be had: no filter, no function.
    Exhausted = 4,
}

impl Refused {
    /// The end of a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Refused::Invalid => "the order makes no sense to it",
            Refused::Kernel => "the kernel refused a step",
            Refused::Device => "the device does not do what it must",
            Refused::Exhausted => "there is nothing left to be had",
        }
    }
}

/// How an application is shown to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shown {
    /// Its mode, or what is being done.
    pub mode: Mode,
    /// The function it holds, or is about to hold.
    pub function: Option<u8>,
    /// Switches that have ended, both ways.
    pub switches: u64,
    /// How long the last one took from the decision to its end, in microseconds.
    pub last_switch: u64,
    /// Switches that failed or were forced.
    pub failures: u64,
    /// The life of the application that this is about: how often it had been restarted.
    pub life: u32,
}

/// An application's mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Its frames go through the network server.
    #[default]
    Server = 0,
    /// It is on its way to a function of its own.
    ToDirect = 1,
    /// It drives a function of its own.
    Direct = 2,
    /// It is on its way back.
    ToServer = 3,
}

impl Mode {
    fn from_word(word: u8) -> Self {
        match word {
            1 => Mode::ToDirect,
            2 => Mode::Direct,
            3 => Mode::ToServer,
            _ => Mode::Server,
        }
    }

    /// A word or two for people.
    pub fn text(self) -> &'static str {
        match self {
            Mode::Server => "server",
            Mode::ToDirect => "to direct",
            Mode::Direct => "direct",
            Mode::ToServer => "to server",
        }
    }
}

/// Applications for which an operator has decided, one bit each by their place in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// For direct mode.
    pub direct: u64,
    /// For server mode.
    pub server: u64,
}

impl Pins {
    /// All of them.
    pub fn all(self) -> u64 {
        self.direct | self.server
    }
}

/// An operation as the low half of an order's word.
pub trait Operation: Copy {
    /// Its number and argument.
    fn encode(self) -> (u8, u8);
    /// The reverse; `None` if it means nothing.
    fn decode(number: u8, argument: u8) -> Option<Self>;
}

impl Operation for GrantOperation {
    fn encode(self) -> (u8, u8) {
        match self {
            Self::Grant { function } => (1, function),
            Self::Revoke => (2, 0),
        }
    }
    fn decode(number: u8, function: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Grant { function }),
            2 => Some(Self::Revoke),
            _ => None,
        }
    }
}

impl Operation for RouteOperation {
    fn encode(self) -> (u8, u8) {
        match self {
            Self::Enable { function } => (1, function),
            Self::Route { function } => (2, function),
            Self::Scrub { function } => (3, function),
        }
    }
    fn decode(number: u8, function: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Enable { function }),
            2 => Some(Self::Route { function }),
            3 => Some(Self::Scrub { function }),
            _ => None,
        }
    }
}

impl Operation for StageOperation {
    fn encode(self) -> (u8, u8) {
        match self {
            Self::Server => (1, 0),
            Self::Prepare { function } => (2, function),
            Self::Attach => (3, 0),
            Self::Direct => (4, 0),
            Self::Drain => (5, 0),
        }
    }
    fn decode(number: u8, function: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Server),
            2 => Some(Self::Prepare { function }),
            3 => Some(Self::Attach),
            4 => Some(Self::Direct),
            5 => Some(Self::Drain),
            _ => None,
        }
    }
}

fn encode<O: Operation>(order: Order<O>) -> u64 {
    let (number, argument) = order.operation.encode();
    u64::from(order.sequence) << 32 | u64::from(argument) << 8 | u64::from(number)
}

fn decode<O: Operation>(word: u64) -> Option<Order<O>> {
    let sequence = (word >> 32) as u32;
    let operation = O::decode(word as u8, (word >> 8) as u8)?;
    (sequence != 0).then_some(Order {
        sequence,
        operation,
    })
}

/// The board.
#[derive(Clone, Copy, Debug)]
pub struct Board(Region);

impl Board {
    /// The board in this region; `None` if it is too small.
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= BOARD_SIZE).then_some(Self(region))
    }

    fn at(index: usize, field: usize) -> usize {
        assert!(index < MAXIMUM_APPLICATIONS, "no such place on the board");
        ENTRIES + index * ENTRY_SIZE + field
    }

    /// Applications (by their index at the network server) that have the frames of the
    /// network from a function of their own.
    #[inline]
    pub fn direct(&self) -> u64 {
        self.0.load64(DIRECT, Relaxed)
    }

    /// Says who they are. Director only, like all that writes here.
    pub fn set_direct(&self, applications: u64) {
        self.0.store64(DIRECT, applications, Release);
    }

    /// For whom an operator has decided.
    pub fn pins(&self) -> Pins {
        Pins {
            direct: self.0.load64(PINNED_DIRECT, Acquire),
            server: self.0.load64(PINNED_SERVER, Acquire),
        }
    }

    /// Says for whom.
    pub fn set_pins(&self, pins: Pins) {
        self.0.store64(PINNED_DIRECT, pins.direct, Release);
        self.0.store64(PINNED_SERVER, pins.server, Release);
    }

    /// The number of the last wish that the board shows all of.
    pub fn wish_taken(&self) -> u32 {
        self.0.load64(WISH_TAKEN, Acquire) as u32
    }

    /// Says which it is.
    pub fn set_wish_taken(&self, sequence: u32) {
        self.0.store64(WISH_TAKEN, sequence.into(), Release);
    }

    /// What `pcie` is to do about application `index`.
    pub fn grant(&self, index: usize) -> Option<Order<GrantOperation>> {
        decode(self.0.load64(Self::at(index, GRANT), Acquire))
    }

    /// Orders it.
    pub fn order_grant(&self, index: usize, order: Order<GrantOperation>) {
        self.0
            .store64(Self::at(index, GRANT), encode(order), Release);
    }

    /// What the owner of the physical function is to do about application `index`.
    pub fn route(&self, index: usize) -> Option<Order<RouteOperation>> {
        decode(self.0.load64(Self::at(index, ROUTE), Acquire))
    }

    /// The MAC address that a route is about.
    pub fn mac(&self, index: usize) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0.load64(Self::at(index, MAC), Relaxed).to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Orders it; `mac` is the application's MAC address.
    pub fn order_route(&self, index: usize, mac: [u8; 6], order: Order<RouteOperation>) {
        let [a, b, c, d, e, f] = mac;
        let word = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        self.0.store64(Self::at(index, MAC), word, Relaxed);
        self.0
            .store64(Self::at(index, ROUTE), encode(order), Release);
    }

    /// What application `index` is to do itself.
    #[inline]
    pub fn stage(&self, index: usize) -> Option<Order<StageOperation>> {
        decode(self.0.load64(Self::at(index, STAGE), Acquire))
    }

    /// Orders it.
    pub fn order_stage(&self, index: usize, order: Order<StageOperation>) {
        self.0
            .store64(Self::at(index, STAGE), encode(order), Release);
    }

    /// What people are shown of application `index`.
    pub fn shown(&self, index: usize) -> Shown {
        let word = self.0.load64(Self::at(index, SHOWN), Acquire);
        let function = (word >> 8) as u8;
        Shown {
            mode: Mode::from_word(word as u8),
            function: function.checked_sub(1),
            switches: self.0.load64(Self::at(index, SWITCHES), Relaxed),
            last_switch: self.0.load64(Self::at(index, LAST_SWITCH), Relaxed),
            failures: self.0.load64(Self::at(index, FAILURES), Relaxed),
            life: (word >> 32) as u32,
        }
    }

    /// Shows it.
    pub fn show(&self, index: usize, shown: &Shown) {
        let function = shown
            .function
            .map_or(0, |function| function.wrapping_add(1));
        let word =
            u64::from(shown.life) << 32 | u64::from(function) << 8 | u64::from(shown.mode as u8);
        self.0
            .store64(Self::at(index, SWITCHES), shown.switches, Relaxed);
        self.0
            .store64(Self::at(index, LAST_SWITCH), shown.last_switch, Relaxed);
        self.0
            .store64(Self::at(index, FAILURES), shown.failures, Relaxed);
        self.0.store64(Self::at(index, SHOWN), word, Release);
    }
}

/// The region in which somebody answers: `pcie` and the owner of the physical function
/// for each application, an application for itself (index 0).
#[derive(Clone, Copy, Debug)]
pub struct Answers(Region);

/// Where an application counts what it does, behind its answer.
const LOAD: usize = 0x40;

/// What an application has had to do so far, by its own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Frames received and transmitted.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that came twice while two ways were open.
    pub duplicates: u64,
    /// Frames sent again, since they were not known to be sent.
    pub repeated: u64,
}

impl Answers {
    /// Answers in this region; `None` if it is too small.
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= ANSWERS_SIZE).then_some(Self(region))
    }

    /// The last answer about application `index`; `None` if there is none, or nonsense.
    pub fn answer(&self, index: usize) -> Option<Answer> {
        assert!(index < MAXIMUM_APPLICATIONS, "no such answer");
        let word = self.0.load64(index * 8, Acquire);
        let sequence = (word >> 32) as u32;
        let result = match word as u8 {
            0 => Ok(()),
            1 => Err(Refused::Invalid),
            2 => Err(Refused::Kernel),
            3 => Err(Refused::Device),
            4 => Err(Refused::Exhausted),
            _ => return None,
        };
        (sequence != 0).then_some(Answer { sequence, result })
    }

    /// Answers about application `index`.
    pub fn give(&self, index: usize, answer: Answer) {
        assert!(index < MAXIMUM_APPLICATIONS, "no such answer");
        let result = answer.result.err().map_or(0, |refused| refused as u8);
        let word = u64::from(answer.sequence) << 32 | u64::from(result);
        self.0.store64(index * 8, word, Release);
    }

    /// Answers an order about application `index`, so that a successor knows which one it was.
    pub fn give_to<O: Operation>(
        &self,
        index: usize,
        order: Order<O>,
        result: Result<(), Refused>,
    ) {
        assert!(index < MAXIMUM_APPLICATIONS, "no such answer");
        let result = result.err().map_or(0, |refused| refused as u8);
        let word = encode(order) & !0xffff | u64::from(result);
        let (number, argument) = order.operation.encode();
        let operation = u64::from(argument) << 16 | u64::from(number) << 8;
        self.0.store64(index * 8, word | operation, Release);
    }

    /// What was answered to this very order by [`Answers::give_to`], if it was.
    pub fn to<O: Operation>(&self, index: usize, order: Order<O>) -> Option<Result<(), Refused>> {
        let answer = self.answer(index)?;
        let word = self.0.load64(index * 8, Acquire);
        let (number, argument) = ((word >> 8) as u8, (word >> 16) as u8);
        let is_same =
            answer.sequence == order.sequence && order.operation.encode() == (number, argument);
        is_same.then_some(answer.result)
    }

    /// What an application says of its load.
    pub fn load(&self) -> Load {
        let word = |field: usize| self.0.load64(LOAD + field * 8, Relaxed);
        Load {
            frames: word(0),
            bytes: word(1),
            duplicates: word(2),
            repeated: word(3),
        }
    }

    /// Says it.
    pub fn set_load(&self, load: &Load) {
        let words = [load.frames, load.bytes, load.duplicates, load.repeated];
        for (field, word) in words.into_iter().enumerate() {
            self.0.store64(LOAD + field * 8, word, Relaxed);
        }
    }
}

/// What an operator wants of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wanted {
    /// It is to be in server mode and to stay there.
    Server = 0,
    /// It is to be in direct mode and to stay there.
    Direct = 1,
    /// The policy may decide again.
    Auto = 2,
}

/// An order that the console passes on to the director: one word, written by the console,
/// read by the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Counts wishes; 0 is none.
    pub sequence: u32,
    /// The application's place on the board.
    pub index: u8,
    /// What is wanted of it.
    pub wanted: Wanted,
}

impl Wish {
    /// The wish in a region that the console writes (its first word); `None` if there is
    /// none, or nonsense.
    pub fn read(region: &Region) -> Option<Self> {
        let word = region.load64(0, Acquire);
        let sequence = (word >> 32) as u32;
        let index = (word >> 8) as u8;
        let wanted = match word as u8 {
            0 => Wanted::Server,
            1 => Wanted::Direct,
            2 => Wanted::Auto,
            _ => return None,
        };
        (sequence != 0 && usize::from(index) < MAXIMUM_APPLICATIONS).then_some(Self {
            sequence,
            index,
            wanted,
        })
    }

    /// Writes it there.
    pub fn write(&self, region: &Region) {
        let word = u64::from(self.sequence) << 32
            | u64::from(self.index) << 8
            | u64::from(self.wanted as u8);
        region.store64(0, word, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use segue_shared_memory::testing::leaked_region;

    fn order<O>(sequence: u32, operation: O) -> Order<O> {
        Order {
            sequence,
            operation,
        }
    }

    #[test]
    fn what_is_ordered_is_read() {
        let board = Board::new(leaked_region(BOARD_SIZE)).unwrap();
        let last = MAXIMUM_APPLICATIONS - 1;
        for index in [0, last] {
            assert_eq!(board.grant(index), None);
            assert_eq!(board.route(index), None);
            assert_eq!(board.stage(index), None);
            assert_eq!(board.shown(index), Shown::default());
            for operation in [
                GrantOperation::Grant { function: 7 },
                GrantOperation::Revoke,
            ] {
                board.order_grant(index, order(1, operation));
                assert_eq!(board.grant(index), Some(order(1, operation)));
            }
            for operation in [
                RouteOperation::Enable { function: 1 },
                RouteOperation::Route { function: 2 },
                RouteOperation::Scrub { function: 3 },
            ] {
                board.order_route(index, [2, 0, 0, 0, 0, 9], order(u32::MAX, operation));
                assert_eq!(board.route(index), Some(order(u32::MAX, operation)));
                assert_eq!(board.mac(index), [2, 0, 0, 0, 0, 9]);
            }
            for operation in [
                StageOperation::Server,
                StageOperation::Prepare { function: 4 },
                StageOperation::Attach,
                StageOperation::Direct,
                StageOperation::Drain,
            ] {
                board.order_stage(index, order(5, operation));
                assert_eq!(board.stage(index), Some(order(5, operation)));
            }
            let shown = Shown {
                mode: Mode::ToServer,
                function: Some(0),
                switches: 3,
                last_switch: 1_204,
                failures: 1,
                life: u32::MAX,
            };
            board.show(index, &shown);
            assert_eq!(board.shown(index), shown);
        }
        assert_eq!(board.grant(1), None, "others are not touched");
        assert!(Board::new(leaked_region(BOARD_SIZE - 8)).is_none());
        assert!(Answers::new(leaked_region(ANSWERS_SIZE - 8)).is_none());
    }

    proptest! {
        /// Whatever the words are, they are read, and what means something is what was
        /// written.
        #[test]
        fn any_word_is_read(word: u64, small in 0u64..0x300) {
            let region = leaked_region(BOARD_SIZE);
            let board = Board::new(region).unwrap();
            let answers_region = leaked_region(ANSWERS_SIZE);
            let answers = Answers::new(answers_region).unwrap();
            for word in [word, word & !0xffff | small] {
                for offset in (0..BOARD_SIZE).step_by(8) {
                    region.store64(offset, word, Relaxed);
                }
                for offset in (0..ANSWERS_SIZE).step_by(8) {
                    answers_region.store64(offset, word, Relaxed);
                }
                for index in [0, MAXIMUM_APPLICATIONS - 1] {
                    let shown = board.shown(index);
                    board.show(index, &shown);
                    prop_assert_eq!(board.shown(index), shown);
                    if let Some(order) = board.grant(index) {
                        board.order_grant(index, order);
                        prop_assert_eq!(board.grant(index), Some(order));
                    }
                    if let Some(order) = board.route(index) {
                        board.order_route(index, board.mac(index), order);
                        prop_assert_eq!(board.route(index), Some(order));
                    }
                    if let Some(order) = board.stage(index) {
                        board.order_stage(index, order);
                        prop_assert_eq!(board.stage(index), Some(order));
                    }
                    if let Some(order) = board.route(index) {
                        answers.give_to(index, order, Err(Refused::Device));
                        prop_assert_eq!(answers.to(index, order), Some(Err(Refused::Device)));
                        let answer = answers.answer(index).unwrap();
                        prop_assert_eq!(answer.sequence, order.sequence);
                        let other = Order { sequence: order.sequence ^ 1, ..order };
                        prop_assert_eq!(answers.to(index, other), None);
                    }
                    if let Some(answer) = answers.answer(index) {
                        answers.give(index, answer);
                        prop_assert_eq!(answers.answer(index), Some(answer));
                    }
                }
                answers_region.store64(0, word, Relaxed);
                if let Some(wish) = Wish::read(&answers_region) {
                    prop_assert!(wish.sequence != 0);
                    prop_assert!(usize::from(wish.index) < MAXIMUM_APPLICATIONS);
                    wish.write(&answers_region);
                    prop_assert_eq!(Wish::read(&answers_region), Some(wish));
                }
                let load = answers.load();
                answers.set_load(&load);
                prop_assert_eq!(answers.load(), load);
            }
        }
    }
}
