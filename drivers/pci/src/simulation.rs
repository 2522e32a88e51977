//! A simulated configuration space, modelled on QEMU's q35 with an 82576.
extern crate std;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use segue_device::Mmio;

/// Offset of the SR-IOV capability of the simulated NIC.
pub const SRIOV: usize = 0x160;
/// Requester id of the simulated NIC.
pub const NIC: u16 = 0x18;
/// Virtual functions the simulated NIC can have.
pub const TOTAL_VFS: u16 = 8;
const VF_OFFSET: u16 = 0x80;
const VF_STRIDE: u16 = 2;

/// One function: its bytes, and which bits of them can be written.
#[derive(Clone)]
pub struct SimulatedFunction {
    pub bytes: Vec<u8>,
    pub writable: Vec<u8>,
}

impl SimulatedFunction {
    pub fn new(vendor: u16, device: u16, class: u32, header_type: u8) -> Self {
        let mut function = Self {
            bytes: vec![0; 4096],
            writable: vec![0; 4096],
        };
        function.set16(0, vendor);
        function.set16(2, device);
        function.set32(8, class << 8);
        function.bytes[0x0e] = header_type;
        function.allow16(4, 0x0547);
        function
    }

    pub fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub fn get32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub fn set16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub fn set32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow32(&mut self, at: usize, mask: u32) {
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }

    /// Adds a memory BAR of `size` bytes with the read-only `flags` at `at`.
    pub fn add_bar(&mut self, at: usize, size: u32, flags: u32, address: u32) {
        self.set32(at, address | flags);
        self.allow32(at, !(size - 1));
        if flags & 4 != 0 {
            self.allow32(at + 4, u32::MAX);
        }
    }

    /// Adds a standard capability behind the last one, at `at`.
    pub fn add_capability(&mut self, id: u8, at: u8) {
        let mut link = 0x34usize;
        while self.bytes[link] != 0 {
            link = usize::from(self.bytes[link]) + 1;
        }
        self.bytes[link] = at;
        self.bytes[usize::from(at)] = id;
        let status = self.get16(6) | 0x10;
        self.set16(6, status);
    }

    /// Writes an extended capability header.
    pub fn add_extended(&mut self, id: u16, at: usize, next: u32) {
        self.set32(at, u32::from(id) | 1 << 16 | next << 20);
    }

    /// Adds MSI-X with `entries` entries at the start of BAR 3.
    pub fn add_msix(&mut self, at: u8, entries: u16) {
        self.add_capability(0x11, at);
        let at = usize::from(at);
        self.set16(at + 2, entries - 1);
        self.allow16(at + 2, 0xc000);
        self.set32(at + 4, 3);
        self.set32(at + 8, 0x2003);
    }
}

/// The physical function of the NIC, as the firmware leaves it.
pub fn nic() -> SimulatedFunction {
    let mut nic = SimulatedFunction::new(0x8086, 0x10c9, 0x02_0000, 0x00);
    nic.add_bar(0x10, 0x2_0000, 0, 0xfeba_0000);
    nic.add_bar(0x14, 0x2_0000, 0, 0xfebc_0000);
    nic.set32(0x18, 0xc041);
    nic.allow32(0x18, 0xffff_ffe0);
    nic.add_bar(0x1c, 0x4000, 4, 0xfebe_0000);
    nic.set16(4, 3);
    for (id, at) in [(0x01, 0x40), (0x05, 0x50)] {
        nic.add_capability(id, at);
    }
    nic.add_msix(0x70, 10);
    nic.add_capability(0x10, 0xa0);
    nic.add_extended(0x0001, 0x100, 0x150);
    nic.add_extended(0x000e, 0x150, 0x160);
    nic.add_extended(0x0010, SRIOV, 0);
    nic.allow16(SRIOV + 0x08, 0x0019);
    nic.set16(SRIOV + 0x0c, TOTAL_VFS);
    nic.set16(SRIOV + 0x0e, TOTAL_VFS);
    nic.allow16(SRIOV + 0x10, 0xffff);
    nic.set16(SRIOV + 0x14, VF_OFFSET);
    nic.set16(SRIOV + 0x16, VF_STRIDE);
    nic.set16(SRIOV + 0x1a, 0x10ca);
    nic.add_bar(SRIOV + 0x24, 0x4000, 0xc, 0);
    nic.add_bar(SRIOV + 0x30, 0x4000, 0xc, 0);
    nic
}

fn virtual_function() -> SimulatedFunction {
    let mut function = SimulatedFunction::new(0xffff, 0xffff, 0x02_0000, 0x00);
    function.add_msix(0x70, 3);
    function.add_capability(0x10, 0xa0);
    function
}

/// Writes of the driver that still reach anything: then it has died. It does not notice, but nothing
/// that it does has an effect. `None` while it lives.
#[derive(Clone, Default)]
pub struct Life(Rc<Cell<Option<usize>>>);

impl Life {
    /// Lets the driver die after this many writes, or a new one live.
    pub fn set(&self, writes: Option<usize>) {
        self.0.set(writes);
    }

    /// Whether the driver is dead, as far as its writes go.
    pub fn is_over(&self) -> bool {
        self.0.get() == Some(0)
    }

    /// Whether a write has an effect.
    fn write(&self) -> bool {
        let Some(left) = self.0.get() else {
            return true;
        };
        self.0.set(Some(left.saturating_sub(1)));
        left > 0
    }
}

/// The whole space: bus 0.
#[derive(Clone)]
pub struct SimulatedSpace(pub Rc<RefCell<State>>, pub Life);

