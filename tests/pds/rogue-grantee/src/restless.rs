//! Resetting, whatever is ordered.

use segue_device::Mmio;

use crate::function::{CONTROL, CONTROL_RESET};
use crate::party::Party;

/// Between two lines of the log.
const LINE_MICROSECONDS: u64 = 100_000;

/// Resets the function without end, as fast as it can.
pub fn go_on(party: &Party) -> ! {
    let function = party.function();
    let mut resets = 0_u64;
    let mut line_at = 0;
    loop {
        resets += 1;
        function.registers.write32(CONTROL, CONTROL_RESET);
        let now = party.clock.now_microseconds();
        if now >= line_at {
            line_at = now + LINE_MICROSECONDS;
            log::info!("still resets: round {resets}");
        }
    }
}
