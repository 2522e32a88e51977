//! H8: a flag of a user thread that stays set in the kernel.

use core::arch::global_asm;

use sel4::cap::UserContext;
use sel4::{ObjectType, Word};

use crate::Finding;
use crate::workshop::{Workshop, start, wait_for};

global_asm!(
    r#"
    # Sets NT and makes the system call rdx.
    .globl thread_sets_nested_task
    thread_sets_nested_task:
        pushfq
        or qword ptr [rsp], 0x4000
        popfq
        syscall
        ud2
    "#
);

unsafe extern "C" {
    safe fn thread_done();
    safe fn thread_sets_nested_task();
}

/// With the nested-task flag set, the kernel's way out to a thread that did not come in by a system
/// call faults, and with that the kernel stops.
pub fn nested_task(workshop: &mut Workshop) -> Finding {
    let endpoint = workshop.object(ObjectType::Endpoint, 0);
    let silent = workshop.object(ObjectType::Endpoint, 0);
    let page = workshop.object(ObjectType::SmallPage, 0);
    let stack = workshop.map(page) + 4096;
    start(
        workshop.thread(endpoint, 100),
        &UserContext {
            rip: thread_sets_nested_task as *const () as Word,
            rsp: stack,
            rdi: silent,
            rdx: sel4::syscall::number::RECV as Word,
            ..UserContext::default()
        },
    );
    // Runs when the first one waits.
    start(
        workshop.thread(endpoint, 50),
        &UserContext {
            rip: thread_done as *const () as Word,
            r12: endpoint,
            ..UserContext::default()
        },
    );
    match wait_for(endpoint) {
        Ok(_) => Finding::Shut,
        Err(fault) => panic!("a thread {fault}"),
    }
}
