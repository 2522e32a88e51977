//! The server against a device that notes what it is told.

extern crate std;

use std::vec;
use std::vec::Vec;

use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;

use super::*;
use crate::board::{ANSWERS_SIZE, Answer, BOARD_SIZE, Shown};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 7];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Enable(u8),
    Route([u8; 6], u8),
    Scrub(u8),
}

#[derive(Default)]
struct Device {
    calls: Vec<Call>,
    refuses: Option<Refused>,
}

impl Device {
    fn take(&mut self, call: Call) -> Result<(), Refused> {
        self.calls.push(call);
        self.refuses.map_or(Ok(()), Err)
    }
}

impl RouteDevice for Device {
    fn enable(&mut self, function: u8) -> Result<(), Refused> {
        self.take(Call::Enable(function))
    }
    fn route(&mut self, mac: [u8; 6], function: u8) -> Result<(), Refused> {
        self.take(Call::Route(mac, function))
    }
    fn scrub(&mut self, function: u8) -> Result<(), Refused> {
        self.take(Call::Scrub(function))
    }
}

struct Bench {
    memory: Region,
    board: Board,
    answers: Answers,
    server: RouteServer,
    device: Device,
}

/// Functions 4 and 5 can be granted, function 1 is the network server's.
fn table(count: u32) -> RouteTable {
    RouteTable {
        count,
        functions: 0b11_0000,
        server_function: 1,
        ..RouteTable::EMPTY
    }
}

fn bench(table: &RouteTable) -> Bench {
    let memory = leaked_region(BOARD_SIZE);
    let board = Board::new(memory).unwrap();
    let answers = Answers::new(leaked_region(ANSWERS_SIZE)).unwrap();
    Bench {
        memory,
        board,
        answers,
        server: RouteServer::new(table, board, answers),
        device: Device::default(),
    }
}

impl Bench {
    fn order(&mut self, index: usize, sequence: u32, operation: RouteOperation) {
        let order = Order {
            sequence,
            operation,
        };
        self.board.order_route(index, MAC, order);
    }

    fn serve(&mut self) -> bool {
        self.server.serve(&mut self.device)
    }

    /// Gives an order and says what became of it.
    fn ordered(&mut self, sequence: u32, operation: RouteOperation) -> Result<(), Refused> {
        self.order(0, sequence, operation);
        assert!(self.serve());
        let answer = self.answers.answer(0).unwrap();
        assert_eq!(answer.sequence, sequence);
        answer.result
    }
}

#[test]
fn nothing_is_answered_before_there_is_an_order() {
    let mut bench = bench(&table(64));
    assert!(!bench.serve());
    for index in 0..MAXIMUM_APPLICATIONS {
        assert_eq!(bench.answers.answer(index), None);
    }
    assert!(bench.device.calls.is_empty());
}

#[test]
fn each_order_is_carried_out_once_and_answered() {
    let mut bench = bench(&table(3));
    bench.order(0, 7, RouteOperation::Enable { function: 4 });
    bench.order(2, 9, RouteOperation::Route { function: 5 });
    assert!(bench.serve());
    assert!(!bench.serve());
    bench.order(0, 8, RouteOperation::Route { function: 1 });
    assert!(bench.serve());
    bench.order(0, 9, RouteOperation::Scrub { function: 4 });
    assert!(bench.serve());
    assert!(!bench.serve());
    assert_eq!(
        bench.device.calls,
        [
            Call::Enable(4),
            Call::Route(MAC, 5),
            Call::Route(MAC, 1),
            Call::Scrub(4)
        ]
    );
    let answer = Answer {
        sequence: 9,
        result: Ok(()),
    };
    assert_eq!(bench.answers.answer(0), Some(answer));
    assert_eq!(bench.answers.answer(2), Some(answer));
    assert_eq!(bench.answers.answer(1), None);
}

