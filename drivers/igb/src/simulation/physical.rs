//! A simulated physical function, with its virtual functions as their holders see them.
//!
//! It routes frames by the filters and checks source addresses as the datasheet says, and
//! keeps what holders write where QEMU's device keeps it, with that device's peculiarities.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use segue_device::Mmio;

const FUNCTIONS: usize = 8;
const RESET: u32 = 1 << 26;
const ENABLE: u32 = 1 << 25;

const CONTROL: usize = 0x0000;
const STATUS: usize = 0x0008;
const TRANSCEIVER: usize = 0x0020;
const CAUSE: usize = 0x00c0;
const MAILBOX: usize = 0x0c00;
const FUNCTION_MAILBOX: usize = 0x0c40;
const MAILBOX_CAUSE: usize = 0x0c80;
const FUNCTIONS_RESET: usize = 0x0c88;
const RECEIVE_ENABLE: usize = 0x0c8c;
const TRANSMIT_ENABLE: usize = 0x0c90;
const MASK: usize = 0x1524;
const AUTO_CLEAR: usize = 0x152c;
const EXTENDED_CAUSE: usize = 0x1580;
const THROTTLE: usize = 0x1680;
const VECTORS: usize = 0x1700;
const TRANSMIT_SWITCH: usize = 0x3500;
const MULTICAST: usize = 0x5200;
const FILTERS: usize = 0x5400;
const MORE_FILTERS: usize = 0x54e0;
const POOLS: usize = 0x5ad0;
const RECEIVE: usize = 0xc000;
const TRANSMIT: usize = 0xe000;
const PAGES: usize = 0x10000;
const OWN_VECTORS: usize = 0x11700;

#[derive(Default)]
struct State {
    registers: BTreeMap<usize, u32>,
    /// Offsets written through the physical function, in order.
    written: Vec<usize>,
    reset_hangs: bool,
    transceiver_silent: bool,
    /// Queues that do not stop.
    queues_stuck: bool,
    /// Control register of the transceiver.
    transceiver_control: u32,
    /// Writes of the driver that still reach the device: then the driver has died. It does not
    /// notice, but nothing that it does has an effect.
    writes_left: Option<usize>,
}

/// The simulated device. Clones are the same device.
#[derive(Clone, Default)]
pub(crate) struct SimulatedPhysical {
    state: Rc<RefCell<State>>,
}

/// The registers of one virtual function, for its holder.
#[derive(Clone)]
pub(crate) struct Holder {
    device: SimulatedPhysical,
    function: usize,
}

impl SimulatedPhysical {
    pub(crate) fn get(&self, offset: usize) -> u32 {
        self.state.borrow().get(offset)
    }

    pub(crate) fn set(&self, offset: usize, value: u32) {
        self.state.borrow_mut().set(offset, value);
    }

    pub(crate) fn let_reset_hang(&self) {
        self.state.borrow_mut().reset_hangs = true;
    }

    pub(crate) fn silence_transceiver(&self) {
        self.state.borrow_mut().transceiver_silent = true;
    }

    pub(crate) fn let_queues_hang(&self, hang: bool) {
        self.state.borrow_mut().queues_stuck = hang;
    }

    /// Lets the driver die after this many writes, or a new one live.
    pub(crate) fn let_driver_die_after(&self, writes: Option<usize>) {
        self.state.borrow_mut().writes_left = writes;
    }

    /// Puts a word into the transceiver's control register.
    pub(crate) fn set_transceiver_control(&self, value: u32) {
        self.state.borrow_mut().transceiver_control = value;
    }

    pub(crate) fn transceiver_control(&self) -> u32 {
        self.state.borrow().transceiver_control
    }

    /// A virtual function's user resets it.
    pub(crate) fn reset_function(&self, function: usize) {
        self.holder(function).write32(CONTROL, RESET);
    }

    pub(crate) fn holder(&self, function: usize) -> Holder {
        Holder {
            device: self.clone(),
            function,
        }
    }

    /// All registers that are not 0.
    pub(crate) fn registers(&self) -> BTreeMap<usize, u32> {
        self.state.borrow().registers.clone()
    }

    /// Offsets that the driver wrote since the last call.
    pub(crate) fn take_written(&self) -> Vec<usize> {
        core::mem::take(&mut self.state.borrow_mut().written)
    }

    /// Functions, one bit each, whose holder gets a frame to this address, if it started its
    /// first queue.
    pub(crate) fn receivers(&self, destination: [u8; 6]) -> u8 {
        let state = self.state.borrow();
        let pool = |index: usize| state.get(POOLS + 4 * index);
        let accepting = |bit: u32| {
            (0..FUNCTIONS).fold(0, |all, index| {
                all | ((pool(index) >> bit & 1) as u8) << index
            })
        };
        let place = u16::from_le_bytes([destination[4], destination[5]]) >> 4;
        let in_table = state.get(MULTICAST + 4 * usize::from(place >> 5)) >> (place & 31) & 1;
        let pools = match destination {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => accepting(27),
            [first, ..] if first & 1 != 0 && in_table != 0 => accepting(25),
            [first, ..] if first & 1 != 0 => 0,
            _ => state.filter_pools(destination),
        };
        let queues = state.running(RECEIVE);
        pools & accepting(24) & queues & state.get(RECEIVE_ENABLE) as u8
    }

