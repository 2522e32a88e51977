//! Test: calls a server that dies in the way it is asked to, and says what it was answered.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use sel4_microkit::{Channel, MessageInfo, NullHandler, channel, exit, get_mr, protection_domain};

/// What the server is asked for: labels of `tests/pds/mortal`.
const WISHES: [(&str, u64); 9] = [
    ("an answer", 0),
    ("a panic", 1),
    ("an answer", 0),
    ("an endless loop", 2),
    ("an answer", 0),
    ("its end", 3),
    ("an answer", 0),
    ("long work", 4),
    ("an answer", 0),
];

fn ask(server: Channel, what: &str, label: u64) {
    let answer = server.pp_call(MessageInfo::new(label, 0));
    if answer.is_gone() {
        log::info!("asked for {what}: gone");
    } else {
        log::info!("asked for {what}: answer {}", get_mr(0));
    }
}

#[protection_domain]
fn init() -> NullHandler {
    let server = channel!(server_channel);
    for (what, label) in WISHES {
        ask(server, what, label);
    }
    // More often in a row than it is started again.
    for _ in 0..5 {
        ask(server, "a panic", 1);
    }
    ask(server, "an answer at the end", 0);
    exit()
}
