//! DMA is confined: a virtual function that is told to read and write outside its
//! IO address space is blocked, with the IOMMU's own trace as witness.

use std::collections::BTreeSet;

use segue_system_tests::{Cable, TestMachine};

/// Requester id of virtual function 1: 00:13.2.
const REQUESTER: u32 = 0x9a;
const SECRET: u64 = 0x3000_0000;
const READ_ONLY: u64 = 0x1800_0000;
const KERNEL: u64 = 0x10_0000;

/// What the test program says when it has made all its attempts.
const UNCHANGED: &str = "rogue-dma: all memory outside the windows is unchanged";
const CHANGED: &str = "rogue-dma: error: memory was changed: the secret is changed, \
                       the read-only page is unchanged";

/// One line of the IOMMU's trace.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    requester: u32,
    page: u64,
    write: bool,
}

/// Reads `vtd_dmar_fault sid 0x9a fault 6 addr 0x30000000 write 0`.
fn fault(line: &str) -> Option<Fault> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1).copied()
    };
    words.contains(&"vtd_dmar_fault").then_some(())?;
    let hexadecimal = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    Some(Fault {
        requester: hexadecimal(after("sid")?)? as u32,
        page: hexadecimal(after("addr")?)? & !0xfff,
        write: after("write")? == "1",
    })
}

fn faults(machine: &TestMachine) -> BTreeSet<Fault> {
    let lines = machine.trace().expect("the trace can be read");
    lines.iter().filter_map(|line| fault(line)).collect()
}

fn expected(pages: &[(u64, bool)]) -> BTreeSet<Fault> {
    pages
        .iter()
        .map(|&(page, write)| Fault {
            requester: REQUESTER,
            page,
            write,
        })
        .collect()
}

fn start(system: &str) -> TestMachine {
    let machine = TestMachine::machine(system).trace("vtd_dmar_fault");
    let machine = TestMachine::start(machine, Cable::User);
    machine.expect_line("rogue-dma: within its memory the function sends, and receives the answer");
    machine
}

#[test]
fn dma_outside_its_windows_is_blocked() {
    let machine = start("rogue-dma");
    machine.expect_line("rogue-dma: attempt: take orders from the secret");
    machine.expect_line(UNCHANGED);
    machine.expect_line("igb-pf: virtual function 1 was reset by its user and is enabled again");
    machine.expect_line("rogue-dma: after its reset the function works again");
    let pages = [
        (SECRET, false),
        (SECRET + 0x1000, true),
        (SECRET + 0x2000, true),
        (SECRET + 0x3000, false),
        (READ_ONLY, true),
        (KERNEL, false),
        (KERNEL + 0x1000, true),
    ];
    assert_eq!(
        faults(&machine),
        expected(&pages),
        "each attempt is blocked, and nothing else"
    );
}

/// The test above could not fail if the attempts reached nothing even without an IOMMU.
#[test]
fn dma_inside_a_window_reaches_the_same_memory() {
    let machine = start("rogue-dma-allowed");
    machine.expect_line(CHANGED);
    let pages = [(READ_ONLY, true), (KERNEL, false), (KERNEL + 0x1000, true)];
    assert_eq!(faults(&machine), expected(&pages));
}
