//! Test: calls a server without end, and says when its answers are of another life.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use sel4_microkit::{MessageInfo, NullHandler, channel, get_mr, protection_domain};

#[protection_domain]
fn init() -> NullHandler {
    let server = channel!(server_channel);
    let (mut life, mut expected) = (0, u64::MAX);
    loop {
        let answer = server.pp_call(MessageInfo::new(0, 0));
        if answer.is_refused() {
            continue;
        }
        let count = get_mr(0);
        if count == expected {
            expected += 1;
            continue;
        }
        life += 1;
        expected = count + 1;
        log::info!("life {life} begins with {count}");
    }
}
