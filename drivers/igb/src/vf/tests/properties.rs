//! What holds for any frames, any pace and any device.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is queued leaves once, in order, with every byte; tokens come back
    /// in order; rings of any size wrap soundly.
    #[test]
    fn frames_survive_any_fragmentation_and_pace(
        entries in prop::sample::select(vec![8u16, 16, 32, 256]),
        steps in prop::collection::vec(
            (17usize..1514, prop::collection::vec(1usize..1514, 0..4), any::<bool>(), 0usize..12), 1..80),
    ) {
        let mut bench = bench(entries, 8);
        bench.device.set_transmit_budget(0);
        let mut expected = VecDeque::new();
        let mut next_token = 0u32;
        let mut back = 0u32;
        for (length, cuts, flush, budget) in steps {
            let mut frame = payload(length);
            frame[..4].copy_from_slice(&next_token.to_le_bytes());
            let place = (next_token as usize % 64) * 2048;
            let fragments = bench.fragments(place, &frame, &cuts);
            match bench.function.transmit(&fragments, None, next_token) {
                Ok(()) => {
                    expected.push_back(frame);
                    next_token += 1;
                }
                Err((error, _)) => prop_assert_eq!(error, TransmitError::Full),
            }
            if flush {
                bench.function.flush();
            }
            bench.device.set_transmit_budget(budget);
            while let Some(sent) = bench.device.take_sent() {
                prop_assert_eq!(Some(sent), expected.pop_front());
            }
            for token in bench.reclaimed() {
                prop_assert_eq!(token, back);
                back += 1;
            }
        }
        bench.function.flush();
        bench.device.set_transmit_budget(usize::MAX);
        while let Some(sent) = bench.device.take_sent() {
            prop_assert_eq!(Some(sent), expected.pop_front());
        }
        prop_assert!(expected.is_empty());
        back += bench.reclaimed().len() as u32;
        prop_assert_eq!(back, next_token);
        prop_assert_eq!(bench.function.transmit_room(), usize::from(entries) - 1);
        prop_assert!(bench.device.complaints().is_empty(), "{:?}", bench.device.complaints());
        prop_assert!(bench.device.take_blocked().is_empty());
    }

    /// Segmentation gives the payload back, with sound headers, for any sizes.
    #[test]
    fn segments_add_up(
        v6 in any::<bool>(),
        length in 1usize..40_000,
        segment_size in 64u16..1440,
        options in 0usize..10,
        cuts in prop::collection::vec(1usize..40_000, 0..5),
    ) {
        let protocol = if v6 { InternetProtocol::V6 } else { InternetProtocol::V4 };
        let mut bench = bench(64, 8);
        let data = payload(length);
        let mut frame = packet(protocol, Transport::Tcp, options * 4, &data);
        let offload = offload(protocol, Transport::Tcp, options * 4, segment_size);
        let total = frame.len();
        prepare_checksums(&mut frame, &offload, total).unwrap();
        let fragments = bench.fragments(0, &frame, &cuts);
        prop_assert!(bench.function.transmit(&fragments, Some(&offload), 0).is_ok());
        bench.function.flush();
        let mut joined: Vec<u8> = Vec::new();
        while let Some(segment) = bench.device.take_sent() {
            prop_assert_eq!(transport_sum(&segment), Some(0xffff));
            joined.extend(&segment[offload.header_length()..]);
        }
        prop_assert_eq!(joined, data);
        prop_assert!(bench.device.complaints().is_empty(), "{:?}", bench.device.complaints());
    }

    /// A device that writes anything into the rings at any time cannot make the
    /// driver hand out what is not a buffer, lose one, or stop.
    #[test]
    fn a_hostile_device_gets_nowhere(
        writes in prop::collection::vec((0usize..0x2000, any::<u64>(), any::<bool>()), 1..200),
    ) {
        let mut bench = bench(16, 16);
        let layout = Layout::new(&Configuration {
            transmit_entries: 16, receive_entries: 16, interrupt_interval_microseconds: 0 }).unwrap();
        let fragments = bench.fragments(0, &payload(60), &[]);
        let mut sent = 0u32;
        let mut back = 0u32;
        let mut held: Vec<Received> = Vec::new();
        for (at, word, hold) in writes {
            // Mostly where it matters: status words of the first descriptors.
            bench.device.scribble(DRIVER_MEMORY + (at & !7) as u64, &word.to_le_bytes());
            let slot = at % 16;
            let status = DRIVER_MEMORY + (layout.receive_ring + slot * 16 + 8) as u64;
            bench.device.scribble(status, &(word | 1).to_le_bytes());
            if bench.function.transmit(&fragments, None, sent).is_ok() {
                sent += 1;
            }
            bench.function.flush();
            for token in bench.reclaimed() {
                prop_assert_eq!(token, back);
                back += 1;
            }
            while let Some(received) = bench.function.receive() {
                prop_assert!(received.offset() >= layout.receive_buffers);
                prop_assert!(received.length() >= 1 && received.length() <= RECEIVE_BUFFER_SIZE);
                prop_assert!(received.offset() + RECEIVE_BUFFER_SIZE <= layout.end);
                prop_assert_eq!((received.offset() - layout.receive_buffers) % RECEIVE_BUFFER_SIZE, 0);
                prop_assert!(held.iter().all(|other| other.offset() != received.offset()));
                if hold && held.len() < 8 {
                    held.push(received);
                } else {
                    bench.function.release(received);
                }
            }
        }
        prop_assert!(back <= sent);
        for received in held {
            bench.function.release(received);
        }
        // Every buffer is still there: the ring can be filled up.
        bench.function.stop().unwrap();
        bench.function.take_outstanding(drop);
        bench.function.start().unwrap();
        let mut delivered = 0;
        while bench.device.deliver(&payload(60)) {
            delivered += 1;
        }
        prop_assert_eq!(delivered, 15);
    }

    /// Whatever a predecessor leaves in memory and registers: what is found lies in buffers, is
    /// bounded, and the function works afterwards.
    #[test]
    fn no_remains_get_anywhere(
        words in prop::collection::vec((0usize..32, any::<u64>(), any::<bool>()), 0..64),
        head in any::<u32>(),
    ) {
        let mut bench = bench(16, 16);
        let layout = Layout::new(&bench.function.configuration).unwrap();
        for (at, word, likely) in words {
            let word = if likely { word & 0x07ff_0000_0003 | 3 } else { word };
            bench.memory.write64(layout.receive_ring + at * 8, word);
        }
        bench.device.write32(0x2828, 0);
        bench.device.write32(0x2810, head);
        let frames = bench.take_over();
        prop_assert!(frames.len() <= 16);
        prop_assert!(frames.iter().all(|frame| (1..=RECEIVE_BUFFER_SIZE).contains(&frame.len())));
        bench.function.start().unwrap();
        for number in 0..40 {
            prop_assert!(bench.device.deliver(&[number; 60]));
            let received = bench.function.receive().unwrap();
            prop_assert_eq!(bench.number(&received), number);
            bench.function.release(received);
            bench.function.flush();
        }
        prop_assert!(bench.function.receive().is_none());
    }
}
