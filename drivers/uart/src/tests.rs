//! Tests against a simulated device.

use super::*;
use core::cell::{Cell, RefCell};
extern crate std;
use std::collections::VecDeque;
use std::vec::Vec;

/// A 16550 as its data sheet describes it.
#[derive(Default)]
struct Simulation {
    line_control: Cell<u8>,
    divisor: Cell<[u8; 2]>,
    interrupt_enable: Cell<u8>,
    fifo_control: Cell<u8>,
    modem_control: Cell<u8>,
    scratch: Cell<u8>,
    absent: bool,
    without_fifo: bool,
    /// Bytes on their way to this device.
    received: RefCell<VecDeque<u8>>,
    transmitter: RefCell<VecDeque<u8>>,
    line: RefCell<Vec<u8>>,
    transmitter_interrupt: Cell<bool>,
    overruns: Cell<usize>,
    /// How often the interrupt line rose by a write to the interrupt enable register.
    edges: Cell<usize>,
}

impl Simulation {
    /// The line carries everything away that the transmitter holds.
    fn send_all(&self) {
        self.line
            .borrow_mut()
            .extend(self.transmitter.borrow_mut().drain(..));
        self.transmitter_interrupt
            .set(self.interrupt_enable.get() & 2 != 0);
    }

    fn interrupting(&self) -> bool {
        let received = self.interrupt_enable.get() & 1 != 0 && !self.received.borrow().is_empty();
        self.modem_control.get() & 8 != 0 && (received || self.transmitter_interrupt.get())
    }
}

impl Ports for &Simulation {
    fn read8(&self, port: u16) -> u8 {
        if self.absent {
            return 0xff;
        }
        match port {
            0 | 1 if self.line_control.get() & 0x80 != 0 => self.divisor.get()[usize::from(port)],
            3 => self.line_control.get(),
            0 => self.received.borrow_mut().pop_front().unwrap_or(0),
            2 => {
                let fifo = if self.fifo_control.get() & 1 != 0 && !self.without_fifo {
                    0xc0
                } else {
                    0
                };
                let cause = if !self.received.borrow().is_empty() {
                    2 << 1
                } else if self.transmitter_interrupt.replace(false) {
                    1 << 1
                } else {
                    1
                };
                fifo | cause
            }
            5 => {
                let received = u8::from(!self.received.borrow().is_empty());
                received
                    | if self.transmitter.borrow().is_empty() {
                        0x60
                    } else {
                        0
                    }
            }
            6 => 0,
            7 => self.scratch.get(),
            port => panic!("read of port {port}"),
        }
    }

    fn write8(&self, port: u16, value: u8) {
        let selects_divisor = self.line_control.get() & 0x80 != 0;
        match port {
            0 | 1 if selects_divisor => {
                let mut divisor = self.divisor.get();
                divisor[usize::from(port)] = value;
                self.divisor.set(divisor);
            }
            0 => {
                let mut transmitter = self.transmitter.borrow_mut();
                if transmitter.len() == if self.without_fifo { 1 } else { 16 } {
                    self.overruns.set(self.overruns.get() + 1);
                } else {
                    transmitter.push_back(value);
                }
                self.transmitter_interrupt.set(false);
            }
            1 => {
                let before = self.interrupting();
                let rising = value & 2 != 0 && self.interrupt_enable.get() & 2 == 0;
                self.interrupt_enable.set(value);
                if rising && self.transmitter.borrow().is_empty() {
                    self.transmitter_interrupt.set(true);
                }
                if value & 2 == 0 {
                    self.transmitter_interrupt.set(false);
                }
                if self.interrupting() && !before {
                    self.edges.set(self.edges.get() + 1);
                }
            }
            2 => {
                if value & 2 != 0 {
                    self.received.borrow_mut().clear();
                }
                self.fifo_control.set(value);
            }
            3 => self.line_control.set(value),
            4 => self.modem_control.set(value),
            7 => self.scratch.set(value),
            port => panic!("write of port {port}"),
        }
    }
}

#[test]
fn the_line_is_set_up() {
    let device = Simulation::default();
    Uart::new(&device, 9600).unwrap();
    assert_eq!(device.divisor.get(), [12, 0]);
    assert_eq!(
        device.line_control.get(),
        3,
        "8 bits, no parity, one stop bit"
    );
    assert_eq!(device.interrupt_enable.get(), 1);
    assert_eq!(
        device.fifo_control.get() & 5,
        1,
        "FIFOs on, the transmitter's kept"
    );
}

