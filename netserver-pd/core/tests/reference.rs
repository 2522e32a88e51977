//! The server's decisions against those of a slow, obvious reference: with the fuzz
//! targets' seeds, and with honest frames that were changed in some places.

#[path = "../../../fuzz/reference/mod.rs"]
mod reference;
mod support;

use proptest::prelude::*;
use smoltcp::wire::{ArpOperation, IpProtocol, Ipv6Address, TcpControl};
use std::fs;
use std::path::Path;
use support::*;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("there are seeds");
    let read = |file: fs::DirEntry| fs::read(file.path()).unwrap();
    files.map(|file| read(file.unwrap())).collect()
}

#[test]
fn seeds_are_judged_alike() {
    for seed in seeds("egress") {
        reference::check::sent(&seed);
    }
    for seed in seeds("ingress") {
        reference::check::received(&seed);
    }
}

/// Honest frames out of the first application.
fn outgoing(kind: usize) -> Vec<u8> {
    let probe = ipv6::Ends {
        source: Ipv6Address::UNSPECIFIED,
        ..ipv6::OUT
    };
    match kind {
        0 => tcp(OUT, 80, 5000, TcpControl::None, &[1; 40]),
        1 => udp(OUT, 80, 53, &[1; 40]),
        2 => echo(OUT, true, 80),
        3 => unreachable(OUT, IpProtocol::Udp, 53, 80),
        4 => arp(OUT, ArpOperation::Request),
        5 => ipv6::tcp(ipv6::OUT, 80, 5000, TcpControl::Rst, &[]),
        6 => ipv6::udp(ipv6::OUT, 80, 53, &[1; 40]),
        7 => ipv6::echo(ipv6::OUT, true, 80),
        8 => ipv6::unreachable(ipv6::OUT, IpProtocol::Tcp, 53, 80),
        9 => ipv6::solicit(ipv6::OUT, ipv6::PEER),
        10 => ipv6::advertise(ipv6::OUT, ipv6::SHARED),
        _ => ipv6::solicit_group(probe, ipv6::SHARED_LINK_LOCAL),
    }
}

/// Frames of the first application that lack little to be honest.
fn nearly_honest() -> Vec<Vec<u8>> {
    let mut two_options = ipv6::advertise(ipv6::OUT, ipv6::SHARED);
    let option = two_options[78..].to_vec();
    two_options.extend(option);
    two_options[19] += 8;
    vec![
        tcp(OUT, 99, 5000, TcpControl::Rst, &[1]),
        ipv6::tcp(ipv6::OUT, 99, 5000, TcpControl::Rst, &[1]),
        ipv6::solicit(ipv6::OUT, ipv6::SHARED),
        ipv6::advertise(ipv6::OUT, ipv6::OWN),
        two_options,
    ]
}

/// Frames that somebody here gets, or nearly.
fn more_incoming() -> Vec<Vec<u8>> {
    let own = ipv6::solicited_node(ipv6::OWN);
    let group = ipv6::Ends {
        destination_mac: ipv6::group_mac(own),
        destination: own,
        ..ipv6::IN
    };
    let mut nonce = ipv6::solicit_group(ipv6::IN, ipv6::SHARED);
    nonce.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    nonce[19] += 8;
    vec![
        nonce,
        ipv6::advertise(ipv6::IN, ipv6::SHARED),
        ipv6::advertise(ipv6::IN, ipv6::OWN_LINK_LOCAL),
        ipv6::unreachable(ipv6::IN, IpProtocol::Tcp, 80, 53),
        ipv6::udp(group, 1, 2, &[]),
        ipv6::udp(ipv6::TO_OWN, 1, 2, &[]),
        ipv6::solicit_group(ipv6::IN, ipv6::OWN),
    ]
}

/// Honest frames to the first application.
fn incoming(kind: usize) -> Vec<u8> {
    match kind {
        0 => tcp(IN, 5000, 80, TcpControl::None, &[1; 40]),
        1 => udp(IN, 53, 80, &[1; 40]),
        2 => echo(IN, true, 80),
        3 => unreachable(IN, IpProtocol::Udp, 80, 53),
        4 => arp(IN, ArpOperation::Request),
        5 => ipv6::tcp(ipv6::IN, 5000, 80, TcpControl::None, &[1; 40]),
        6 => ipv6::udp(ipv6::IN, 53, 443, &[1; 40]),
        7 => ipv6::echo(ipv6::IN, true, 80),
        8 => ipv6::unreachable(ipv6::IN, IpProtocol::Icmpv6, 80, 53),
        9 => ipv6::solicit(ipv6::IN, ipv6::SHARED),
        10 => ipv6::advertise(ipv6::IN, ipv6::PEER),
        _ => ipv6::solicit_group(ipv6::IN, ipv6::SHARED),
    }
}

