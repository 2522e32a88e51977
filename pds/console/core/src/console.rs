//! The console as a whole.

use crate::commands::{self, Asked};
use crate::editor::{Editor, Key};
use crate::faults::Faults;
use crate::memory::{Mark, Memory};
use crate::milliseconds::Milliseconds;
use crate::output::Output;
use crate::source::{PORTION_OUTPUT, Source};
use crate::switching::Switching;
use crate::upgrading::Upgrading;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Write;
use segue_fault_points::{Point, reached};
use segue_log_ring::Reader;
use segue_shared_memory::Region;
use segue_status::crash::{CrashReports, Report, SLOTS};
use segue_status::symbols::Symbols;
use segue_status::system::{State, SystemStatus};

/// Room that a crash report gets at most: registers, code and a backtrace of 32
/// functions with long names.
const REPORT_OUTPUT: usize = 8192;

/// What others write and the console reads, and what it writes for the director.
#[derive(Clone, Copy, Debug, Default)]
pub struct Regions {
    /// States of the protection domains.
    pub status: Option<SystemStatus>,
    /// Crash reports.
    pub crash_reports: Option<CrashReports>,
    /// Names of functions.
    pub symbols: Option<Symbols<Region>>,
    /// Mode switches; `None` in a system without a director.
    pub switching: Option<Switching>,
    /// Other images; `None` if nobody has any.
    pub upgrading: Option<Upgrading>,
    /// Faults that can be ordered; `None` but in systems with `<fault_injection/>`.
    pub faults: Option<Faults>,
}

/// Log lines, crash reports and key strokes in; bytes for the serial line out.
#[derive(Debug)]
pub struct Console {
    /// What outlives it.
    memory: Memory,
    output: Output,
    sources: Vec<Source>,
    /// The source whose turn is next.
    turn: usize,
    regions: Regions,
    /// Crash reports that have been printed.
    reported: u64,
    /// Whether a crash report waits for room.
    report_waits: bool,
    /// What was last said of each protection domain.
    told: Vec<Told>,
    report: Box<Report>,
    editor: Editor,
    /// Whether there is a prompt. It appears with the first key stroke, so that
    /// output that nobody types at is nothing but lines.
    prompt: bool,
    /// Who is to hear of what the operator wants.
    asked: Asked,
    /// The last order to `init` whose answer was said.
    answered: u64,
}

impl Console {
    /// A console for the rings of the protection domains with these names. It goes on where a
    /// predecessor has stopped that had the same memory.
    pub fn new<'a>(
        memory: Memory,
        rings: impl IntoIterator<Item = (&'a str, Region)>,
        regions: Regions,
    ) -> Self {
        let (output, is_sane) = Output::new(memory);
        let sources = rings.into_iter().enumerate();
        let sources = sources.map(|(index, (name, region))| {
            let position = memory.get(Mark::Position(index));
            Source::new(name, Reader::at(region, position))
        });
        let mut console = Self {
            memory,
            output,
            sources: sources.collect(),
            turn: 0,
            regions,
            reported: memory.get(Mark::Reported),
            report_waits: false,
            told: Vec::new(),
            report: Box::new(Report::empty()),
            editor: Editor::new(),
            prompt: memory.has_prompt(),
            asked: Asked::default(),
            answered: memory.get(Mark::Answered),
        };
        if !is_sane {
            console.say(format_args!(
                "what waited to be printed is lost: a predecessor has left nonsense"
            ));
        }
        console.show_prompt();
        console.output.commit(None);
        console
    }

    /// Who has something to read since this was called last, and is to be notified.
    pub fn take_asked(&mut self) -> Asked {
        core::mem::take(&mut self.asked)
    }

    /// The bytes that wait for the serial line.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Prints a line of the console's own.
    pub fn say(&mut self, line: core::fmt::Arguments<'_>) {
        self.output.begin_line();
        // Writing to the queue does not fail.
        let _ = writeln!(self.output, "console: {line}");
        self.show_prompt();
        self.output.commit(None);
    }

    /// Takes what the protection domains wrote and turns it into output, as far
    /// as there is room. To be called when something was written, and again
    /// when the line has taken bytes.
    pub fn poll(&mut self) {
        // Logs first: a panic's message comes before the report of its fault. But a
        // report that waits for room gets the next there is, or a program that
        // floods its log would hide the others' reports.
        if !self.report_waits {
            self.print_logs();
        }
        self.print_reports();
        // Why it ended comes before what became of it.
        if !self.report_waits {
            self.print_lives();
            self.print_answer();
        }
        self.show_prompt();
        self.output.commit(None);
    }

    /// Says what became of an order to `init`.
    fn print_answer(&mut self) {
        let Some((upgrading, status)) = self.regions.upgrading.zip(self.regions.status) else {
            return;
        };
        let answered = upgrading.answered(&status);
        if answered != self.answered && self.output.room() >= PORTION_OUTPUT {
            self.answered = answered;
            self.output.begin_line();
            // Writing to the queue does not fail.
            let _ = upgrading.write_answer(&status, &mut self.output);
            self.output.commit(Some((Mark::Answered, answered)));
        }
    }

