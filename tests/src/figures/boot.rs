//! How long the system takes to start, in virtual time: one instruction is one nanosecond.

use std::fs;
use std::time::{Duration, Instant};

use super::{Figure, rounded};
use crate::host::APPLICATION;
use crate::instructions::Counter;
use crate::{Cable, TestMachine, frames};

/// How often the peer asks whether the machine is there.
const KNOCK: Duration = Duration::from_millis(2);

pub(super) fn measure() -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("frames");
    let (machine, mut counter) = Counter::add(TestMachine::machine("system"));
    let machine = machine.instruction_clock(0).capture_frames(&capture);
    let mut machine = TestMachine::start(machine, Cable::Peer(1));
    knock(&machine);
    machine.assert_page_loads();
    let firmware = counter.firmware();
    machine.stop();
    let capture = fs::read(&capture).expect("the captured frames can be read");
    let answered = first_answer(&capture).expect("the answer was captured");
    println!("firmware: {firmware} ns, first answer: {answered} us after power-on");
    let milliseconds = (answered - firmware as f64 / 1e3) / 1e3;
    vec![Figure::new(
        "boot.first_answer_ms",
        rounded(milliseconds, 0),
        "ms",
        "virtual time from the kernel's first instruction to the first byte of the page; about 500 \
         of it the emulated NIC takes to bring its link up",
    )]
}

/// Sends an ARP request every now and then until it is answered.
fn knock(machine: &TestMachine) {
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.record(true);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        peer.inject(&frames::arp_request(APPLICATION))
            .expect("the machine runs");
        let answer = peer.recorded(KNOCK, |frame| {
            frames::arp_reply(frame, APPLICATION).is_some()
        });
        if answer.is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "the machine does not come up");
    }
    peer.record(false);
}

/// When the first frame with an HTTP answer came, in microseconds since power-on, by this capture; `None` if
/// there is no such frame.
pub fn first_answer(capture: &[u8]) -> Option<f64> {
    // A header of 24 bytes; before each frame: seconds, microseconds, captured and real length.
    let mut rest = capture.get(24..)?;
    loop {
        let (header, after) = rest.split_first_chunk::<16>()?;
        let field = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            u32::from_le_bytes(bytes)
        };
        let (frame, next) = after.split_at_checked(field(8) as usize)?;
        if frame.windows(9).any(|bytes| bytes == b"HTTP/1.1 ") && frame[34..36] == [0, 80] {
            return Some(f64::from(field(0)) * 1e6 + f64::from(field(4)));
        }
        rest = next;
    }
}
