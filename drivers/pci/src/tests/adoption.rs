//! A driver that dies between any two writes, and its successor.

use super::*;

/// Virtual functions 1 and 2 are granted to others and taken back.
const LENT: u16 = 0b110;
const BUS_MASTER: u16 = 1 << 2;
/// A place in a function's space that nobody uses: what stands there shows whether it is still the
/// same function.
const MARK: usize = 0xff0;

/// The machine: configuration space, and the MSI-X tables.
struct Machine {
    space: SimulatedSpace,
    windows: Windows,
}

/// All that can be seen of it: each function's bytes, and the tables.
type Snapshot = (BTreeMap<u16, Vec<u8>>, Vec<u32>);

impl Machine {
    fn new() -> Self {
        let space = SimulatedSpace::new();
        let functions = [None, Some(0), Some(1), Some(2)];
        let windows = functions
            .map(|function| (function, SimulatedWindow::new(&space.1)))
            .into_iter()
            .collect();
        Self { space, windows }
    }

    fn set_up(&self) -> Result<Found, Error> {
        self.set_up_with(&device())
    }

    fn set_up_with(&self, device: &Device) -> Result<Found, Error> {
        let ecam = Ecam::new(self.space.clone(), BUS_SIZE);
        let interrupts = interrupts();
        let more = Interrupt {
            requester_id: 0x9c,
            table_index: 1,
            vector: 20,
        };
        let interrupts = [&interrupts[..], &[more]].concat();
        set_up(
            &ecam,
            device,
            &interrupts,
            LENT,
            |request| self.windows.get(&request.virtual_function).cloned(),
            || {},
        )
    }

    /// One that runs: function 1 has a holder, function 2 has none.
    fn running() -> Self {
        let machine = Self::new();
        assert!(!machine.set_up().unwrap().adopted);
        for id in [0x98, 0x9a, 0x9c] {
            machine
                .space
                .change(id, |function| function.bytes[MARK] = 0xa5);
        }
        let command = machine.space.get16(0x9a, 4) | BUS_MASTER;
        machine
            .space
            .change(0x9a, |function| function.set16(4, command));
        machine.forget_writes();
        machine
    }

    fn forget_writes(&self) {
        self.space.take_writes();
        for window in self.windows.values() {
            window.writes.borrow_mut().clear();
        }
    }

    fn writes(&self) -> usize {
        let windows = self.windows.values();
        let tables: usize = windows.map(|window| window.writes.borrow().len()).sum();
        self.space.0.borrow().writes.len() + tables
    }

    fn snapshot(&self) -> Snapshot {
        let state = self.space.0.borrow();
        let functions = state.functions.iter();
        let functions = functions.map(|(id, function)| (*id, function.bytes.clone()));
        let words = |window: &SimulatedWindow| {
            let window = window.clone();
            (0..10 * 4).map(move |word| window.read32(4 * word))
        };
        let tables = self.windows.values().flat_map(words);
        (functions.collect(), tables.collect())
    }
}

#[test]
fn who_may_make_requests_is_left_to_who_grants() {
    let machine = Machine::new();
    machine.set_up().unwrap();
    let can = |id| machine.space.get16(id, 4) & BUS_MASTER != 0;
    assert_eq!([can(0x98), can(0x9a), can(0x9c)], [true, false, false]);
    let machine = Machine::running();
    let can = |id| machine.space.get16(id, 4) & BUS_MASTER != 0;
    assert!(machine.set_up().unwrap().adopted);
    assert_eq!([can(0x98), can(0x9a), can(0x9c)], [true, true, false]);
}

#[test]
fn a_device_that_runs_is_not_written_at_all() {
    let machine = Machine::running();
    let before = machine.snapshot();
    let found = machine.set_up().unwrap();
    assert!(found.adopted);
    assert_eq!(found.corrected, 0);
    assert_eq!(machine.writes(), 0);
    assert!(machine.snapshot() == before);
}

#[test]
fn death_between_any_two_writes_is_made_good() {
    let complete = Machine::new();
    complete.set_up().unwrap();
    let (all, wanted) = (complete.writes(), complete.snapshot());
    for writes in 0..=all {
        let machine = Machine::new();
        machine.space.1.set(Some(writes));
        let _ = machine.set_up();
        machine.space.1.set(None);
        machine.set_up().unwrap();
        let after = machine.snapshot();
        for (id, bytes) in &wanted.0 {
            let found = &after.0[id];
            let differs = (0..bytes.len()).find(|&at| bytes[at] != found[at]);
            assert_eq!(differs, None, "{writes} of {all}: {id:#x}");
        }
        assert!(after == wanted, "{writes} of {all}");
    }
}

/// Registers of a device that runs, and what is to be left of each once it was corrected: 16 bits of
/// configuration space each.
fn registers() -> Vec<(u16, usize, u16)> {
    let mut registers = std::vec![
        // Memory decoding and requests of the physical function; MSI-X.
        (NIC, 4, 6),
        (NIC, 0x72, 0xc000),
        (NIC, SRIOV + 8, 8),
    ];
    for bar in [
        0x10,
        0x1c,
        0x20,
        SRIOV + 0x24,
        SRIOV + 0x28,
        SRIOV + 0x30,
        SRIOV + 0x34,
    ] {
        registers.extend([(NIC, bar, 0xfff0), (NIC, bar + 2, 0xffff)]);
    }
    for id in [0x98, 0x9a, 0x9c] {
        registers.push((id, 0x72, 0xc000));
        registers.push((id, 4, if id == 0x98 { 6 } else { 2 }));
    }
    for id in [0x9e, 0xa0, 0xa2, 0xa4] {
        registers.push((id, 4, 6));
    }
    registers
}

