//! What the last holder of a function has left in its registers, and leaving as much as can be.

use core::fmt;

use segue_device::Mmio;
use segue_director_core::config::WINDOW_SIZE;
use segue_shared_memory::Region;

use crate::function::{CONTROL, CONTROL_RESET};
use crate::party::Party;

/// Registers in a line of the log.
const PER_LINE: usize = 8;
/// Written into every register in turn: all bits; addresses and lengths that a ring could have.
const JUNK: [u32; 3] = [0xffff_ffff, 0x0010_2080, 0xa5a5_a5a5];

/// Some of the registers that are not zero, as `offset=value`.
struct Registers<'a>(&'a [(usize, u32)]);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (offset, value) in self.0 {
            write!(formatter, " {offset:04x}={value:x}")?;
        }
        Ok(())
    }
}

/// Says what all registers read that do not read zero, each once, in ascending order.
pub fn report(party: &Party, function: u8, grant: u32) {
    let registers = party.function().registers;
    let mut found = [(0, 0); PER_LINE];
    let mut count = 0;
    let mut total = 0;
    let say = |found: &[(usize, u32)]| {
        log::info!("grant {grant} registers:{}", Registers(found));
    };
    for offset in (0..WINDOW_SIZE).step_by(4) {
        let value = registers.read32(offset);
        if value == 0 {
            continue;
        }
        found[count] = (offset, value);
        count += 1;
        total += 1;
        if count == PER_LINE {
            say(&found);
            count = 0;
        }
    }
    if count > 0 {
        say(&found[..count]);
    }
    log::info!("grant {grant}: {total} registers of function {function} are not zero");
}

/// Writes junk into every register, but for the bit that would reset the function; says how
/// many are not zero then.
pub fn spoil(party: &Party) {
    let registers = party.function().registers;
    let offsets = || (0..WINDOW_SIZE).step_by(4);
    for junk in JUNK {
        for offset in offsets() {
            spoil_one(&registers, offset, junk);
        }
    }
    let spoilt = offsets().filter(|&offset| registers.read32(offset) != 0);
    log::info!("after junk {} registers are not zero", spoilt.count());
}

fn spoil_one(registers: &Region, offset: usize, junk: u32) {
    let junk = match offset {
        CONTROL => junk & !CONTROL_RESET,
        _ => junk,
    };
    registers.write32(offset, junk);
}
