//! Direct mode: following the director's orders, between the turns of the stack.
//!
//! The application's code knows nothing of it: the stack calls [`Direct::turn`] at the
//! start of each round. What takes long (mapping the memory for a function, a page at a
//! time) is done in small parts, so that the application goes on serving.

use alloc::boxed::Box;
use segue_director_core::board::{ANSWERS_SIZE, BOARD_SIZE};
use segue_director_core::board::{Answer, Answers, Board, Load, Order, Refused, StageOperation};
use segue_director_core::config::{DirectConfig, NO_CHANNEL, WINDOW_SIZE};
use segue_fault_points::{Point, reached};
use segue_libos::{
    Control, Duration, Function, FunctionBackend, Instant, Stack, Vif, function_pool_size,
    function_rings_size,
};
use segue_libos_memory::FunctionMemory;
use segue_shared_memory::Region;
use sel4_microkit::{Channel, private_region_at, region_at};

/// Pages that are mapped in one turn: some 100 microseconds of work.
const PAGES_PER_TURN: u64 = 32;
/// How often the director is told what there has been to do.
const LOAD_INTERVAL: Duration = Duration::from_millis(20);

/// How far the order at hand has come.
enum Progress {
    /// There is nothing to do.
    Done,
    /// The memory for a function is being mapped.
    Mapping,
    /// What the function has received is taken in once more before it is let go.
    LettingGo,
}

/// An application's part in mode switches.
pub(crate) struct Direct {
    config: &'static DirectConfig,
    board: Board,
    answers: Answers,
    director: Channel,
    memory: FunctionMemory,
    /// A function that is mapped and was reset, until it is attached.
    prepared: Option<Box<dyn FunctionBackend>>,
    /// Sequence number of the last order that was looked at.
    seen: u32,
    progress: Progress,
    /// Whether the director was told that the function has failed.
    has_complained: bool,
    load_at: Instant,
}

impl Direct {
    /// The part that the image builder has described; `None` without a director.
    pub(crate) fn new(config: &'static DirectConfig) -> Option<Self> {
        if config.channel == NO_CHANNEL || config.memory_size == 0 {
            return None;
        }
        let board = Board::new(region_at!(config.board, BOARD_SIZE as u64))?;
        let answers = Answers::new(region_at!(config.answers, ANSWERS_SIZE as u64))?;
        let mut direct = Self {
            config,
            board,
            answers,
            director: Channel::new(config.channel as usize),
            memory: FunctionMemory::new(config),
            prepared: None,
            seen: 0,
            progress: Progress::Done,
            has_complained: false,
            load_at: Instant::ZERO,
        };
        direct.skip_predecessors_order();
        Some(direct)
    }

    /// An order on the board was for a predecessor, which had a function; this program has
    /// none yet. That it is to have none it can say at once.
    fn skip_predecessors_order(&mut self) {
        if let Some(order) = self.board.stage(self.config.index as usize) {
            self.seen = order.sequence;
            if order.operation == StageOperation::Server {
                self.answer(Ok(()));
            }
        }
    }

    fn answer(&self, result: Result<(), Refused>) {
        self.answers.give(
            0,
            Answer {
                sequence: self.seen,
                result,
            },
        );
        reached(Point::ApplicationStageAnswered);
        self.director.notify();
    }

    fn begin(&mut self, order: Order<StageOperation>, stack: &mut Stack) {
        self.seen = order.sequence;
        self.progress = Progress::Done;
        self.has_complained = false;
        match order.operation {
            StageOperation::Prepare { .. } => {
                // One from before is not there any more, if there was one.
                drop(stack.detach());
                self.prepared = None;
                self.memory.begin();
                self.progress = Progress::Mapping;
            }
            StageOperation::Attach => {
                let result = self.attach(stack);
                self.answer(result);
            }
            StageOperation::Direct => {
                let result = if stack.direct() {
                    Ok(())
                } else {
                    Err(Refused::Device)
                };
                self.answer(result);
            }
            StageOperation::Drain => {
                stack.drain();
                self.answer(Ok(()));
            }
            StageOperation::Server => self.progress = Progress::LettingGo,
        }
    }

