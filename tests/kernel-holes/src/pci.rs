//! PCI configuration space of bus 0, through the two ports (PCI Local Bus Specification 3.0, 3.2.2.3.2).

use sel4::cap::IoPort;
use sel4::constants;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// Reads a register of a function of bus 0. `function` is device << 3 | function.
pub fn read(function: u8, register: u8) -> u32 {
    select(function, register);
    ports().in32(DATA).expect("the root task has all ports")
}

/// Writes a register of a function of bus 0.
pub fn write(function: u8, register: u8, value: u32) {
    select(function, register);
    ports()
        .out32(DATA.into(), value.into())
        .expect("the root task has all ports");
}

fn select(function: u8, register: u8) {
    let address = 1 << 31 | u64::from(function) << 8 | u64::from(register & 0xfc);
    ports()
        .out32(ADDRESS.into(), address)
        .expect("the root task has all ports");
}

fn ports() -> IoPort {
    IoPort(constants::seL4_CapIOPort)
}