    /// Says who was restarted, and who never will be again.
    fn print_lives(&mut self) {
        let Some(status) = self.regions.status else {
            return;
        };
        for (index, domain) in status.domains().enumerate() {
            if self.told.len() <= index {
                self.told
                    .push(Told::from_word(self.memory.get(Mark::Told(index))));
            }
            let told = self.told[index];
            let now = Told {
                restarts: domain.restarts & MOST_RESTARTS,
                is_given_up: domain.state == State::GivenUp,
                faults: domain.faults,
            };
            if (now.restarts, now.is_given_up) == (told.restarts, told.is_given_up) {
                continue;
            }
            if self.output.room() < PORTION_OUTPUT {
                return;
            }
            self.told[index] = now;
            reached(Point::ConsoleLifeNoted);
            self.output.begin_line();
            // Writing to the queue does not fail.
            // Fewer restarts than were told of cannot be: that word is damaged.
            if now.restarts > told.restarts && now.faults == told.faults {
                // It has ended by itself, or another image was ordered.
                let _ = writeln!(
                    self.output,
                    "{} was started again, {} after it was stopped (restarts so far: {}).",
                    domain.name(),
                    Milliseconds(domain.outage),
                    domain.restarts
                );
            } else if now.restarts > told.restarts {
                let _ = writeln!(
                    self.output,
                    "{} was restarted, {} after its fault (restarts so far: {}).",
                    domain.name(),
                    Milliseconds(domain.outage),
                    domain.restarts
                );
            }
            if now.is_given_up && !told.is_given_up {
                let _ = writeln!(
                    self.output,
                    "{} is given up: it has faulted too often in a row (faults so far: {}).",
                    domain.name(),
                    domain.faults
                );
            }
            reached(Point::ConsoleLifeWritten);
            self.output.commit(Some((Mark::Told(index), now.to_word())));
        }
    }

    /// Prints log lines in turn, a portion of each source, until none has more
    /// or there is no room.
    fn print_logs(&mut self) {
        let mut idle = 0;
        while idle < self.sources.len() && self.output.room() >= PORTION_OUTPUT {
            let source = &mut self.sources[self.turn];
            let before = source.told();
            let printed = source.print(&mut self.output);
            let told = source.told();
            reached(Point::ConsoleLogWritten);
            if told != before {
                self.output.commit(Some((Mark::Position(self.turn), told)));
            }
            idle = if printed { 0 } else { idle + 1 };
            self.turn = (self.turn + 1) % self.sources.len();
        }
    }

    fn print_reports(&mut self) {
        let Some(reports) = self.regions.crash_reports else {
            return;
        };
        let count = reports.count();
        // A count that goes back is not what init does; start over rather than
        // wait for ever.
        self.reported = self.reported.min(count);
        while self.reported < count && self.output.room() >= REPORT_OUTPUT {
            self.output.begin_line();
            let oldest = count.saturating_sub(SLOTS as u64);
            if self.reported < oldest {
                let lost = oldest - self.reported;
                let _ = writeln!(self.output, "({lost} crash reports are lost)");
                self.reported = oldest;
            }
            self.reported += 1;
            reached(Point::ConsoleReportCounted);
            if reports.read(self.reported, &mut self.report) {
                // Writing to the queue does not fail.
                let _ = self
                    .report
                    .write(self.regions.symbols.as_ref(), &mut self.output);
            }
            reached(Point::ConsoleReportWritten);
            self.output.commit(Some((Mark::Reported, self.reported)));
        }
        self.report_waits = self.reported < count;
    }

    /// Takes a key stroke.
    pub fn key(&mut self, byte: u8) {
        if !self.prompt {
            self.prompt = true;
            self.memory.set_prompt();
        }
        self.show_prompt();
        match self.editor.key(byte) {
            Key::Nothing => {}
            Key::Added(byte) => self.output.raw(&[byte]),
            Key::Removed(count) => (0..count).for_each(|_| self.output.raw(b"\x08 \x08")),
            Key::Abandoned => self.output.leave_prompt(b"^C\r\n"),
            Key::Enter => {
                self.output.leave_prompt(b"\r\n");
                let editor = self.editor;
                self.editor.clear();
                // Writing to the queue does not fail.
                let asked = commands::execute(editor.line(), &self.regions, &mut self.output)
                    .unwrap_or_default();
                self.asked.director |= asked.director;
                self.asked.init |= asked.init;
            }
        }
        self.show_prompt();
        self.output.commit(None);
    }

    fn show_prompt(&mut self) {
        if self.prompt {
            self.output.show_prompt(self.editor.line());
        }
    }
}

/// What was last said of a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// Its restarts, below [`MOST_RESTARTS`].
    restarts: u32,
    is_given_up: bool,
    /// Its faults.
    faults: u32,
}

/// So many restarts are told apart.
const MOST_RESTARTS: u32 = u32::MAX >> 1;

impl Told {
    /// As a word; 0 is of one that has never been stopped.
    fn to_word(self) -> u64 {
        u64::from(self.faults) << 32 | u64::from(self.restarts) << 1 | u64::from(self.is_given_up)
    }

    fn from_word(word: u64) -> Self {
        Self {
            restarts: (word as u32) >> 1,
            is_given_up: word & 1 != 0,
            faults: (word >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests;
