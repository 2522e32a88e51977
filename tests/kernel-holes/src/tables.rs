//! H6 and what else concerns addresses and tables.

use sel4::cap::{Page, PageDirectoryPointerTable};
use sel4::{CapRights, Error, ObjectType, VmAttributes, Word};

use crate::Finding;
use crate::workshop::{VSPACE, Workshop};

/// Plain memory.
const ATTRIBUTES: VmAttributes = VmAttributes::WRITE_BACK;

/// What an attempt to map at an address that is not for users says.
fn judge(result: Result<(), Error>) -> Finding {
    match result {
        Ok(()) => Finding::Open,
        Err(Error::InvalidArgument { .. }) => Finding::Shut,
        Err(error) => panic!("refused, but for another reason: {error}"),
    }
}

/// H6: the last page below the hole of non-canonical addresses, where a system call would return to
/// a non-canonical address.
pub fn last_page(workshop: &mut Workshop) -> Finding {
    // The page below it is the last one for users.
    let page = workshop.object(ObjectType::SmallPage, 0);
    workshop
        .try_map(page, 0x7fff_ffff_e000, ATTRIBUTES)
        .expect("this page is for users");
    let page = workshop.object(ObjectType::SmallPage, 0);
    judge(workshop.try_map(page, 0x7fff_ffff_f000, ATTRIBUTES))
}

/// H6: the upper half of the address space.
pub fn upper_half(workshop: &mut Workshop) -> Finding {
    let page = workshop.object(ObjectType::SmallPage, 0);
    judge(workshop.try_map(page, 0xffff_8000_0000_0000, ATTRIBUTES))
}

/// H6: an address in the hole, whose tables are the kernel's own: the page lands in the page
/// directory of the kernel's devices, which every address space shares.
pub fn kernel_page_directory(workshop: &mut Workshop) -> Finding {
    let page = workshop.object(ObjectType::LargePage, 0);
    judge(map_large(page, 0x0000_ffff_ffc0_0000))
}

/// H6: the very end of the address space, where the end of the page is 0.
pub fn end_of_address_space(workshop: &mut Workshop) -> Finding {
    let page = workshop.object(ObjectType::LargePage, 0);
    judge(map_large(page, 0xffff_ffff_ffe0_0000))
}

/// Maps a page of 2 MiB where no table has to be made.
fn map_large(page: u64, address: Word) -> Result<(), Error> {
    Page(page).map(VSPACE, address, CapRights::READ_WRITE, ATTRIBUTES)
}

/// H6: an IPC buffer at a non-canonical address, which the kernel loads as GS base. A processor
/// would fault there, in the kernel; QEMU takes any base, so only the kernel's answer is seen here.
pub fn ipc_buffer_address(workshop: &mut Workshop) -> Finding {
    let thread = workshop.thread(sel4::NULL, 100);
    let page = workshop.object(ObjectType::SmallPage, 0);
    judge(thread.set_ipc_buffer(0x8000_0000_0000, page))
}

/// Copies of a page directory pointer table's capability: none of an unmapped table, and one of a
/// mapped table that is known to be for the same object.
pub fn page_directory_pointer_table_copy(workshop: &mut Workshop) -> Finding {
    let table = workshop.object(ObjectType::PageDirectoryPointerTable, 0);
    assert_eq!(workshop.try_copy(table), Err(Error::IllegalOperation));
    PageDirectoryPointerTable(table)
        .map(VSPACE, 0x7f00_0000_0000, ATTRIBUTES)
        .expect("the place is free");
    workshop.copy(table);
    assert_eq!(
        PageDirectoryPointerTable(table).unmap(),
        Err(Error::RevokeFirst)
    );
    Finding::Shut
}

/// The device memory from 512 GiB on, whose kernel address is 0, is one untyped as large as fits.
/// Without the fix it is cut into pieces, which are too many for the kernel's list.
pub fn untyped_at_zero(workshop: &mut Workshop) -> Finding {
    let whole = workshop
        .boot_info
        .untyped()
        .any(|untyped| untyped.physical_address == 1 << 39 && untyped.size_bits >= 39);
    if whole { Finding::Shut } else { Finding::Open }
}
