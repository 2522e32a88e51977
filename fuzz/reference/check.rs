//! The server's decision about a frame must be the reference's.

use super::world::{self, TCP, World};
use super::{ALL_NODES, Frame, egress, ingress, route};
use segue_frame_channel::FrameOffload;
use segue_netserver_core::answer::{self, MAXIMUM_ANSWER};
use segue_netserver_core::egress::{Approved, verify};
use segue_netserver_core::ingress::{
    Answer, Decision, LONG_HEADER, Origin, SHORT_HEADER, demultiplex,
};
use segue_netserver_core::inside;
use segue_portmap_core::{Family, Protocol};
use segue_status::network::EgressDrop;
use std::cell::RefCell;

thread_local! {
    static WORLDS: [RefCell<Option<World>>; 3] = const { [const { RefCell::new(None) }; 3] };
}

/// Calls `act` with one of the worlds, in which these applications are said to be in
/// direct mode.
fn in_world(number: u8, direct: u8, act: impl FnOnce(&World)) {
    WORLDS.with(|worlds| {
        let make = [world::many, world::one, world::waiting];
        let number = usize::from(number) % make.len();
        let mut world = worlds[number].borrow_mut();
        let world = world.get_or_insert_with(make[number]);
        world.set_direct(direct.into());
        act(world);
    });
}

/// What an application sends: eight bytes choose world, sender, offloads, who is in direct
/// mode, segment size and how much follows the headers, which are the rest.
pub fn sent(data: &[u8]) {
    let Some((
        &[
            number,
            sender,
            flags,
            direct,
            low,
            high,
            more_low,
            more_high,
        ],
        header,
    )) = data.split_first_chunk()
    else {
        return;
    };
    let header = &header[..header.len().min(256)];
    let length = header.len() + usize::from(u16::from_le_bytes([more_low, more_high]));
    let offload = FrameOffload {
        ipv4_checksum: flags & 1 != 0,
        transport_checksum: flags & 2 != 0,
        segment_size: u16::from_le_bytes([low, high]),
    };
    in_world(number, direct, |world| {
        let sender = usize::from(sender) % world.applications.len();
        let verdict = verify(&world.directory, sender, header, length, offload);
        match (
            verdict,
            egress::verify(world, sender, header, length, offload),
        ) {
            (Ok(approved), Ok(sound)) => {
                approved_as(&approved, &sound, header, length, offload);
                let mut way = inside::route(&world.directory, header);
                if world.directory.direct() & 1 << sender != 0 {
                    way = way.in_direct_mode(header);
                }
                assert_eq!(way, route::route(world, sender, header));
            }
            (Err(cause), Err(broken)) => {
                assert!(
                    broken.contains(&cause),
                    "refused for {cause:?}, but it breaks {broken:?}"
                );
            }
            (fast, slow) => panic!("{fast:?}, but it should be {slow:?}"),
        }
    });
}

/// Whether the card is told what the frame needs.
fn approved_as(
    approved: &Approved,
    sound: &egress::Sound,
    header: &[u8],
    length: usize,
    offload: FrameOffload,
) {
    let ip = if sound.version == 6 { 40 } else { 20 };
    let mut on_wire = length;
    if offload.segment_size != 0 {
        let (protocol, tcp) = sound.transport.expect("only segments are cut");
        assert_eq!((protocol, sound.version), (TCP, 4));
        // Piece by piece, each with headers of its own.
        let mut left = length - 14 - ip - tcp;
        on_wire = 0;
        loop {
            let piece = left.min(offload.segment_size.into());
            on_wire += 14 + ip + tcp + piece;
            left -= piece;
            if left == 0 {
                break;
            }
        }
    }
    assert_eq!(approved.wire_length, on_wire);
    match approved.offload {
        None => assert!(!offload.ipv4_checksum && !offload.transport_checksum),
        Some(told) => {
            let family = if sound.version == 6 {
                Family::V6
            } else {
                Family::V4
            };
            assert_eq!((told.family, told.ip_header_length), (family, ip));
            assert_eq!(told.segment_size, offload.segment_size);
            let transport = told
                .transport
                .map(|protocol| (usize::from(protocol.number()), told.transport_header_length));
            let expected = sound.transport.filter(|_| offload.transport_checksum);
            assert_eq!(transport, expected);
            assert!(offload.ipv4_checksum || expected.is_some());
        }
    }
    let fragment = approved.fragment.map(|fragment| {
        let datagram = fragment.datagram;
        assert_eq!(datagram.protocol, Protocol::Udp);
        assert_eq!(header[26..30], datagram.ours.octets());
        assert_eq!(header[30..34], datagram.peer.octets());
        assert_eq!(header[18..20], datagram.identification.to_be_bytes());
        fragment.is_first
    });
    assert_eq!(fragment, sound.fragment);
}

