//! Device memory, IO address spaces and interrupts.

use segue_system_image::Payload;
use segue_system_image::format::{irq_kind, region_kind};
use sel4::cap::{IoPageTable, IrqHandler, Page};
use sel4::{CapData, CapRights};

use crate::builder::{Builder, name};
use crate::failure::{Doing, Failure};
use crate::root;

impl Builder<'_> {
    /// Cuts all device regions out of the device untypeds, in ascending order of
    /// their addresses, since an untyped gives memory out in that order.
    pub(crate) fn make_device_regions(&mut self) -> Result<(), Failure> {
        let regions = self.payload.regions;
        let mut last = None;
        loop {
            let next = regions
                .iter()
                .enumerate()
                .filter(|(_, region)| {
                    matches!(region.kind, region_kind::DEVICE | region_kind::UNTYPED)
                })
                .map(|(index, region)| (region.physical_address, index))
                .filter(|place| last.is_none_or(|last| *place > last))
                .min();
            let Some((address, index)) = next else {
                return Ok(());
            };
            last = next;
            let region = &regions[index];
            if region.kind == region_kind::UNTYPED {
                let slot = self.allocator.slots(1)?;
                let bits = region.size.trailing_zeros();
                self.allocator
                    .device_untyped(name(&region.name), address, bits, slot)?;
                self.slots.regions[index] = slot as u32;
                continue;
            }
            let page_bits = u32::from(region.page_bits);
            let pages = region.size >> page_bits;
            let frames = self.allocator.slots(pages)?;
            self.allocator
                .device_frames(name(&region.name), address, page_bits, frames, pages)?;
            self.slots.regions[index] = frames as u32;
        }
    }

    /// Makes each IO address space and everything mapped in it. All of it
    /// belongs to `init` and outlives the protection domains that use it.
    pub(crate) fn make_io_spaces(&mut self) -> Result<(), Failure> {
        let payload = self.payload;
        for (index, space) in payload.io_spaces.iter().enumerate() {
            let space_name = name(&space.name);
            let slot = self.allocator.slots(1)?;
            self.slots.io_spaces[index] = slot as u32;
            root::CNODE
                .mint(
                    slot,
                    root::DEPTH,
                    root::CNODE,
                    root::IO_SPACE,
                    root::DEPTH,
                    CapRights::ALL,
                    CapData::io_space(space.domain, space.requester),
                )
                .doing("an IO address space could not be made", space_name)?;
            for table in space.tables.range() {
                IoPageTable(self.slots.io_tables + table as u64)
                    .map(slot, payload.io_tables[table].address)
                    .doing("an IO page table could not be mapped", space_name)?;
            }
            for index in space.maps.range() {
                let map = &payload.io_maps[index];
                let region = &payload.regions[map.region as usize];
                let pages = region.size >> 12;
                let rights = if map.writable == 1 {
                    CapRights::READ_WRITE
                } else {
                    CapRights::READ
                };
                let copies = self.copy_frames(map.region, pages)?;
                self.slots.io_maps[index] = copies as u32;
                for page in 0..pages {
                    Page(copies + page)
                        .map_io(slot, rights, map.address + (page << 12))
                        .doing(
                            "memory could not be mapped for a device",
                            name(&region.name),
                        )?;
                }
            }
        }
        Ok(())
    }

    /// Copies the capabilities of the first `pages` frames of a region.
    pub(crate) fn copy_frames(&mut self, region: u32, pages: u64) -> Result<u64, Failure> {
        let copies = self.allocator.slots(pages)?;
        let frames = u64::from(self.slots.regions[region as usize]);
        for page in 0..pages {
            let (copy, frame) = (copies + page, frames + page);
            root::CNODE
                .copy(
                    copy,
                    root::DEPTH,
                    root::CNODE,
                    frame,
                    root::DEPTH,
                    CapRights::ALL,
                )
                .doing("a frame could not be copied", "memory region")?;
        }
        Ok(copies)
    }

    /// Makes each interrupt handler and lets it signal its protection domain.
    pub(crate) fn make_irqs(&mut self) -> Result<(), Failure> {
        let payload: Payload<'static> = self.payload;
        for (index, irq) in payload.irqs.iter().enumerate() {
            let domain = irq.protection_domain as usize;
            let domain_name = name(&payload.protection_domains[domain].name);
            let slot = self.allocator.slots(2)?;
            self.slots.irqs[index] = slot as u32;
            let depth = u64::from(root::DEPTH);
            let vector = u64::from(irq.vector);
            if irq.kind == irq_kind::MSI {
                let [bus, device, function] = [
                    irq.requester >> 8,
                    irq.requester >> 3 & 31,
                    irq.requester & 7,
                ]
                .map(u64::from);
                let handle = u64::from(irq.handle);
                root::IRQ_CONTROL.get_msi(
                    root::CNODE,
                    slot,
                    depth,
                    bus,
                    device,
                    function,
                    handle,
                    vector,
                )
            } else {
                let [ioapic, pin, level, low] =
                    [irq.ioapic, irq.pin, irq.level, irq.low].map(u64::from);
                root::IRQ_CONTROL.get_ioapic(
                    root::CNODE,
                    slot,
                    depth,
                    ioapic,
                    pin,
                    level,
                    low,
                    vector,
                )
            }
            .doing("an interrupt could not be had", domain_name)?;
            let notification = slot + 1;
            self.mint(
                notification,
                self.slots.domains[domain].notification,
                irq.badge,
            )?;
            IrqHandler(slot)
                .set_notification(notification)
                .doing("an interrupt could not be bound", domain_name)?;
        }
        Ok(())
    }
}