pub struct State {
    pub functions: BTreeMap<u16, SimulatedFunction>,
    /// Requester id and value of each write to a command register.
    pub commands: Vec<(u16, u16)>,
    /// Whether virtual functions appear when they are switched on.
    pub vfs_appear: bool,
    /// Requester id and offset of each write.
    pub writes: Vec<(u16, usize)>,
}

impl SimulatedSpace {
    /// Host bridge, NIC and the three functions of the south bridge.
    pub fn new() -> Self {
        let mut functions = BTreeMap::new();
        functions.insert(0x00, SimulatedFunction::new(0x8086, 0x29c0, 0x06_0000, 0));
        functions.insert(NIC, nic());
        functions.insert(
            0xf8,
            SimulatedFunction::new(0x8086, 0x2918, 0x06_0100, 0x80),
        );
        let mut sata = SimulatedFunction::new(0x8086, 0x2922, 0x01_0601, 0);
        sata.add_bar(0x24, 0x1000, 0, 0xfebe_4000);
        functions.insert(0xfa, sata);
        functions.insert(0xfb, SimulatedFunction::new(0x8086, 0x2930, 0x0c_0500, 0));
        let state = Rc::new(RefCell::new(State {
            functions,
            commands: Vec::new(),
            vfs_appear: true,
            writes: Vec::new(),
        }));
        Self(state, Life::default())
    }

    /// Where the driver wrote since the last call: requester id and offset.
    pub fn take_writes(&self) -> Vec<(u16, usize)> {
        core::mem::take(&mut self.0.borrow_mut().writes)
    }

    /// Changes one function from outside.
    pub fn change(&self, id: u16, change: impl FnOnce(&mut SimulatedFunction)) {
        change(self.0.borrow_mut().functions.get_mut(&id).unwrap());
    }

    pub fn get16(&self, id: u16, at: usize) -> u16 {
        self.0
            .borrow()
            .functions
            .get(&id)
            .map_or(0xffff, |function| function.get16(at))
    }

    pub fn get32(&self, id: u16, at: usize) -> u32 {
        self.0
            .borrow()
            .functions
            .get(&id)
            .map_or(u32::MAX, |function| function.get32(at))
    }

    fn write(&self, offset: usize, data: &[u8]) {
        if !self.1.write() {
            return;
        }
        let (id, at) = ((offset >> 12) as u16, offset & 0xfff);
        let mut state = self.0.borrow_mut();
        state.writes.push((id, at));
        let Some(function) = state.functions.get_mut(&id) else {
            return;
        };
        let enabled = id == NIC && function.bytes[SRIOV + 8] & 1 != 0;
        for (index, &byte) in data.iter().enumerate() {
            let at = at + index;
            // NumVFs cannot change while virtual functions are on.
            if enabled && (SRIOV + 0x10..SRIOV + 0x12).contains(&at) {
                continue;
            }
            let mask = function.writable[at];
            function.bytes[at] = function.bytes[at] & !mask | byte & mask;
        }
        if at == 4 {
            let command = function.get16(4);
            state.commands.push((id, command));
        }
        if id == NIC && at == SRIOV + 8 {
            state.update_virtual_functions();
        }
    }
}

impl State {
    fn update_virtual_functions(&mut self) {
        let nic = self.functions.get_mut(&NIC).unwrap();
        let count = nic.get16(SRIOV + 0x10);
        if count > nic.get16(SRIOV + 0x0e) {
            nic.bytes[SRIOV + 8] &= !1;
        }
        let (offset, stride) = (nic.get16(SRIOV + 0x14), nic.get16(SRIOV + 0x16));
        let on = nic.bytes[SRIOV + 8] & 1 != 0;
        let is_virtual = |id: &u16| (NIC + VF_OFFSET..0xf8).contains(id);
        if !on {
            self.functions.retain(|id, _| !is_virtual(id));
        }
        for index in 0..count {
            let id = NIC.saturating_add(offset.saturating_add(index.saturating_mul(stride)));
            if on && self.vfs_appear {
                // Those that are there stay what they are.
                self.functions.entry(id).or_insert_with(virtual_function);
            }
        }
    }
}

impl Mmio for SimulatedSpace {
    fn read32(&self, offset: usize) -> u32 {
        self.get32((offset >> 12) as u16, offset & 0xffc)
    }
    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }
    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, &value.to_le_bytes());
    }
    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, &[value]);
    }
}

/// An MSI-X table. Its entries are masked after a reset.
#[derive(Clone, Default)]
pub struct SimulatedWindow {
    words: Rc<RefCell<BTreeMap<usize, u32>>>,
    /// Offsets that the driver wrote.
    pub writes: Rc<RefCell<Vec<usize>>>,
    life: Life,
}

impl SimulatedWindow {
    /// Written by a driver with this life.
    pub fn new(life: &Life) -> Self {
        Self {
            life: life.clone(),
            ..Self::default()
        }
    }

    /// Changes a word from outside.
    pub fn set(&self, offset: usize, value: u32) {
        self.words.borrow_mut().insert(offset, value);
    }
}

impl Mmio for SimulatedWindow {
    fn read32(&self, offset: usize) -> u32 {
        let reset = u32::from(offset % 16 == 12);
        self.words.borrow().get(&offset).copied().unwrap_or(reset)
    }
    fn write32(&self, offset: usize, value: u32) {
        if self.life.write() {
            self.writes.borrow_mut().push(offset);
            self.set(offset, value);
        }
    }
    fn write16(&self, _: usize, _: u16) {
        unreachable!("MSI-X tables are written by words");
    }
    fn write8(&self, _: usize, _: u8) {
        unreachable!("MSI-X tables are written by words");
    }
}
