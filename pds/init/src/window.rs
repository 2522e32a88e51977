//! Looking at frames through `init`'s own address space.

use core::ptr::NonNull;

use segue_shared_memory::Region;
use segue_system_image::format::limits;
use segue_system_image::resources::KEPT_PAGES;
use sel4::cap::{Page, PageDirectory, PageTable};
use sel4::{CapRights, VmAttributes};

use crate::allocator::Allocator;
use crate::failure::{Doing, Failure};
use crate::root;

/// Where frames appear: far above the boot image, in the same table of the
/// topmost level.
const WINDOW: u64 = 0x40_0000_0000;
/// Where a small frame appears for a moment.
const SMALL: u64 = WINDOW + 0x1f_f000;
/// Where a large frame appears for a moment.
const LARGE: u64 = WINDOW + 0x20_0000;
/// Pages that stay in view: of regions, and one of each image of each protection domain.
const MOST_KEPT: u64 = KEPT_PAGES + (limits::PROTECTION_DOMAINS + limits::IMAGES) as u64;
/// They end below it.
const _: () = assert!(WINDOW + (MOST_KEPT << 12) <= SMALL);

/// A range of `init`'s address space for frames.
pub(crate) struct Window {
    /// The slot for the copy of the capability of the frame in view.
    copy: u64,
    /// Pages that stay.
    kept: u64,
}

impl Window {
    /// Takes a page directory and a page table, in slots `tables` and the next.
    pub(crate) fn new(allocator: &mut Allocator, tables: u64) -> Result<Self, Failure> {
        let write_back = VmAttributes::WRITE_BACK;
        PageDirectory(tables)
            .map(root::VSPACE, WINDOW, write_back)
            .and_then(|()| PageTable(tables + 1).map(root::VSPACE, WINDOW, write_back))
            .doing("a page table could not be mapped", "init")?;
        Ok(Self {
            copy: allocator.slots(1)?,
            kept: 0,
        })
    }

    /// Shows the frame in slot `frame` to `look`.
    pub(crate) fn look<T>(
        &self,
        frame: u64,
        page_bits: u32,
        rights: CapRights,
        look: impl FnOnce(&Region) -> T,
    ) -> Result<T, Failure> {
        let address = if page_bits == 21 { LARGE } else { SMALL };
        root::CNODE
            .copy(
                self.copy,
                root::DEPTH,
                root::CNODE,
                frame,
                root::DEPTH,
                CapRights::ALL,
            )
            .and_then(|()| {
                Page(self.copy).map(root::VSPACE, address, rights, VmAttributes::WRITE_BACK)
            })
            .doing("a frame could not be mapped", "init")?;
        let result = look(&region(address, 1 << page_bits));
        Page(self.copy)
            .unmap()
            .and_then(|()| root::CNODE.delete(self.copy, root::DEPTH))
            .doing("a frame could not be unmapped", "init")?;
        Ok(result)
    }

    /// Shows `count` small frames, from slot `frames` on, for good.
    pub(crate) fn keep(
        &mut self,
        allocator: &mut Allocator,
        frames: u64,
        count: u64,
    ) -> Result<Region, Failure> {
        if self.kept + count > MOST_KEPT {
            return Err(Failure::Inconsistent(
                "a region that init writes is too large",
            ));
        }
        let address = WINDOW + (self.kept << 12);
        let copies = allocator.slots(count)?;
        for index in 0..count {
            let copy = copies + index;
            let place = address + (index << 12);
            let source = frames + index;
            root::CNODE
                .copy(
                    copy,
                    root::DEPTH,
                    root::CNODE,
                    source,
                    root::DEPTH,
                    CapRights::ALL,
                )
                .and_then(|()| {
                    let rights = CapRights::READ_WRITE;
                    Page(copy).map(root::VSPACE, place, rights, VmAttributes::WRITE_BACK)
                })
                .doing("a frame could not be mapped", "init")?;
        }
        self.kept += count;
        Ok(region(address, (count << 12) as usize))
    }
}

/// A part of the window as a region.
fn region(address: u64, length: usize) -> Region {
    let base = NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling());
    // SAFETY: the caller has just mapped frames there, the address is aligned to
    // a page, and no Rust object lies in the window. A region that `look` shows
    // is not used after the frame is unmapped, since `look` only lends it out.
    unsafe { Region::new(base, length) }
}
