//! The virtual function's driver against the simulated device.

mod properties;

use std::vec;
use std::vec::Vec;

use segue_device::DmaMemory;

use super::*;
use crate::offload::{InternetProtocol, Transport, prepare_checksums};
use crate::simulation::{Blocked, SimulatedFunction, SimulatedMemory, transport_sum};

const DRIVER_MEMORY: u64 = 0x1000_0000;
const POOL: u64 = 0x20_0000_0000;

struct Bench {
    device: SimulatedFunction,
    memory: SimulatedMemory,
    pool: SimulatedMemory,
    function: VirtualFunction<SimulatedFunction, SimulatedMemory, u32>,
}

fn bench(transmit_entries: u16, receive_entries: u16) -> Bench {
    let configuration = Configuration {
        transmit_entries,
        receive_entries,
        interrupt_interval_microseconds: 0,
    };
    let device = SimulatedFunction::new();
    let memory = SimulatedMemory::new(DRIVER_MEMORY, Layout::new(&configuration).unwrap().end);
    let pool = SimulatedMemory::new(POOL, 0x4_0000);
    device.map(&memory, true);
    device.map(&pool, false);
    let mut function = VirtualFunction::new(device.clone(), memory.clone(), configuration).unwrap();
    function.start().unwrap();
    Bench {
        device,
        memory,
        pool,
        function,
    }
}

impl Bench {
    /// Puts `frame` into the pool at `offset`, cut at `cuts`.
    fn fragments(&self, offset: usize, frame: &[u8], cuts: &[usize]) -> Vec<Fragment> {
        self.pool.copy_in(offset, frame);
        let mut points: Vec<usize> = cuts
            .iter()
            .copied()
            .filter(|&cut| 0 < cut && cut < frame.len())
            .collect();
        points.extend([0, frame.len()]);
        points.sort_unstable();
        points.dedup();
        let fragment = |pair: &[usize]| Fragment {
            device_address: POOL + (offset + pair[0]) as u64,
            length: (pair[1] - pair[0]) as u32,
        };
        points.windows(2).map(fragment).collect()
    }

    fn frame_bytes(&self, received: &Received) -> Vec<u8> {
        let mut bytes = vec![0; received.length()];
        self.memory.copy_out(received.offset(), &mut bytes);
        bytes
    }

    fn reclaimed(&mut self) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.function.reclaim(|token| tokens.push(token));
        tokens
    }
}

