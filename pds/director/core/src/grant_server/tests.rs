extern crate std;

use std::vec::Vec;

use proptest::prelude::*;
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;

use super::*;
use crate::board::{ANSWERS_SIZE, BOARD_SIZE};

/// Who has capabilities of which function, and what was asked of the kernel.
#[derive(Clone, Default)]
struct Device {
    held: Vec<(usize, u8)>,
    calls: usize,
    /// Calls that are refused, by their number.
    refuses: Vec<usize>,
    /// Functions that a hand may not be laid on.
    untouchable: Vec<u8>,
    kept: Vec<(usize, u8)>,
    covered: Vec<usize>,
}

impl Device {
    fn call(&mut self) -> Result<(), Refused> {
        self.calls += 1;
        match self.refuses.contains(&self.calls) {
            true => Err(Refused::Kernel),
            false => Ok(()),
        }
    }
}

impl GrantDevice for Device {
    fn grant(&mut self, application: usize, function: u8) -> Result<(), Refused> {
        let others = self.held.iter();
        let mut others =
            others.filter(|(holder, held)| *holder == application || *held == function);
        assert_eq!(others.next(), None, "{function} to {application}");
        // What is refused half-way has given a part.
        self.held.push((application, function));
        self.call()
    }

    fn keep(&mut self, application: usize, function: u8) {
        self.kept.push((application, function));
    }

    fn withdraw(&mut self, function: u8) -> Result<(), Refused> {
        assert!(
            !self.untouchable.contains(&function),
            "{function} is in use"
        );
        self.call()?;
        self.held.retain(|held| held.1 != function);
        Ok(())
    }

    fn cover(&mut self, application: usize) {
        self.covered.push(application);
    }
}

struct Fixture {
    board: Board,
    answers: Answers,
    words: Region,
    server: GrantServer,
    device: Device,
}

fn table() -> GrantTable {
    let mut table = GrantTable {
        count: 2,
        functions: 0b110,
        ..GrantTable::EMPTY
    };
    table.allowed[0] = 0b110;
    table.allowed[1] = 0b1100;
    table
}

/// Two applications: the first may have functions 1 and 2, the other 2 and 3, of which the
/// third cannot be granted.
fn fixture() -> Fixture {
    let words = leaked_region(BOARD_SIZE);
    let board = Board::new(words).unwrap();
    let answers = Answers::new(leaked_region(ANSWERS_SIZE)).unwrap();
    Fixture {
        board,
        answers,
        words,
        server: GrantServer::new(&table(), board, answers),
        device: Device::default(),
    }
}

impl Fixture {
    fn order(&mut self, application: usize, sequence: u32, operation: GrantOperation) {
        let order = Order {
            sequence,
            operation,
        };
        self.board.order_grant(application, order);
    }

    /// The server dies, and a new one comes.
    fn restart(&mut self) {
        self.server = GrantServer::new(&table(), self.board, self.answers);
        self.server.recover(&mut self.device);
    }

    fn result(&mut self, application: usize, sequence: u32) -> Result<(), Refused> {
        assert!(self.server.serve(&mut self.device));
        let answer = self.answers.answer(application).unwrap();
        assert_eq!(answer.sequence, sequence);
        answer.result
    }
}

const GRANT_1: GrantOperation = GrantOperation::Grant { function: 1 };
const GRANT_2: GrantOperation = GrantOperation::Grant { function: 2 };

#[test]
fn a_function_has_one_holder_and_a_holder_one_function() {
    let mut all = fixture();
    assert!(!all.server.serve(&mut all.device), "there is no order yet");
    all.order(0, 1, GRANT_2);
    assert_eq!(all.result(0, 1), Ok(()));
    all.order(1, 1, GRANT_2);
    assert_eq!(all.result(1, 1), Err(Refused::Invalid), "it has a holder");
    all.order(0, 2, GRANT_1);
    assert_eq!(all.result(0, 2), Err(Refused::Invalid), "it has another");
    all.order(0, 3, GrantOperation::Revoke);
    assert_eq!(all.result(0, 3), Ok(()));
    all.order(1, 2, GRANT_2);
    assert_eq!(all.result(1, 2), Ok(()));
    assert_eq!(all.device.held, [(1, 2)]);
}

