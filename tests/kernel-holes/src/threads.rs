//! Threads in assembly, and the thread that goes on after it was deleted.

use core::arch::global_asm;

use sel4::cap::{CNode, UserContext};
use sel4::{ObjectType, WORD_BITS, Word};

use crate::workshop::{DONE, ROOT, THREAD, Workshop, start, wait_for};
use crate::{Finding, edu};

// Each thread's code: arguments in the registers of `UserContext`, no stack. All end by sending rax
// to the endpoint in r12, with `DONE` as label.
global_asm!(
    r#"
    .globl thread_done
    thread_done:
        mov r10, rax
        mov rdi, r12
        mov esi, {information}
        mov rdx, -3
        syscall
        ud2

    # Reads the word at rdi.
    .globl thread_reads
    thread_reads:
        mov rax, [rdi]
        jmp thread_done

    # Deletes slot r13 of the root CNode.
    .globl thread_deletes
    thread_deletes:
        mov r10, r13
        mov r8, 64
        mov rdi, 2
        mov rsi, {delete}
        mov rdx, -1
        syscall
        ud2
    "#,
    information = const DONE << 12 | 1,
    delete = const 15 << 12 | 2,
);

unsafe extern "C" {
    safe fn thread_reads();
    safe fn thread_deletes();
}

/// Has another thread read the word at `address`; an error if that faults.
pub fn try_read(workshop: &mut Workshop, address: Word) -> Result<Word, sel4::Fault> {
    let endpoint = workshop.object(ObjectType::Endpoint, 0);
    let thread = workshop.thread(endpoint, 100);
    start(
        thread,
        &UserContext {
            rip: thread_reads as *const () as Word,
            rdi: address,
            r12: endpoint,
            ..UserContext::default()
        },
    );
    wait_for(endpoint)
}

/// A thread deletes a CNode that holds its own, only, TCB capability and the last IO space
/// capability of a device. If it goes on after that, it does so without an address space, and the
/// kernel's console tells: from here it cannot be seen.
pub fn revived(workshop: &mut Workshop) -> Finding {
    let space = edu::io_space(workshop);
    let thread = workshop.thread(sel4::NULL, 100);
    let node = workshop.object(ObjectType::CNode, 1);
    // It does not run yet: this thread has priority 255.
    start(
        thread,
        &UserContext {
            rip: thread_deletes as *const () as Word,
            r13: node,
            ..UserContext::default()
        },
    );
    // A CNode is emptied from its end: first the thread, then the IO space.
    for (index, slot) in [(1, thread.cptr()), (0, space)] {
        CNode(node)
            .move_(index, 1, ROOT, slot, WORD_BITS)
            .expect("a capability can be moved");
    }
    // Now it runs, until it is gone.
    THREAD.set_priority(50).expect("less is always allowed");
    assert!(workshop.try_copy(node).is_err(), "the CNode was deleted");
    Finding::Shut
}
