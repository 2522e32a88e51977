//! Tests against a simulated device.

use super::*;
use core::cell::{Cell, RefCell};
use proptest::prelude::*;
extern crate std;
use std::vec::Vec;

/// A device that follows the specification: the comparator fires only when the
/// counter passes it while its interrupt is on.
struct Simulation {
    period: u64,
    wide: bool,
    routes: u32,
    counter: Cell<u64>,
    /// Ticks that pass with each access to a register.
    speed: Cell<u64>,
    configuration: Cell<u32>,
    timers: RefCell<[(u32, u64); 3]>,
    interrupts: Cell<u32>,
}

impl Simulation {
    fn new() -> Self {
        Self {
            period: 10_000_000,
            wide: true,
            routes: 0x00ff_0104,
            counter: Cell::new(0),
            speed: Cell::new(1),
            configuration: Cell::new(0),
            // The firmware left timer 1 running.
            timers: RefCell::new([(0, 0), (4, 500), (0, 0)]),
            interrupts: Cell::new(0),
        }
    }

    fn pass(&self, ticks: u64) {
        if self.configuration.get() & 1 == 0 {
            return;
        }
        let before = self.counter.get();
        let after = before + ticks;
        self.counter.set(after);
        for (configuration, comparator) in self.timers.borrow().iter() {
            if configuration & 4 != 0 && before < *comparator && *comparator <= after {
                self.interrupts.set(self.interrupts.get() + 1);
            }
        }
    }
}

impl Mmio for &Simulation {
    fn read32(&self, offset: usize) -> u32 {
        self.pass(self.speed.get());
        let word = match offset & !7 {
            0x000 => self.period << 32 | u64::from(self.wide) << 13 | 2 << 8 | 1,
            0x010 => u64::from(self.configuration.get()),
            0x0f0 => self.counter.get(),
            offset @ (0x100 | 0x120 | 0x140) => {
                let (configuration, _) = self.timers.borrow()[(offset - 0x100) / 0x20];
                u64::from(self.routes) << 32 | 1 << 5 | u64::from(configuration)
            }
            offset => panic!("read of {offset:#x}"),
        };
        (word >> ((offset & 4) * 8)) as u32
    }

    fn write32(&self, offset: usize, value: u32) {
        self.pass(self.speed.get());
        match offset {
            0x010 => self.configuration.set(value),
            // All timers are edge-triggered: there is no status.
            0x020 => {}
            0x0f0 | 0x0f4 => {
                assert_eq!(self.configuration.get() & 1, 0, "the counter runs");
                let shift = (offset & 4) * 8;
                let other = self.counter.get() & !(0xffff_ffff << shift);
                self.counter.set(other | u64::from(value) << shift);
            }
            0x100 | 0x120 | 0x140 => self.timers.borrow_mut()[(offset - 0x100) / 0x20].0 = value,
            0x108 | 0x128 | 0x148 | 0x10c | 0x12c | 0x14c => {
                let comparator = &mut self.timers.borrow_mut()[(offset - 0x108) / 0x20].1;
                *comparator = if offset & 4 == 0 {
                    *comparator >> 32 << 32 | u64::from(value)
                } else {
                    *comparator & 0xffff_ffff | u64::from(value) << 32
                };
            }
            offset => panic!("write of {offset:#x}"),
        }
    }

    fn write16(&self, offset: usize, _: u16) {
        panic!("16-bit write of {offset:#x}");
    }

    fn write8(&self, offset: usize, _: u8) {
        panic!("8-bit write of {offset:#x}");
    }
}

#[test]
fn it_routes_to_the_pin_and_silences_the_rest() {
    let device = Simulation::new();
    let hpet = Hpet::new(&device, 16).unwrap();
    assert_eq!(
        device.configuration.get(),
        1,
        "counting, no legacy replacement"
    );
    assert_eq!(
        device.timers.borrow().map(|timer| timer.0),
        [16 << 9, 16 << 9, 0]
    );
    assert_eq!(hpet.arm(Comparator::First, 1_000_000), Arming::Pending);
    assert_eq!(device.timers.borrow()[0], (16 << 9 | 4, 1_000_000));
    hpet.disarm(Comparator::First);
    assert_eq!(device.timers.borrow()[0].0, 16 << 9);
}

#[test]
fn a_deadline_interrupts_once() {
    let device = Simulation::new();
    let hpet = Hpet::new(&device, 16).unwrap();
    assert_eq!(hpet.arm(Comparator::First, 1_000), Arming::Pending);
    device.pass(10_000);
    assert_eq!(device.interrupts.get(), 1);
    device.pass(10_000);
    assert_eq!(device.interrupts.get(), 1);
}

#[test]
fn a_deadline_that_passes_meanwhile_is_reported() {
    let device = Simulation::new();
    let hpet = Hpet::new(&device, 16).unwrap();
    device.speed.set(1_000);
    let deadline = device.counter.get() + 2_000;
    assert_eq!(hpet.arm(Comparator::First, deadline), Arming::Passed);
    assert_eq!(hpet.arm(Comparator::First, 0), Arming::Passed);
}

