//! H1 as the processor sees it, and the address of a fault.

use sel4::cap::{CNode, Notification};
use sel4::{CPtr, CapData, CapRights, Fault, ObjectType, WORD_BITS, Word};

use crate::Finding;
use crate::threads::try_read;
use crate::workshop::{ROOT, Workshop, delete, read, retype, revoke, write};

/// Bytes of a slot: two words of capability, two of its place among the others.
const SLOT_BYTES: Word = 32;

/// H1: a frame stays mapped after its capability is gone. Used to forge a capability: the memory
/// becomes a CNode, and what is written through the old mapping is a capability in it.
pub fn outlives_its_capability(workshop: &mut Workshop) -> Finding {
    let memory = workshop.object(ObjectType::Untyped, 12);
    let page = workshop.slot();
    retype(memory, ObjectType::SmallPage, 0, page, 1).expect("the memory suffices");
    let mapped = workshop.copy(page);
    let address = workshop.map(mapped);
    write(address, 1);
    delete(mapped);
    revoke(memory);
    if let Err(fault) = try_read(workshop, address) {
        assert!(
            matches!(fault, Fault::VirtualMemory { .. }),
            "the page is gone, but: {fault}"
        );
        return Finding::Shut;
    }

    let node = workshop.slot();
    retype(memory, ObjectType::CNode, 7, node, 1).expect("the memory is free");
    let notification = workshop.object(ObjectType::Notification, 0);
    CNode(node)
        .mint(
            0,
            7,
            ROOT,
            notification,
            WORD_BITS,
            CapRights::ALL,
            CapData::badge(0xbad),
        )
        .expect("slot 0 is free");
    for word in 0..2 {
        write(
            address + 5 * SLOT_BYTES + 8 * word,
            read(address + 8 * word),
        );
    }
    let forged: CPtr = workshop.slot();
    ROOT.copy(forged, WORD_BITS, CNode(node), 5, 7, CapRights::ALL)
        .expect("the forged capability counts");
    sel4::syscall::signal(Notification(forged).cptr());
    assert_eq!(sel4::syscall::wait(notification), 0xbad);
    Finding::Open
}

/// A page fault above 4 GiB is reported with its address.
pub fn fault_address(workshop: &mut Workshop) -> Finding {
    let wanted = 0x12_3456_7008;
    match try_read(workshop, wanted) {
        Err(Fault::VirtualMemory { address, .. }) if address == wanted => Finding::Shut,
        Err(Fault::VirtualMemory { address, .. }) => {
            assert_eq!(address, wanted & 0xffff_ffff);
            Finding::Open
        }
        other => panic!("no page fault but {other:?}"),
    }
}
