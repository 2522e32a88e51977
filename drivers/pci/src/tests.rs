//! The whole crate against a simulated configuration space.
extern crate std;

mod adoption;

use std::collections::BTreeMap;
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;
use segue_device::Mmio;

use crate::address::{Address, RequesterId};
use crate::config::{BarPlacement, Device, Interrupt};
use crate::ecam::{BUS_SIZE, Ecam};
use crate::error::{Error, ErrorKind, PlaceProblem};
use crate::msix::MsiX;
use crate::set_up::{Found, WindowRequest, interrupt_without_device, set_up};
use crate::simulation::{NIC, SRIOV, SimulatedFunction, SimulatedSpace, SimulatedWindow, nic};
use crate::sriov::Sriov;

fn device() -> Device {
    let mut device = Device {
        requester_id: NIC,
        vendor_id: 0x8086,
        device_id: 0x10c9,
        vf_count: 7,
        vf_offset: 0x80,
        vf_stride: 2,
        ..Device::EMPTY
    };
    device.set_name("nic");
    device.bars[0] = BarPlacement {
        address: 0xe000_0000,
        size: 0x2_0000,
    };
    device.bars[3] = BarPlacement {
        address: 0xe004_0000,
        size: 0x4000,
    };
    device.vf_bars[0] = BarPlacement {
        address: 0xe010_0000,
        size: 0x4000,
    };
    device.vf_bars[3] = BarPlacement {
        address: 0xe014_0000,
        size: 0x4000,
    };
    device.vf_macs[0] = [0x52, 0x54, 0, 0x5e, 0x60, 0];
    device
}

fn interrupts() -> [Interrupt; 3] {
    [
        Interrupt {
            requester_id: NIC,
            table_index: 0,
            vector: 17,
        },
        Interrupt {
            requester_id: 0x98,
            table_index: 0,
            vector: 16,
        },
        Interrupt {
            requester_id: 0x9a,
            table_index: 2,
            vector: 18,
        },
    ]
}

type Windows = BTreeMap<Option<usize>, SimulatedWindow>;

fn run(
    space: &SimulatedSpace,
    device: &Device,
    interrupts: &[Interrupt],
) -> (Result<Found, Error>, Windows) {
    let ecam = Ecam::new(space.clone(), BUS_SIZE);
    let mut windows = Windows::new();
    let result = set_up(
        &ecam,
        device,
        interrupts,
        0,
        |request: WindowRequest| {
            assert_eq!((request.bar, request.offset), (3, 0));
            assert_eq!(
                request.length,
                if request.virtual_function.is_some() {
                    48
                } else {
                    160
                }
            );
            Some(windows.entry(request.virtual_function).or_default().clone())
        },
        || {},
    );
    (result, windows)
}

fn problem(space: &SimulatedSpace, device: &Device) -> ErrorKind {
    run(space, device, &interrupts()).0.unwrap_err().kind
}

#[test]
fn functions_are_found_and_virtual_ones_stay_hidden() {
    let space = SimulatedSpace::new();
    let ecam = Ecam::new(space.clone(), BUS_SIZE);
    let list = || {
        ecam.functions_on(0)
            .map(|(_, identity)| identity.address.to_string())
            .collect::<Vec<_>>()
    };
    let kinds = ecam
        .functions_on(0)
        .map(|(_, identity)| identity.kind())
        .collect::<Vec<_>>();
    let words = [
        "host bridge",
        "Ethernet controller",
        "ISA bridge",
        "SATA controller",
        "SMBus controller",
    ];
    assert_eq!(kinds, words);
    let expected = ["00:00.0", "00:03.0", "00:1f.0", "00:1f.2", "00:1f.3"];
    assert_eq!(list(), expected);
    run(&space, &device(), &[]).0.unwrap();
    assert_eq!(list(), expected);
    assert!(
        ecam.function(Address::new(1, 0, 0).unwrap()).is_none(),
        "bus 1 is not mapped"
    );
}