    /// Whether a frame of the holder of `function` leaves the device.
    pub(crate) fn lets_out(&self, function: usize, source: [u8; 6]) -> bool {
        let state = self.state.borrow();
        let bit = 1 << function;
        let works = state.running(TRANSMIT) & state.get(TRANSMIT_ENABLE) as u8 & bit != 0;
        let checked = state.get(TRANSMIT_SWITCH) as u8 & bit != 0;
        works && (!checked || state.filter_pools(source) & bit != 0)
    }
}

impl State {
    fn get(&self, offset: usize) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: usize, value: u32) {
        if value == 0 {
            self.registers.remove(&offset);
        } else {
            self.registers.insert(offset, value);
        }
    }

    /// Functions with a queue that runs.
    fn running(&self, queues: usize) -> u8 {
        (0..2 * FUNCTIONS).fold(0, |all, queue| {
            let runs = self.get(queues + 0x40 * queue + 0x28) & ENABLE != 0;
            all | u8::from(runs) << (queue % FUNCTIONS)
        })
    }

    /// Pools of all filters with this address.
    fn filter_pools(&self, address: [u8; 6]) -> u8 {
        let [a, b, c, d, e, f] = address;
        let first = (0..16).map(|index| FILTERS + 8 * index);
        first
            .chain((0..8).map(|index| MORE_FILTERS + 8 * index))
            .filter(|filter| {
                let high = self.get(filter + 4);
                high >> 31 != 0
                    && self.get(*filter) == u32::from_le_bytes([a, b, c, d])
                    && high & 0xffff == u32::from(u16::from_le_bytes([e, f]))
            })
            .fold(0, |all, filter| all | (self.get(filter + 4) >> 18) as u8)
    }

    fn reset(&mut self) {
        let throttles = THROTTLE..THROTTLE + 4 * 25;
        let status = self.get(STATUS) & !2;
        self.registers
            .retain(|offset, _| throttles.contains(offset));
        self.set(STATUS, status);
        self.set(RECEIVE_ENABLE, 0xff);
        self.set(TRANSMIT_ENABLE, 0xff);
        for queue in 0..2 * FUNCTIONS {
            self.set(RECEIVE + 0x40 * queue + 0x14, 0xa200);
            self.set(RECEIVE + 0x40 * queue + 0x28, 1 << 16);
            self.set(TRANSMIT + 0x40 * queue + 0x14, 0x2a00);
        }
    }

    fn reset_function(&mut self, function: usize) {
        for queue in [function, function + FUNCTIONS] {
            for queues in [RECEIVE, TRANSMIT] {
                let control = queues + 0x40 * queue + 0x28;
                if !self.queues_stuck {
                    self.set(control, self.get(control) & !ENABLE);
                }
            }
        }
        for enables in [RECEIVE_ENABLE, TRANSMIT_ENABLE] {
            self.set(enables, self.get(enables) & !(1 << function));
        }
        self.set(FUNCTIONS_RESET, self.get(FUNCTIONS_RESET) | 1 << function);
        self.set(CAUSE, self.get(CAUSE) | 1 << 8);
    }

    fn write(&mut self, offset: usize, value: u32) {
        match offset {
            CONTROL if value & RESET != 0 => {
                self.reset();
                self.set(CONTROL, if self.reset_hangs { value } else { 0 });
            }
            TRANSCEIVER => {
                if self.transceiver_silent {
                    self.set(offset, value);
                    return;
                }
                let value = match value >> 26 & 3 {
                    1 => {
                        // The bit that starts negotiation clears itself.
                        self.transceiver_control = value & 0xfdff;
                        value
                    }
                    _ => value & !0xffff | self.transceiver_control,
                };
                self.set(offset, value | 1 << 28);
            }
            FUNCTIONS_RESET | MAILBOX_CAUSE | EXTENDED_CAUSE => {
                self.set(offset, self.get(offset) & !value);
            }
            0x00d0 | MASK | AUTO_CLEAR => self.set(offset, self.get(offset) | value),
            0x00d8 => self.set(0x00d0, self.get(0x00d0) & !value),
            0x1528 => self.set(MASK, self.get(MASK) & !value),
            MAILBOX..FUNCTION_MAILBOX => {
                let function = (offset - MAILBOX) / 4;
                if value & 1 << 4 != 0 {
                    let own = FUNCTION_MAILBOX + 4 * function;
                    self.set(own, self.get(own) & !4);
                    let causes = self.get(MAILBOX_CAUSE) & !(0x1_0001 << function);
                    self.set(MAILBOX_CAUSE, causes);
                }
            }
            FUNCTION_MAILBOX..0x0c60 => {
                let function = (offset - FUNCTION_MAILBOX) / 4;
                // A request, an acknowledgement; then the mailbox is taken, or let go.
                let causes = (value & 1 | (value & 2) << 15) << function;
                self.set(MAILBOX_CAUSE, self.get(MAILBOX_CAUSE) | causes);
                self.set(offset, value & 4);
                self.set(MAILBOX + 4 * function, value & 4);
            }
            PAGES..0x10800 => self.write_page(offset, value),
            OWN_VECTORS..0x11720 => {
                self.set(offset, value);
                let function = (offset - OWN_VECTORS) / 4;
                for byte in 0..2 {
                    let entry = value >> (8 * byte);
                    if entry & 0x80 != 0 {
                        let entry = 0x80 | (22 - 3 * function as u32 + (entry & 7)) & 0xff;
                        let vectors = VECTORS + 4 * function;
                        self.set(vectors, self.get(vectors) | entry << (8 * byte));
                    }
                }
            }
            RECEIVE..PAGES if offset & 0x3f == 0x28 && self.queues_stuck => {
                self.set(offset, value | self.get(offset) & ENABLE);
            }
            _ => self.set(offset, value),
        }
    }

    /// Writes a register of a virtual function as the physical one sees it.
    fn write_page(&mut self, offset: usize, value: u32) {
        let function = (offset - PAGES) / 0x100;
        let entries = (value & 7) << (22 - 3 * function);
        match offset & 0xff {
            0x00 => {
                if value & RESET != 0 {
                    self.reset_function(function);
                }
                return;
            }
            0x20 => self.set(EXTENDED_CAUSE, self.get(EXTENDED_CAUSE) | entries),
            0x24 => self.set(MASK, self.get(MASK) | entries),
            0x28 => self.set(MASK, self.get(MASK) & !entries),
            0x2c => self.set(AUTO_CLEAR, self.get(AUTO_CLEAR) | entries),
            0x30 => {}
            0x80 => self.set(EXTENDED_CAUSE, self.get(EXTENDED_CAUSE) & !entries),
            _ => return,
        }
        // What was written can be read again, but for two that are for writing only.
        if !matches!(offset & 0xff, 0x20 | 0x28) {
            self.set(offset, value);
        }
    }

    fn read(&mut self, offset: usize) -> u32 {
        let value = self.get(offset);
        let clears = match offset {
            CAUSE => true,
            RECEIVE..TRANSMIT => offset & 0x3f == 0x30,
            PAGES..0x10800 => offset & 0xff == 0x80,
            _ => false,
        };
        if clears && self.writes_left != Some(0) {
            self.set(offset, 0);
        }
        value
    }
}