/// An IPv4 or IPv6 packet in a frame, checksums zero.
fn packet(
    protocol: InternetProtocol,
    transport: Transport,
    options: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let number = if transport == Transport::Tcp { 6 } else { 17 };
    let transport_length = if transport == Transport::Tcp {
        20 + options
    } else {
        8
    } + payload.len();
    match protocol {
        InternetProtocol::V4 => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + transport_length as u16).to_be_bytes());
            frame.extend([
                0x12, 0x34, 0x40, 0, 64, number, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2,
            ]);
        }
        InternetProtocol::V6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((transport_length as u16).to_be_bytes());
            frame.extend([number, 64]);
            frame.extend((1..=32u8).map(|octet| octet.wrapping_mul(37)));
        }
    }
    frame.extend([0x1f, 0x90, 0xc0, 0x01]);
    match transport {
        Transport::Tcp => {
            frame.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0]);
            frame.extend([
                ((20 + options) as u8 / 4) << 4,
                0x19,
                0xff,
                0xff,
                0,
                0,
                0,
                0,
            ]);
            frame.extend(vec![1; options]);
        }
        Transport::Udp => {
            frame.extend((transport_length as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
    }
    frame.extend(payload);
    frame
}

fn offload(
    protocol: InternetProtocol,
    transport: Transport,
    options: usize,
    segment_size: u16,
) -> TransmitOffload {
    TransmitOffload {
        protocol,
        ip_header_length: if protocol == InternetProtocol::V4 {
            20
        } else {
            40
        },
        transport: Some(transport),
        transport_header_length: if transport == Transport::Tcp {
            20 + options as u8
        } else {
            8
        },
        segment_size,
    }
}

fn payload(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

#[test]
fn a_frame_leaves_as_it_was_given() {
    let mut bench = bench(16, 16);
    let frame = payload(60);
    let fragments = bench.fragments(0x100, &frame, &[14, 40]);
    bench.function.transmit(&fragments, None, 7).unwrap();
    assert_eq!(
        bench.device.take_sent(),
        None,
        "nothing leaves before flush"
    );
    bench.function.flush();
    assert_eq!(bench.device.take_sent(), Some(frame));
    assert_eq!(bench.reclaimed(), [7]);
    assert_eq!(bench.function.outstanding(), 0);
    assert_eq!(bench.function.statistics().transmitted_frames, 1);
    assert!(bench.device.complaints().is_empty());
}

#[test]
fn checksums_are_filled_in() {
    for protocol in [InternetProtocol::V4, InternetProtocol::V6] {
        for transport in [Transport::Tcp, Transport::Udp] {
            for length in [0, 1, 2, 777, 1300] {
                let mut bench = bench(16, 16);
                let mut frame = packet(protocol, transport, 0, &payload(length));
                let offload = offload(protocol, transport, 0, 0);
                let total = frame.len();
                prepare_checksums(&mut frame, &offload, total).unwrap();
                let fragments = bench.fragments(0, &frame, &[offload.header_length()]);
                bench
                    .function
                    .transmit(&fragments, Some(&offload), 0)
                    .unwrap();
                bench.function.flush();
                let sent = bench.device.take_sent().unwrap();
                assert_eq!(
                    transport_sum(&sent),
                    Some(0xffff),
                    "{protocol:?} {transport:?} {length}"
                );
                assert!(bench.device.complaints().is_empty());
                assert!(bench.device.deliver(&sent));
                let received = bench.function.receive().unwrap();
                assert_eq!(received.transport_checksum(), ChecksumState::Good);
                let expected = if protocol == InternetProtocol::V4 {
                    ChecksumState::Good
                } else {
                    ChecksumState::Unknown
                };
                assert_eq!(received.ip_checksum(), expected);
                bench.function.release(received);
            }
        }
    }
}

#[test]
fn sixty_four_kibibytes_cross_as_one_frame() {
    let mut bench = bench(64, 16);
    let data = payload(65535 - 20 - 32);
    let mut frame = packet(InternetProtocol::V4, Transport::Tcp, 12, &data);
    assert_eq!(frame.len(), 14 + 65535);
    let offload = offload(InternetProtocol::V4, Transport::Tcp, 12, 1448);
    let total = frame.len();
    prepare_checksums(&mut frame, &offload, total).unwrap();
    let fragments = bench.fragments(0, &frame, &[66, 20_000]);
    bench
        .function
        .transmit(&fragments, Some(&offload), 1)
        .unwrap();
    bench.function.flush();
    assert_eq!(bench.function.statistics().transmit_notifications, 1);
    let mut joined: Vec<u8> = Vec::new();
    let mut count = 0;
    while let Some(segment) = bench.device.take_sent() {
        assert!(segment.len() <= 1514);
        assert_eq!(transport_sum(&segment), Some(0xffff));
        let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap());
        assert_eq!(sequence, 0x1000 + joined.len() as u32);
        let identification = u16::from_be_bytes(segment[18..20].try_into().unwrap());
        assert_eq!(identification, 0x1234 + count);
        joined.extend(&segment[66..]);
        let is_last = joined.len() == data.len();
        assert_eq!(
            segment[47] & 0x09,
            if is_last { 0x09 } else { 0 },
            "FIN and PSH are the last one's"
        );
        count += 1;
    }
    assert_eq!(joined, data);
    assert_eq!(bench.reclaimed(), [1]);
    assert!(
        bench.device.complaints().is_empty(),
        "{:?}",
        bench.device.complaints()
    );
}

#[test]
fn a_context_is_sent_when_it_changes_only() {
    let mut bench = bench(64, 16);
    let mut send = |segment_size, length, expected| {
        let mut frame = packet(InternetProtocol::V4, Transport::Tcp, 0, &payload(length));
        let offload = offload(InternetProtocol::V4, Transport::Tcp, 0, segment_size);
        let total = frame.len();
        prepare_checksums(&mut frame, &offload, total).unwrap();
        let fragments = bench.fragments(0, &frame, &[54]);
        let before = bench.function.transmit_room();
        bench
            .function
            .transmit(&fragments, Some(&offload), 0)
            .unwrap();
        assert_eq!(before - bench.function.transmit_room(), expected);
        bench.function.flush();
        bench.function.reclaim(drop);
        let mut frames = 0;
        while let Some(sent) = bench.device.take_sent() {
            assert_eq!(transport_sum(&sent), Some(0xffff));
            frames += 1;
        }
        frames
    };
    assert_eq!(send(0, 100, 3), 1);
    assert_eq!(send(0, 200, 2), 1);
    assert_eq!(send(1000, 2500, 3), 3);
    assert_eq!(send(1000, 2500, 2), 3);
    assert_eq!(send(0, 100, 3), 1);
}

#[test]
fn a_full_ring_says_so_and_loses_nothing() {
    let mut bench = bench(16, 16);
    bench.device.set_transmit_budget(0);
    let frame = payload(60);
    let fragments = bench.fragments(0, &frame, &[30]);
    let mut queued = 0;
    let refused = loop {
        match bench.function.transmit(&fragments, None, queued) {
            Ok(()) => queued += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(
        (queued, refused),
        (7, (TransmitError::Full, 7)),
        "15 usable descriptors, two a frame"
    );
    bench.function.flush();
    assert!(bench.reclaimed().is_empty());
    bench.device.set_transmit_budget(5);
    assert_eq!(
        bench.reclaimed(),
        [0, 1],
        "reports come back within a long batch too"
    );
    bench.device.set_transmit_budget(usize::MAX);
    assert_eq!(bench.reclaimed(), [2, 3, 4, 5, 6]);
    assert_eq!(bench.function.transmit_room(), 15);
}

#[test]
fn frames_that_cannot_be_sent_are_refused() {
    let mut bench = bench(16, 16);
    let at = |length| Fragment {
        device_address: POOL,
        length,
    };
    let tcp = offload(InternetProtocol::V4, Transport::Tcp, 0, 1448);
    let cases: &[(&[Fragment], Option<TransmitOffload>)] = &[
        (&[], None),
        (&[at(16)], None),
        (&[at(60), at(0)], None),
        (&[at(1519)], None),
        (&[at(70_000)], Some(tcp)),
        (&[at(60_000), at(6_000)], Some(tcp)),
        (&[at(54)], Some(tcp)),
        (
            &[at(40)],
            Some(TransmitOffload {
                segment_size: 0,
                ..tcp
            }),
        ),
        (
            &[at(100)],
            Some(TransmitOffload {
                ip_header_length: 512,
                ..tcp
            }),
        ),
        (
            &[at(100)],
            Some(TransmitOffload {
                transport: Some(Transport::Udp),
                ..tcp
            }),
        ),
        (
            &[at(100)],
            Some(TransmitOffload {
                transport: None,
                ..tcp
            }),
        ),
        (&[at(20); 33], Some(tcp)),
        (&[at(20); 15], Some(tcp)),
    ];
    for (fragments, offload) in cases {
        let result = bench.function.transmit(fragments, offload.as_ref(), 5);
        assert!(
            matches!(result, Err((TransmitError::Malformed(_), 5))),
            "{fragments:?} {offload:?}"
        );
    }
    assert_eq!(bench.function.transmit_room(), 15);
    assert_eq!(bench.function.outstanding(), 0);
}

#[test]
fn headers_that_contradict_the_offload_are_refused() {
    let good = packet(InternetProtocol::V4, Transport::Tcp, 12, &payload(100));
    let right = offload(InternetProtocol::V4, Transport::Tcp, 12, 0);
    let refused = |change: &dyn Fn(&mut Vec<u8>), offload: TransmitOffload| {
        let mut frame = good.clone();
        change(&mut frame);
        let before = frame.clone();
        let length = frame.len();
        assert!(prepare_checksums(&mut frame, &offload, length).is_err());
        assert_eq!(frame, before, "nothing is written");
    };
    prepare_checksums(&mut good.clone(), &right, good.len()).unwrap();
    refused(&|frame| frame.truncate(65), right);
    refused(&|frame| frame[14] = 0x46, right);
    refused(&|frame| frame[14] = 0x65, right);
    refused(&|frame| frame[23] = 17, right);
    refused(&|frame| frame[46] = 0x50, right);
    refused(
        &|_| (),
        TransmitOffload {
            transport_header_length: 20,
            ..right
        },
    );
    refused(
        &|_| (),
        TransmitOffload {
            protocol: InternetProtocol::V6,
            ip_header_length: 40,
            ..right
        },
    );
}

#[test]
fn received_frames_come_in_order_and_buffers_go_round() {
    let mut bench = bench(16, 8);
    for round in 0..50u8 {
        for number in 0..7u8 {
            assert!(bench.device.deliver(&[round, number, 1, 2, 3]));
        }
        assert!(
            !bench.device.deliver(&[0xff; 60]),
            "seven of eight buffers are the device's"
        );
        for number in 0..7u8 {
            let received = bench.function.receive().unwrap();
            assert_eq!(bench.frame_bytes(&received)[..2], [round, number]);
            bench.function.release(received);
        }
        assert!(bench.function.receive().is_none());
        bench.function.flush();
    }
    assert_eq!(bench.function.statistics().received_frames, 350);
    assert_eq!(bench.device.missed(), 50);
}

#[test]
fn frames_of_several_descriptors_are_dropped_and_counted() {
    let mut bench = bench(16, 8);
    assert!(bench.device.deliver(&payload(5000)));
    assert!(bench.device.deliver(&payload(100)));
    let received = bench.function.receive().unwrap();
    assert_eq!(bench.frame_bytes(&received), payload(100));
    bench.function.release(received);
    assert_eq!(bench.function.statistics().dropped_long, 1);
    bench.function.flush();
    assert!(bench.device.deliver(&payload(2048)));
    let received = bench.function.receive().unwrap();
    assert_eq!(received.length(), 2048);
    bench.function.release(received);
}

#[test]
fn an_empty_frame_is_dropped() {
    let mut bench = bench(16, 8);
    let status = DRIVER_MEMORY + 0x1000 + 8;
    bench.device.scribble(status, &3u64.to_le_bytes());
    assert!(bench.function.receive().is_none());
    assert_eq!(bench.function.statistics().dropped_nonsense, 1);
}

#[test]
fn completion_of_what_the_device_was_not_given_is_not_believed() {
    let mut bench = bench(8, 8);
    let fragments = bench.fragments(0, &payload(60), &[]);
    for token in 0..3 {
        bench.function.transmit(&fragments, None, token).unwrap();
    }
    for slot in 0..8 {
        let second_word = DRIVER_MEMORY + slot * 16 + 8;
        bench.device.scribble(second_word, &u64::MAX.to_le_bytes());
    }
    assert!(bench.reclaimed().is_empty());
    assert!(!bench.function.unmask_interrupt());
}

#[test]
fn what_an_earlier_user_left_in_the_registers_does_no_harm() {
    let device = SimulatedFunction::new();
    for queue in [0x2800, 0x3800] {
        for register in [0x00, 0x04, 0x08, 0x10, 0x18, 0x38, 0x3c] {
            device.write32(queue + register, 0x51);
        }
    }
    let memory = SimulatedMemory::new(DRIVER_MEMORY, 0x10_0000);
    device.map(&memory, true);
    let mut function =
        VirtualFunction::new(device.clone(), memory.clone(), Configuration::default()).unwrap();
    function.start().unwrap();
    assert!(device.deliver(&payload(60)));
    let received = function.receive().unwrap();
    function.release(received);
    let fragment = Fragment {
        device_address: DRIVER_MEMORY + 0x8_2000,
        length: 60,
    };
    function.transmit(&[fragment], None, 1).unwrap();
    function.flush();
    let mut tokens = Vec::new();
    function.reclaim(|token| tokens.push(token));
    assert_eq!(tokens, [1]);
    assert_eq!((device.register(0x3838), device.register(0x383c)), (0, 0));
    assert!(device.take_blocked().is_empty());
    assert!(device.complaints().is_empty(), "{:?}", device.complaints());
}

#[test]
fn bad_checksums_are_told() {
    let mut bench = bench(16, 8);
    let mut frame = packet(InternetProtocol::V4, Transport::Udp, 0, &payload(30));
    bench.device.deliver(&frame);
    let received = bench.function.receive().unwrap();
    assert_eq!(received.ip_checksum(), ChecksumState::Bad);
    assert_eq!(received.transport_checksum(), ChecksumState::Bad);
    bench.function.release(received);
    frame[12..14].copy_from_slice(&[8, 6]);
    bench.device.deliver(&frame);
    let received = bench.function.receive().unwrap();
    assert_eq!(received.ip_checksum(), ChecksumState::Unknown);
    assert_eq!(received.transport_checksum(), ChecksumState::Unknown);
    bench.function.release(received);
}

#[test]
fn interrupts_fire_when_they_are_wanted() {
    let mut bench = bench(16, 16);
    bench.device.deliver(&payload(60));
    bench.device.deliver(&payload(60));
    assert_eq!(bench.device.take_interrupts(), [0, 0]);
    bench.function.mask_interrupt();
    bench.device.deliver(&payload(60));
    assert!(bench.device.take_interrupts().is_empty());
    while let Some(received) = bench.function.receive() {
        bench.function.release(received);
    }
    assert!(!bench.function.unmask_interrupt());
    assert!(
        bench.device.take_interrupts().is_empty(),
        "what was dealt with does not interrupt"
    );
    bench.function.mask_interrupt();
    bench.device.deliver(&payload(60));
    assert!(
        bench.function.unmask_interrupt(),
        "a frame that slipped in is told"
    );

    let fragments = bench.fragments(0, &payload(60), &[]);
    bench.function.transmit(&fragments, None, 0).unwrap();
    bench.function.flush();
    assert!(
        bench.device.take_interrupts().is_empty(),
        "completions do not interrupt"
    );
    bench.reclaimed();
    bench.function.request_transmit_interrupt(true);
    let received = bench.function.receive().unwrap();
    bench.function.release(received);
    assert!(!bench.function.unmask_interrupt());
    bench.function.transmit(&fragments, None, 0).unwrap();
    bench.function.flush();
    assert_eq!(bench.device.take_interrupts(), [1], "unless asked for");
    bench.reclaimed();
    bench.function.request_transmit_interrupt(false);
    bench.function.transmit(&fragments, None, 0).unwrap();
    bench.function.flush();
    assert!(bench.device.take_interrupts().is_empty(), "and no longer");
}

#[test]
fn a_blocked_device_is_noticed_by_its_silence() {
    let mut bench = bench(16, 16);
    bench.device.unmap_all();
    let fragments = bench.fragments(0, &payload(60), &[]);
    bench.function.transmit(&fragments, None, 3).unwrap();
    assert!(!bench.function.stalled(0), "not given to the device yet");
    bench.function.flush();
    assert_eq!(
        bench.device.take_blocked()[0],
        Blocked {
            address: DRIVER_MEMORY,
            write: false
        }
    );
    assert!(!bench.function.stalled(1_000));
    assert!(!bench.function.stalled(500_999));
    assert!(bench.function.stalled(501_000));
    bench.function.stop().unwrap();
    let mut tokens = Vec::new();
    bench.function.take_outstanding(|token| tokens.push(token));
    assert_eq!(tokens, [3]);
    assert!(!bench.function.stalled(9_000_000));
}

#[test]
fn a_restart_forgets_the_past() {
    let mut bench = bench(16, 8);
    bench.device.deliver(&payload(60));
    let old = bench.function.receive().unwrap();
    let fragments = bench.fragments(0, &payload(60), &[]);
    bench.device.set_transmit_budget(0);
    bench.function.transmit(&fragments, None, 1).unwrap();
    bench.function.flush();
    bench.function.stop().unwrap();
    bench.function.take_outstanding(drop);
    assert_eq!(bench.function.transmit_room(), 0);
    assert!(bench.function.receive().is_none());
    bench.device.set_transmit_budget(usize::MAX);
    bench.function.start().unwrap();
    bench.function.release(old);
    let mut delivered = 0;
    while bench.device.deliver(&payload(60)) {
        delivered += 1;
    }
    assert_eq!(delivered, 7);
    let mut held = Vec::new();
    while let Some(received) = bench.function.receive() {
        held.push(received);
        bench.function.flush();
        bench.device.deliver(&payload(60));
    }
    let offsets: std::collections::BTreeSet<usize> = held.iter().map(Received::offset).collect();
    assert_eq!(
        (held.len(), offsets.len()),
        (8, 8),
        "each buffer is handed out once"
    );
    held.into_iter()
        .for_each(|received| bench.function.release(received));
    bench.function.transmit(&fragments, None, 2).unwrap();
    bench.function.flush();
    assert_eq!(bench.reclaimed(), [2]);
    assert!(
        bench.device.complaints().is_empty(),
        "{:?}",
        bench.device.complaints()
    );
}

impl Bench {
    /// A successor takes the function over, at work as it is.
    fn take_over(&mut self) -> Vec<Vec<u8>> {
        let configuration = self.function.configuration;
        let (device, memory) = (self.device.clone(), self.memory.clone());
        self.function = VirtualFunction::take_over(device, memory, configuration).unwrap();
        let mut left = Vec::new();
        self.function.left_behind(|frame| {
            let mut bytes = vec![0; frame.length];
            self.memory.copy_out(frame.offset, &mut bytes);
            left.push(bytes);
        });
        left
    }

    fn number(&self, received: &Received) -> u8 {
        self.frame_bytes(received)[0]
    }
}

#[test]
fn a_successor_gets_what_its_predecessor_has_not_dealt_with() {
    let mut bench = bench(16, 8);
    // The ring has gone round a few times.
    for number in 0..20 {
        assert!(bench.device.deliver(&[number; 40]));
        let received = bench.function.receive().unwrap();
        bench.function.release(received);
        bench.function.flush();
    }
    for number in 20..25 {
        assert!(bench.device.deliver(&[number; 40]));
    }
    let held: Vec<_> = (0..2).filter_map(|_| bench.function.receive()).collect();
    assert_eq!(
        held.iter()
            .map(|held| bench.number(held))
            .collect::<Vec<_>>(),
        [20, 21]
    );
    // It dies of number 21, perhaps.
    bench.function.note_handled(&held[0]);
    let numbers: Vec<u8> = bench.take_over().iter().map(|frame| frame[0]).collect();
    assert_eq!(numbers, [20, 22, 23, 24]);
    assert!(!bench.device.deliver(&[99; 40]), "the device is at rest");
    bench.function.start().unwrap();
    assert!(
        bench.device.deliver(&[30; 40]),
        "the function is still enabled"
    );
    let received = bench.function.receive().unwrap();
    assert_eq!(bench.number(&received), 30);
    bench.function.release(received);
    bench.function.flush();
    // Nothing that was given back is left behind.
    assert_eq!(bench.take_over(), Vec::<Vec<u8>>::new());
    bench.function.start().unwrap();
    assert_eq!(bench.take_over(), Vec::<Vec<u8>>::new());
    assert!(
        bench.device.complaints().is_empty(),
        "{:?}",
        bench.device.complaints()
    );
}

#[test]
fn a_function_says_what_it_needs() {
    let mut bench = bench(16, 8);
    assert!(bench.function.is_ready() && bench.function.is_intact());
    // The whole device was reset.
    bench.device.write32(0x0c40, 1 << 6);
    assert!(!bench.function.is_ready());
    bench.device.write32(0, 1 << 26);
    assert!(!bench.function.is_intact());
    bench.device.write32(0x0c40, 0);
    bench.function.stop().unwrap();
    bench.function.start().unwrap();
    assert!(bench.function.is_ready() && bench.function.is_intact());
    assert!(!bench.function.has_work());
    bench.device.deliver(&payload(60));
    assert!(bench.function.has_work());
    bench.device.remove();
    assert!(!bench.function.is_ready() && !bench.function.is_intact());
    assert_eq!(bench.function.stop(), Err(Error::NotPresent));
}

#[test]
fn what_was_told_too_early_is_told_again() {
    let mut bench = bench(16, 8);
    let fragments = bench.fragments(0, &payload(60), &[]);
    // The function was not enabled: the device did not look.
    bench.device.set_transmit_budget(0);
    bench.function.transmit(&fragments, None, 1).unwrap();
    bench.function.flush();
    bench.device.pause(false);
    assert_eq!(bench.reclaimed(), []);
    bench.function.nudge();
    assert_eq!(bench.reclaimed(), [1]);
}

#[test]
fn bad_setups_are_refused() {
    let device = SimulatedFunction::new();
    let memory = SimulatedMemory::new(0x1000, 0x10_0000);
    let entries = |transmit_entries| Configuration {
        transmit_entries,
        ..Configuration::default()
    };
    let error = |memory: &SimulatedMemory, configuration| {
        VirtualFunction::<_, _, ()>::new(device.clone(), memory.clone(), configuration).err()
    };
    assert_eq!(error(&memory, entries(100)), Some(Error::RingSize(100)));
    assert_eq!(error(&memory, entries(4)), Some(Error::RingSize(4)));
    assert_eq!(error(&memory, entries(8192)), Some(Error::RingSize(8192)));
    assert_eq!(
        error(&SimulatedMemory::new(0, 0x1000), Configuration::default()),
        Some(Error::MemoryTooSmall {
            length: 0x1000,
            needed: 0x8_2000
        })
    );
    let unaligned = SimulatedMemory::new(0x1008, 0x10_0000);
    assert_eq!(
        error(&unaligned, Configuration::default()),
        Some(Error::MemoryUnaligned(0x1008))
    );
    assert_eq!(error(&memory, Configuration::default()), None);
}

#[test]
fn a_function_that_is_not_there_does_not_start() {
    let device = SimulatedFunction::new();
    device.remove();
    let memory = SimulatedMemory::new(0x1000, 0x10_0000);
    let mut function = VirtualFunction::new(device, memory, Configuration::default()).unwrap();
    assert_eq!(function.start(), Err(Error::NotPresent));
    let fragment = Fragment {
        device_address: 0x1000,
        length: 60,
    };
    assert_eq!(
        function.transmit(&[fragment], None, 1),
        Err((TransmitError::Full, 1))
    );
    assert!(function.receive().is_none());
    assert!(!function.unmask_interrupt());
}
