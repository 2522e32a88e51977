//! A simulated virtual function that executes descriptors, for host tests.
//!
//! Written from the datasheet, apart from the driver: it reads and writes memory
//! through its own table of windows, as behind an IOMMU; cuts packets into
//! segments and computes checksums from what the context descriptor says, as the
//! real device does (QEMU's looks into the packet instead); and complains about
//! whatever the real device would not do as the driver expects.

mod packet;
#[cfg(test)]
pub(crate) mod physical;
#[cfg(test)]
pub(crate) use packet::transport_sum;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::string::String;
use std::vec;
use std::vec::Vec;

use segue_device::{DmaMemory, Mmio};

use packet::Context;

/// Memory that the simulated function reaches at a device address.
#[derive(Clone)]
pub struct SimulatedMemory {
    bytes: Rc<RefCell<Vec<u8>>>,
    device_address: u64,
}

impl SimulatedMemory {
    /// `length` zero bytes at `device_address`.
    pub fn new(device_address: u64, length: usize) -> Self {
        Self {
            bytes: Rc::new(RefCell::new(vec![0; length])),
            device_address,
        }
    }
}

impl DmaMemory for SimulatedMemory {
    fn len(&self) -> usize {
        self.bytes.borrow().len()
    }
    fn device_address(&self) -> u64 {
        self.device_address
    }
    fn read64(&self, offset: usize) -> u64 {
        let mut word = [0; 8];
        self.copy_out(offset, &mut word);
        u64::from_le_bytes(word)
    }
    fn write64(&self, offset: usize, value: u64) {
        self.copy_in(offset, &value.to_le_bytes());
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.bytes.borrow()[offset..offset + to.len()]);
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
    fn write_barrier(&self) {}
}

/// A memory access that was blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Where it went.
    pub address: u64,
    /// Whether it was a write.
    pub write: bool,
}

/// Everything the function is.
struct State {
    registers: BTreeMap<usize, u32>,
    windows: Vec<(Rc<dyn DmaMemory>, bool)>,
    contexts: [Option<Context>; 2],
    packet: Vec<u8>,
    first: Option<(u32, u32)>,
    sent: VecDeque<Vec<u8>>,
    blocked: Vec<Blocked>,
    complaints: Vec<String>,
    interrupts: VecDeque<u32>,
    /// Frames that found no descriptor.
    missed: u64,
    /// Transmit descriptors the device may still work off.
    budget: usize,
    present: bool,
}

/// The simulated function. Clones are the same function.
#[derive(Clone)]
pub struct SimulatedFunction {
    state: Rc<RefCell<State>>,
}

const CONTROL: usize = 0x0000;
const STATUS: usize = 0x0008;
const CAUSE: usize = 0x1580;
const MASK_SET: usize = 0x1524;
const MASK_CLEAR: usize = 0x1528;
const AUTO_CLEAR: usize = 0x152c;
const VECTORS: usize = 0x1700;
const RECEIVE: usize = 0x2800;
const TRANSMIT: usize = 0x3800;
const BASE_LOW: usize = 0x00;
const BASE_HIGH: usize = 0x04;
const LENGTH: usize = 0x08;
const FORMAT: usize = 0x0c;
const HEAD: usize = 0x10;
const TAIL: usize = 0x18;
const QUEUE: usize = 0x28;
const ENABLE: u32 = 1 << 25;

