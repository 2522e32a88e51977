//! Crash reports: what `init` saw of a protection domain when it stopped it.
//!
//! The region holds a header and [`SLOTS`] records, used in turn. A record's
//! sequence number is written last and cleared first, so a reader notices a
//! record that is written while it reads.

use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::fence;

use segue_shared_memory::Region;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use sel4_microkit_abi::{EXIT_SYSTEM_CALL, watch};

use crate::symbols::Symbols;
use crate::{Source, name};

/// Bytes before the first record.
pub const HEADER_SIZE: usize = 512;
/// Bytes of stack in a report.
pub const STACK_LENGTH: usize = 4096;
/// Bytes of a record.
pub const RECORD_SIZE: usize = size_of::<Report>();
/// Records that a region of [`REGION_SIZE`] bytes holds.
pub const SLOTS: usize = (REGION_SIZE - HEADER_SIZE) / RECORD_SIZE;
/// Bytes of the region.
pub const REGION_SIZE: usize = 0x10000;
/// Most events in what [`Report::write`] writes.
pub const EVENTS_SHOWN: usize = 12;
/// Most callers in a backtrace.
pub const BACKTRACE_LENGTH: usize = 32;

const HEADER_COUNT: usize = 0;

/// Registers in a report, in the order of [`REGISTERS`].
pub type Registers = [u64; REGISTERS.len()];

/// Names of the registers, in seL4's order.
pub const REGISTERS: [&str; 18] = [
    "rip", "rsp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10",
    "r11", "r12", "r13", "r14", "r15",
];
const RIP: usize = 0;
const RSP: usize = 1;
const RDX: usize = 6;
const RBP: usize = 9;

/// Kinds of fault: seL4's labels of fault messages (5.0.0, x86_64).
pub mod label {
    /// A missing capability.
    pub const CAPABILITY: u32 = 1;
    /// A system call that the kernel does not know.
    pub const UNKNOWN_SYSTEM_CALL: u32 = 2;
    /// A processor exception.
    pub const EXCEPTION: u32 = 3;
    /// An access to memory that is not mapped so.
    pub const MEMORY: u32 = 5;
    /// No fault, but no progress either while there was work: the first word is for
    /// how many milliseconds.
    pub const NO_PROGRESS: u32 = 0x100;
}

/// Something that a protection domain has noted of its work. It wrote that itself: any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The time stamp counter.
    pub time: u64,
    /// Up to eight characters, NUL-padded.
    pub name: [u8; 8],
    /// What number goes with it.
    pub argument: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.name.into_iter().take_while(|byte| *byte != 0) {
            let shown = if byte.is_ascii_graphic() { byte } else { b'?' };
            write!(f, "{}", char::from(shown))?;
        }
        write!(f, " {:#x}", self.argument)
    }
}

/// A crash report.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Report {
    /// Counts reports from 1; 0 while the record is written.
    pub sequence: u64,
    /// When, in microseconds of the time stamp counter.
    pub time: u64,
    /// Name of the protection domain, NUL-padded.
    pub name: [u8; 64],
    /// Index of the protection domain.
    pub domain: u32,
    /// Kind of fault: see [`label`].
    pub label: u32,
    /// First words of the kernel's fault message.
    pub words: [u64; 5],
    /// Registers.
    pub registers: Registers,
    /// Bytes of code at the instruction pointer.
    pub code: [u8; 16],
    /// How many of them are known.
    pub code_length: u32,
    /// How many bytes of `stack` are known.
    pub stack_length: u32,
    /// Address of the first byte in `stack`.
    pub stack_address: u64,
    /// How often it had been restarted before.
    pub restarts: u32,
    /// Rate of the time stamp counter, in MHz.
    pub tsc_megahertz: u32,
    /// Which image it ran; 0 for the first one, which the symbols are those of.
    pub image: u32,
    /// Zero.
    pub reserved: [u8; 196],
    /// What it has shown of its work (`sel4_microkit_abi::watch`).
    pub watch: [u8; watch::LENGTH],
    /// The stack from the stack pointer upward.
    pub stack: [u8; STACK_LENGTH],
}

