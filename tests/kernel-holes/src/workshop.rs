//! What the root task makes its objects with.

use core::ops::Range;

use sel4::cap::{
    CNode, Page, PageDirectory, PageDirectoryPointerTable, PageTable, Tcb, Untyped, UserContext,
};
use sel4::{
    BootInfo, CPtr, CapData, CapRights, Error, LookupFailure, ObjectType, Priorities,
    UntypedDescription, VmAttributes, WORD_BITS, Word, constants,
};

/// The root CNode, in which every slot lives.
pub const ROOT: CNode = CNode(constants::seL4_CapInitThreadCNode);
/// The root task's address space.
pub const VSPACE: CPtr = constants::seL4_CapInitThreadVSpace;
/// The root task's thread.
pub const THREAD: Tcb = Tcb(constants::seL4_CapInitThreadTCB);

/// Label of the message by which a thread says that it came through.
pub const DONE: Word = 0x77;

/// Memory, slots and addresses that nobody uses yet.
pub struct Workshop {
    /// What the kernel said at boot.
    pub boot_info: &'static BootInfo,
    slots: Range<Word>,
    addresses: Word,
}

impl Workshop {
    /// A workshop with all that the kernel left over.
    pub fn new(boot_info: &'static BootInfo) -> Self {
        Self {
            boot_info,
            slots: boot_info.empty_slots(),
            addresses: 0x10_0000_0000,
        }
    }

    /// An empty slot.
    pub fn slot(&mut self) -> CPtr {
        self.slots.next().expect("a slot is left")
    }

    /// An address at which nothing is mapped, on a 2 MiB border.
    pub fn address(&mut self) -> Word {
        self.addresses += 1 << 21;
        self.addresses
    }

    /// A new object. `size_bits` counts for untyped memory and CNodes only.
    pub fn object(&mut self, object_type: ObjectType, size_bits: u8) -> CPtr {
        let slot = self.slot();
        let bits = object_type.object_bits(size_bits);
        // Smallest first: the first use of an untyped clears all of it.
        for size in bits..48 {
            for untyped in self.boot_info.untyped() {
                if untyped.is_device || untyped.size_bits != size {
                    continue;
                }
                match retype(untyped.slot, object_type, size_bits, slot, 1) {
                    Ok(()) => return slot,
                    Err(Error::NotEnoughMemory { .. }) => {}
                    Err(error) => panic!("cannot make {object_type:?}: {error}"),
                }
            }
        }
        panic!("no memory is left for {object_type:?}");
    }

    /// A copy of a capability.
    pub fn copy(&mut self, source: CPtr) -> CPtr {
        self.try_copy(source).expect("the capability can be copied")
    }

    /// A copy of a capability, if the kernel makes one.
    pub fn try_copy(&mut self, source: CPtr) -> Result<CPtr, Error> {
        let slot = self.slot();
        ROOT.copy(slot, WORD_BITS, ROOT, source, WORD_BITS, CapRights::ALL)?;
        Ok(slot)
    }

    /// A copy of a capability with `data` attached.
    pub fn mint(&mut self, source: CPtr, data: CapData) -> CPtr {
        let slot = self.slot();
        ROOT.mint(
            slot,
            WORD_BITS,
            ROOT,
            source,
            WORD_BITS,
            CapRights::ALL,
            data,
        )
        .expect("the capability can be minted");
        slot
    }

    /// Maps a page in the root task's address space, with what tables that needs.
    pub fn try_map(
        &mut self,
        page: CPtr,
        address: Word,
        attributes: VmAttributes,
    ) -> Result<(), Error> {
        loop {
            match Page(page).map(VSPACE, address, CapRights::READ_WRITE, attributes) {
                Err(Error::FailedLookup {
                    failure: LookupFailure::MissingCapability { bits_left },
                    ..
                }) => self.try_map_table(bits_left, address)?,
                result => return result,
            }
        }
    }