impl Mmio for SimulatedPhysical {
    fn read32(&self, offset: usize) -> u32 {
        self.state.borrow_mut().read(offset)
    }
    fn write32(&self, offset: usize, value: u32) {
        let mut state = self.state.borrow_mut();
        if let Some(left) = state.writes_left {
            let Some(less) = left.checked_sub(1) else {
                return;
            };
            state.writes_left = Some(less);
        }
        state.written.push(offset);
        state.write(offset, value);
    }
    fn write16(&self, _: usize, _: u16) {
        unreachable!("registers are 32 bits wide");
    }
    fn write8(&self, _: usize, _: u8) {
        unreachable!("registers are 32 bits wide");
    }
}

impl Holder {
    /// Where the physical function has a register that the holder can write.
    fn place(&self, offset: usize) -> Option<usize> {
        let function = self.function;
        Some(match offset {
            CONTROL | 0x1520 | 0x1524 | 0x1528 | 0x152c | 0x1530 | 0x1580 => {
                PAGES + 0x100 * function + (offset & 0xff)
            }
            0x1680 | 0x1684 | 0x1688 => offset + 4 * (22 - 3 * function),
            0x1700 => OWN_VECTORS + 4 * function,
            0x1740 => OWN_VECTORS + 0x20 + 4 * function,
            0x0800..0x0840 => offset + 0x40 * function,
            0x0c40 => FUNCTION_MAILBOX + 4 * function,
            0x0f0c => 0x5480 + 4 * function,
            0x2800..0x2a00 | 0x3800..0x3a00 => {
                let queues = if offset < 0x3800 { RECEIVE } else { TRANSMIT };
                let queue = function + FUNCTIONS * (offset >> 8 & 1);
                let known = match offset & 0xff {
                    0x00 | 0x04 | 0x08 | 0x10 | 0x14 | 0x18 | 0x28 => true,
                    0x0c | 0x30 => queues == RECEIVE,
                    0x38 | 0x3c => queues == TRANSMIT,
                    _ => false,
                };
                if !known {
                    return None;
                }
                queues + 0x40 * queue + (offset & 0xff)
            }
            _ => return None,
        })
    }
}

impl Mmio for Holder {
    fn read32(&self, offset: usize) -> u32 {
        let mut state = self.device.state.borrow_mut();
        self.place(offset).map_or(0, |place| state.read(place))
    }
    fn write32(&self, offset: usize, value: u32) {
        let mut state = self.device.state.borrow_mut();
        let Some(place) = self.place(offset) else {
            return;
        };
        state.write(place, value);
    }
    fn write16(&self, _: usize, _: u16) {
        unreachable!("registers are 32 bits wide");
    }
    fn write8(&self, _: usize, _: u8) {
        unreachable!("registers are 32 bits wide");
    }
}