#[test]
fn a_successor_goes_on_with_the_counter_and_not_with_the_deadlines() {
    let device = Simulation::new();
    let predecessor = Hpet::new(&device, 16).unwrap();
    for comparator in [Comparator::First, Comparator::Second] {
        assert_eq!(predecessor.arm(comparator, 5_000), Arming::Pending);
    }
    device.pass(1_000);
    let before = device.counter.get();
    let hpet = Hpet::new(&device, 16).unwrap();
    assert!((before..before + 100).contains(&hpet.now()));
    device.pass(10_000);
    assert_eq!(device.interrupts.get(), 0, "its predecessor's deadlines");
    // Whatever the predecessor did last: a halted counter, any timer with any bit.
    device.configuration.set(2);
    *device.timers.borrow_mut() = [(u32::MAX, 1), (u32::MAX, 2), (u32::MAX, 3)];
    let hpet = Hpet::new(&device, 16).unwrap();
    assert_eq!(device.configuration.get(), 1);
    assert_eq!(
        device.timers.borrow().map(|timer| timer.0),
        [16 << 9, 16 << 9, 0]
    );
    assert!(hpet.now() > before);
}

#[test]
fn a_counter_that_nobody_can_have_counted_to_begins_anew() {
    let device = Simulation::new();
    Hpet::new(&device, 16).unwrap();
    device.counter.set(u64::MAX - 1_000);
    let hpet = Hpet::new(&device, 16).unwrap();
    assert!(hpet.now() < 100, "{:#x}", hpet.now());
}

#[test]
fn the_second_comparator_is_there_if_the_pin_has_two() {
    let device = Simulation::new();
    let hpet = Hpet::new(&device, 16).unwrap();
    assert!(hpet.has_second());
    let (first, second) = (Comparator::First, Comparator::Second);
    assert_eq!(hpet.arm(first, 5_000), Arming::Pending);
    assert_eq!(hpet.arm(second, 3_000), Arming::Pending);
    device.pass(3_000);
    assert_eq!(device.interrupts.get(), 1);
    hpet.disarm(second);
    device.pass(3_000);
    assert_eq!(device.interrupts.get(), 2);
}

#[test]
fn unfit_devices_are_refused_with_a_reason() {
    let absent = Simulation {
        period: 0xffff_ffff,
        ..Simulation::new()
    };
    assert!(matches!(
        Hpet::new(&absent, 16),
        Err(Error::NotPresent { .. })
    ));
    let narrow = Simulation {
        wide: false,
        ..Simulation::new()
    };
    assert!(matches!(Hpet::new(&narrow, 16), Err(Error::NarrowCounter)));
    let device = Simulation::new();
    for pin in [3, 31, 32, 255] {
        let Err(error) = Hpet::new(&device, pin) else {
            panic!("pin {pin} was accepted")
        };
        assert_eq!(
            error,
            Error::PinUnavailable {
                pin,
                available: 0x00ff_0104
            }
        );
    }
}

#[test]
fn conversions_do_not_overflow() {
    let device = Simulation::new();
    let hpet = Hpet::new(&device, 16).unwrap();
    assert_eq!(hpet.ticks(1_000), 100);
    assert_eq!(hpet.ticks(1), 1, "rounded up");
    assert_eq!(hpet.nanoseconds(100), 1_000);
    assert_eq!(hpet.nanoseconds(u64::MAX), u64::MAX);
    let coarse = Simulation {
        period: 1,
        ..Simulation::new()
    };
    let hpet = Hpet::new(&coarse, 16).unwrap();
    assert_eq!(hpet.ticks(u64::MAX), u64::MAX);
}

#[test]
fn the_halves_of_the_counter_belong_together() {
    let device = Simulation::new();
    let hpet = Hpet::new(&device, 16).unwrap();
    device.counter.set(0x1_ffff_fffd);
    let mut last = 0;
    let readings: Vec<u64> = (0..10).map(|_| hpet.now()).collect();
    for reading in readings {
        assert!(reading > last && (0x1_ffff_fffd..0x2_0000_0100).contains(&reading));
        last = reading;
    }
}

proptest! {
    /// However the counter runs, a deadline is never lost: it either interrupts
    /// or is reported as passed.
    #[test]
    fn no_deadline_is_lost(
        start in any::<u32>(), speed in 1_u64..5_000, delays in proptest::collection::vec(0_u64..20_000, 1..20),
    ) {
        let device = Simulation::new();
        let hpet = Hpet::new(&device, 16).unwrap();
        device.counter.set(u64::from(start));
        device.speed.set(speed);
        for delay in delays {
            let before = device.interrupts.get();
            let deadline = device.counter.get() + delay;
            match hpet.arm(Comparator::First, deadline) {
                Arming::Passed => prop_assert!(device.counter.get() >= deadline),
                Arming::Pending => {
                    device.pass(40_000);
                    prop_assert_eq!(device.interrupts.get(), before + 1);
                }
            }
        }
    }
}