#[test]
fn a_nic_is_brought_to_what_the_description_says() {
    let space = SimulatedSpace::new();
    let (result, windows) = run(&space, &device(), &interrupts());
    let found = result.unwrap();
    assert_eq!(found.vf_device_id, 0x10ca);
    assert!(!found.adopted);
    assert_eq!(found.bars[0].unwrap().size, 0x2_0000);
    assert_eq!(
        found.bars[1].unwrap().address,
        0xfebc_0000,
        "not mentioned, so not moved"
    );
    assert_eq!(found.bars[2], None, "I/O space");
    assert_eq!(found.vf_bars[3].unwrap().address, 0xe014_0000);

    assert_eq!(space.get32(NIC, 0x10), 0xe000_0000);
    assert_eq!(space.get32(NIC, 0x14), 0xfebc_0000);
    assert_eq!(space.get32(NIC, 0x18), 0xc041);
    assert_eq!(space.get32(NIC, 0x1c), 0xe004_0004);
    assert_eq!(space.get32(NIC, SRIOV + 0x24), 0xe010_000c);
    assert_eq!(space.get32(NIC, SRIOV + 0x28), 0);
    assert_eq!(space.get32(NIC, SRIOV + 0x30), 0xe014_000c);
    assert_eq!(space.get16(NIC, SRIOV + 0x10), 7);
    assert_eq!(space.get16(NIC, SRIOV + 8), 9);
    assert_eq!(space.get16(NIC, 4) & 6, 6);

    // VF 0 has an address, VF 1 an interrupt; the others may do nothing.
    assert_eq!(space.get16(0x98, 4), 6);
    assert_eq!(space.get16(0x9a, 4), 6);
    for id in [0x9c, 0x9e, 0xa0, 0xa2, 0xa4] {
        assert_eq!(space.get16(id, 4), 0);
    }

    let entry = |window: &SimulatedWindow, index: usize| {
        [0, 4, 8, 12].map(|at| window.read32(16 * index + at))
    };
    assert_eq!(entry(&windows[&None], 0), [0xfee0_0000, 0, 0x41, 0]);
    assert_eq!(entry(&windows[&Some(0)], 0), [0xfee0_0000, 0, 0x40, 0]);
    assert_eq!(entry(&windows[&Some(1)], 2), [0xfee0_0000, 0, 0x42, 0]);
    assert_eq!(
        windows[&Some(0)].read32(16 + 12),
        1,
        "unused entries are masked"
    );
    let ecam = Ecam::new(space.clone(), BUS_SIZE);
    let function = ecam.function(RequesterId(0x98).address()).unwrap();
    assert!(MsiX::of(function).unwrap().is_enabled());
}

#[test]
fn memory_is_not_decoded_while_a_bar_moves() {
    let space = SimulatedSpace::new();
    run(&space, &device(), &interrupts()).0.unwrap();
    let commands = space.0.borrow().commands.clone();
    let physical: Vec<u16> = commands
        .iter()
        .filter(|&&(id, _)| id == NIC)
        .map(|&(_, command)| command & 6)
        .collect();
    assert_eq!(physical, [0, 2, 6], "off, decode, and requests last");
}

#[test]
fn a_running_device_is_adopted_without_a_write_that_disturbs_it() {
    let space = SimulatedSpace::new();
    run(&space, &device(), &interrupts()).0.unwrap();
    space.0.borrow_mut().commands.clear();
    let (result, _) = run(&space, &device(), &interrupts());
    assert!(result.unwrap().adopted);
    assert!(space.0.borrow().commands.is_empty());
    assert_eq!(space.get16(0x98, 4), 6);
}

