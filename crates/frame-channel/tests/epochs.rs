//! What becomes of frames that were on their way when a server went away.
#![cfg(not(loom))]

use proptest::prelude::*;
use segue_frame_channel::{ClientChannel, FrameOffload, ServerChannel, layout};
use segue_shared_memory::Region;
use segue_shared_memory::testing::{leaked_private_region, leaked_region};

const ENTRIES: u32 = 64;
const OFFLOAD: FrameOffload = FrameOffload {
    ipv4_checksum: true,
    transport_checksum: true,
    segment_size: 1460,
};

struct Both {
    client: ClientChannel,
    server: ServerChannel<Region>,
    regions: [Region; 3],
}

impl Both {
    fn new() -> Self {
        let client = leaked_region(layout::client_region_size(ENTRIES));
        let server = leaked_region(layout::server_region_size(ENTRIES));
        let (pool, seen) = leaked_private_region(0x4_0000);
        let regions = [client, server, seen];
        let mut both = Self {
            client: ClientChannel::new(client, server, pool, ENTRIES, ENTRIES).unwrap(),
            server: Self::open(regions),
            regions,
        };
        both.join();
        both
    }

    fn open([client, server, pool]: [Region; 3]) -> ServerChannel<Region> {
        ServerChannel::new(client, server, pool, ENTRIES, ENTRIES).unwrap()
    }

    fn join(&mut self) {
        self.client.poll().unwrap();
        let _ = self.client.publish();
        self.server.poll().unwrap();
        assert!(self.client.is_up() && self.server.is_up());
    }

    fn send(&mut self, byte: u8) -> bool {
        let Some(mut room) = self.client.reserve(100) else {
            return false;
        };
        room.bytes().fill(byte);
        room.submit(100, OFFLOAD);
        true
    }

    /// The first byte of each frame that the server finds; the first `complete` of them
    /// are completed.
    fn serve(&mut self, complete: usize) -> Vec<u8> {
        let _ = self.client.publish();
        self.server.poll().unwrap();
        let mut found = vec![];
        while let Some(frame) = self.server.peek().unwrap() {
            let mut byte = [0];
            self.server.copy_header(&frame, &mut byte);
            let (_, ticket) = self.server.take().unwrap();
            if found.len() < complete {
                self.server.complete(ticket);
            }
            found.extend(byte);
        }
        let _ = self.server.publish();
        self.client.poll().unwrap();
        found
    }
}

#[test]
fn what_a_server_took_with_it_can_be_taken_back() {
    let mut both = Both::new();
    for byte in 1..=5 {
        assert!(both.send(byte));
    }
    assert_eq!(both.serve(2), [1, 2, 3, 4, 5]);
    // Nothing is taken back while the epoch lasts.
    assert!(both.client.take_unconfirmed(|_, _| unreachable!()));
    both.server = Both::open(both.regions);
    let mut taken = vec![];
    let mut room = 2;
    let mut take = |frame: &[u8], offload| {
        if room == 0 {
            return false;
        }
        room -= 1;
        assert_eq!((frame.len(), offload), (100, OFFLOAD));
        taken.push(frame[0]);
        true
    };
    assert!(!both.client.take_unconfirmed(&mut take));
    // The buffers are in use until the next epoch.
    assert_eq!(both.client.unconfirmed(), 3);
    assert!(both.send(6));
    both.join();
    assert_eq!(taken, [3, 4]);
    assert_eq!(both.client.unconfirmed(), 2);
    assert_eq!(both.serve(2), [5, 6]);
    assert_eq!(both.client.unconfirmed(), 0);
}

proptest! {
    /// Each frame is completed by a server or taken back, in order, and never both.
    #[test]
    fn frames_go_one_way_or_the_other(
        steps in prop::collection::vec((0u8..4, 0usize..12), 1..120),
    ) {
        let mut both = Both::new();
        let mut next = 0u8;
        let mut waiting = std::collections::VecDeque::new();
        for (step, count) in steps {
            match step {
                0 => for _ in 0..count {
                    if both.send(next) {
                        waiting.push_back(next);
                        next = next.wrapping_add(1);
                    }
                },
                1 if both.client.is_up() => {
                    both.serve(count);
                    while waiting.len() > both.client.unconfirmed() as usize {
                        waiting.pop_front();
                    }
                }
                2 => both.server = Both::open(both.regions),
                _ => {
                    let mut left = count;
                    let over = both.server.epoch();
                    both.client.take_unconfirmed(|frame, _| {
                        if left == 0 {
                            return false;
                        }
                        left -= 1;
                        assert_eq!(Some(frame[0]), waiting.pop_front(), "in epoch {over}");
                        true
                    });
                    both.join();
                }
            }
            if both.client.is_up() && !both.server.is_up() {
                both.join();
            }
        }
        both.join();
        let sent = both.serve(usize::MAX);
        // What the server had taken but not completed is not there again.
        prop_assert!(waiting.iter().copied().collect::<Vec<_>>().ends_with(&sent));
        prop_assert!(both.send(255) || both.client.unconfirmed() > 0);
    }
}
