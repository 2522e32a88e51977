//! Completed frames, in whatever order: the application learns of those that have none
//! before them that is still in use.
#![cfg(not(loom))]

use proptest::prelude::*;
use segue_frame_channel::{ClientChannel, FrameOffload, ServerChannel, layout};
use segue_shared_memory::testing::{leaked_private_region, leaked_region};

const ENTRIES: u32 = 64;

proptest! {
    #[test]
    fn the_longest_completed_row_is_told(
        // Frames handed in, and which of those under way is then completed.
        steps in prop::collection::vec((0usize..8, any::<prop::sample::Index>(), 0usize..8), 1..80),
    ) {
        let client_region = leaked_region(layout::client_region_size(ENTRIES));
        let server_region = leaked_region(layout::server_region_size(ENTRIES));
        let (pool, pool_reader) = leaked_private_region(0x4_0000);
        let mut server =
            ServerChannel::new(client_region, server_region, pool_reader, ENTRIES, ENTRIES).unwrap();
        let mut client =
            ClientChannel::new(client_region, server_region, pool, ENTRIES, ENTRIES).unwrap();
        client.poll().unwrap();
        let _ = client.publish();
        server.poll().unwrap();
        prop_assert!(server.is_up());
        // Tickets of all frames, and whether each is completed.
        let mut tickets = Vec::new();
        let mut done = Vec::new();
        for (count, which, times) in steps {
            for _ in 0..count {
                if let Some(room) = client.reserve(60) {
                    room.submit(60, FrameOffload::default());
                }
            }
            let _ = client.publish();
            server.poll().unwrap();
            while server.peek().unwrap().is_some() {
                tickets.push(server.take().unwrap().1);
                done.push(false);
            }
            for step in 0..times {
                if tickets.is_empty() {
                    continue;
                }
                // Of the last ones; some are completed twice.
                let recent = tickets.len().min(ENTRIES as usize);
                let index = tickets.len() - 1 - (which.index(recent) + 7 * step) % recent;
                server.complete(tickets[index]);
                done[index] = true;
            }
            let row = done.iter().take_while(|is_done| **is_done).count();
            prop_assert_eq!(server.in_flight() as usize, tickets.len() - row);
            let _ = server.publish();
            client.poll().unwrap();
            prop_assert_eq!(client.unconfirmed(), server.in_flight());
        }
        // What is left is completed from its end on.
        for ticket in tickets.iter().rev() {
            server.complete(*ticket);
        }
        prop_assert_eq!(server.in_flight(), 0);
    }
}
