//! Making the function read and write memory that is not its holder's.

use crate::function::{Function, Places};
use crate::party::Party;

/// Device addresses of others' memory: the kernel, memory behind it, configuration space, the
/// registers of the physical function, the rings of the network server, and far away.
const TARGETS: [u64; 7] = [
    0x0010_0000,
    0x0100_0000,
    0x0800_0000,
    0x1000_0000,
    0xb000_0000,
    0xe000_0000,
    0x70_0000_0000,
];
/// How long the queue gets to pass a descriptor.
const SEND_MICROSECONDS: u64 = 5_000;
/// How long a frame that arrives gets to do so.
const RECEIVE_MICROSECONDS: u64 = 20_000;
/// Between two rounds.
const ROUND_MICROSECONDS: u64 = 50_000;

/// Tries without end.
pub fn go_on(party: &Party) -> ! {
    let function = party.function();
    let lawful = function.lawful();
    function.write_frame(0);
    attempt(party, &function, &lawful);
    log::info!(
        "within its memory the function passes {} frame",
        function.transmit_head()
    );
    let mut rounds = 0_u64;
    loop {
        for target in TARGETS {
            for places in stolen(&lawful, target) {
                attempt(party, &function, &places);
            }
        }
        // Its own memory, but not what the function was given.
        let pool = party.channel.pool;
        for places in stolen(&lawful, pool) {
            attempt(party, &function, &places);
        }
        rounds += 1;
        let word = if party.is_to_stop() {
            "is to stop, and has"
        } else {
            "has"
        };
        log::info!("{word} tried everything: round {rounds}");
        party.pass(ROUND_MICROSECONDS);
    }
}

/// Everything as it should be, but for one address each. The pages differ, so that each shows.
fn stolen(lawful: &Places, target: u64) -> [Places; 5] {
    [
        Places {
            frame: target,
            ..*lawful
        },
        Places {
            head_write_back: target + 0x1000,
            ..*lawful
        },
        Places {
            transmit_ring: target + 0x2000,
            ..*lawful
        },
        Places {
            buffer: target + 0x3000,
            ..*lawful
        },
        Places {
            receive_ring: target + 0x4000,
            ..*lawful
        },
    ]
}

fn attempt(party: &Party, function: &Function, places: &Places) {
    function.obey(places);
    let wait = |microseconds, condition: &dyn Fn() -> bool| {
        let end = party.clock.now_microseconds() + microseconds;
        while party.clock.now_microseconds() < end && !condition() {
            core::hint::spin_loop();
        }
    };
    wait(SEND_MICROSECONDS, &|| function.transmit_head() == 1);
    wait(RECEIVE_MICROSECONDS, &|| function.has_received());
}