impl Default for SimulatedFunction {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedFunction {
    /// A function with the link up that reaches no memory yet.
    pub fn new() -> Self {
        let state = State {
            registers: BTreeMap::new(),
            windows: Vec::new(),
            contexts: [None, None],
            packet: Vec::new(),
            first: None,
            sent: VecDeque::new(),
            blocked: Vec::new(),
            complaints: Vec::new(),
            interrupts: VecDeque::new(),
            missed: 0,
            budget: usize::MAX,
            present: true,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Lets the function reach `memory` at its device address.
    pub fn map<D: DmaMemory + Clone + 'static>(&self, memory: &D, writable: bool) {
        self.state
            .borrow_mut()
            .windows
            .push((Rc::new(memory.clone()), writable));
    }

    /// Takes all memory away from the function.
    pub fn unmap_all(&self) {
        self.state.borrow_mut().windows.clear();
    }

    /// Takes the function out of the machine.
    pub fn remove(&self) {
        self.state.borrow_mut().present = false;
    }

    /// The next frame that left the function.
    pub fn take_sent(&self) -> Option<Vec<u8>> {
        self.state.borrow_mut().sent.pop_front()
    }

    /// Lets a frame arrive. Returns whether a descriptor was there for it.
    pub fn deliver(&self, frame: &[u8]) -> bool {
        self.state.borrow_mut().deliver(frame)
    }

    /// Lets the function work off `count` transmit descriptors and then pause; the
    /// next call, or `usize::MAX`, lets it go on.
    pub fn set_transmit_budget(&self, count: usize) {
        let mut state = self.state.borrow_mut();
        state.budget = count;
        state.transmit();
    }

    /// Lets the function work off descriptors, or not, from the next write of the tail on.
    pub fn pause(&self, paused: bool) {
        self.state.borrow_mut().budget = if paused { 0 } else { usize::MAX };
    }

    /// MSI-X entries that fired since the last call.
    pub fn take_interrupts(&self) -> Vec<u32> {
        self.state.borrow_mut().interrupts.drain(..).collect()
    }

    /// Memory accesses that were blocked since the last call.
    pub fn take_blocked(&self) -> Vec<Blocked> {
        core::mem::take(&mut self.state.borrow_mut().blocked)
    }

    /// What the driver did that the device does not support.
    pub fn complaints(&self) -> Vec<String> {
        self.state.borrow().complaints.clone()
    }

    /// Frames that found no receive descriptor.
    pub fn missed(&self) -> u64 {
        self.state.borrow().missed
    }

    /// Overwrites words in memory as a hostile device would.
    pub fn scribble(&self, address: u64, bytes: &[u8]) {
        self.state.borrow_mut().write_memory(address, bytes);
    }

    /// Reads a register without side effects.
    pub fn register(&self, offset: usize) -> u32 {
        self.state.borrow().register(offset)
    }
}

impl State {
    fn register(&self, offset: usize) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn base(&self, queue: usize) -> u64 {
        u64::from(self.register(queue + BASE_HIGH)) << 32
            | u64::from(self.register(queue + BASE_LOW))
    }

    fn complain(&mut self, text: &str) {
        self.complaints.push(text.into());
    }

    fn read_memory(&mut self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (memory, _) in &self.windows {
            if let Some(offset) = inside(&**memory, address, length) {
                memory.copy_out(offset, &mut bytes);
                return bytes;
            }
        }
        self.blocked.push(Blocked {
            address,
            write: false,
        });
        bytes
    }

    fn write_memory(&mut self, address: u64, bytes: &[u8]) {
        for (memory, writable) in &self.windows {
            if let Some(offset) = inside(&**memory, address, bytes.len()).filter(|_| *writable) {
                memory.copy_in(offset, bytes);
                return;
            }
        }
        self.blocked.push(Blocked {
            address,
            write: true,
        });
    }

    fn next_slot(&self, queue: usize) -> u32 {
        let entries = self.register(queue + LENGTH) / 16;
        (self.register(queue + HEAD) + 1) % entries.max(1)
    }

    fn transmit(&mut self) {
        while self.budget > 0
            && self.register(TRANSMIT + QUEUE) & ENABLE != 0
            && self.register(TRANSMIT + HEAD) != self.register(TRANSMIT + TAIL)
        {
            if self.budget != usize::MAX {
                self.budget -= 1;
            }
            let address = self.base(TRANSMIT) + 16 * u64::from(self.register(TRANSMIT + HEAD));
            let descriptor = self.read_memory(address, 16);
            let word = |at: usize| u32::from_le_bytes(descriptor[at..at + 4].try_into().unwrap());
            self.execute([word(0), word(4), word(8), word(12)]);
            if word(8) & 1 << 27 != 0 {
                self.write_memory(address + 12, &(word(12) | 1).to_le_bytes());
                self.interrupt(self.register(VECTORS) >> 8);
            }
            let next = self.next_slot(TRANSMIT);
            self.registers.insert(TRANSMIT + HEAD, next);
        }
    }

    fn execute(&mut self, words: [u32; 4]) {
        if words[2] & 1 << 29 == 0 {
            self.complain("a legacy descriptor");
            return;
        }
        match words[2] >> 20 & 15 {
            2 => {
                if !self.packet.is_empty() {
                    self.complain("a context descriptor within a packet");
                }
                let context = Context::from_words(words);
                self.contexts[(words[3] >> 4 & 1) as usize] = Some(context);
            }
            3 => self.add_piece(words),
            _ => self.complain("a descriptor of unknown type"),
        }
    }

    fn add_piece(&mut self, words: [u32; 4]) {
        let first = *self.first.get_or_insert((words[2], words[3]));
        let address = u64::from(words[1]) << 32 | u64::from(words[0]);
        let length = (words[2] & 0xffff) as usize;
        if length == 0 {
            self.complain("an empty data descriptor");
        }
        let bytes = self.read_memory(address, length);
        self.packet.extend(bytes);
        if words[2] & 1 << 24 == 0 {
            return;
        }
        let packet = core::mem::take(&mut self.packet);
        self.first = None;
        if words[2] & 1 << 25 == 0 {
            self.complain("a frame without check sequence");
        }
        let context = self.contexts[(first.1 >> 4 & 1) as usize].clone();
        match packet::process(packet, first, context) {
            Ok(frames) => self.sent.extend(frames),
            Err(complaint) => self.complain(&complaint),
        }
    }