#[test]
fn what_is_not_as_described_is_said_in_a_sentence() {
    let space = SimulatedSpace::new();
    space.0.borrow_mut().functions.remove(&NIC);
    let (result, _) = run(&space, &device(), &[]);
    assert_eq!(
        result.unwrap_err().to_string(),
        "no device at 00:03.0: start the machine with nic (8086:10c9) there"
    );

    let space = SimulatedSpace::new();
    let other = Device {
        device_id: 0x1521,
        ..device()
    };
    assert_eq!(
        run(&space, &other, &[]).0.unwrap_err().to_string(),
        "the device at 00:03.0 is 8086:10c9, but nic is 8086:1521 in the system description"
    );

    let far = Device {
        requester_id: 0x100,
        ..device()
    };
    assert_eq!(problem(&space, &far), ErrorKind::BusNotMapped);
    let many = Device {
        vf_count: 8,
        ..device()
    };
    space.change(NIC, |function| function.set16(SRIOV + 0x0e, 7));
    assert_eq!(
        problem(&space, &many),
        ErrorKind::TooFewVirtualFunctions {
            found: 7,
            expected: 8
        }
    );
    let moved = Device {
        vf_offset: 0x100,
        ..device()
    };
    assert_eq!(
        problem(&space, &moved),
        ErrorKind::VirtualFunctionPlaces {
            found: (0x80, 2),
            expected: (0x100, 2)
        }
    );

    space.change(NIC, |function| function.add_extended(0x000e, 0x150, 0));
    assert_eq!(problem(&space, &device()), ErrorKind::NoSriov);
}

#[test]
fn bars_that_do_not_fit_are_refused() {
    let space = SimulatedSpace::new();
    let mut wrong = device();
    wrong.bars[0].size = 0x4_0000;
    let kind = ErrorKind::BarSize {
        bar: 0,
        of_virtual: false,
        found: 0x2_0000,
        expected: 0x4_0000,
    };
    assert_eq!(problem(&space, &wrong), kind);

    let mut wrong = device();
    wrong.vf_bars[0].size = 0x2000;
    let kind = ErrorKind::BarSize {
        bar: 0,
        of_virtual: true,
        found: 0x4000,
        expected: 0x2000,
    };
    assert_eq!(problem(&space, &wrong), kind);

    let mut wrong = device();
    wrong.bars[2].address = 0xe030_0000;
    assert_eq!(
        problem(&space, &wrong),
        ErrorKind::NoBar {
            bar: 2,
            of_virtual: false
        }
    );
    let mut wrong = device();
    wrong.bars[4].address = 0xe030_0000;
    assert_eq!(
        problem(&space, &wrong),
        ErrorKind::NoBar {
            bar: 4,
            of_virtual: false
        },
        "the upper half of BAR 3"
    );

    let place = |address, reason| {
        let mut wrong = device();
        wrong.vf_bars[0].address = address;
        let kind = ErrorKind::BarPlace {
            bar: 0,
            of_virtual: true,
            address,
            reason,
        };
        assert_eq!(problem(&space, &wrong), kind);
        assert_eq!(
            space.get16(NIC, 4) & 4,
            0,
            "a device that is not right makes no requests"
        );
        assert_eq!(
            space.get16(NIC, SRIOV + 8),
            0,
            "and has no virtual functions"
        );
    };
    place(0xe010_2000, PlaceProblem::Unaligned);
    place(0x1_0000_0000, PlaceProblem::Above4GiB);
    place(0xffff_0000, PlaceProblem::Above4GiB);
    // The NIC's own flash BAR, which the description does not mention.
    place(
        0xfebc_0000,
        PlaceProblem::Taken {
            by: RequesterId(NIC).address(),
        },
    );
    place(
        0xfebd_8000,
        PlaceProblem::Taken {
            by: RequesterId(0xfa).address(),
        },
    );
}

#[test]
fn a_virtual_function_that_never_appears_is_given_up() {
    let space = SimulatedSpace::new();
    space.0.borrow_mut().vfs_appear = false;
    let kind = ErrorKind::VirtualFunctionSilent {
        function: RequesterId(0x98),
    };
    assert_eq!(problem(&space, &device()), kind);
}