    /// Maps the table that is missing `bits_left` above the end of an address.
    pub fn try_map_table(&mut self, bits_left: Word, address: Word) -> Result<(), Error> {
        let plain = VmAttributes::WRITE_BACK;
        loop {
            let result = match bits_left {
                21 => PageTable(self.object(ObjectType::PageTable, 0)).map(VSPACE, address, plain),
                30 => PageDirectory(self.object(ObjectType::PageDirectory, 0))
                    .map(VSPACE, address, plain),
                39 => {
                    PageDirectoryPointerTable(self.object(ObjectType::PageDirectoryPointerTable, 0))
                        .map(VSPACE, address, plain)
                }
                other => panic!("no table covers 2^{other} bytes"),
            };
            match result {
                // A page directory or page table whose parent is missing is refused without a hint.
                Err(Error::FailedLookup { .. }) if bits_left < 39 => {
                    self.try_map_table(bits_left + 9, address)?
                }
                result => return result,
            }
        }
    }

    /// Maps a page of ordinary memory at an address of its own.
    pub fn map(&mut self, page: CPtr) -> Word {
        let address = self.address();
        self.try_map(page, address, VmAttributes::WRITE_BACK)
            .expect("the page can be mapped");
        address
    }

    /// A thread of the root task's spaces, not started, whose faults go to `handler`.
    pub fn thread(&mut self, handler: CPtr, priority: u8) -> Tcb {
        let tcb = Tcb(self.object(ObjectType::Tcb, 0));
        tcb.configure(
            handler,
            Priorities::new(priority, 0),
            ROOT,
            CapData::NONE,
            VSPACE,
            CapData::NONE,
            0,
            sel4::NULL,
        )
        .expect("a thread can be configured");
        tcb
    }

    /// The device untyped memory that contains a physical address.
    pub fn device_untyped(&self, physical_address: u64) -> UntypedDescription {
        self.boot_info
            .untyped()
            .find(|untyped| {
                untyped.is_device
                    && physical_address
                        .checked_sub(untyped.physical_address)
                        .is_some_and(|offset| offset < 1 << untyped.size_bits)
            })
            .expect("the address is that of a device")
    }
}

/// Makes `count` objects from untyped memory, in slots from `slot` on.
pub fn retype(
    untyped: CPtr,
    object_type: ObjectType,
    size_bits: u8,
    slot: CPtr,
    count: Word,
) -> Result<(), Error> {
    Untyped(untyped).retype(
        object_type.raw(),
        Word::from(size_bits),
        ROOT,
        0,
        0,
        slot,
        count,
    )
}

/// Deletes a capability.
pub fn delete(slot: CPtr) {
    ROOT.delete(slot, WORD_BITS).expect("a slot can be emptied");
}

/// Deletes what was derived from a capability.
pub fn revoke(slot: CPtr) {
    ROOT.revoke(slot, WORD_BITS)
        .expect("a capability can be revoked");
}

/// Starts a thread with these registers.
pub fn start(thread: Tcb, registers: &UserContext) {
    thread
        .write_registers(true, 0, UserContext::COUNT as Word, registers)
        .expect("a thread can be started");
}

/// Waits for a message of a thread, or for its fault.
pub fn wait_for(endpoint: CPtr) -> Result<Word, sel4::Fault> {
    let (information, _) = sel4::syscall::recv(endpoint);
    if information.label() == DONE {
        Ok(sel4::message_register(0))
    } else {
        Err(sel4::Fault::from_message(information))
    }
}

/// Reads a word.
pub fn read(address: Word) -> Word {
    // SAFETY: the callers mapped a page there, which nothing of Rust's lives in.
    unsafe { (address as *const Word).read_volatile() }
}

/// Writes a word.
pub fn write(address: Word, value: Word) {
    // SAFETY: the callers mapped a page there, which nothing of Rust's lives in.
    unsafe { (address as *mut Word).write_volatile(value) }
}