fn change(frame: &mut [u8], changes: &[(usize, u8)]) {
    for (at, value) in changes {
        if let Some(byte) = frame.get_mut(*at) {
            *byte = *value;
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let values = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![0, 1, 2, 4, 6, 8, 17, 44, 58, 68, 80, 128, 255]),
    ];
    prop::collection::vec((0usize..120, values), 0..4)
}

#[test]
fn honest_frames_are_served_in_the_references_world() {
    for kind in 0..12 {
        let frame = outgoing(kind);
        let world = reference::world::many();
        let offload = segue_frame_channel::FrameOffload::default();
        let verdict = reference::egress::verify(&world, 0, &frame, frame.len(), offload);
        assert!(verdict.is_ok(), "{kind}: {verdict:?}");
        let frame = incoming(kind);
        let verdict = reference::ingress::demultiplex(&world, 0xff, true, &frame);
        let is_dropped = matches!(verdict, reference::ingress::Verdict::Drop(_));
        // An error about something other than an echo request.
        assert_eq!(is_dropped, kind == 8, "{kind}: {verdict:?}");
    }
}

/// Calls `check` with a frame as it is, cut at each place, and with each value of each byte.
fn with_each_change(frame: &[u8], check: impl Fn(&[u8])) {
    for length in 0..=frame.len() {
        check(&frame[..length]);
    }
    let mut frame = frame.to_vec();
    for at in 0..frame.len().min(110) {
        let before = frame[at];
        for value in 0..=255 {
            frame[at] = value;
            check(&frame);
        }
        frame[at] = before;
    }
}

#[test]
fn each_change_of_what_is_sent_is_judged_alike() {
    for frame in (0..12).map(outgoing).chain(nearly_honest()) {
        with_each_change(&frame, |frame| {
            reference::check::sent(&[&[0; 8], frame].concat());
            // The only application, in direct mode.
            reference::check::sent(&[&[1, 0, 0, 1, 0, 0, 0, 0], frame].concat());
        });
        // Only the headers through that of transport are declared.
        let length = usize::from(segue_frame_channel::header_length(&frame));
        let behind = (frame.len() - length) as u16;
        with_each_change(&frame[..length], |header| {
            let mut data = vec![0, 0, 2, 0, 0, 0];
            data.extend((behind + (length - header.len()) as u16).to_le_bytes());
            reference::check::sent(&[&data, header].concat());
        });
    }
}

#[test]
fn each_change_of_what_is_received_is_judged_alike() {
    for frame in (0..12).map(incoming).chain(more_incoming()) {
        with_each_change(&frame, |frame| {
            for origin in [0, 1] {
                reference::check::received(&[&[0, origin, 0xff], frame].concat());
            }
            // Whoever can be in direct mode is.
            for world in [0, 1] {
                reference::check::received(&[&[world, 0xfe, 0xff], frame].concat());
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_sent_is_judged_alike(
        kind in 0usize..12,
        control in any::<[u8; 3]>(),
        offload in prop_oneof![Just(0u8), 0..4u8],
        size in prop_oneof![Just(0u16), 0..2000u16],
        more in prop_oneof![Just(0u16), 0..3000u16],
        cut in prop_oneof![Just(256usize), 0..130usize],
        changes in changes(),
    ) {
        let mut frame = outgoing(kind);
        change(&mut frame, &changes);
        let behind = frame.len().saturating_sub(cut) as u16;
        frame.truncate(cut);
        let mut data = vec![control[0], control[1] & 3, offload, control[2]];
        data.extend(size.to_le_bytes());
        data.extend((behind + more).to_le_bytes());
        data.extend(frame);
        reference::check::sent(&data);
    }

    #[test]
    fn what_is_received_is_judged_alike(
        kind in 0usize..12,
        control in any::<[u8; 3]>(),
        cut in prop_oneof![Just(256usize), 0..130usize],
        changes in changes(),
    ) {
        let mut frame = incoming(kind);
        change(&mut frame, &changes);
        frame.truncate(cut);
        reference::check::received(&[&control[..], &frame].concat());
    }
}