#[test]
fn a_single_damaged_register_is_corrected_and_nobody_is_disturbed() {
    for (id, at, mask) in registers() {
        for pattern in [0, 0xffff, 0x5555, 0xaaaa] {
            let machine = Machine::running();
            let wanted = machine.snapshot();
            let before = machine.space.get16(id, at);
            let writable = {
                let function = &machine.space.0.borrow().functions[&id];
                u16::from_le_bytes([function.writable[at], function.writable[at + 1]])
            };
            let mask = mask & writable;
            let damaged = pattern & mask | before & !mask;
            if damaged == before {
                continue;
            }
            machine
                .space
                .change(id, |function| function.set16(at, damaged));
            // Its successor dies, too, after each of its own writes.
            for writes in 0..30 {
                machine.space.1.set(Some(writes));
                let _ = machine.set_up();
                let ends = !machine.space.1.is_over();
                machine.space.1.set(None);
                for id in [0x98, 0x9a, 0x9c] {
                    let functions = &machine.space.0.borrow().functions;
                    assert_eq!(functions[&id].bytes[MARK], 0xa5, "{id:#x} was taken away");
                }
                if ends {
                    break;
                }
            }
            let found = machine.set_up().unwrap();
            assert!(found.adopted);
            assert_eq!(found.corrected, 0);
            assert!(machine.snapshot() == wanted, "{id:#x} {at:#x} {damaged:#x}");
        }
    }
}

#[test]
fn an_entry_that_is_damaged_is_corrected_and_the_others_are_not_written() {
    for function in [None, Some(0), Some(1), Some(2)] {
        for word in 0..12 {
            for pattern in [0, u32::MAX, 1] {
                let machine = Machine::running();
                let window = &machine.windows[&function];
                let mask = if word % 4 == 3 { 1 } else { u32::MAX };
                let before = window.read32(4 * word);
                let damaged = pattern & mask | before & !mask;
                let wanted = machine.snapshot();
                window.set(4 * word, damaged);
                machine.set_up().unwrap();
                let entry = word / 4;
                let is_used = before & 1 == 0 || wanted == machine.snapshot();
                assert!(is_used || window.read32(16 * entry + 12) & 1 == 1);
                let writes = window.writes.borrow().clone();
                assert!(writes.iter().all(|at| at / 16 == entry), "{writes:?}");
                if damaged == before {
                    assert_eq!(machine.writes(), 0);
                }
                let again = machine.set_up().unwrap();
                assert_eq!(again.corrected, 0);
            }
        }
    }
}

#[test]
fn an_error_leaves_a_device_that_runs_as_it_is() {
    let machine = Machine::running();
    let before = machine.snapshot();
    let moved = Device {
        vf_offset: 0x100,
        ..device()
    };
    let error = machine.set_up_with(&moved).unwrap_err();
    assert!(matches!(
        error.kind,
        ErrorKind::VirtualFunctionPlaces { .. }
    ));
    assert!(machine.snapshot() == before);
    assert_eq!(machine.writes(), 0);
}

#[test]
fn a_bar_that_is_not_mentioned_is_sized_only_if_it_is_near() {
    let machine = Machine::new();
    machine.set_up().unwrap();
    assert!(!machine.space.take_writes().contains(&(NIC, 0x14)));
    // From here it could reach to where the registers go.
    let machine = Machine::new();
    let put = |function: &mut SimulatedFunction| function.set32(0x14, 0xc000_0000);
    machine.space.change(NIC, put);
    let found = machine.set_up().unwrap();
    assert_eq!(found.bars[1].unwrap().size, 0x2_0000);
    assert!(machine.space.take_writes().contains(&(NIC, 0x14)));
    assert_eq!(machine.space.get32(NIC, 0x14), 0xc000_0000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A device that runs, and of which anything is damaged: it ends, with an answer, and whoever is
    /// there stays there unless the damage itself has taken him away.
    #[test]
    fn any_damage_is_borne(
        damage in prop::collection::vec(
            (prop::sample::select(std::vec![NIC, 0x98, 0x9a, 0x9c, 0xa4]), 0x04usize..0x200, any::<u8>()), 0..40),
        tables in prop::collection::vec((0usize..4, 0usize..40, any::<u32>()), 0..20),
    ) {
        let machine = Machine::running();
        for (id, at, byte) in damage {
            machine.space.change(id, |function| function.bytes[at] = byte);
        }
        for (window, word, value) in tables {
            machine.windows.values().nth(window).unwrap().set(4 * word, value);
        }
        let enabled = machine.space.get16(NIC, SRIOV + 8) & 1 != 0;
        if let Ok(found) = machine.set_up() && found.adopted {
            prop_assert!(enabled);
            let functions = &machine.space.0.borrow().functions;
            prop_assert!(functions.contains_key(&0x98));
        }
    }
}
