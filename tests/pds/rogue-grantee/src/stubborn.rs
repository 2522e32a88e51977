//! Going on, whatever is ordered.

use segue_device::Mmio;

use crate::function::STATUS;
use crate::party::Party;

/// Between two frames, as long as nothing else is ordered.
const FRAME_MICROSECONDS: u64 = 2_000;
/// Between two lines of the log.
const LINE_MICROSECONDS: u64 = 100_000;

/// Rings the doorbell of the transmit queue without end. Each frame has the next number; once
/// it is to stop, there are as many as the queue takes.
pub fn go_on(party: &Party) -> ! {
    let function = party.function();
    let (mut tail, mut number, mut rounds) = (0, 0, 0_u64);
    let mut frame_at = 0;
    let mut line_at = 0;
    let mut is_told = false;
    loop {
        rounds += 1;
        let now = party.clock.now_microseconds();
        if now >= frame_at || is_told {
            frame_at = now + FRAME_MICROSECONDS;
            number += 1;
            function.write_frame(number);
            tail = function.send(tail);
        } else {
            function.ring(tail);
        }
        if !is_told && party.is_to_stop() {
            is_told = true;
            log::info!("is to stop, and goes on");
        }
        if now >= line_at {
            line_at = now + LINE_MICROSECONDS;
            let status = function.registers.read32(STATUS);
            let head = function.transmit_head();
            log::info!(
                "still rings: round {rounds}, frame {number}, status {status:#x}, head {head}"
            );
        }
    }
}
