//! What becomes of those that are stopped for good: who calls one of them is answered that it is
//! gone, and its devices reach no memory any more.

use core::arch::global_asm;

use segue_system_image::format::{irq_kind, layout};
use sel4::cap::{IrqHandler, Page, Tcb, UserContext};
use sel4::{CapRights, VmAttributes};
use sel4_microkit_abi::GONE_LABEL;

use crate::builder::Builder;
use crate::failure::{Doing, Failure};
use crate::{root, start};

// A program of its own on a page of its own, in the place of the one that is gone: it answers
// whoever waits, then every caller, for ever. Signals it takes and drops. It needs neither stack
// nor memory. Registers as in `sel4::syscall`.
global_asm!(
    ".pushsection .text.gone_page, \"ax\", @progbits",
    ".balign 4096",
    ".globl gone_page",
    "gone_page:",
    "mov edi, {input}",
    "mov esi, {answer}",
    "mov rdx, {reply_recv}",
    "syscall",
    "jmp gone_page",
    ".balign 4096",
    ".popsection",
    input = const layout::INPUT,
    answer = const GONE_LABEL << 12,
    reply_recv = const sel4::syscall::number::REPLY_RECV,
);

unsafe extern "C" {
    static gone_page: u8;
}

/// The page between stack and IPC buffer, which is empty while the program lives.
const PLACE: u64 = layout::STACK_TOP;
const _: () = assert!(PLACE + 0x1000 == layout::IPC_BUFFER);

impl Builder<'_> {
    /// Has somebody answer in the place of a protection domain that is stopped for good.
    pub(crate) fn leave_answering(&mut self, index: usize) -> Result<(), Failure> {
        let slots = self.slots.domains[index];
        if slots.endpoint == 0 {
            return Ok(());
        }
        let name = self.name_of(index);
        let page = ((&raw const gone_page) as u64 - start::image_address()) >> 12;
        let slot = self.allocator.slots(1)?;
        root::CNODE
            .copy(
                slot,
                root::DEPTH,
                root::CNODE,
                self.image_frames + page,
                root::DEPTH,
                CapRights::READ,
            )
            .and_then(|()| {
                Page(slot).map(
                    slots.vspace,
                    PLACE,
                    CapRights::READ,
                    VmAttributes::WRITE_BACK,
                )
            })
            .doing("nobody can answer in its place", name)?;
        let context = UserContext {
            rip: PLACE,
            ..Default::default()
        };
        let words = UserContext::COUNT as u64;
        Tcb(slots.thread)
            .write_registers(true, 0, words, &context)
            .doing("nobody can answer in its place", name)
    }

    /// Takes memory away from the devices whose interrupts a protection domain has, and the
    /// interrupts from it.
    pub(crate) fn disconnect_devices(&self, index: usize) -> Result<(), Failure> {
        let payload = self.payload;
        let name = self.name_of(index);
        for (place, irq) in payload.irqs.iter().enumerate() {
            if irq.protection_domain as usize != index {
                continue;
            }
            IrqHandler(u64::from(self.slots.irqs[place]))
                .clear()
                .doing("an interrupt could not be taken back", name)?;
            if irq.kind != irq_kind::MSI {
                continue;
            }
            for (space, slot) in payload.io_spaces.iter().zip(self.slots.io_spaces.iter()) {
                if u32::from(space.requester) != u32::from(irq.requester) {
                    continue;
                }
                let slot = u64::from(*slot);
                // With its last capability the kernel takes the function's context entry out.
                // Of a second interrupt of the same function there is nothing left to do.
                let _ = root::CNODE
                    .revoke(slot, root::DEPTH)
                    .and_then(|()| root::CNODE.delete(slot, root::DEPTH));
            }
        }
        Ok(())
    }
}