#[test]
fn interrupts_that_cannot_be_are_refused() {
    let space = SimulatedSpace::new();
    for (index, vector) in [(3, 16), (0, 108), (0xffff, 0)] {
        let wrong = [Interrupt {
            requester_id: 0x98,
            table_index: index,
            vector,
        }];
        let kind = ErrorKind::NoMsiXEntry {
            function: RequesterId(0x98),
            index,
            vector,
            entries: 3,
        };
        assert_eq!(run(&space, &device(), &wrong).0.unwrap_err().kind, kind);
    }
    let ecam = Ecam::new(space.clone(), BUS_SIZE);
    let result = set_up(
        &ecam,
        &device(),
        &interrupts(),
        0,
        |_| None::<SimulatedWindow>,
        || {},
    );
    assert!(matches!(
        result.unwrap_err().kind,
        ErrorKind::MsiXNotMapped { .. }
    ));

    assert_eq!(interrupt_without_device(&[device()], &interrupts()), None);
    let stray = Interrupt {
        requester_id: 0xa6,
        table_index: 0,
        vector: 1,
    };
    let (address, _) = interrupt_without_device(&[device()], &[stray]).unwrap();
    assert_eq!(address.to_string(), "00:14.6");
}

#[test]
fn a_capability_list_that_loops_ends() {
    let space = SimulatedSpace::new();
    space.change(NIC, |function| {
        function.bytes[0x71] = 0x70;
        function.add_extended(0x000e, 0x150, 0x100);
    });
    let ecam = Ecam::new(space.clone(), BUS_SIZE);
    let function = ecam.function(RequesterId(NIC).address()).unwrap();
    assert!(function.capabilities().count() <= 48);
    assert!(function.extended_capabilities().count() <= 960);
    assert_eq!(function.find_capability(0x10, 4), None);
    assert!(Sriov::of(function).is_none());
}

#[test]
fn a_capability_that_does_not_fit_is_not_found() {
    let space = SimulatedSpace::new();
    space.change(NIC, |function| {
        function.add_capability(0x09, 0xfc);
        function.add_extended(0x000e, 0x150, 0xffc);
        function.add_extended(0x0010, 0xffc, 0);
    });
    let ecam = Ecam::new(space.clone(), BUS_SIZE);
    let function = ecam.function(RequesterId(NIC).address()).unwrap();
    assert_eq!(function.find_capability(0x09, 4), Some(0xfc));
    assert_eq!(function.find_capability(0x09, 5), None);
    assert!(Sriov::of(function).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a device's configuration space says, setting it up ends, and ends
    /// with an answer.
    #[test]
    fn hostile_configuration_space_is_survived(
        seed in prop::collection::vec((0x10usize..0x1000, any::<u8>()), 0..400),
        writable in any::<bool>(),
    ) {
        let space = SimulatedSpace::new();
        let mut hostile: SimulatedFunction = nic();
        for &(at, byte) in &seed {
            hostile.bytes[at] = byte;
            hostile.writable[at] = if writable { !byte } else { 0 };
        }
        space.change(NIC, |function| *function = hostile);
        space.0.borrow_mut().vfs_appear = true;
        let ecam = Ecam::new(space.clone(), BUS_SIZE);
        let result = set_up(&ecam, &device(), &interrupts(), 0, |_| Some(SimulatedWindow::default()), || {});
        if result.is_err() {
            prop_assert_eq!(space.get16(NIC, 4) & 4, 0);
        }
    }

    /// Sizing finds every power of two and restores the register.
    #[test]
    fn bars_are_measured(bits in 4u32..31, wide in any::<bool>(), address in any::<u32>()) {
        let size = 1u32 << bits;
        let address = address & !(size - 1);
        let space = SimulatedSpace::new();
        let mut function = SimulatedFunction::new(1, 2, 3, 0);
        function.add_bar(0x10, size, if wide { 4 } else { 0 }, address);
        space.change(NIC, |place| *place = function);
        let ecam = Ecam::new(space.clone(), BUS_SIZE);
        let bars = ecam.function(RequesterId(NIC).address()).unwrap().bars();
        let bar = bars.measure(0).unwrap();
        prop_assert_eq!((bar.address, bar.size, bar.is_64_bit), (address.into(), size.into(), wide));
        prop_assert_eq!(bars.measure(0), Some(bar));
        prop_assert_eq!(bars.measure(6), None);
    }
}
