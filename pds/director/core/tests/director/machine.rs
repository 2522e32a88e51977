//! A machine around the director, in ordinary memory.

use segue_director_core::board::{
    ANSWERS_SIZE, Answer, Answers, BOARD_SIZE, Board, Mode, Order, Wanted, Wish,
};
use segue_director_core::config::{DirectorEntry, DirectorTable};
use segue_director_core::director::{AnswerRegions, Director, Surroundings, Work};
use segue_director_core::machine::Life;
use segue_director_core::policy::Thresholds;
use segue_director_core::report::Report;
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;

pub const N: usize = 3;
pub const NO_POLICY: Thresholds = Thresholds {
    direct_frames: 0,
    server_frames: 0,
    stay: 0,
};

pub struct Outside {
    pub lives: [Life; N],
    pub macs: [Option<[u8; 6]>; N],
    pub server_is_running: bool,
    pub work: [Work; N],
    pub said: Vec<(usize, Report)>,
}

impl Surroundings for Outside {
    fn life(&self, index: usize) -> Life {
        self.lives[index]
    }
    fn mac(&self, index: usize) -> Option<[u8; 6]> {
        self.macs[index]
    }
    fn server_is_running(&self) -> bool {
        self.server_is_running
    }
    fn work_at_server(&self, index: usize) -> Work {
        self.work[index]
    }
    fn notify_pcie(&mut self) {}
    fn notify_physical_function(&mut self) {}
    fn notify_application(&mut self, _: usize) {}
    fn say(&mut self, index: usize, report: Report) {
        self.said.push((index, report));
    }
}

/// A machine with a director in it.
pub struct Machine {
    table: Box<DirectorTable>,
    board: Region,
    pub answers: [Region; N + 2],
    pub outside: Outside,
    pub director: Director<N>,
    pub now: u64,
    pub wishes: u32,
    /// Of the next director's policy.
    pub thresholds: Thresholds,
}

pub fn table() -> Box<DirectorTable> {
    let mut table = Box::new(DirectorTable::EMPTY);
    table.count = N as u32;
    table.functions = 0b111;
    table.server_function = 0;
    for (index, entry) in table.entries.iter_mut().enumerate().take(N) {
        *entry = DirectorEntry {
            functions: 0b110,
            // Not in the order of the board.
            owner: 10 - index as u16,
            ..DirectorEntry::EMPTY
        };
    }
    table
}

fn regions(answers: &[Region; N + 2]) -> AnswerRegions<N> {
    AnswerRegions {
        pcie: Answers::new(answers[0]).unwrap(),
        physical_function: Answers::new(answers[1]).unwrap(),
        applications: core::array::from_fn(|index| Answers::new(answers[2 + index])),
    }
}

impl Machine {
    pub fn new(table: Box<DirectorTable>, thresholds: Thresholds) -> Self {
        let board = leaked_region(BOARD_SIZE);
        let answers = core::array::from_fn(|_| leaked_region(ANSWERS_SIZE));
        let alive = Life {
            restarts: 0,
            is_running: true,
        };
        let mut outside = Outside {
            lives: [alive; N],
            macs: core::array::from_fn(|index| Some([2, 0, 0, 0, 0, index as u8])),
            server_is_running: true,
            work: [Work::default(); N],
            said: Vec::new(),
        };
        let now = 1_000_000;
        let director = Director::new(
            &table,
            Board::new(board).unwrap(),
            regions(&answers),
            thresholds,
            now,
            &mut outside,
        );
        Self {
            table,
            board,
            answers,
            outside,
            director,
            now,
            wishes: 0,
            thresholds,
        }
    }

    pub fn restart_director(&mut self) {
        self.director = Director::new(
            &self.table,
            self.board(),
            regions(&self.answers),
            self.thresholds,
            self.now,
            &mut self.outside,
        );
    }

    pub fn board(&self) -> Board {
        Board::new(self.board).unwrap()
    }

    pub fn mode(&self, index: usize) -> Mode {
        self.board().shown(index).mode
    }

    pub fn wish(&mut self, index: u8, wanted: Wanted) {
        self.wishes += 1;
        let wish = Wish {
            sequence: self.wishes,
            index,
            wanted,
        };
        self.director.wish(wish, &mut self.outside);
    }

    /// The wish with this number is looked at again.
    pub fn repeat(&mut self, index: u8, wanted: Wanted, sequence: u32) {
        let wish = Wish {
            sequence,
            index,
            wanted,
        };
        self.director.wish(wish, &mut self.outside);
    }

    pub fn poll(&mut self) {
        self.now += 100;
        self.director.poll(self.now, &mut self.outside);
    }

    /// Time passes until the next deadline.
    pub fn wait(&mut self) {
        self.now = self.director.next_deadline().expect("a deadline");
        self.poll();
    }

    /// These do what they were told, until nobody has anything to do; the operations in
    /// the order in which they were carried out.
    pub fn settle(&mut self, applications: &[usize]) -> Vec<String> {
        let mut done = Vec::new();
        let board = self.board();
        let mut idle = 0;
        while idle < 2 {
            idle += 1;
            self.poll();
            for index in 0..N {
                let words = [
                    board.grant(index).map(|order| say(0, index, order)),
                    board.route(index).map(|order| say(1, index, order)),
                    board
                        .stage(index)
                        .filter(|_| applications.contains(&index))
                        .map(|order| say(2 + index, 0, order)),
                ];
                for (who, place, sequence, text) in words.into_iter().flatten() {
                    let answers = Answers::new(self.answers[who]).unwrap();
                    if answers.answer(place).is_none_or(|a| a.sequence != sequence) {
                        answers.give(
                            place,
                            Answer {
                                sequence,
                                result: Ok(()),
                            },
                        );
                        done.push(format!("{index}: {text}"));
                        idle = 0;
                    }
                }
            }
        }
        done
    }
}

fn say<O: core::fmt::Debug>(
    who: usize,
    place: usize,
    order: Order<O>,
) -> (usize, usize, u32, String) {
    (who, place, order.sequence, format!("{:?}", order.operation))
}
