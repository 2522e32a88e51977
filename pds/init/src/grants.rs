//! What virtual functions are granted with at run time: for the protection domain
//! that grants a CNode of authority, for each that they can be granted to a CNode that
//! the capabilities of a grant appear in, and one with the frames of its memory.
//!
//! `init` makes all of it once. Granting and revoking is not its work: the manager
//! copies what it has authority over, and takes it back by revoking the original.

use segue_system_image::format::layout::grant;
use segue_system_image::format::{Grantee, layout};
use sel4::cap::CNode;
use sel4::{CapData, CapRights, ObjectType};

use crate::allocator::{Allocator, Chunks};
use crate::builder::{Builder, Slots, name};
use crate::failure::{Doing, Failure};
use crate::root;

/// The kernel objects for grants to one protection domain.
#[derive(Clone, Copy)]
pub(crate) struct GranteeSlots {
    /// The CNode in which the capabilities of a grant appear.
    cnode: u64,
    /// The CNode with IO page tables and frames.
    memory: u64,
    /// First of the IO page tables, until they are moved there.
    io_tables: u64,
}

impl GranteeSlots {
    pub(crate) const NONE: Self = Self {
        cnode: 0,
        memory: 0,
        io_tables: 0,
    };
}

/// Makes the CNodes that are larger than a page; `chunks` gives out memory, largest
/// objects first.
pub(crate) fn make_large(
    grantees: &[Grantee],
    chunks: &mut Chunks,
    allocator: &mut Allocator,
    slots: &mut Slots,
) -> Result<(), Failure> {
    for (index, _) in grantees.iter().enumerate() {
        let bits = u32::from(grant::MEMORY_BITS);
        slots.grantees[index].memory = chunks.make(allocator, ObjectType::CNode, bits, 1)?;
    }
    if !grantees.is_empty() {
        let bits = u32::from(grant::AUTHORITY_BITS);
        slots.authority = chunks.make(allocator, ObjectType::CNode, bits, 1)?;
    }
    Ok(())
}

/// Makes the IO page tables, each a page.
pub(crate) fn make_tables(
    grantees: &[Grantee],
    chunks: &mut Chunks,
    allocator: &mut Allocator,
    slots: &mut Slots,
) -> Result<(), Failure> {
    for (index, grantee) in grantees.iter().enumerate() {
        let count = u64::from(grantee.io_tables);
        let tables = chunks.make(allocator, ObjectType::IoPageTable, 0, count)?;
        slots.grantees[index].io_tables = tables;
    }
    Ok(())
}

/// Makes the CNodes that are smaller than a page.
pub(crate) fn make_small(
    grantees: &[Grantee],
    chunks: &mut Chunks,
    allocator: &mut Allocator,
    slots: &mut Slots,
) -> Result<(), Failure> {
    for (index, _) in grantees.iter().enumerate() {
        let bits = u32::from(grant::GRANT_BITS);
        slots.grantees[index].cnode = chunks.make(allocator, ObjectType::CNode, bits, 1)?;
    }
    Ok(())
}

/// The zero guard with which a CNode of 2^`bits` slots, below a slot of the topmost
/// CNode, resolves the rest of an address.
fn guard(bits: u8) -> CapData {
    CapData::guard(0, sel4::WORD_BITS - layout::ROOT_CNODE_BITS as u8 - bits)
}