impl Report {
    /// A report without content.
    pub fn empty() -> Self {
        Self::new_zeroed()
    }

    /// Name of the protection domain.
    pub fn name(&self) -> &str {
        name(&self.name)
    }

    /// Why it was stopped, as the end of a sentence that starts with its name.
    pub fn reason(&self) -> Reason<'_> {
        Reason(self)
    }

    /// Whether it has ended by itself.
    pub fn is_exit(&self) -> bool {
        self.label == label::UNKNOWN_SYSTEM_CALL && self.registers[RDX] as i64 == EXIT_SYSTEM_CALL
    }

    /// When it had initialised itself, by the time stamp counter; 0 if it had not.
    pub fn ready(&self) -> u64 {
        self.watch_word(watch::READY - watch::START).unwrap_or(0)
    }

    fn watch_word(&self, offset: usize) -> Option<u64> {
        let bytes = self.watch.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The last events that it has traced, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let word = |offset: usize| self.watch_word(offset);
        let room = watch::EVENT_ROOM as u64;
        let count = word(watch::EVENT_COUNT - watch::START).unwrap_or(0);
        (count.saturating_sub(room)..count).filter_map(move |number| {
            let index = (number % room) as usize;
            let place = watch::EVENTS - watch::START + index * watch::EVENT_SIZE;
            Some(Event {
                time: word(place)?,
                name: word(place + 8)?.to_le_bytes(),
                argument: word(place + 16)?,
            })
        })
    }

    /// The instruction pointer and the return addresses of its callers, as far
    /// as frame pointers lead through the copied stack.
    pub fn backtrace(&self) -> impl Iterator<Item = u64> {
        let mut frame = self.registers[RBP];
        let mut lowest = self.registers[RSP];
        let callers = core::iter::from_fn(move || {
            // Frames lie ever higher on the stack; anything else is no frame.
            if frame < lowest {
                return None;
            }
            let next = self.stack_word(frame)?;
            let caller = self.stack_word(frame.checked_add(8)?)?;
            lowest = frame.checked_add(16)?;
            frame = next;
            (caller != 0).then_some(caller)
        });
        core::iter::once(self.registers[RIP])
            .chain(callers)
            .take(BACKTRACE_LENGTH)
    }

    fn stack_word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.stack_address)?).ok()?;
        let known = &self.stack[..(self.stack_length as usize).min(STACK_LENGTH)];
        let bytes = known.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Writes the report for people: a sentence, the registers, a backtrace
    /// with function names as far as `symbols` has them.
    pub fn write<S: Source>(
        &self,
        symbols: Option<&Symbols<S>>,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        writeln!(out, "{} was stopped: {}.", self.name(), self.reason())?;
        // Then there is nothing to look for.
        if self.is_exit() {
            return Ok(());
        }
        for (index, (register, value)) in REGISTERS.iter().zip(self.registers).enumerate() {
            let last = index + 1 == REGISTERS.len();
            let separator = if last || index % 4 == 3 { "\n" } else { "" };
            write!(out, "  {register:>6} {value:#018x}{separator}")?;
        }
        let code_length = (self.code_length as usize).min(self.code.len());
        if code_length > 0 {
            write!(out, "  code at rip:")?;
            for byte in &self.code[..code_length] {
                write!(out, " {byte:02x}")?;
            }
            writeln!(out)?;
        }
        let symbols = symbols.filter(|_| self.image == 0);
        writeln!(out, "  backtrace:")?;
        for (index, address) in self.backtrace().enumerate() {
            // A return address may lie behind the end of a function whose last
            // instruction is the call.
            let place = if index == 0 {
                address
            } else {
                address.wrapping_sub(1)
            };
            match symbols.and_then(|symbols| symbols.find(self.name(), place)) {
                Some(mut found) => {
                    found.offset = found.offset.wrapping_add(address.wrapping_sub(place));
                    writeln!(out, "    {address:#x} {found}")?;
                }
                None => writeln!(out, "    {address:#x}")?,
            }
        }
        self.write_events(out)
    }

    fn write_events(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let count = self.events().count();
        if count == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "  last events, with microseconds before it was stopped:"
        )?;
        let megahertz = u64::from(self.tsc_megahertz.max(1));
        for event in self.events().skip(count.saturating_sub(EVENTS_SHOWN)) {
            let before = self.time.saturating_sub(event.time / megahertz);
            writeln!(out, "    {before:>8} {event}")?;
        }
        Ok(())
    }
}