    fn deliver(&mut self, frame: &[u8]) -> bool {
        let format = self.register(RECEIVE + FORMAT);
        if self.register(RECEIVE + QUEUE) & ENABLE == 0 {
            self.missed += 1;
            return false;
        }
        if format >> 25 & 7 != 1 {
            self.complain("a receive format other than one advanced buffer");
        }
        let size = 1024 * (format & 0x7f) as usize;
        let entries = self.register(RECEIVE + LENGTH) / 16;
        let (head, tail) = (self.register(RECEIVE + HEAD), self.register(RECEIVE + TAIL));
        let free = (tail + entries - head) % entries.max(1);
        let pieces = frame.chunks(size.max(1)).collect::<Vec<_>>();
        if (free as usize) < pieces.len() {
            self.missed += 1;
            return false;
        }
        for (index, piece) in pieces.iter().enumerate() {
            let address = self.base(RECEIVE) + 16 * u64::from(self.register(RECEIVE + HEAD));
            let descriptor = self.read_memory(address, 16);
            let buffer = u64::from_le_bytes(descriptor[..8].try_into().unwrap());
            self.write_memory(buffer, piece);
            let last = index + 1 == pieces.len();
            let status = 1 | if last {
                2 | packet::receive_status(frame)
            } else {
                0
            };
            let mut written = [0; 16];
            written[8..12].copy_from_slice(&status.to_le_bytes());
            written[12..14].copy_from_slice(&(piece.len() as u16).to_le_bytes());
            self.write_memory(address, &written);
            let next = self.next_slot(RECEIVE);
            self.registers.insert(RECEIVE + HEAD, next);
        }
        self.interrupt(self.register(VECTORS));
        true
    }

    /// A cause mapped by `entry` (bit 7: valid) occurs.
    fn interrupt(&mut self, entry: u32) {
        if entry & 0x80 != 0 {
            let bit = 1 << (entry & 3);
            let pending = self.register(CAUSE);
            // An edge: what is pending already raises nothing.
            if pending & bit == 0 {
                self.registers.insert(CAUSE, pending | bit);
                self.send_interrupts();
            }
        }
    }

    fn send_interrupts(&mut self) {
        for entry in 0..3 {
            let bit = 1 << entry;
            if self.register(CAUSE) & self.register(MASK_SET) & bit != 0 {
                self.interrupts.push_back(entry);
                if self.register(AUTO_CLEAR) & bit != 0 {
                    let pending = self.register(CAUSE);
                    self.registers.insert(CAUSE, pending & !bit);
                }
            }
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match offset {
            CONTROL if value & 1 << 26 != 0 => {
                // A reset stops the queues and leaves everything else.
                for queue in [RECEIVE, TRANSMIT] {
                    let control = self.register(queue + QUEUE);
                    self.registers.insert(queue + QUEUE, control & !ENABLE);
                }
            }
            MASK_SET => {
                let mask = self.register(MASK_SET);
                self.registers.insert(MASK_SET, mask | value);
                self.send_interrupts();
            }
            MASK_CLEAR => {
                let mask = self.register(MASK_SET);
                self.registers.insert(MASK_SET, mask & !value);
            }
            CAUSE => {
                let pending = self.register(CAUSE);
                self.registers.insert(CAUSE, pending & !value);
            }
            AUTO_CLEAR => {
                let before = self.register(AUTO_CLEAR);
                self.registers.insert(AUTO_CLEAR, before | value);
            }
            _ => {
                let (queue, register) = (offset & !0xff, offset & 0xff);
                if (queue == RECEIVE || queue == TRANSMIT)
                    && register < QUEUE
                    && register != TAIL
                    && self.register(queue + QUEUE) & ENABLE != 0
                {
                    self.complain("a queue's register written while it runs");
                }
                self.registers.insert(offset, value);
                if offset == TRANSMIT + TAIL {
                    self.transmit();
                }
            }
        }
    }
}

fn inside(memory: &dyn DmaMemory, address: u64, length: usize) -> Option<usize> {
    let offset = usize::try_from(address.checked_sub(memory.device_address())?).ok()?;
    (offset.checked_add(length)? <= memory.len()).then_some(offset)
}

impl Mmio for SimulatedFunction {
    fn read32(&self, offset: usize) -> u32 {
        let state = self.state.borrow();
        if !state.present {
            return u32::MAX;
        }
        match offset {
            STATUS => 0x83,
            _ => state.register(offset),
        }
    }
    fn write32(&self, offset: usize, value: u32) {
        self.state.borrow_mut().write(offset, value);
    }
    fn write16(&self, _: usize, _: u16) {
        unreachable!("registers are 32 bits wide");
    }
    fn write8(&self, _: usize, _: u8) {
        unreachable!("registers are 32 bits wide");
    }
}