/// What comes from the network or from an application: three bytes choose world, origin
/// (and, in its upper bits, who is in direct mode) and who is up; the rest is the frame.
pub fn received(data: &[u8]) {
    let Some((&[number, origin, up], frame)) = data.split_first_chunk() else {
        return;
    };
    let direct = origin >> 1;
    let origin = if origin & 1 == 0 {
        Origin::Network
    } else {
        Origin::Application
    };
    in_world(number, direct, |world| {
        let up = u64::from(up) & ((1 << world.applications.len()) - 1);
        let from_network = origin == Origin::Network;
        let expected = ingress::demultiplex(world, up, from_network, frame);
        for at_hand in [SHORT_HEADER, LONG_HEADER, usize::MAX] {
            let header = &frame[..frame.len().min(at_hand)];
            let decision = demultiplex(&world.directory, up, origin, header, frame.len());
            if decision == Decision::Longer {
                assert_eq!(at_hand, SHORT_HEADER, "a long header must suffice");
                continue;
            }
            assert!(
                is_as_expected(decision, &expected),
                "{decision:?} from {at_hand} bytes, but it should be {expected:?}"
            );
        }
        if let ingress::Verdict::Answer(answer) = expected {
            answered(world, answer, frame);
        }
    });
}

fn is_as_expected(decision: Decision, expected: &ingress::Verdict) -> bool {
    let plain = |datagram: segue_netserver_core::fragments::Datagram| {
        (
            datagram.ours.octets(),
            datagram.peer.octets(),
            usize::from(datagram.protocol.number()),
            usize::from(datagram.identification),
        )
    };
    match decision {
        Decision::Deliver(applications) => *expected == ingress::Verdict::Deliver(applications),
        Decision::Answer(answer) => *expected == ingress::Verdict::Answer(answer),
        Decision::FirstFragment(datagram, applications) => {
            *expected == ingress::Verdict::First(plain(datagram), applications)
        }
        Decision::LaterFragment(datagram) => *expected == ingress::Verdict::Later(plain(datagram)),
        Decision::Drop(cause) => {
            matches!(expected, ingress::Verdict::Drop(causes) if causes.contains(&cause))
        }
        Decision::Longer => false,
    }
}

/// The server answers whoever asked, and says nothing that a sharer might not say itself.
fn answered(world: &World, answer: Answer, frame: &[u8]) {
    let mut buffer = [0xaa; MAXIMUM_ANSWER];
    let read = |to: &mut [u8]| to.copy_from_slice(&frame[..to.len()]);
    let Some(length) = answer::compose(&world.directory, answer, frame.len(), &mut buffer, read)
    else {
        return;
    };
    let said = &buffer[..length];
    let asked = Frame(frame);
    if answer == Answer::Neighbor && asked.ipv6(22) == [0; 16] {
        assert_eq!(said[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(said[38..54], ALL_NODES);
    } else {
        assert_eq!(said[..6], frame[6..12], "to whom it did not come from");
    }
    let sharers = world.with_mac(Frame(said).mac(6));
    assert!(sharers.count_ones() > 1, "for one who answers by itself");
    let sharer = sharers.trailing_zeros() as usize;
    let header = &said[..length.min(256)];
    if let Err(mut broken) = egress::verify(world, sharer, header, length, FrameOffload::default())
    {
        // A port may have an owner who has no part in the address.
        broken.retain(|cause| !matches!(cause, EgressDrop::SourcePort | EgressDrop::Icmp));
        assert!(broken.is_empty(), "the answer {answer:?} breaks {broken:?}");
    }
}
