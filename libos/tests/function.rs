//! The backend over a virtual function: offloads, room, interrupts, and what is left when
//! it stops.

mod support;

use proptest::prelude::*;
use segue_igb_driver::simulation::SimulatedFunction;
use segue_libos::*;
use segue_shared_memory::Region;
use segue_shared_memory::testing::{leaked_private_region, leaked_region};
use std::num::NonZeroU16;
use support::*;

const RINGS: u64 = 0x1000_0000;
const POOL: u64 = 0x2000_0000;
const POOL_SIZE: usize = 0x8_0000;

fn function(pool_size: usize) -> (Function<SimulatedFunction, Region>, SimulatedFunction) {
    let device = SimulatedFunction::new();
    let rings = leaked_region(function_rings_size()).with_device_address(RINGS);
    let (pool, seen) = leaked_private_region(pool_size);
    device.map(&rings, true);
    device.map(&seen.with_device_address(POOL), false);
    let pool = pool.with_device_address(POOL);
    let function = Function::new(device.clone(), rings, pool).unwrap();
    (function, device)
}

/// A TCP frame from the stack, as smoltcp leaves it: no TCP checksum.
fn frame(ipv6: bool, payload: usize) -> Vec<u8> {
    let source = if ipv6 { CLIENT6.into() } else { CLIENT.into() };
    let mut frame = headers(ipv6, source, 20 + payload);
    frame.extend_from_slice(&[0, 80, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0]);
    frame.extend_from_slice(&[0; 4]);
    frame.extend((0..payload as u64).map(pattern));
    if !ipv6 {
        let header = !sum16(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
    }
    frame
}

fn send(function: &mut impl Backend, frame: &[u8], offload: Offload) -> bool {
    function.transmit(frame.len(), offload, &mut |to| {
        to.copy_from_slice(frame);
        true
    })
}

const CHECKSUM: Offload = Offload {
    checksum: true,
    segment_size: None,
};

#[test]
fn the_transmit_pool_is_the_largest_power_of_two_before_the_rings() {
    let rings = function_rings_size();
    for (memory, pool) in [
        (0, None),
        (rings, None),
        (rings + 0x3_f000, None),
        (rings + 0x4_0000, Some(0x4_0000)),
        (rings + 0x7_f000, Some(0x4_0000)),
        (0x30_0000, Some(0x10_0000)),
        (rings + 0x20_0000, Some(0x20_0000)),
    ] {
        assert_eq!(function_pool_size(memory), pool, "{memory:#x}");
    }
}

#[test]
fn the_card_sums_and_cuts() {
    let (mut function, device) = function(POOL_SIZE);
    function.start().unwrap();
    for ipv6 in [false, true] {
        let plain = frame(ipv6, 1000);
        assert!(send(&mut function, &plain, CHECKSUM));
        function.commit();
        let mut whole = plain.clone();
        fill_checksums(&mut whole);
        assert_eq!(device.take_sent(), Some(whole));
        // Nothing is asked of it: the frame leaves as it is.
        assert!(send(&mut function, &plain, Offload::default()));
        function.commit();
        assert_eq!(device.take_sent(), Some(plain));
    }
    let large = frame(false, 44 * 1460);
    let offload = Offload {
        checksum: true,
        segment_size: NonZeroU16::new(1460),
    };
    assert!(send(&mut function, &large, offload));
    function.commit();
    let mut payload = vec![];
    while let Some(mut segment) = device.take_sent() {
        assert_eq!(segment.len(), 1514);
        payload.extend_from_slice(&segment[54..]);
        let sums = segment.clone();
        fill_checksums(&mut segment);
        assert_eq!(segment, sums);
    }
    assert_eq!(payload, large[54..]);
    assert_eq!(device.complaints(), [""; 0]);
    function.begin();
    assert_eq!(function.outstanding(), 0);
}

#[test]
fn what_is_not_wanted_or_makes_no_sense_is_not_sent() {
    let (mut function, device) = function(POOL_SIZE);
    assert!(!function.can_transmit(100) && !send(&mut function, &[0; 100], Offload::default()));
    assert!(function.receive(&mut [0; 2048]).is_none());
    assert!(function.sleep(true) && !function.is_up());
    function.start().unwrap();
    assert!(function.can_transmit(65_549) && function.is_up());
    assert!(!function.transmit(100, Offload::default(), &mut |_| false));
    // Too long to be sent whole, too short to be summed, no headers of TCP.
    assert!(!send(&mut function, &[0; 2000], Offload::default()));
    assert!(!send(&mut function, &[0; 5], CHECKSUM));
    assert!(!send(&mut function, &[0xff; 200], CHECKSUM));
    function.commit();
    assert_eq!(function.outstanding(), 0);
    assert_eq!(device.take_sent(), None);
    // None of them has taken room.
    for _ in 0..500 {
        assert!(send(&mut function, &frame(false, 1460), CHECKSUM));
        function.commit();
        function.begin();
    }
    assert_eq!(device.complaints(), [""; 0]);
}

#[test]
fn received_frames_are_believed_as_far_as_the_card_has_looked() {
    let (mut function, device) = function(POOL_SIZE);
    function.start().unwrap();
    let mut buffer = [0; 2048];
    for ipv6 in [false, true] {
        let mut good = frame(ipv6, 100);
        fill_checksums(&mut good);
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        for (bytes, verified) in [(&good, true), (&bad, false)] {
            assert!(device.deliver(bytes));
            let received = function.receive(&mut buffer).unwrap();
            assert_eq!(
                (received.length, received.verified),
                (bytes.len(), verified)
            );
            assert_eq!(&buffer[..received.length], &bytes[..]);
        }
        let mut bad_header = good.clone();
        if !ipv6 {
            bad_header[24] ^= 1;
            assert!(device.deliver(&bad_header));
            assert!(!function.receive(&mut buffer).unwrap().verified);
        }
    }
    // One that does not fit is dropped, and the buffers go round.
    for number in 0..2000u16 {
        let short = number.to_be_bytes().repeat(8);
        assert!(device.deliver(&[0; 200]) && device.deliver(&short));
        let received = function.receive(&mut buffer[..100]).unwrap();
        assert_eq!(buffer[..received.length], short);
        assert!(function.receive(&mut buffer).is_none());
        function.commit();
    }
    assert_eq!(device.missed(), 0);
}

#[test]
fn interrupts_come_when_nobody_looks_and_only_then() {
    let (mut function, device) = function(POOL_SIZE);
    function.start().unwrap();
    function.begin();
    assert!(device.deliver(&[1; 100]));
    assert_eq!(device.take_interrupts(), [0; 0]);
    // What came while it was masked keeps the caller awake.
    assert!(!function.sleep(false));
    function.begin();
    assert!(function.receive(&mut [0; 2048]).is_some());
    device.take_interrupts();
    assert!(function.sleep(false));
    assert!(device.deliver(&[1; 100]));
    assert_eq!(device.take_interrupts(), [0]);
    function.begin();
    assert!(function.receive(&mut [0; 2048]).is_some());
    // Frames under way: their end is told.
    device.set_transmit_budget(0);
    assert!(send(&mut function, &frame(false, 10), CHECKSUM));
    function.commit();
    assert!(function.sleep(false));
    device.set_transmit_budget(usize::MAX);
    assert_eq!(device.take_interrupts(), [1]);
    function.begin();
    // Completed meanwhile: no reason to stay awake but for room.
    assert!(send(&mut function, &frame(false, 10), CHECKSUM));
    function.commit();
    assert!(!function.sleep(true));
    function.begin();
    assert!(send(&mut function, &frame(false, 10), CHECKSUM));
    function.commit();
    assert!(function.sleep(false));
}

#[test]
fn a_small_pool_or_a_missing_function_is_refused() {
    let rings = leaked_region(function_rings_size()).with_device_address(RINGS);
    let (pool, _) = leaked_private_region(0x3_f000);
    assert!(Function::new(SimulatedFunction::new(), rings, pool).is_err());
    let (mut function, device) = function(0x4_0000);
    device.remove();
    assert_eq!(function.start(), Err(FunctionError::NotPresent));
    assert!(!function.is_stalled(Instant::from_secs(5)));
}

proptest! {
    /// Frames leave in order; those that have not when the function stops are handed back
    /// as they were handed in.
    #[test]
    fn each_frame_is_sent_or_handed_back(
        steps in prop::collection::vec((0u8..4, 0usize..1460, any::<bool>()), 1..300),
        last in 0usize..8,
    ) {
        let (mut function, device) = function(0x4_0000);
        function.start().unwrap();
        let mut expected = std::collections::VecDeque::new();
        let mut sent = 0usize;
        for (step, size, ipv6) in steps {
            match step {
                0 | 1 => {
                    let size = if step == 1 && !ipv6 { size * 40 } else { size };
                    let segment_size = if size > 1440 { NonZeroU16::new(1460) } else { None };
                    let offload = Offload { checksum: true, segment_size };
                    let frame = frame(ipv6 && segment_size.is_none(), size);
                    let can = function.can_transmit(frame.len());
                    let taken = send(&mut function, &frame, offload);
                    prop_assert_eq!(can, taken);
                    if taken {
                        expected.push_back((frame, offload));
                    }
                }
                2 => {
                    function.commit();
                    device.set_transmit_budget(size % 8);
                }
                _ => {
                    let before = function.outstanding();
                    function.begin();
                    sent += before - function.outstanding();
                }
            }
            prop_assert_eq!(function.outstanding(), expected.len() - sent);
        }
        function.commit();
        device.set_transmit_budget(last);
        let mut left = vec![];
        function.stop(&mut |frame, offload| left.push((frame.to_vec(), offload))).unwrap();
        prop_assert!(expected.len() - left.len() >= sent);
        let gone = expected.len() - left.len();
        prop_assert_eq!(left, expected.into_iter().skip(gone).collect::<Vec<_>>());
        prop_assert_eq!(function.outstanding(), 0);
        prop_assert_eq!(device.complaints(), [""; 0]);
        prop_assert!(!function.can_transmit(100));
        // It can be started again.
        device.set_transmit_budget(usize::MAX);
        function.start().unwrap();
        prop_assert!(function.can_transmit(65_549));
    }
}
