//! Protection domains are found in the machine's memory, and what is written there they see.

use segue_qemu::Machine;
use segue_system_tests::guest_memory::{Debugger, GuestMemory};
use segue_system_tests::instructions::Program;
use segue_system_tests::{Cable, TestMachine};

/// Two bytes that are no instruction.
const INVALID: [u8; 2] = [0x0f, 0x0b];

fn boot(machine: Machine, folder: &std::path::Path) -> (TestMachine, GuestMemory) {
    let file = folder.join("memory");
    let machine = machine.memory_file(&file).debugger(folder.join("debugger"));
    let mut machine = TestMachine::start(machine, Cable::User);
    machine.wait_until_it_answers();
    let memory = GuestMemory::open(&file).expect("QEMU makes the file");
    (machine, memory)
}

#[test]
fn code_that_was_executed_before_can_be_changed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (machine, memory) = boot(TestMachine::machine("files"), folder.path());
    let program = Program::read("segue-netserver");
    let space = memory.space_of(&program).expect("it runs");
    for name in ["segue-timer", "segue-console", "segue-http"] {
        let other = memory.space_of(&Program::read(name)).expect(name);
        assert_ne!(other, space, "{name}");
    }
    let mappings = space.mappings(&memory).expect("it has page tables");
    let [writable, constant] = program.areas();
    for mapping in &mappings {
        let is_in = |areas: &[std::ops::Range<u64>]| {
            let end = mapping.address + mapping.size;
            areas
                .iter()
                .any(|area| area.start < end && mapping.address < area.end)
        };
        assert!(!is_in(&writable) || mapping.writable, "{mapping:x?}");
        assert!(!is_in(&constant) || !mapping.writable, "{mapping:x?}");
    }
    machine.assert_page_loads();
    let (entry, _) = program.code();
    let code = constant.iter().find(|area| area.contains(&entry));
    let code = code.expect("it begins in itself").clone();
    let mut debugger = Debugger::connect(&folder.path().join("debugger")).expect("QEMU listens");
    for page in mappings.iter().filter(|page| code.contains(&page.address)) {
        let bytes = INVALID.repeat(page.size as usize / 2);
        debugger.write(page.physical, &bytes).expect("memory");
    }
    drop(debugger);
    println!(
        "{}",
        machine.expect_line("netserver was stopped: it gave up")
    );
}