#[test]
fn unfit_devices_and_rates_are_refused() {
    let absent = Simulation {
        absent: true,
        ..Simulation::default()
    };
    assert_eq!(Uart::new(&absent, 115_200).err(), Some(Error::NotPresent));
    let device = Simulation::default();
    for rate in [0, 100_000, 230_400, 1] {
        assert_eq!(
            Uart::new(&device, rate).err(),
            Some(Error::RateImpossible { rate })
        );
    }
}

#[test]
fn the_transmitter_is_never_overrun() {
    for without_fifo in [false, true] {
        let device = Simulation {
            without_fifo,
            ..Simulation::default()
        };
        let uart = Uart::new(&device, 115_200).unwrap();
        let text: Vec<u8> = (0..100).collect();
        let mut sent = 0;
        while sent < text.len() {
            let count = uart.write(text[sent..].iter().copied());
            assert_eq!(
                count,
                (text.len() - sent).min(if without_fifo { 1 } else { 16 })
            );
            assert_eq!(uart.write([0xee]), 0, "it is busy");
            sent += count;
            device.send_all();
        }
        assert_eq!(*device.line.borrow(), text);
        assert_eq!(device.overruns.get(), 0);
    }
}

#[test]
fn interrupts_end_when_they_are_served() {
    let device = Simulation::default();
    let mut uart = Uart::new(&device, 115_200).unwrap();
    uart.set_transmit_interrupt(true);
    assert!(device.interrupting());
    uart.acknowledge();
    assert!(!device.interrupting());
    uart.write(*b"hello");
    device.send_all();
    assert!(device.interrupting(), "the transmitter is empty again");
    device.received.borrow_mut().extend(b"ok");
    uart.acknowledge();
    assert_eq!(uart.read(), Some(b'o'));
    assert_eq!(uart.read(), Some(b'k'));
    assert_eq!(uart.read(), None);
    uart.acknowledge();
    assert!(!device.interrupting());
    uart.set_transmit_interrupt(false);
    device.send_all();
    assert!(!device.interrupting());
}

#[test]
fn what_was_not_served_interrupts_again() {
    let device = Simulation::default();
    let uart = Uart::new(&device, 115_200).unwrap();
    device.received.borrow_mut().extend(b"two");
    assert_eq!(uart.read(), Some(b't'));
    let edges = device.edges.get();
    uart.interrupt_again();
    assert_eq!(device.edges.get(), edges + 1);
    while uart.read().is_some() {}
    uart.interrupt_again();
    assert_eq!(device.edges.get(), edges + 1);
}

#[test]
fn a_device_that_never_tires_does_not_hold_the_caller() {
    struct Mad;
    impl Ports for Mad {
        fn read8(&self, port: u16) -> u8 {
            if port == SCRATCH { 0x5a } else { 0 }
        }
        fn write8(&self, _: u16, _: u8) {}
    }
    let uart = Uart {
        ports: Mad,
        fifo_length: 1,
        transmit_interrupt: false,
    };
    uart.acknowledge();
}

#[test]
fn a_successor_goes_on_with_the_line() {
    let device = Simulation::default();
    // What the firmware has received at another rate means nothing.
    device.received.borrow_mut().extend(b"noise");
    let uart = Uart::new(&device, 115_200).unwrap();
    assert_eq!(uart.read(), None);
    device.received.borrow_mut().extend(b"help");
    let edges = device.edges.get();
    // Its predecessor has died, perhaps over the interrupt: the line is high and must rise anew.
    let uart = Uart::new(&device, 115_200).unwrap();
    assert!(device.interrupting() && device.edges.get() > edges);
    let bytes: Vec<u8> = core::iter::from_fn(|| uart.read()).collect();
    assert_eq!(bytes, b"help");
    // One that has left the registers in disorder.
    device.line_control.set(0x80);
    device.divisor.set([0x12, 0x34]);
    device.modem_control.set(0);
    Uart::new(&device, 115_200).unwrap();
    assert_eq!(device.line_control.get(), 3);
    assert_eq!(device.divisor.get(), [1, 0]);
    assert_eq!(device.modem_control.get() & 8, 8);
    assert_eq!(device.interrupt_enable.get(), 1);
}