#[test]
fn functions_outside_the_table_are_refused_and_the_device_is_not_asked() {
    let mut bench = bench(&table(1));
    let mut sequence = 0;
    for function in [0, 1, 2, 3, 6, 7, 8, 31, 32, 200, 255] {
        for operation in [
            RouteOperation::Enable { function },
            RouteOperation::Route { function },
            RouteOperation::Scrub { function },
        ] {
            let is_back_to_the_server = operation == RouteOperation::Route { function: 1 };
            sequence += 1;
            let expected = if is_back_to_the_server {
                Ok(())
            } else {
                Err(Refused::Invalid)
            };
            assert_eq!(bench.ordered(sequence, operation), expected);
        }
    }
    assert_eq!(bench.device.calls, [Call::Route(MAC, 1)]);
}

#[test]
fn what_the_device_says_is_the_answer() {
    let mut bench = bench(&table(1));
    let reasons = [Refused::Device, Refused::Exhausted, Refused::Invalid];
    for (sequence, why) in (1..).zip(reasons) {
        bench.device.refuses = Some(why);
        let result = bench.ordered(sequence, RouteOperation::Route { function: 4 });
        assert_eq!(result, Err(why));
    }
    bench.device.refuses = None;
    let again = bench.ordered(9, RouteOperation::Route { function: 4 });
    assert_eq!(again, Ok(()));
}

#[test]
fn another_order_counts_even_under_the_number_of_the_last() {
    let mut bench = bench(&table(1));
    bench
        .ordered(1, RouteOperation::Enable { function: 4 })
        .unwrap();
    bench
        .ordered(1, RouteOperation::Scrub { function: 4 })
        .unwrap();
    assert_eq!(bench.device.calls, [Call::Enable(4), Call::Scrub(4)]);
}

#[test]
fn a_server_that_starts_anew_carries_out_what_was_not_answered() {
    let mut bench = bench(&table(2));
    bench
        .ordered(3, RouteOperation::Scrub { function: 4 })
        .unwrap();
    bench.order(1, 8, RouteOperation::Enable { function: 4 });
    bench.device.calls.clear();
    bench.server = RouteServer::new(&table(2), bench.board, bench.answers);
    assert!(bench.serve());
    assert_eq!(
        bench.device.calls,
        [Call::Enable(4)],
        "another application has it by now: it must not be scrubbed again"
    );
    bench.order(0, 4, RouteOperation::Enable { function: 5 });
    bench.server = RouteServer::new(&table(2), bench.board, bench.answers);
    assert!(bench.serve());
    assert!(!bench.serve());
    assert_eq!(bench.device.calls, [Call::Enable(4), Call::Enable(5)]);
}

#[test]
fn what_was_ordered_is_known_to_who_starts_anew() {
    let mut bench = bench(&table(1));
    assert_eq!(bench.server.records().next(), None);
    let mut sequence = 0;
    let mut record = |operation, refuses: Option<Refused>, is_answered, shown| {
        sequence += 1;
        bench.order(0, sequence, operation);
        bench.board.show(0, &shown);
        bench.device.refuses = refuses;
        if is_answered {
            bench.serve();
        }
        let server = RouteServer::new(&table(1), bench.board, bench.answers);
        let records: Vec<_> = server.records().collect();
        assert_eq!((records.len(), records[0].mac), (1, MAC));
        (records[0].settled, records[0].function, records[0].works)
    };
    let shown = |mode, function| Shown {
        mode,
        function,
        ..Shown::default()
    };
    let direct = shown(Mode::Direct, Some(4));
    let enable = RouteOperation::Enable { function: 4 };
    let route = RouteOperation::Route { function: 4 };
    let back = RouteOperation::Route { function: 1 };
    let scrub = RouteOperation::Scrub { function: 4 };
    let no = Some(Refused::Device);
    use Settled::{Home, No, To};
    for (operation, refuses, is_answered, shown, expected) in [
        (enable, None, false, direct, (Home, Some(4), true)),
        (enable, None, true, direct, (Home, Some(4), true)),
        (enable, no, true, direct, (Home, Some(4), false)),
        (route, None, false, direct, (No, Some(4), true)),
        (route, None, true, direct, (To(4), Some(4), true)),
        (route, no, true, direct, (No, Some(4), true)),
        (back, None, false, direct, (No, Some(4), true)),
        (back, None, true, direct, (To(1), Some(4), true)),
        (
            back,
            None,
            true,
            shown(Mode::Server, None),
            (To(1), None, false),
        ),
        // A function that cannot be granted.
        (
            back,
            None,
            true,
            shown(Mode::ToServer, Some(6)),
            (To(1), None, true),
        ),
        (scrub, None, false, direct, (No, Some(4), false)),
        (scrub, no, true, direct, (No, Some(4), false)),
        (scrub, None, true, direct, (Home, Some(4), false)),
    ] {
        let found = record(operation, refuses, is_answered, shown);
        assert_eq!(
            found, expected,
            "{operation:?} {refuses:?} {is_answered} {shown:?}"
        );
    }
}

