//! What an application in direct mode hands to the network card is on the wire.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};

use segue_system_tests::background::Downloads;
use segue_system_tests::pcap::{self, Frame};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::switching::Switcher;
use segue_system_tests::{Cable, TestMachine};

use crate::{HTTP, LIMIT, assert_undisturbed};

/// So many at once fill the whole of the function's transmit pool.
const CONNECTIONS: usize = 64;
/// Files of 128 KiB: the pool is gone through many times.
const DOWNLOADS: u64 = 400;

/// Bytes that `from` has sent, and of those the ones behind something that it had not sent before.
fn sent_and_behind_a_hole(frames: &[Frame], from: SocketAddrV4) -> (u64, u64) {
    let mut ends: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    let (mut sent, mut behind) = (0, 0);
    for segment in frames.iter().filter_map(Frame::segment) {
        if segment.source != SocketAddr::V4(from) {
            continue;
        }
        let begin = segment.sequence;
        let length = segment.payload.len() as u32 + u32::from(segment.is_syn);
        let end = begin.wrapping_add(length);
        let last = *ends.entry(segment.destination).or_insert(begin);
        sent += u64::from(length);
        if begin.wrapping_sub(last) as i32 > 0 {
            behind += u64::from(length);
        }
        if end.wrapping_sub(last) as i32 > 0 || segment.is_syn {
            ends.insert(segment.destination, end);
        }
    }
    (sent, behind)
}

#[test]
fn all_that_is_sent_in_direct_mode_is_on_the_wire() {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let capture = folder.path().join("capture.pcap");
    let machine = TestMachine::machine("switching").capture_frames(&capture);
    let mut machine = TestMachine::start(machine, Cable::Tap);
    machine.wait_until_it_answers();
    let line = Switcher::new(&mut machine).limit(LIMIT).to_direct("http");
    println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    let downloads =
        Downloads::start(machine.host(), HTTP, "128k.bin", CONNECTIONS).expect("http answers");
    assert!(downloads.wait_for(DOWNLOADS), "{:?}", downloads.stop());
    assert_undisturbed("http", &downloads.stop());
    drop(machine);
    let frames = pcap::read(&capture).expect("QEMU has written the capture");
    let (sent, behind) = sent_and_behind_a_hole(&frames, HTTP);
    println!("{sent} bytes on the wire");
    assert!(sent > DOWNLOADS << 17, "{sent} bytes are too few");
    assert_eq!(behind, 0, "so many bytes follow on bytes that were lost");
}
