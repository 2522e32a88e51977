//! Making one protection domain.

use segue_system_image::Payload;
use segue_system_image::format::{
    Capability, ProtectionDomain, Run, Span, capability_kind, image_kind, layout, paging_level,
    region_kind, run_kind, run_role,
};
use sel4::cap::{CNode, Page, PageDirectory, PageDirectoryPointerTable, PageTable, Pml4, Tcb};
use sel4::{CapData, CapRights, ObjectType, Priorities, VmAttributes};

use crate::allocator::Chunks;
use crate::builder::{Builder, name};
use crate::failure::{Doing, Failure};
use crate::root;

/// The slot of the CNode of 512 in the CNode above it.
const CNODE_SLOT: u64 = 0;
/// Bits of a capability's address that the CNode of 512 skips.
const GUARD_BITS: u8 = 64 - (layout::ROOT_CNODE_BITS + layout::CNODE_BITS) as u8;

fn rights(writable: u8) -> CapRights {
    if writable == 1 {
        CapRights::READ_WRITE
    } else {
        CapRights::READ
    }
}

impl Builder<'_> {
    /// Makes all objects of protection domain `index` but the capabilities in
    /// its CSpace. Every object comes from its own untypeds, largest first.
    pub(crate) fn make_domain(&mut self, index: usize) -> Result<(), Failure> {
        let domain = &self.payload.protection_domains[index];
        let mut chunks = Chunks::new(domain.memory);

        self.make_frames(domain.runs, &mut chunks, 21)?;
        let cnode = chunks.make(self.allocator, ObjectType::CNode, layout::CNODE_BITS, 1)?;
        let vspace = chunks.make(self.allocator, ObjectType::Pml4, 0, 1)?;
        root::ASID_POOL
            .assign(vspace)
            .doing("an address space could not be made", name(&domain.name))?;
        self.make_paging(domain.paging, domain, &mut chunks, vspace)?;
        self.make_frames(domain.runs, &mut chunks, 12)?;
        let thread = chunks.make(self.allocator, ObjectType::Tcb, 0, 1)?;
        let root_cnode = chunks.make(
            self.allocator,
            ObjectType::CNode,
            layout::ROOT_CNODE_BITS,
            1,
        )?;

        let record = &mut self.slots.domains[index];
        record.thread = thread;
        record.vspace = vspace;
        record.first_vspace = vspace;
        record.cnode = cnode;
        record.root_cnode = root_cnode;
        for run in domain.runs.range() {
            self.map_run(domain, run, vspace)?;
        }
        for map in domain.maps.range() {
            self.map_region(domain, map, vspace)?;
        }
        self.configure_thread(index, domain)
    }

    /// Makes another image: an address space that the thread of its protection domain can run in.
    pub(crate) fn make_image(&mut self, index: usize) -> Result<(), Failure> {
        let image = &self.payload.images[index];
        let domain = &self.payload.protection_domains[image.protection_domain as usize];
        let mut chunks = Chunks::new(image.memory);
        self.make_frames(image.runs, &mut chunks, 21)?;
        let vspace = chunks.make(self.allocator, ObjectType::Pml4, 0, 1)?;
        root::ASID_POOL
            .assign(vspace)
            .doing("an address space could not be made", name(&domain.name))?;
        self.make_paging(image.paging, domain, &mut chunks, vspace)?;
        self.make_frames(image.runs, &mut chunks, 12)?;
        let slots = &mut self.slots.images[index];
        slots.vspace = vspace;
        let pages = image.sent_size >> 12;
        if pages > 0 {
            let object = crate::allocator::frame_type(12);
            slots.kept = chunks.make(self.allocator, object, 0, pages)?;
            slots.own = chunks.make(self.allocator, object, 0, pages)?;
        }
        for run in image.runs.range() {
            self.map_run(domain, run, vspace)?;
        }
        for map in image.maps.range() {
            self.map_region(domain, map, vspace)?;
        }
        Ok(())
    }

    fn make_frames(
        &mut self,
        runs: Span,
        chunks: &mut Chunks,
        page_bits: u8,
    ) -> Result<(), Failure> {
        for index in runs.range() {
            let run = &self.payload.runs[index];
            if run.page_bits != page_bits {
                continue;
            }
            let pages = u64::from(run.pages);
            let frames = if run.kind == run_kind::IN_PLACE {
                self.allocator.slots(pages)?
            } else {
                let object = crate::allocator::frame_type(u32::from(page_bits));
                chunks.make(self.allocator, object, 0, pages)?
            };
            self.slots.runs[index] = frames as u32;
        }
        Ok(())
    }

    fn make_paging(
        &mut self,
        paging: Span,
        domain: &'static ProtectionDomain,
        chunks: &mut Chunks,
        vspace: u64,
    ) -> Result<(), Failure> {
        let attributes = VmAttributes::WRITE_BACK;
        for paging in Payload::slice(self.payload.paging, paging) {
            let object = match paging.level {
                paging_level::PDPT => ObjectType::PageDirectoryPointerTable,
                paging_level::PAGE_DIRECTORY => ObjectType::PageDirectory,
                _ => ObjectType::PageTable,
            };
            let slot = chunks.make(self.allocator, object, 0, 1)?;
            match paging.level {
                paging_level::PDPT => {
                    PageDirectoryPointerTable(slot).map(vspace, paging.address, attributes)
                }
                paging_level::PAGE_DIRECTORY => {
                    PageDirectory(slot).map(vspace, paging.address, attributes)
                }
                _ => PageTable(slot).map(vspace, paging.address, attributes),
            }
            .doing("a page table could not be mapped", name(&domain.name))?;
        }
        Ok(())
    }

    /// Fills and maps the pages of a run.
    fn map_run(
        &mut self,
        domain: &'static ProtectionDomain,
        index: usize,
        vspace: u64,
    ) -> Result<(), Failure> {
        let run: &Run = &self.payload.runs[index];
        let frames = u64::from(self.slots.runs[index]);
        let page_bits = u32::from(run.page_bits);
        for page in 0..u64::from(run.pages) {
            let frame = frames + page;
            let offset = page << page_bits;
            match run.kind {
                run_kind::COPIED => {
                    let bytes = self.payload.data(run.offset + offset, 1 << page_bits);
                    self.window
                        .look(frame, page_bits, CapRights::READ_WRITE, |memory| {
                            memory.write(0, bytes);
                        })?;
                }
                run_kind::IN_PLACE => {
                    let source = self.payload_frame(run.offset + offset);
                    root::CNODE
                        .copy(
                            frame,
                            root::DEPTH,
                            root::CNODE,
                            source,
                            root::DEPTH,
                            CapRights::READ,
                        )
                        .doing("a frame could not be copied", name(&domain.name))?;
                }
                _ => (),
            }
            Page(frame)
                .map(
                    vspace,
                    run.address + offset,
                    rights(run.writable),
                    VmAttributes::WRITE_BACK,
                )
                .doing("a page could not be mapped", name(&domain.name))?;
        }
        Ok(())
    }

    /// Maps a memory region: each map has capabilities of its own.
    fn map_region(
        &mut self,
        domain: &'static ProtectionDomain,
        index: usize,
        vspace: u64,
    ) -> Result<(), Failure> {
        let map = &self.payload.maps[index];
        let region = &self.payload.regions[map.region as usize];
        let pages = region.size >> region.page_bits;
        let copies = self.copy_frames(map.region, pages)?;
        self.slots.maps[index] = copies as u32;
        let attributes = if map.cached == 1 {
            VmAttributes::WRITE_BACK
        } else {
            VmAttributes::UNCACHEABLE
        };
        debug_assert!(region.kind != region_kind::IN_PLACE || map.writable == 0);
        for page in 0..pages {
            Page(copies + page)
                .map(
                    vspace,
                    map.address + (page << region.page_bits),
                    rights(map.writable),
                    attributes,
                )
                .doing("a memory region could not be mapped", name(&domain.name))?;
        }
        Ok(())
    }

    fn configure_thread(
        &mut self,
        index: usize,
        domain: &'static ProtectionDomain,
    ) -> Result<(), Failure> {
        let domain_name = name(&domain.name);
        let slots = self.slots.domains[index];
        CNode(slots.root_cnode)
            .mint(
                CNODE_SLOT,
                layout::ROOT_CNODE_BITS as u8,
                root::CNODE,
                slots.cnode,
                root::DEPTH,
                CapRights::ALL,
                CapData::guard(0, GUARD_BITS),
            )
            .doing("a CSpace could not be made", domain_name)?;
        self.enter(index)?;
        if slots.endpoint != 0 {
            Tcb(slots.thread)
                .bind_notification(slots.notification)
                .doing("a notification could not be bound", domain_name)?;
        }
        Ok(())
    }

    /// Has a thread run in the address space of its protection domain's image.
    fn enter(&self, index: usize) -> Result<(), Failure> {
        let domain = &self.payload.protection_domains[index];
        let slots = self.slots.domains[index];
        let buffer = self.buffer(self.runs(index))?;
        Tcb(slots.thread)
            .configure(
                u64::from(layout::FAULT_ENDPOINT),
                Priorities::new(domain.priority as u8, 0),
                slots.root_cnode,
                CapData::NONE,
                Pml4(slots.vspace),
                CapData::NONE,
                layout::IPC_BUFFER,
                buffer,
            )
            .doing("a thread could not be configured", name(&domain.name))
    }

    /// The frame of the IPC buffer among these runs.
    pub(crate) fn buffer(&self, runs: Span) -> Result<u64, Failure> {
        runs.range()
            .find(|run| self.payload.runs[*run].role == run_role::IPC_BUFFER)
            .map(|run| u64::from(self.slots.runs[run]))
            .ok_or(Failure::Inconsistent(
                "a protection domain has no IPC buffer",
            ))
    }

    /// The pages of the image that a protection domain runs.
    pub(crate) fn runs(&self, index: usize) -> Span {
        match self.slots.domains[index].image {
            Some(image) => self.payload.images[image].runs,
            None => self.payload.protection_domains[index].runs,
        }
    }

    /// Where the image that a protection domain runs starts.
    pub(crate) fn entry(&self, index: usize) -> u64 {
        let Some(image) = self.slots.domains[index].image else {
            return self.payload.protection_domains[index].entry;
        };
        match self.payload.images[image].kind {
            image_kind::SENT => self.sent_entry(image),
            _ => self.payload.images[image].entry,
        }
    }

    /// Puts a stopped thread into the address space of another image of its protection domain,
    /// whose pages are to be filled before it runs.
    pub(crate) fn change_image(
        &mut self,
        index: usize,
        image: Option<usize>,
    ) -> Result<(), Failure> {
        let slots = &mut self.slots.domains[index];
        slots.image = image;
        slots.vspace = match image {
            Some(image) => self.slots.images[image].vspace,
            None => slots.first_vspace,
        };
        let slots = *slots;
        self.enter(index)?;
        let (place, bits) = (u64::from(layout::VSPACE), layout::CNODE_BITS as u8);
        let cnode = CNode(slots.cnode);
        cnode
            .delete(place, bits)
            .and_then(|()| {
                cnode.copy(
                    place,
                    bits,
                    root::CNODE,
                    slots.vspace,
                    root::DEPTH,
                    CapRights::ALL,
                )
            })
            .doing("a capability could not be given", self.name_of(index))
    }

    /// Puts every capability that the tables list into a protection domain's
    /// CSpace, and no other.
    pub(crate) fn give_capabilities(&mut self, index: usize) -> Result<(), Failure> {
        let domain = &self.payload.protection_domains[index];
        for capability in Payload::slice(self.payload.capabilities, domain.capabilities) {
            let (source, data) = self.source(capability, index);
            let rights = CapRights::new(
                capability.rights & 2 != 0,
                capability.rights & 1 != 0,
                capability.rights & 4 != 0,
            );
            CNode(self.slots.domains[index].cnode)
                .mint(
                    u64::from(capability.slot),
                    layout::CNODE_BITS as u8,
                    root::CNODE,
                    source,
                    root::DEPTH,
                    rights,
                    data,
                )
                .doing("a capability could not be given", name(&domain.name))?;
        }
        self.give_grants(index)
    }

    /// The capability to mint from, and badge or range of the copy.
    fn source(&self, capability: &Capability, domain: usize) -> (u64, CapData) {
        let object = capability.object as usize;
        let badge = CapData::badge(capability.badge);
        match capability.kind {
            capability_kind::NOTIFICATION => (self.slots.domains[object].notification, badge),
            capability_kind::ENDPOINT => (self.slots.domains[object].endpoint, badge),
            capability_kind::FAULT_ENDPOINT => (self.slots.fault_endpoint, badge),
            capability_kind::VSPACE => (self.slots.domains[domain].vspace, CapData::NONE),
            capability_kind::INIT => (self.slots.notification, badge),
            capability_kind::IRQ_HANDLER => (u64::from(self.slots.irqs[object]), CapData::NONE),
            _ => {
                let ports = &self.payload.ports[object];
                (
                    root::IO_PORT.cptr(),
                    CapData::io_ports(ports.first, ports.last),
                )
            }
        }
    }
}
