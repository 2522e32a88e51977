//! A party to mode switches: orders are read off the board, answers are given.

use segue_director_core::board::{
    ANSWERS_SIZE, Answer, Answers, BOARD_SIZE, Board, Refused, StageOperation,
};
use segue_director_core::config::DirectConfig;
use segue_frame_channel::config::ClientConfig;
use segue_libos_memory::{FunctionMemory, MapError};
use sel4_microkit::{Channel, Clock, region_at};

use crate::function::Function;

/// What the image builder has given, and the orders so far.
pub struct Party {
    pub config: &'static DirectConfig,
    pub channel: &'static ClientConfig,
    pub clock: Clock,
    board: Board,
    answers: Answers,
    director: Channel,
    memory: FunctionMemory,
    /// Number of the last order.
    seen: u32,
}

impl Party {
    pub fn new(
        config: &'static DirectConfig,
        channel: &'static ClientConfig,
        clock: Clock,
    ) -> Self {
        let board = Board::new(region_at!(config.board, BOARD_SIZE as u64));
        let answers = Answers::new(region_at!(config.answers, ANSWERS_SIZE as u64));
        Self {
            config,
            channel,
            clock,
            board: board.expect("the board has its size"),
            answers: answers.expect("answers have their size"),
            director: Channel::new(config.channel as usize),
            memory: FunctionMemory::new(config),
            seen: 0,
        }
    }

    /// The order that stands on the board, if it is a new one.
    pub fn next(&mut self) -> Option<StageOperation> {
        let order = self.board.stage(self.config.index as usize)?;
        if order.sequence == self.seen {
            return None;
        }
        self.seen = order.sequence;
        Some(order.operation)
    }

    /// Whether it was told to stop what it does, which it may not have obeyed.
    pub fn is_to_stop(&self) -> bool {
        let order = self.board.stage(self.config.index as usize);
        order.is_some_and(|order| {
            matches!(
                order.operation,
                StageOperation::Drain | StageOperation::Server
            )
        })
    }

    /// Says that the last order was carried out.
    pub fn agree(&self) {
        self.answer(Ok(()));
    }

    /// Says that it was not.
    pub fn refuse(&self, refused: Refused) {
        self.answer(Err(refused));
    }

    fn answer(&self, result: Result<(), Refused>) {
        let sequence = self.seen;
        self.answers.give(0, Answer { sequence, result });
        self.director.notify();
    }

    /// Maps everything that was granted.
    pub fn map(&mut self) -> Result<(), MapError> {
        self.memory.begin();
        while !self.memory.advance(64)? {}
        Ok(())
    }

    /// The function, once it is mapped.
    pub fn function(&self) -> Function {
        Function {
            registers: self.memory.registers(),
            memory: region_at!(self.config.memory, self.config.memory_size),
            mac: self.channel.addresses.mac,
        }
    }

    /// Computes for so long.
    pub fn pass(&self, microseconds: u64) {
        let end = self.clock.now_microseconds() + microseconds;
        while self.clock.now_microseconds() < end {
            core::hint::spin_loop();
        }
    }
}