#[test]
fn an_order_is_carried_out_once_and_doing_it_again_does_no_harm() {
    let mut all = fixture();
    all.order(0, 1, GRANT_1);
    assert_eq!(all.result(0, 1), Ok(()));
    assert!(!all.server.serve(&mut all.device));
    all.order(0, 2, GRANT_1);
    assert_eq!(all.result(0, 2), Ok(()));
    assert_eq!(all.device.calls, 1);
    for sequence in 3..5 {
        all.order(0, sequence, GrantOperation::Revoke);
        assert_eq!(all.result(0, sequence), Ok(()));
    }
    assert_eq!((all.device.calls, all.device.held.len()), (2, 0));
}

#[test]
fn what_the_description_does_not_allow_is_refused() {
    let mut all = fixture();
    for (sequence, function) in (1..).zip([0, 3, 7, 8, 255]) {
        for application in 0..2 {
            all.order(application, sequence, GrantOperation::Grant { function });
        }
        assert_eq!(all.result(0, sequence), Err(Refused::Invalid), "{function}");
        let other = all.answers.answer(1).unwrap();
        assert_eq!(other.result, Err(Refused::Invalid), "{function}");
    }
    // Beyond the last application.
    all.order(2, 1, GRANT_1);
    assert!(!all.server.serve(&mut all.device));
    assert_eq!(all.device.calls, 0);
}

#[test]
fn what_was_given_half_way_is_taken_back() {
    let mut all = fixture();
    all.device.refuses = std::vec![1];
    all.order(0, 1, GRANT_1);
    assert_eq!(all.result(0, 1), Err(Refused::Kernel));
    assert_eq!(all.device.held, []);
    all.order(0, 2, GRANT_1);
    assert_eq!(all.result(0, 2), Ok(()));
}

#[test]
fn nobody_gets_what_could_not_be_taken_back() {
    let mut all = fixture();
    all.device.refuses = std::vec![2];
    all.order(0, 1, GRANT_2);
    assert_eq!(all.result(0, 1), Ok(()));
    all.order(0, 2, GrantOperation::Revoke);
    assert_eq!(all.result(0, 2), Err(Refused::Kernel));
    all.order(1, 1, GRANT_2);
    assert_eq!(all.result(1, 1), Err(Refused::Invalid));
    all.order(0, 3, GrantOperation::Revoke);
    assert_eq!(all.result(0, 3), Ok(()));
    all.order(1, 2, GRANT_2);
    assert_eq!(all.result(1, 2), Ok(()));
}

/// What a predecessor has answered is done; how far it has come with anything else is not known.
#[test]
fn who_starts_anew_leaves_alone_what_is_held_and_takes_back_all_else() {
    let mut all = fixture();
    all.restart();
    assert_eq!(all.device.calls, 2, "nobody is known to hold anything");
    all.order(1, 5, GRANT_2);
    assert_eq!(all.result(1, 5), Ok(()));
    all.device.untouchable.push(2);

    // Granted half-way: there is no answer yet.
    all.order(0, 1, GRANT_1);
    all.device.held.push((0, 1));
    all.restart();
    assert_eq!(all.device.held, [(1, 2)]);
    assert_eq!(all.device.kept, [(1, 2)]);
    assert_eq!(all.result(0, 1), Ok(()));
    assert_eq!(all.device.held, [(1, 2), (0, 1)]);

    all.device.untouchable.push(1);
    all.restart();
    assert!(!all.server.serve(&mut all.device), "all is answered");
    assert_eq!(all.device.held.len(), 2);

    // Taken back half-way.
    all.device.untouchable.pop();
    all.order(0, 2, GrantOperation::Revoke);
    all.device.covered.clear();
    all.restart();
    assert_eq!(all.device.held, [(1, 2)]);
    assert_eq!(all.result(0, 2), Ok(()));
    assert_eq!(all.device.covered, [0]);
    all.order(0, 3, GrantOperation::Revoke);
    assert_eq!(all.result(0, 3), Ok(()));
    assert_eq!(all.device.covered, [0], "once is enough");
    // The other one still holds its own.
    all.device.untouchable.pop();
    all.order(1, 6, GrantOperation::Revoke);
    assert_eq!(all.result(1, 6), Ok(()));
    assert_eq!(all.device.held, []);
}