/// Why a protection domain was stopped; shows as the end of a sentence.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a>(&'a Report);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = &self.0.words;
        match self.0.label {
            label::MEMORY => {
                let (address, code) = (words[1], words[3]);
                // Bits of the page fault's error code: SDM vol. 3, 4.7.
                let access = match code {
                    code if code & 16 != 0 => "jumped to",
                    code if code & 2 != 0 => "wrote to",
                    _ if address == self.0.registers[RIP] => "jumped to",
                    _ => "read",
                };
                let why = match code & 1 {
                    0 => "which it was not given",
                    _ => "which it may only read",
                };
                write!(f, "it {access} memory at {address:#x}, {why}")
            }
            label::EXCEPTION => {
                let (vector, code) = (words[3], words[4]);
                match vector {
                    0 => write!(f, "it divided by zero"),
                    3 => write!(f, "it hit a breakpoint"),
                    6 => write!(f, "it gave up (a panic) or ran an invalid instruction"),
                    13 => write!(
                        f,
                        "it did what user code may not (general protection, code {code:#x})"
                    ),
                    _ => write!(f, "it caused processor exception {vector}, code {code:#x}"),
                }
            }
            label::UNKNOWN_SYSTEM_CALL if self.0.is_exit() => write!(f, "it has ended by itself"),
            // The kernel takes the number from rdx.
            label::UNKNOWN_SYSTEM_CALL => write!(
                f,
                "it made system call {}, which this kernel does not have",
                self.0.registers[RDX] as i64
            ),
            label::CAPABILITY => {
                write!(
                    f,
                    "it used a capability that it does not have, at address {:#x}",
                    words[1]
                )
            }
            label::NO_PROGRESS => write!(f, "it made no progress for {} ms", words[0]),
            label => write!(f, "it sent init a message that is no fault (label {label})"),
        }
    }
}

/// The region of crash reports.
#[derive(Clone, Copy, Debug)]
pub struct CrashReports {
    region: Region,
}

impl CrashReports {
    /// Takes a region of at least [`REGION_SIZE`] bytes; `None` if it is
    /// smaller.
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= REGION_SIZE).then_some(Self { region })
    }

    fn slot(&self, sequence: u64) -> Option<Region> {
        let index = (sequence.checked_sub(1)? % SLOTS as u64) as usize;
        self.region
            .part(HEADER_SIZE + index * RECORD_SIZE, RECORD_SIZE)
    }

    /// How many reports there have been since the start.
    pub fn count(&self) -> u64 {
        self.region.load64(HEADER_COUNT, Acquire)
    }

    /// Adds a report; sets its sequence number.
    pub fn add(&self, report: &mut Report) {
        report.sequence = self.region.load64(HEADER_COUNT, Relaxed).wrapping_add(1);
        let Some(slot) = self.slot(report.sequence) else {
            return;
        };
        slot.store64(0, 0, Relaxed);
        fence(Release);
        slot.write(8, &report.as_bytes()[8..]);
        slot.store64(0, report.sequence, Release);
        self.region.store64(HEADER_COUNT, report.sequence, Release);
    }

    /// Copies the report numbered `sequence` out; says whether it is there. The
    /// last [`SLOTS`] reports are.
    pub fn read(&self, sequence: u64, report: &mut Report) -> bool {
        let Some(slot) = self.slot(sequence) else {
            return false;
        };
        if slot.load64(0, Acquire) != sequence {
            return false;
        }
        slot.read(0, report.as_mut_bytes());
        fence(Acquire);
        report.sequence = sequence;
        slot.load64(0, Relaxed) == sequence
    }
}

const _: () = assert!(RECORD_SIZE == 4608 + watch::LENGTH);
