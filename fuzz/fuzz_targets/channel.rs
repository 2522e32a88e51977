//! A frame channel with a hostile peer that writes anything at any time.
//!
//! The first byte chooses the victim, server or application; then come steps of eight bytes.
#![no_main]

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use libfuzzer_sys::fuzz_target;
use segue_frame_channel::client_rings::ClientRings;
use segue_frame_channel::layout::{
    MAXIMUM_FRAME_LENGTH, MAXIMUM_HEADER_LENGTH, POOL_SIZE, RECEIVE_SLOT_SIZE, client_region_size,
    server_region_size,
};
use segue_frame_channel::{FrameOffload, ReceivedFrame, ServerChannel, TransmitFrame};
use segue_shared_memory::Region;
use segue_shared_memory::testing::leaked_region;

const ENTRIES: u32 = 8;

#[derive(Clone, Copy)]
struct Regions {
    client: Region,
    server: Region,
    pool: Region,
}

/// The same memory in every run, zeroed.
fn regions() -> Regions {
    static REGIONS: OnceLock<Regions> = OnceLock::new();
    let regions = *REGIONS.get_or_init(|| Regions {
        client: leaked_region(client_region_size(ENTRIES)),
        server: leaked_region(server_region_size(ENTRIES)),
        pool: leaked_region(*POOL_SIZE.start() as usize),
    });
    for region in [regions.client, regions.server] {
        region.write(0, &vec![0; region.length()]);
    }
    regions
}

/// What the hostile peer does in one step; false if the step is none of its.
fn attack(step: &[u8; 8], own: &Region, other: &Region) -> bool {
    let place = usize::from(u16::from_le_bytes([step[1], step[2]]));
    let value = u32::from_le_bytes([step[4], step[5], step[6], step[7]]);
    match step[0] % 16 {
        // Any word, any value.
        0 => own.store32(place * 4 % own.length(), value, Relaxed),
        // One of the words in the ring's head.
        1 => own.store32(place % 64 * 4, value, Relaxed),
        // A word that agrees with what the victim says, or nearly.
        2 => {
            let word = other.load32(place % 64 * 4, Relaxed);
            let there = usize::from(step[3]) % 64 * 4;
            own.store32(there, word.wrapping_add(value % 4), Relaxed);
        }
        // A descriptor: a position and a length not far from plausible.
        3 => {
            let at = 0x100 + place % 32 * 8;
            let second = u64::from(step[3]) << 32 | u64::from(value);
            own.store64(at, second, Relaxed);
        }
        _ => return false,
    }
    true
}

fuzz_target!(|data: &[u8]| {
    let Some((victim, steps)) = data.split_first() else {
        return;
    };
    if victim & 1 == 0 {
        server_is_the_victim(steps);
    } else {
        application_is_the_victim(steps);
    }
});

fn server_is_the_victim(steps: &[u8]) {
    let regions = regions();
    let new = || {
        ServerChannel::new(
            regions.client,
            regions.server,
            regions.pool,
            ENTRIES,
            ENTRIES,
        )
        .expect("the geometry is right")
    };
    let mut channel = new();
    let mut tickets = Vec::new();
    for step in steps.as_chunks::<8>().0 {
        if attack(step, &regions.client, &regions.server) {
            continue;
        }
        let choice = usize::from(step[1]);
        let result = match step[0] % 16 {
            4..=6 => channel.poll(),
            7 | 8 => channel.peek().map(|frame| {
                if let Some(frame) = frame {
                    check(&frame, &channel);
                    tickets.extend(channel.take().map(|(_, ticket)| ticket));
                }
            }),
            9 if !tickets.is_empty() => {
                channel.complete(tickets.swap_remove(choice % tickets.len()));
                Ok(())
            }
            10 | 11 => channel.receive_room().map(|room| {
                assert!(room <= ENTRIES);
                let frame = ReceivedFrame {
                    length: choice * 8,
                    checksums_verified: step[2] & 1 == 0,
                };
                let delivered = channel.deliver(frame, |region, offset| {
                    assert!(offset + RECEIVE_SLOT_SIZE <= region.length());
                });
                assert!(!delivered || room > 0);
            }),
            12 => {
                let _ = channel.publish();
                Ok(())
            }
            13 => {
                let _ = channel.sleep(choice & 1 == 0);
                Ok(())
            }
            14 => {
                channel.wake();
                Ok(())
            }
            15 if choice == 0 => {
                // The server starts anew in the regions as they are.
                channel = new();
                Ok(())
            }
            _ => Ok(()),
        };
        assert!(channel.in_flight() <= ENTRIES);
        if result.is_err() {
            assert!(channel.is_cut_off());
        }
        if channel.is_cut_off() {
            assert_eq!(channel.poll(), Ok(()), "it is not listened to any more");
            assert_eq!(channel.peek(), Ok(None));
            assert_eq!(channel.receive_room(), Ok(0));
        }
    }
}

fn check(frame: &TransmitFrame, channel: &ServerChannel<Region>) {
    let (offset, length) = (frame.offset as usize, frame.length as usize);
    assert!(length <= MAXIMUM_FRAME_LENGTH);
    assert!(offset + length <= channel.pool_size());
    let headers = usize::from(frame.header_length);
    assert!(headers <= length && headers <= MAXIMUM_HEADER_LENGTH);
    channel.copy_header(frame, &mut vec![0; headers]);
}

fn application_is_the_victim(steps: &[u8]) {
    let regions = regions();
    let new = || {
        ClientRings::new(regions.client, regions.server, ENTRIES, ENTRIES)
            .expect("the geometry is right")
    };
    let mut rings = new();
    for step in steps.as_chunks::<8>().0 {
        if attack(step, &regions.server, &regions.client) {
            continue;
        }
        let choice = usize::from(step[1]);
        // What it says of the server's breaking the protocol is for the log; it must stay sound.
        match step[0] % 16 {
            4..=6 => drop(rings.poll()),
            7 | 8 => {
                rings.push(&TransmitFrame {
                    offset: choice as u32 * 64,
                    length: 60,
                    header_length: 60,
                    offload: FrameOffload::default(),
                });
            }
            9..=11 => {
                if let Ok(Some((slot, frame))) = rings.next_received() {
                    assert!(frame.length <= RECEIVE_SLOT_SIZE);
                    let mut copy = vec![0; frame.length];
                    rings.copy_received(slot, &mut copy);
                    rings.consume();
                }
            }
            12 => drop(rings.publish()),
            13 => drop(rings.sleep(choice & 1 == 0)),
            14 => rings.wake(),
            15 if choice == 0 => rings = new(),
            _ => {}
        }
        assert!(rings.unconfirmed() <= ENTRIES);
        assert!(rings.waiting() <= ENTRIES);
        assert!(rings.transmit_room() <= ENTRIES);
    }
}