#[test]
fn nobody_gets_what_who_starts_anew_could_not_take_back() {
    let mut all = fixture();
    all.order(0, 1, GRANT_1);
    all.device.held.push((0, 1));
    all.device.refuses = std::vec![1, 3, 4];
    all.restart();
    assert_eq!(all.result(0, 1), Err(Refused::Kernel));
    all.order(0, 2, GrantOperation::Revoke);
    assert_eq!(all.result(0, 2), Err(Refused::Kernel));
    all.order(0, 3, GrantOperation::Revoke);
    assert_eq!(all.result(0, 3), Ok(()));
    assert_eq!(all.device.held, []);
    all.order(0, 4, GRANT_1);
    assert_eq!(all.result(0, 4), Ok(()));
}

#[test]
fn who_may_still_have_a_part_of_one_function_gets_no_other() {
    let mut all = fixture();
    all.order(0, 1, GRANT_1);
    all.device.held.push((0, 1));
    all.device.refuses = std::vec![1, 3];
    all.restart();
    all.order(0, 2, GRANT_2);
    assert_eq!(all.result(0, 2), Err(Refused::Kernel));
    all.order(0, 3, GRANT_2);
    assert_eq!(all.result(0, 3), Ok(()));
    assert_eq!(all.device.held, [(0, 2)]);
}

#[test]
fn an_answer_to_another_order_of_the_same_number_says_nothing() {
    let mut all = fixture();
    all.order(0, 1, GrantOperation::Revoke);
    assert_eq!(all.result(0, 1), Ok(()));
    all.order(0, 1, GRANT_1);
    all.restart();
    assert_eq!(all.device.kept, []);
    assert_eq!(all.result(0, 1), Ok(()));
    assert_eq!(all.device.held, [(0, 1)]);
}

#[test]
fn grants_that_cannot_both_be_are_believed_once() {
    let mut all = fixture();
    for application in 0..2 {
        all.order(application, 1, GRANT_2);
        let order = all.board.grant(application).unwrap();
        all.answers.give_to(application, order, Ok(()));
    }
    all.restart();
    assert_eq!(all.device.kept, [(0, 2)]);
    all.order(1, 2, GRANT_2);
    assert_eq!(all.result(1, 2), Err(Refused::Invalid));
}

proptest! {
    /// Any words on the board, and a kernel that refuses at times: nothing is granted twice or
    /// to whom it must not be (the device asserts it), and each order is answered.
    #[test]
    fn any_orders_in_any_order(
        words in proptest::collection::vec((0usize..4, any::<u64>(), 0u64..7), 1..60),
        refuses in proptest::collection::vec(1usize..80, 0..8),
    ) {
        let mut all = fixture();
        all.device.refuses = refuses;
        for (number, (application, noise, kind)) in words.into_iter().enumerate() {
            let sequence = (number as u64 + 1) << 32;
            if kind == 6 {
                all.restart();
                continue;
            }
            let word = match kind {
                0 => noise,
                1 => sequence | 2,
                kind => sequence | (kind - 1) << 8 | 1,
            };
            // The first word of an entry is the order to the manager (see `board`).
            let place = 0x40 + application * 0x40;
            all.words.store64(place, word, core::sync::atomic::Ordering::Relaxed);
            all.server.serve(&mut all.device);
            let allowed = all.device.held.iter().all(|(holder, function)| {
                *holder < 2 && (*function == 2 || (*function == 1 && *holder == 0))
            });
            prop_assert!(allowed);
            if application < 2 && let Some(order) = all.board.grant(application) {
                let answer = all.answers.answer(application);
                prop_assert_eq!(answer.map(|answer| answer.sequence), Some(order.sequence));
            }
        }
    }
}
