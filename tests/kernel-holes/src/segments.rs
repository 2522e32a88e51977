//! H5: one thread changes the FS base, the next one runs with it.

use core::arch::global_asm;

use sel4::cap::UserContext;
use sel4::{Fault, ObjectType, Word};

use crate::Finding;
use crate::workshop::{Workshop, start, wait_for, write};

global_asm!(
    r#"
    # Sets the FS base to rdi, then waits for ever.
    .globl thread_writes_base
    thread_writes_base:
        wrfsbase rdi
        jmp 1f

    # Loads a selector into FS, which sets the FS base, then waits for ever.
    .globl thread_loads_selector
    thread_loads_selector:
        mov eax, ss
        mov fs, eax

    1:  mov rdi, r13
        mov rdx, -5
        syscall
        ud2

    # Reads the first word of the FS segment.
    .globl thread_reads_segment
    thread_reads_segment:
        mov rax, fs:[0]
        jmp thread_done
    "#
);

unsafe extern "C" {
    safe fn thread_writes_base();
    safe fn thread_loads_selector();
    safe fn thread_reads_segment();
}

/// What the second thread's own segment begins with.
const OWN: Word = 0x0123_4567;
/// What the first thread's other memory begins with.
const FOREIGN: Word = 0x89ab_cdef;

/// With the instruction for it, which is refused where the kernel does not switch it on.
pub fn instruction(workshop: &mut Workshop) -> Finding {
    let foreign = memory(workshop, FOREIGN);
    match two_threads(workshop, thread_writes_base as *const (), foreign) {
        Ok(FOREIGN) => Finding::Open,
        Err(Fault::UserException { number: 6, .. }) => Finding::Shut,
        other => panic!("the second thread read {other:x?}"),
    }
}

/// With a selector, which no kernel can refuse.
pub fn selector(workshop: &mut Workshop) -> Finding {
    match two_threads(workshop, thread_loads_selector as *const (), 0) {
        Ok(OWN) => Finding::Shut,
        Err(Fault::VirtualMemory { address: 0, .. }) => Finding::Open,
        other => panic!("the second thread read {other:x?}"),
    }
}

/// A page that begins with `word`.
fn memory(workshop: &mut Workshop, word: Word) -> Word {
    let page = workshop.object(ObjectType::SmallPage, 0);
    let address = workshop.map(page);
    write(address, word);
    address
}

/// Runs a thread at `first`, then directly after it another that reads the first word of its FS
/// segment. Both were given the same FS base. The first message or fault of either.
fn two_threads(workshop: &mut Workshop, first: *const (), argument: Word) -> Result<Word, Fault> {
    let base = memory(workshop, OWN);
    let endpoint = workshop.object(ObjectType::Endpoint, 0);
    let silent = workshop.object(ObjectType::Endpoint, 0);
    for (code, priority) in [(first, 101), (thread_reads_segment as *const (), 100)] {
        start(
            workshop.thread(endpoint, priority),
            &UserContext {
                rip: code as Word,
                rdi: argument,
                r12: endpoint,
                r13: silent,
                tls_base: base,
                ..UserContext::default()
            },
        );
    }
    wait_for(endpoint)
}