impl Builder<'_> {
    fn to_authority(&self, slot: u64, source: u64, data: CapData) -> Result<(), Failure> {
        let (cnode, bits) = (CNode(self.slots.authority), grant::AUTHORITY_BITS);
        let (root, depth, all) = (root::CNODE, root::DEPTH, CapRights::ALL);
        // Minting without data would make something else of some capabilities.
        if data == CapData::NONE {
            cnode.copy(slot, bits, root, source, depth, all)
        } else {
            cnode.mint(slot, bits, root, source, depth, all, data)
        }
        .doing("a capability could not be given", "grants")
    }

    /// Fills the CNodes with what does not change while the system runs.
    pub(crate) fn make_grants(&mut self) -> Result<(), Failure> {
        let payload = self.payload;
        if payload.grantees.is_empty() {
            return Ok(());
        }
        self.to_authority(grant::AUTHORITY_CNODE, self.slots.authority, CapData::NONE)?;
        self.to_authority(grant::MASTER_IO_SPACE, root::IO_SPACE, CapData::NONE)?;
        for function in payload.functions {
            let number = u64::from(function.number);
            let registers = u64::from(self.slots.regions[function.region as usize]);
            let place = grant::function(number, grant::UNTYPED);
            self.to_authority(place, registers, CapData::NONE)?;
            let requester = u64::from(function.requester);
            let (bus, device) = (requester >> 8, requester >> 3 & 31);
            for (handle, vector) in (0u64..).zip(function.vectors) {
                let slot = self.allocator.slots(1)?;
                let place = grant::function(number, grant::INTERRUPTS[handle as usize]);
                root::IRQ_CONTROL
                    .get_msi(
                        root::CNODE,
                        slot,
                        u64::from(root::DEPTH),
                        bus,
                        device,
                        requester & 7,
                        handle,
                        u64::from(vector),
                    )
                    // The original, so that the copies in grants are its children.
                    .and_then(|()| {
                        CNode(self.slots.authority).move_(
                            place,
                            grant::AUTHORITY_BITS,
                            root::CNODE,
                            slot,
                            root::DEPTH,
                        )
                    })
                    .doing("an interrupt could not be had", "grants")?;
            }
        }
        for (index, grantee) in payload.grantees.iter().enumerate() {
            self.fill_grantee(index, grantee)?;
        }
        Ok(())
    }

    fn fill_grantee(&mut self, index: usize, grantee: &Grantee) -> Result<(), Failure> {
        let slots = self.slots.grantees[index];
        let domain = grantee.protection_domain as usize;
        let domain_name = name(&self.payload.protection_domains[domain].name);
        let tables = u64::from(grantee.io_tables);
        let memory = CNode(slots.memory);
        for table in 0..tables {
            // Moved: the kernel unmaps only tables with a single capability.
            memory
                .move_(
                    table,
                    grant::MEMORY_BITS,
                    root::CNODE,
                    slots.io_tables + table,
                    root::DEPTH,
                )
                .doing("an IO page table could not be given", domain_name)?;
        }
        let pages = |region: u32| self.payload.regions[region as usize].size >> 12;
        let frames = u64::from(self.slots.regions[grantee.memory as usize]);
        for page in 0..pages(grantee.memory) {
            memory
                .copy(
                    tables + page,
                    grant::MEMORY_BITS,
                    root::CNODE,
                    frames + page,
                    root::DEPTH,
                    CapRights::READ_WRITE,
                )
                .doing("a frame could not be copied", domain_name)?;
        }
        let place = |slot| grant::application(u64::from(grantee.index), slot);
        self.to_authority(place(grant::ITS_CNODE), slots.cnode, CapData::NONE)?;
        let notification = self.slots.domains[domain].notification;
        for (slot, badge) in grant::ITS_NOTIFICATIONS.into_iter().zip(grantee.badges) {
            self.to_authority(place(slot), notification, CapData::badge(badge))?;
        }
        let dummies = u64::from(self.slots.regions[grantee.dummies as usize]);
        for page in 0..pages(grantee.dummies) {
            let slot = place(grant::ITS_DUMMIES + page);
            self.to_authority(slot, dummies + page, CapData::NONE)?;
        }
        Ok(())
    }

    /// Gives protection domain `index` its part in grants, once its CSpace is made.
    pub(crate) fn give_grants(&mut self, index: usize) -> Result<(), Failure> {
        let payload = self.payload;
        let domain_name = name(&payload.protection_domains[index].name);
        let slots = self.slots.domains[index];
        let hang = |slot: u64, cnode: u64, bits: u8| {
            CNode(slots.root_cnode)
                .mint(
                    slot,
                    layout::ROOT_CNODE_BITS as u8,
                    root::CNODE,
                    cnode,
                    root::DEPTH,
                    CapRights::ALL,
                    guard(bits),
                )
                .doing("a CSpace could not be made", domain_name)
        };
        let manages = payload.grantees.first().map(|grantee| grantee.manager);
        if manages == Some(index as u32) {
            let authority = self.slots.authority;
            hang(grant::GRANT_ROOT_SLOT, authority, grant::AUTHORITY_BITS)?;
        }
        let mut grantees = payload.grantees.iter().enumerate();
        let found = grantees.find(|(_, grantee)| grantee.protection_domain as usize == index);
        let Some((place, grantee)) = found else {
            return Ok(());
        };
        let its = self.slots.grantees[place];
        hang(grant::GRANT_ROOT_SLOT, its.cnode, grant::GRANT_BITS)?;
        hang(grant::MEMORY_ROOT_SLOT, its.memory, grant::MEMORY_BITS)?;
        CNode(slots.cnode)
            .copy(
                grant::GRANT_CNODE,
                layout::CNODE_BITS as u8,
                root::CNODE,
                its.cnode,
                root::DEPTH,
                CapRights::ALL,
            )
            .doing("a capability could not be given", domain_name)?;
        let vspace = grant::application(u64::from(grantee.index), grant::ITS_VSPACE);
        self.to_authority(vspace, slots.vspace, CapData::NONE)
    }
}