#[test]
fn applications_beyond_the_table_are_not_looked_at() {
    let mut bench = bench(&table(0));
    bench.order(0, 1, RouteOperation::Enable { function: 4 });
    assert!(!bench.serve());

    let mut many = self::bench(&table(u32::MAX));
    many.order(63, 1, RouteOperation::Enable { function: 4 });
    assert!(many.serve());
    assert_eq!(many.device.calls, [Call::Enable(4)]);
}

proptest! {
    /// Any words on the board: no panic, only functions that may be named reach the
    /// device, and a second look finds nothing to do.
    #[test]
    fn any_board_is_borne(
        words in prop::collection::vec((0_usize..BOARD_SIZE / 8, any::<u64>()), 0..200),
        orders in prop::collection::vec(
            (0_usize..MAXIMUM_APPLICATIONS, any::<u32>(), 0_u64..10, 0_u64..5), 0..50),
        functions in any::<u32>(),
        server_function in any::<u32>(),
        count in any::<u32>(),
    ) {
        let table = RouteTable {
            functions, server_function, count: count % 100, ..RouteTable::EMPTY
        };
        let mut bench = bench(&table);
        for (word, value) in words {
            bench.memory.store64(word * 8, value, Relaxed);
        }
        for (index, sequence, function, operation) in orders {
            let word = u64::from(sequence) << 32 | function << 8 | operation;
            bench.memory.store64(0x40 + 0x40 * index + 8, word, Relaxed);
        }
        let any = bench.serve();
        prop_assert_eq!(any, (0..MAXIMUM_APPLICATIONS).any(|index| {
            bench.answers.answer(index).is_some()
        }));
        prop_assert!(!bench.serve());
        bench.server = RouteServer::new(&table, bench.board, bench.answers);
        prop_assert!(!bench.serve(), "a successor has answered the same");
        let granted = |function: u8| function < 8 && functions >> function & 1 != 0;
        for record in bench.server.records() {
            prop_assert!(record.function.is_none_or(granted));
            if let Settled::To(to) = record.settled {
                prop_assert!(granted(to) || u32::from(to) == server_function);
            }
        }
        for call in &bench.device.calls {
            let is_allowed = match *call {
                Call::Enable(function) | Call::Scrub(function) => granted(function),
                Call::Route(_, function) => {
                    granted(function) || u32::from(function) == server_function
                }
            };
            prop_assert!(is_allowed, "{:?}", call);
        }
    }
}

#[test]
fn the_answers_of_all_applications_have_a_place_of_their_own() {
    let mut bench = bench(&table(64));
    let indices = vec![0, 31, 63];
    for index in &indices {
        bench.order(
            *index,
            5 + *index as u32,
            RouteOperation::Scrub { function: 5 },
        );
    }
    assert!(bench.serve());
    for index in 0..MAXIMUM_APPLICATIONS {
        let sequence = bench.answers.answer(index).map(|answer| answer.sequence);
        let expected = indices.contains(&index).then_some(5 + index as u32);
        assert_eq!(sequence, expected);
    }
}
