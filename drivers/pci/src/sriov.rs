//! Single root I/O virtualization: the virtual functions of a device.
//!
//! PCI Express Base Specification 9.3.3 describes the capability. Virtual
//! functions read vendor 0xffff, so the capability is the only way to find them.

use segue_device::Mmio;

use crate::address::RequesterId;
use crate::bar::Bars;
use crate::capability::extended_id;
use crate::ecam::Function;

const CONTROL: u16 = 0x08;
const TOTAL_VFS: u16 = 0x0e;
const NUM_VFS: u16 = 0x10;
const FIRST_OFFSET: u16 = 0x14;
const STRIDE: u16 = 0x16;
const VF_DEVICE_ID: u16 = 0x1a;
const VF_BAR_0: u16 = 0x24;
const LENGTH: u16 = 0x40;

/// Virtual functions are there (9.3.3.3.1).
const CONTROL_ENABLE: u16 = 1 << 0;
/// Virtual functions answer to their BARs (9.3.3.3.4).
const CONTROL_MEMORY_SPACE: u16 = 1 << 3;

/// The SR-IOV capability of a physical function.
#[derive(Debug)]
pub struct Sriov<'a, M> {
    function: Function<'a, M>,
    offset: u16,
}

impl<'a, M: Mmio> Sriov<'a, M> {
    /// The capability of `function`, if it has one.
    pub fn of(function: Function<'a, M>) -> Option<Self> {
        let offset = function.find_extended_capability(extended_id::SRIOV, LENGTH)?;
        Some(Self { function, offset })
    }

    fn read(&self, register: u16) -> u16 {
        self.function.read16(self.offset + register)
    }

    fn write(&self, register: u16, value: u16) {
        self.function.write16(self.offset + register, value);
    }

    /// How many virtual functions the device can have.
    pub fn total(&self) -> u16 {
        self.read(TOTAL_VFS)
    }

    /// How many virtual functions there are now; whether they answer to their BARs is another matter.
    pub fn enabled(&self) -> u16 {
        match self.read(CONTROL) & CONTROL_ENABLE {
            0 => 0,
            _ => self.read(NUM_VFS),
        }
    }

    /// Whether the virtual functions answer to their BARs.
    pub fn answers(&self) -> bool {
        self.read(CONTROL) & CONTROL_MEMORY_SPACE != 0
    }

    /// Has the virtual functions answer to their BARs, or not; they stay what they are.
    pub fn set_answers(&self, on: bool) {
        let control = self.read(CONTROL);
        let bit = if on { CONTROL_MEMORY_SPACE } else { 0 };
        self.write(CONTROL, control & !CONTROL_MEMORY_SPACE | bit);
    }

    /// Device id of the virtual functions; their vendor is the physical function's.
    pub fn vf_device_id(&self) -> u16 {
        self.read(VF_DEVICE_ID)
    }

    /// Distance of the first virtual function from the physical one. May depend
    /// on how many are asked for (9.3.3.9): read it after [`Sriov::set_count`].
    pub fn first_offset(&self) -> u16 {
        self.read(FIRST_OFFSET)
    }

    /// Distance of neighbouring virtual functions; as for [`Sriov::first_offset`].
    pub fn stride(&self) -> u16 {
        self.read(STRIDE)
    }

    /// Where virtual function `index` is, or `None` if the number does not fit.
    pub fn requester_id(&self, index: u16) -> Option<RequesterId> {
        let physical = self.function.address().requester_id().0;
        let id = physical
            .checked_add(self.first_offset())?
            .checked_add(index.checked_mul(self.stride())?)?;
        Some(RequesterId(id))
    }

    /// The base address registers of virtual function 0.
    pub fn bars(&self) -> Bars<'a, M> {
        Bars::new(self.function, self.offset + VF_BAR_0)
    }

    /// Takes all virtual functions away.
    pub fn disable(&self) {
        self.write(
            CONTROL,
            self.read(CONTROL) & !(CONTROL_ENABLE | CONTROL_MEMORY_SPACE),
        );
    }

    /// Asks for `count` virtual functions. They must be off.
    pub fn set_count(&self, count: u16) {
        self.write(NUM_VFS, count);
    }

    /// Makes the virtual functions appear. Returns whether the device did so.
    ///
    /// A real device may take up to 100 ms (section 9.3.3.3.1) until the virtual
    /// functions answer; their registers must not be touched earlier.
    #[must_use]
    pub fn enable(&self) -> bool {
        self.write(
            CONTROL,
            self.read(CONTROL) | CONTROL_ENABLE | CONTROL_MEMORY_SPACE,
        );
        self.read(CONTROL) & CONTROL_ENABLE != 0
    }
}

impl<M> Clone for Sriov<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Sriov<'_, M> {}