    fn attach(&mut self, stack: &mut Stack) -> Result<(), Refused> {
        let mut function = self.prepared.take().ok_or(Refused::Invalid)?;
        if let Err(error) = function.start() {
            log::error!("the virtual function cannot be used: {error}");
            return Err(Refused::Device);
        }
        reached(Point::ApplicationFunctionStarted);
        let attached = stack.attach(function, self.config.inside());
        attached.map_err(|_| Refused::Invalid)
    }

    /// Maps some more; resets the function when all is mapped.
    fn map(&mut self) {
        reached(Point::ApplicationFunctionMapped);
        let result = match self.memory.advance(PAGES_PER_TURN) {
            Ok(false) => return,
            Ok(true) => {
                let function = function(self.memory.registers(), self.config);
                function.map(|function| self.prepared = Some(function))
            }
            Err(error) => {
                log::error!("direct mode cannot be prepared: {error}");
                Err(Refused::Kernel)
            }
        };
        self.progress = Progress::Done;
        self.answer(result);
    }

    fn tell_load(&mut self, stack: &Stack, now: Instant) {
        if now < self.load_at {
            return;
        }
        self.load_at = now + LOAD_INTERVAL;
        let counters = stack.statistics().vif;
        self.answers.set_load(&Load {
            frames: counters.frames_in + counters.frames_out,
            bytes: counters.bytes_in + counters.bytes_out,
            duplicates: counters.duplicates,
            repeated: counters.repeated,
        });
    }
}

impl Control for Direct {
    fn turn(&mut self, stack: &mut Stack, now: Instant) -> bool {
        self.tell_load(stack, now);
        if let Some(order) = self.board.stage(self.config.index as usize)
            && order.sequence != self.seen
        {
            self.begin(order, stack);
            return !matches!(self.progress, Progress::Done);
        }
        match self.progress {
            Progress::Done => {
                if stack.function_failed() && !self.has_complained {
                    self.has_complained = true;
                    log::error!("the virtual function does not send any more");
                    self.answer(Err(Refused::Device));
                }
            }
            Progress::Mapping => self.map(),
            Progress::LettingGo => {
                drop(stack.detach());
                self.prepared = None;
                self.progress = Progress::Done;
                self.answer(Ok(()));
            }
        }
        !matches!(self.progress, Progress::Done)
    }
}

/// The driver of a function whose registers and memory are mapped.
fn function(
    registers: Region,
    config: &'static DirectConfig,
) -> Result<Box<dyn FunctionBackend>, Refused> {
    let Some(pool) = function_pool_size(config.memory_size as usize) else {
        log::error!("the memory for direct mode is too small");
        return Err(Refused::Invalid);
    };
    let rings = region_at!(config.memory + pool as u64, function_rings_size() as u64);
    // The owner before, if there was one, is gone: there is at most one function, and
    // whoever makes another has dropped it.
    let pool = private_region_at!(config.memory, pool as u64);
    match Function::new(registers, rings, pool) {
        Ok(function) => Ok(Box::new(function)),
        Err(error) => {
            log::error!("the memory for direct mode does not suit the function: {error}");
            Err(Refused::Invalid)
        }
    }
}

/// The network interface of an application that is always direct.
///
/// # Panics
/// If the memory does not suit the function: the image is wrong.
pub(crate) fn always_direct(config: &'static DirectConfig) -> Vif {
    let registers = region_at!(config.window, WINDOW_SIZE as u64);
    match function(registers, config) {
        Ok(function) => Vif::always_direct(function),
        Err(_) => panic!("direct mode cannot be used: the image is wrong"),
    }
}
